"""Reach the site's directory servers: connection, TLS and certificate, for which nothing but Python is needed."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import socket
import ssl
import urllib.parse
from typing import Any

from smtpout_core.errors import RelayError

START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
"""An ExtendedRequest (RFC 4511, 4.14.1)."""

EXTENDED_RESPONSE = re.compile(rb"\x78.{1,5}?\x0a\x01(.)", re.DOTALL)
"""Its answer, up to the result's code."""


def answering(settings: dict[str, Any]) -> list[str]:
    """Return the site's servers, where each takes a connection and, where the site has TLS, a right certificate.

    :param settings: the site's.
    :raises RelayError: says of each server what is wrong.
    """
    site, faults = settings["directory"], []
    for server in site["servers"]:
        try:
            answers(server, site)
        except RelayError as err:
            faults.append(f"{server}: {err}")
    if faults:
        raise RelayError("\n".join(faults))
    return site["servers"]


def uses_tls(settings: dict[str, Any]) -> bool:
    """Tell whether any of the site's servers is asked with TLS.

    :param settings: the site's.
    """
    site = settings["directory"]
    return bool(site.get("start_tls")) or any(address(server)[2] for server in site["servers"])


def ends(settings: dict[str, Any]) -> dict[str, dt.datetime]:
    """Return when the certificate of each server ends that serves with TLS; those that don't are left out.

    :param settings: the site's.
    """
    site, found = settings["directory"], {}
    for server in site["servers"]:
        with contextlib.suppress(RelayError):
            if end := answers(server, site):
                found[server] = end
    return found


def answers(server: str, site: dict[str, Any]) -> dt.datetime | None:
    """Raise where a server takes no connection, or its certificate isn't right; return when that ends, if it has one.

    :param server: its URI.
    :param site: the site's directory settings.
    """
    host, port, encrypted = address(server)
    check_reachable(host, port, site["timeout"])
    if not encrypted and not site.get("start_tls"):
        return None
    try:
        with socket.create_connection((host, port), site["timeout"]) as connection:
            if not encrypted:
                _start_tls(connection)
            with wrapped(connection, host, site) as served:
                shown = served.getpeercert() or {}
        return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), dt.timezone.utc)
    except OSError as err:
        raise tls_fault(err, site) from None


def _start_tls(connection: socket.socket) -> None:
    """Have a server begin with TLS."""
    connection.sendall(START_TLS)
    result = EXTENDED_RESPONSE.search(connection.recv(4096))
    if not result or result[1] != b"\0":
        code = f", result {result[1][0]} (RFC 4511, A.1)" if result else ""
        raise OSError(f"the server refuses StartTLS{code}")


def address(server: str) -> tuple[str, int, bool]:
    """Return a URI's host, port and whether it is encrypted from the first byte."""
    parts = urllib.parse.urlsplit(server)
    if parts.scheme not in ("ldap", "ldaps") or not parts.hostname:
        raise RelayError("smtpout:directory:servers: right would be ldap:// or ldaps:// and a host")
    encrypted = parts.scheme == "ldaps"
    return parts.hostname, parts.port or (636 if encrypted else 389), encrypted


def check_reachable(host: str, port: int, timeout: float) -> None:
    """Raise when the server takes no connection; ldap3 would say it less plainly."""
    try:
        socket.create_connection((host, port), timeout).close()
    except socket.gaierror as err:
        raise RelayError(f"the name {host} has no address: {err.strerror}") from None
    except OSError as err:
        reason = err.strerror or f"no answer within {timeout} s (is a firewall between?)"
        raise RelayError(
            f"port {port} can't be reached: {reason}; is the server up, and does every firewall let this host through?"
        ) from None


def wrapped(connection: socket.socket, host: str, site: dict[str, Any]) -> ssl.SSLSocket:
    """Return a connection with TLS, the server's certificate checked against the site's authorities."""
    context = ssl.create_default_context(cafile=site.get("ca_file"))
    # Python 3.13 refuses certificates over details that libldap, behind Postfix and saslauthd, lets pass.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    connection.settimeout(site["timeout"])
    return context.wrap_socket(connection, server_hostname=host)


def tls_fault(err: Exception, site: dict[str, Any]) -> RelayError:
    """Return what to raise where a connection got no TLS, and which key says whom to trust."""
    return RelayError(f"TLS fails: {words(err)} (smtpout:directory:ca_file is {site.get('ca_file') or 'not set'})")


def words(err: Exception) -> str:
    """Return an error of ldap3 as one line; a result's own message first, since the rest is protocol."""
    return " ".join(str(getattr(err, "message", "") or getattr(err, "description", "") or err).split())
