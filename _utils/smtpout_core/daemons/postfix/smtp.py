"""Ask Postfix as its clients do, wherever its configuration says that it listens."""

from __future__ import annotations

import os
import smtplib
import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, NamedTuple

from smtpout_core.daemons.postfix import aside, certificate, conf, drained, listen
from smtpout_core.errors import RelayError

# Answers to EHLO of one that took what came before it for a command: not understood (RFC 5321, 4.2.2), or the end.
UNHEARD = (221, 500, 502)

# What smtpd greets with where a client talks first, from Postfix 3.9 on (postconf(5), smtpd_forbid_unauth_pipelining).
TOO_EARLY = b"SMTP protocol synchronization"

OUTSIDE = "somebody@[198.51.100.25]"
"""An address that nobody has, in a domain that nobody has to look up: a literal (RFC 5321, 4.1.3; RFC 5737)."""

SERVERS, USERS = "smtp/inet", ("submission/inet", "465/inet")


class Greeting(NamedTuple):
    """What Postfix says first, and what it offers to who is let in."""

    code: int
    text: str
    offers: dict[str, str]


class _Client(smtplib.SMTP):
    """SMTP with what an endpoint wants before it: a PROXY line, TLS, or both."""

    def __init__(self, endpoint: listen.Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        super().__init__(timeout=timeout)
        self._host = "relay"  # starttls() wants a name; the certificate is not compared with it

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.create_connection((host, port), timeout)
        if self._endpoint.proxy:
            # The first version of the protocol (haproxy.org, proxy-protocol.txt, 2.1), as a client on this host.
            family = "TCP6" if ":" in host else "TCP4"
            connection.sendall(f"PROXY {family} {host} {host} {connection.getsockname()[1]} {port}\r\n".encode())
        return aside.trusting().wrap_socket(connection) if self._endpoint.tls else connection


def greeting(endpoint: listen.Endpoint, timeout: float = 10, *, secured: bool = False) -> Greeting:
    """Return what an endpoint says to a client.

    :param endpoint: where to connect, and how.
    :param timeout: seconds to wait for each answer.
    :param secured: what it offers with TLS, where it has that; the certificate is looked at elsewhere.
    :raises RelayError: nobody listens, or the answer isn't SMTP's.
    """
    try:
        with _Client(endpoint, timeout) as client:
            code, text = client.connect(endpoint.asked_at, endpoint.port)
            if code == -1:
                raise smtplib.SMTPServerDisconnected("its answer is none of SMTP's")
            if endpoint.proxy and TOO_EARLY in text:
                raise smtplib.SMTPResponseException(code, text)
            if code == 220 and (answer := client.ehlo())[0] in UNHEARD:
                raise smtplib.SMTPResponseException(*answer)
            if secured and code == 220 and client.has_extn("starttls"):
                if (answer := client.starttls(context=aside.trusting()))[0] != 220:
                    raise smtplib.SMTPResponseException(*answer)
                client.ehlo()
            return Greeting(code, text.decode(errors="replace"), dict(client.esmtp_features))
    except (OSError, smtplib.SMTPException) as error:
        how = " after a line of the PROXY protocol" if endpoint.proxy else ""
        raise RelayError(f"{endpoint.place} does not answer as a mail server{how}: {words(error)}") from error


def words(error: Exception) -> str:
    """Return what went wrong in a session, as a person is told it: a reply with its code."""
    if not isinstance(error, smtplib.SMTPResponseException):
        return str(error)
    said = error.smtp_error
    return f"{error.smtp_code} {said.decode(errors='replace') if isinstance(said, bytes) else said}"


def answer(endpoint: listen.Endpoint, sender: str, recipient: str, timeout: float = 10) -> tuple[str, int, str]:
    """Return what a program on this host is told by an endpoint, up to a recipient; no message is begun.

    :param endpoint: where to connect, and how.
    :param sender: of the envelope.
    :param recipient: likewise.
    :param timeout: seconds to wait for each reply.
    :return: the last command, and the code and the text of its reply.
    :raises RelayError: nobody listens, or the answer isn't SMTP's.
    """
    try:
        with _Client(endpoint, timeout) as client:
            said = ("the greeting", *client.connect(endpoint.asked_at, endpoint.port))
            # The name of a literal (RFC 5321, 4.1.3) is nobody's to look up.
            literal = f"[IPv6:{endpoint.asked_at}]" if ":" in endpoint.asked_at else f"[{endpoint.asked_at}]"
            for command, rest in (("EHLO", literal), ("MAIL", f"FROM:<{sender}>"), ("RCPT", f"TO:<{recipient}>")):
                if said[1] not in (220, 250):
                    break
                said = (command, *client.docmd(command, rest))
            return said[0], said[1], " ".join(said[2].decode(errors="replace").split())
    except (OSError, smtplib.SMTPException) as error:
        raise RelayError(f"{endpoint.place} does not answer as a mail server: {error}") from error


def probe(settings: dict[str, Any], patience: float = 10) -> None:
    """Ask Postfix at each address and port that its configuration says it listens on, as a client there would.

    A service for users may answer 4xx, as while the directory is down: that is no reason to leave a relay without its
    configuration. Nor is a certificate that is gone, without which no TLS can be begun: a change that brings that is
    refused before it. One of the site's own may turn this host away: whom it serves is the site's to say.

    :param settings: the site's.
    :param patience: seconds to wait for each answer.
    :raises RelayError: an endpoint doesn't serve; which one, and what it says.
    """
    asked = listen.asked(settings["postfix"]["directory"])
    if not asked:
        raise RelayError("Postfix's configuration has no service that listens for mail")
    with ThreadPoolExecutor(len(asked)) as pool:
        greetings = pool.map(_greeted, asked, repeat(patience), repeat(settings["postfix"]["directory"]))
        for endpoint, answer in zip(asked, greetings, strict=True):
            if answer:
                refuse(endpoint, answer)


def _greeted(endpoint: listen.Endpoint, patience: float, directory: str) -> Greeting | None:
    """Return what an endpoint says; None where TLS would come first, and the certificate for it is gone."""
    try:
        return greeting(endpoint, patience)
    except RelayError:
        if endpoint.tls and not all(map(os.path.exists, certificate.served(directory))):
            return None
        raise


def serves(directory: str = conf.LIVE, unit: str = "postfix", patience: float = 10) -> None:
    """Ask Postfix whether it greets everywhere that its configuration says, and listens nowhere else.

    :param directory: the configuration directory.
    :param unit: the unit whose processes are the running Postfix.
    :param patience: seconds to wait for each answer.
    :raises RelayError: where it doesn't, and what it says.
    """
    settings = {"postfix": {"directory": directory, "unit": unit}}
    if said := listen.astray(settings):
        raise RelayError(said)
    probe(settings, patience)


def refuse(endpoint: listen.Endpoint, answer: Greeting) -> None:
    """Raise where a greeting of a service of the formula's own isn't one to its clients (RFC 5321, 3.1).

    :param endpoint: which.
    :param answer: what it said.
    :raises RelayError: the words of the refusal.
    """
    if drained.sends_away(answer.code, answer.text):  # what it tells clients while it is drained
        return
    refused = answer.code != 220 if endpoint.service == SERVERS else answer.code >= 500
    if refused and endpoint.service in (SERVERS, *USERS):
        raise RelayError(f"{endpoint.place} greets with {answer.code} {answer.text}")
