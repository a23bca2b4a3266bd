"""Ask the servers that a site hands its mail to whether they greet, and offer TLS, and a login, where that is wanted.

A nexthop is written as transport(5) has it: ``smtp:[172.16.11.96]:25``, ``lmtp:unix:/run/lmtp``, ``relay:domain.dom``.
"""

from __future__ import annotations

import os
import re
import smtplib
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from smtpout_core import packages
from smtpout_core.daemons.postfix import conf
from smtpout_core.errors import RelayError

PATIENCE = 10.0
"""Seconds for a connection, and for each reply."""
HOSTS = 5
"""Hosts of a nexthop that are tried (postconf(5), smtp_mx_address_limit)."""
SUBMISSIONS = 465


ENCRYPTED = ("encrypt", "dane-only", "fingerprint", "verify", "secure")
"""Levels of TLS without which no mail is given (postconf(5), smtp_tls_security_level)."""


class Target(NamedTuple):
    """A nexthop, the program that goes there, whether only by TLS, whether it logs in, and its route."""

    nexthop: Nexthop
    program: str
    encrypted: bool
    login: bool
    route: str


class Served(NamedTuple):
    """A host of a nexthop that serves, and what it offers for EHLO: parameters by keyword in lower case."""

    where: str
    offers: dict[str, str]


class Nexthop(NamedTuple):
    """Where a transport hands mail to.

    :param transport: of master.cf.
    :param host: a name, an address, or the path of a socket.
    :param port: its number, or its name in services(5).
    :param looked_up: whether MX records say which hosts stand behind the name (RFC 5321, 5.1).
    """

    transport: str
    host: str
    port: str
    looked_up: bool

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return f"{self.transport}:unix:{self.host}"
        return f"{self.transport}:{self.host if self.looked_up else f'[{self.host}]'}:{self.port}"


def read(written: str, program: str = "smtp", queue: str = "/var/spool/postfix") -> Nexthop:
    """Return what a nexthop says.

    :param written: with its transport.
    :param program: smtp or lmtp, which the transport runs.
    :param queue: the directory that sockets' paths begin in.
    """
    transport, _, rest = written.partition(":")
    if rest.startswith("unix:"):
        return Nexthop(transport, os.path.join(queue, rest.removeprefix("unix:")), "0", looked_up=False)
    rest = rest.removeprefix("inet:")  # lmtp(8)
    default = "24" if program == "lmtp" else "25"
    if match := re.fullmatch(r"\[(?:ipv6:)?([^\]]+)\](?::(\w+))?", rest, re.IGNORECASE):
        return Nexthop(transport, match[1], match[2] or default, looked_up=False)
    host, _, port = rest.partition(":")
    return Nexthop(transport, host, port or default, looked_up=program != "lmtp")


def targets(settings: dict[str, Any], routes: Iterable[str]) -> Iterator[Target]:
    """Yield the nexthop of each route that leads to a server, with what the site says of it.

    :param settings: the site's, which runs.
    :param routes: of its table, with their transports.
    """
    facts = settings["postfix"]
    levels = [f"{program}_tls_security_level" for program in ("smtp", "lmtp")]
    said = conf.values(facts["directory"], "queue_directory", *levels)
    own = {server: route for route in facts["routes"] for server in route["servers"]}
    for route in routes:
        service = facts["services"].get(f"{route.partition(':')[0]}/unix", {})
        program = service.get("command", "-").split()[0]
        if (name := f"{program}_tls_security_level") in levels:
            level = service.get("options", {}).get(name, said[name])
            known = own.get(route, {})
            encrypted = known["tls"] in ("encrypt", "verified") if known.get("policy") else level in ENCRYPTED
            nexthop = read(route, program, said["queue_directory"])
            yield Target(nexthop, program, encrypted, known.get("login", False), route)


def ask(nexthop: Nexthop, program: str, *, encrypted: bool, login: bool = False, recipient: str = "") -> Served:
    """Return which host of a nexthop serves, and what it offers, with TLS where it has that. No message is sent.

    :param nexthop: which.
    :param program: smtp or lmtp, which the transport runs.
    :param encrypted: Postfix gives it no mail without TLS.
    :param login: Postfix logs in; where it can't, it goes on without, and the server may refuse the mail for good.
    :param recipient: whose mail it has to take; left out, nobody's is asked about.
    :raises RelayError: none serves; what each says.
    """
    faults = []
    for host in hosts(nexthop)[:HOSTS]:
        where = host if host.startswith("/") else f"{host}:{nexthop.port}"
        try:
            offers = _greeted(host, nexthop, program, encrypted, login, recipient)
        except (OSError, UnicodeError, smtplib.SMTPException) as error:  # what is no name has no IDNA form
            faults.append(f"{where}: {error}")
        else:
            return Served(where, offers)
    raise RelayError("; ".join(faults) or f"{nexthop.host} has no host that takes mail")


def unkept(offers: Mapping[str, str], promised: Mapping[str, str]) -> list[str]:
    """Return what clients are offered that a server behind the relay has not: such mail is taken, and bounces later.

    8BITMIME isn't among it, since what is signed leaves as it was signed (main.cf, disable_mime_output_conversion).

    :param offers: the server's.
    :param promised: of main.cf, ``message_size_limit`` and ``smtputf8_enable``.
    """
    told, ours = [], int(promised["message_size_limit"])
    theirs = int(offers["size"]) if offers.get("size", "").isdigit() else 0  # none is without a limit (RFC 1870, 4)
    if theirs and not 0 < ours <= theirs:
        told.append(f"no message of over {theirs} bytes, and message_size_limit is {ours}")
    if promised["smtputf8_enable"] == "yes" and "smtputf8" not in offers:
        told.append("no SMTPUTF8, and smtputf8_enable is yes")
    return told


def hosts(nexthop: Nexthop) -> list[str]:
    """Return the hosts of a nexthop, the preferred one first.

    :raises RelayError: DNS doesn't say.
    """
    if not nexthop.looked_up:
        return [nexthop.host]
    resolvers = packages.imported("dns.resolver", "dnspython")
    failures = packages.imported("dns.exception", "dnspython")
    try:
        answer = sorted(resolvers.resolve(nexthop.host, "MX", lifetime=PATIENCE), key=lambda each: each.preference)
    except (resolvers.NXDOMAIN, resolvers.NoAnswer):
        return [nexthop.host]
    except failures.DNSException as error:
        raise RelayError(f"MX records of {nexthop.host}: DNS gave no answer: {error}") from error
    found = [each.exchange.to_text(omit_final_dot=True) for each in answer]
    if found == ["."]:
        raise RelayError(f"{nexthop.host} takes no mail at all (a null MX, RFC 7505)")
    return found


def _greeted(host: str, nexthop: Nexthop, program: str, encrypted: bool, login: bool, recipient: str) -> dict[str, str]:
    """Return what a host offers; raise where it doesn't greet well, or take the recipient."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whom it trusts is Postfix's to say
    client: smtplib.SMTP
    if program == "lmtp":
        client = smtplib.LMTP()
        client.timeout = PATIENCE
    elif nexthop.port in (str(SUBMISSIONS), "submissions", "smtps"):
        client = smtplib.SMTP_SSL(timeout=PATIENCE, context=context)
    else:
        client = smtplib.SMTP(timeout=PATIENCE)
    with client:
        client._host = host  # type: ignore[attr-defined]  # noqa: SLF001 - starttls() wants a name
        port = int(nexthop.port) if nexthop.port.isdigit() else socket.getservbyname(nexthop.port)
        _good("the greeting", client.connect(host, port))
        _good("EHLO", client.ehlo())
        if client.has_extn("starttls"):
            _good("STARTTLS", client.starttls(context=context))
            _good("EHLO", client.ehlo())
        elif encrypted and not isinstance(client, smtplib.SMTP_SSL):
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, without which it gets no mail")
        if login and not client.has_extn("auth"):
            raise smtplib.SMTPNotSupportedError("it offers no login, without which it may refuse mail for good")
        offers = dict(client.esmtp_features)
        if recipient:
            _good("MAIL FROM:<>", client.mail(""))
            _good(f"RCPT TO:<{recipient}>", client.rcpt(recipient))
            client.rset()
        return offers


def _good(command: str, reply: tuple[int, bytes]) -> None:
    code, text = reply
    if code not in (220, 250):
        words = " ".join(text.decode(errors="replace").split())
        raise smtplib.SMTPException(f"{command} is answered {code} {words}")
