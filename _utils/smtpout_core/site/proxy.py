"""HAProxy between the relay's daemons and the directory's servers: whether a site has it, and what follows from that.

libldap, behind Postfix and saslauthd, stays with a server that takes connections and never answers, and saslauthd says
NO to a wrong password and to a directory that is down alike. HAProxy asks each server whether it answers, cuts what
hangs, and knows when there is none.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Mapping
from typing import Any

DIRECTORY = "/run/smtpout-directory.sock"
"""Where Postfix and saslauthd find the directory; systemd makes it, for Postfix's user and root alone."""
LOGINS = "/run/smtpout-logins.sock"
"""Where smtpd(8) finds saslauthd, likewise."""
STATUS = "/run/smtpout-haproxy/status"
"""Where HAProxy says how it is, to itself and root."""

PATIENCE = 5
"""Seconds that Postfix and saslauthd wait at least: longer than a server that hangs is taken for one that answers (2.6,
haproxy.cfg), or the first of those who wait would be told that their password is wrong."""

NATIVE = ("ldap_servers", "ldap_start_tls", "ldap_use_sasl")
"""Options of saslauthd.conf, and all of TLS, by which a site says itself how saslauthd reaches the directory."""


def hindrance(site: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return why HAProxy can't stand before a site's directory; an empty text where it can.

    :param site: the pillar's, over the schema's defaults.
    :param facts: the platform's.
    """
    directory = site["directory"]
    if "program" not in facts["haproxy"]:
        return "on this platform nobody has tried HAProxy"
    if directory["start_tls"]:
        return "HAProxy can't begin TLS within LDAP, as smtpout:directory:start_tls has it; ldaps:// would do"
    own = [name for name in site["saslauthd"]["options"] if name in NATIVE or str(name).startswith("ldap_tls_")]
    if own:
        return f"smtpout:saslauthd:options has {', '.join(sorted(own))}, which is about the way to the directory"
    for written in directory["servers"]:
        server = urllib.parse.urlsplit(written)
        if server.scheme.lower() == "ldapi":
            return f"{written} is a server on this host"
        if server.scheme.lower() == "ldaps" and is_address(server.hostname or ""):
            return f"{written} is an address, and HAProxy compares a certificate with names alone; write the name"
    return ""


def wanted(directory: Mapping[str, Any]) -> bool:
    """Tell whether a site is to have HAProxy before its directory, if it can: with several servers, or if it says so.

    :param directory: what stands below ``smtpout:directory``.
    """
    return bool(directory.get("proxy", len(directory["servers"]) > 1))


def derived(site: Mapping[str, Any], facts: Mapping[str, Any], trust_store: str) -> dict[str, Any]:
    """Return what HAProxy's room needs: ``enabled``, its sockets, and each server of the directory.

    :param site: as of :func:`hindrance`.
    :param facts: likewise.
    :param trust_store: the platform's authorities.
    """
    directory, why = site["directory"], hindrance(site, facts)
    enabled = wanted(directory) and not why
    return {
        "enabled": enabled,
        "missing": why if wanted(directory) and why else "",
        "directory": DIRECTORY,
        "logins": LOGINS,
        "status": STATUS,
        "servers": [_server(each) for each in directory["servers"]] if enabled else [],
        "authority": directory.get("ca_file", trust_store),
    }


def reached(directory: Mapping[str, Any], enabled: bool) -> dict[str, Any]:
    """Return how the relay's daemons reach the directory: those of its keys that are about the way.

    :param directory: what stands below ``smtpout:directory``.
    :param enabled: whether HAProxy is between.
    """
    if not enabled:
        return {name: directory[name] for name in ("servers", "start_tls", "timeout", "ca_file") if name in directory}
    return {"servers": [uri(DIRECTORY)], "start_tls": False, "timeout": max(directory["timeout"], PATIENCE)}


def uri(socket: str) -> str:
    """Return a socket as libldap has it (ldap_initialize(3)).

    :param socket: its path.
    """
    return f"ldapi://{urllib.parse.quote(socket, safe='')}/"


def _server(written: str) -> dict[str, Any]:
    """Return a server as HAProxy has it: what it is called, its host and port, and whether it has TLS."""
    server = urllib.parse.urlsplit(written)
    host, tls = server.hostname or "", server.scheme.lower() == "ldaps"
    port = server.port or (636 if tls else 389)
    return {"name": f"{host}:{port}", "host": host, "address": f"[{host}]" if ":" in host else host,
            "port": port, "tls": tls, "uri": written}  # fmt: skip


def is_address(host: str) -> bool:
    """Tell whether a host is written as an address, and not by its name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
