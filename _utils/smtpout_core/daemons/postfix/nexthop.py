"""Ask the servers that a site hands its mail to, as Postfix's client would: up to a recipient, and nothing is sent.

A nexthop is written as transport(5) has it: ``smtp:[172.16.11.96]:25``, ``lmtp:unix:/run/lmtp``, ``relay:domain.dom``.
"""

from __future__ import annotations

import importlib
import re
import smtplib
import ssl
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from smtpout_core.daemons.postfix import conf
from smtpout_core.errors import RelayError

PATIENCE = 10.0
"""Seconds for a connection, and for each reply."""
HOSTS = 5
"""Hosts of a nexthop that are tried (postconf(5), smtp_mx_address_limit)."""
SUBMISSIONS = 465


ENCRYPTED = ("encrypt", "dane-only", "fingerprint", "verify", "secure")
"""Levels of TLS without which no mail is given (postconf(5), smtp_tls_security_level)."""


class SilentError(RelayError):
    """No host of a nexthop can be talked to."""


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


def read(written: str, program: str = "smtp") -> Nexthop:
    """Return what a nexthop says.

    :param written: with its transport.
    :param program: smtp or lmtp, which the transport runs.
    """
    transport, _, rest = written.partition(":")
    if rest.startswith("unix:"):
        return Nexthop(transport, rest.removeprefix("unix:"), "", looked_up=False)
    rest = rest.removeprefix("inet:")  # lmtp(8)
    default = "24" if program == "lmtp" else "25"
    if match := re.fullmatch(r"\[(?:ipv6:)?([^\]]+)\](?::(\w+))?", rest, re.IGNORECASE):
        return Nexthop(transport, match[1], match[2] or default, looked_up=False)
    host, _, port = rest.partition(":")
    return Nexthop(transport, host, port or default, looked_up=program != "lmtp")


def targets(settings: dict[str, Any], routes: Iterable[str]) -> Iterator[tuple[Nexthop, str, bool]]:
    """Yield the nexthop of each route that leads to a server, the program that goes there, and whether only by TLS.

    :param settings: the site's, which runs.
    :param routes: of its table, with their transports.
    """
    facts = settings["postfix"]
    names = [f"{program}_tls_security_level" for program in ("smtp", "lmtp")]
    levels = conf.values(facts["directory"], *names)
    for route in routes:
        service = facts["services"].get(f"{route.partition(':')[0]}/unix", {})
        program = service.get("command", "-").split()[0]
        if (name := f"{program}_tls_security_level") in levels:
            level = service.get("options", {}).get(name, levels[name])
            yield read(route, program), program, level in ENCRYPTED


def ask(nexthop: Nexthop, program: str, encrypted: bool, recipient: str = "") -> str:
    """Return which host of a nexthop serves, and how.

    :param nexthop: which.
    :param program: smtp or lmtp, which the transport runs.
    :param encrypted: Postfix gives it no mail without TLS.
    :param recipient: who is known there; without one, it is asked until it greets.
    :raises SilentError: there is none to talk to.
    :raises RelayError: none takes mail; what each says.
    """
    faults: list[str] = []
    silent = True
    for host in hosts(nexthop)[:HOSTS]:
        where = host if host.startswith("/") else f"{host}:{nexthop.port}"
        try:
            return f"{where} {_asked(host, nexthop, program, encrypted, recipient)}"
        except smtplib.SMTPException as error:
            silent = False
            faults.append(f"{where}: {error}")
        except OSError as error:
            faults.append(f"{where}: {error}")
    said = "; ".join(faults) or f"{nexthop.host} has no host that takes mail"
    raise SilentError(said) if silent else RelayError(said)


def hosts(nexthop: Nexthop) -> list[str]:
    """Return the hosts of a nexthop, the preferred one first.

    :raises RelayError: DNS doesn't say.
    """
    if not nexthop.looked_up:
        return [nexthop.host]
    resolvers = importlib.import_module("dns.resolver")  # late: a state of the same run may have installed it
    failures = importlib.import_module("dns.exception")
    try:
        answer = sorted(resolvers.resolve(nexthop.host, "MX", lifetime=PATIENCE), key=lambda each: each.preference)
    except (resolvers.NXDOMAIN, resolvers.NoAnswer):
        return [nexthop.host]
    except failures.DNSException as error:
        raise RelayError(f"MX records of {nexthop.host}: DNS gave no answer: {error}") from error
    return [each.exchange.to_text(omit_final_dot=True) for each in answer]


def _asked(host: str, nexthop: Nexthop, program: str, encrypted: bool, recipient: str) -> str:
    """Hold a dialogue; raise where it doesn't go well."""
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
    port = int(nexthop.port) if nexthop.port.isdigit() else 0
    with client:
        client._host = host  # type: ignore[attr-defined]  # noqa: SLF001 - starttls() wants a name
        _good("the greeting", client.connect(host, port))
        _good("EHLO", client.ehlo())
        if client.has_extn("starttls"):
            _good("STARTTLS", client.starttls(context=context))
            _good("EHLO", client.ehlo())
        elif encrypted and not isinstance(client, smtplib.SMTP_SSL):
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, without which it gets no mail")
        if recipient:
            _good("MAIL", client.docmd("MAIL", "FROM:<>"))
            _good("RCPT", client.docmd("RCPT", f"TO:<{recipient}>"))
            _good("RSET", client.docmd("RSET"))
    return f"takes mail for {recipient}" if recipient else "greets"


def _good(command: str, reply: tuple[int, bytes]) -> None:
    code, text = reply
    if code not in (220, 250):
        words = " ".join(text.decode(errors="replace").split())
        raise smtplib.SMTPException(f"{command} is answered {code} {words}")
