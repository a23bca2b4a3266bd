"""A client's dialogue at a door of a chain aside: as whoever the question says, with whatever login."""

from __future__ import annotations

import ipaddress
import re
import smtplib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from smtpout_core.daemons.postfix import aside
from smtpout_core.promises.promise import SERVERS, SPENT, Content, Question

PATIENCE = 15.0
"""Seconds for a reply: Postfix may ask the directory, and a filter, before it."""

# A literal as the client's name (RFC 5321, 4.1.3): nobody has to look it up.
RELAYS = {4: "198.51.100.1", 6: "2001:db8::1"}


GREETING = "the greeting"


class Reply(NamedTuple):
    """The last reply of a dialogue, and to which command it came."""

    command: str
    code: int
    text: str

    @property
    def taken(self) -> bool:
        """Whether the recipient, or the message, was taken."""
        return self.code == 250

    @property
    def silence(self) -> bool:
        """Whether the door greets nobody, or keeps whoever comes waiting in vain."""
        return self.code < 0 and (self.command == GREETING or "timed out" in self.text)

    def __str__(self) -> str:
        return (
            f"{self.command} is answered {self.code} {self.text}" if self.code > 0 else f"{self.command}: {self.text}"
        )


def held(path: str, question: Question, message: bytes, password: str = "") -> Reply:
    """Hold a dialogue, up to the first refusal or to the end of what the question says.

    :param path: the door's socket.
    :param message: what is sent where the question sends anything, with CRLF at its lines' ends.
    :param password: of the question's login, where that is tried.
    :return: the reply that decides; of code -1 where there was none.
    """
    client = _Client(question, password)
    step = GREETING
    try:
        with client:
            code, text = client.connect(path)
            if code != 220:
                return _reply(step, code, text)
            for command, talk in client.steps(message):
                step = command
                code, text = talk()
                if code not in (220, 250, 354):
                    break
            return _reply(step, code, text)
    except (OSError, smtplib.SMTPException) as error:
        return Reply(step, -1, f"the connection ends: {error}")


def _reply(command: str, code: int, text: bytes) -> Reply:
    return Reply(command, code, " ".join(text.decode(errors="replace").split()))


class _Client(aside.Session):
    """A client of a door."""

    def __init__(self, question: Question, password: str) -> None:
        address = ipaddress.ip_address(question.client)
        # haproxy.org, proxy-protocol.txt, 2.1
        at = str(address) if address.is_loopback else RELAYS[address.version]
        self.first = f"PROXY TCP{address.version} {address} {at} 4242 25\r\n".encode()
        self.question, self.password = question, password
        self.name = f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
        if question.spent:
            self.name = f"[{SPENT[4]}]"
        super().__init__(timeout=PATIENCE)
        self._host = "relay"  # starttls() wants a name; the certificate is not compared with it

    def steps(self, message: bytes) -> Iterator[tuple[str, Callable[[], tuple[int, bytes]]]]:
        """Yield each command, and what holds it; the next one is asked for where it went well."""
        question = self.question
        yield "EHLO", self._greets
        if question.content is Content.CLEAR_LOGIN:
            yield "EHLO without TLS", self._offers_login
            return
        if (question.login or question.encrypted or question.door != SERVERS) and self.has_extn("starttls"):
            yield "STARTTLS", lambda: self.starttls(context=aside.trusting())
            yield "EHLO", self._greets
        if question.login:
            yield "EHLO", self._offers_login
        if question.content is Content.LOGIN:
            yield "AUTH", self._logs_in
            return
        if question.login:
            yield "XCLIENT", lambda: self.docmd("XCLIENT", f"LOGIN={_xtext(question.login)}")
            yield "EHLO", self._greets
        yield "MAIL", lambda: self.docmd("MAIL", f"FROM:<{question.sender}>")
        yield "RCPT", lambda: self.docmd("RCPT", f"TO:<{question.recipient}>")
        if question.content is not Content.NOTHING:
            yield "DATA", lambda: self.docmd("DATA")
            yield "the message", lambda: self._message(message)

    def _greets(self) -> tuple[int, bytes]:
        return self.ehlo(self.name)

    def _offers_login(self) -> tuple[int, bytes]:
        offered = self.esmtp_features.get("auth", "").split()
        if {"PLAIN", "LOGIN"} & set(offered):
            return 250, b"AUTH " + " ".join(offered).encode()
        return 502, b"no AUTH is offered"

    def _logs_in(self) -> tuple[int, bytes]:
        try:
            code, text = self.login(self.question.login, self.password, initial_response_ok=True)
        except smtplib.SMTPAuthenticationError as error:
            said = error.smtp_error
            return error.smtp_code, said if isinstance(said, bytes) else said.encode()
        return (250, text) if code == 235 else (code, text)

    def _message(self, message: bytes) -> tuple[int, bytes]:
        self.send(re.sub(rb"(?m)^\.", b"..", message) + b".\r\n")
        return self.getreply()


def _xtext(text: str) -> str:
    """Return a text as XCLIENT has it (RFC 3461, 4)."""
    return "".join(chr(byte) if 33 <= byte <= 126 and byte not in b"+=" else f"+{byte:02X}" for byte in text.encode())
