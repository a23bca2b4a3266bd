"""Ask a mail filter (milter) whether it serves, and what it does to a message."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from smtpout_core import sockets
from smtpout_core.errors import RelayError

# The handshake (libmilter/docs/overview.html; mfdef.h, "SMFIC_OPTNEG"): a packet is a 32-bit length, a command's
# letter, and its data; here three 32-bit words: the version, the changes a milter may ask for, the steps it may skip.
OPTNEG, QUIT = b"O", b"Q"
VERSION = 6  # libmilter since Sendmail 8.14 (2007)
EVERY_ACTION, EVERY_STEP = (
    0x1FF,
    0x1FFFFF,
)  # what Postfix offers too; a milter that is offered less than it needs leaves
LONGEST_ANSWER = 1 << 20  # bytes; a message's body may be replaced

# Of each command (mfdef.h): the step that a milter may do without (SMFIP_NO...), and the one it doesn't answer (NR).
CONNECT, HELO, MAIL, RCPT, DATA, HEADER, HEADERS_END, BODY, END = (letter.encode() for letter in "CHMRTLNBE")
SKIPPED = {CONNECT: 0x1, HELO: 0x2, MAIL: 0x4, RCPT: 0x8, BODY: 0x10, HEADER: 0x20, HEADERS_END: 0x40, DATA: 0x200}
UNANSWERED = {
    HEADER: 0x80, CONNECT: 0x1000, HELO: 0x2000, MAIL: 0x4000, RCPT: 0x8000, DATA: 0x10000, HEADERS_END: 0x40000,
    BODY: 0x80000,
}  # fmt: skip
ADDED, INSERTED, QUARANTINED = b"h", b"i", b"q"
GOES_ON = (b"c", b"s")
"""Continue, and skip the rest of the body."""
ENDS = {b"a": "accepted", b"c": "accepted", b"d": "discarded", b"r": "refused", b"t": "put off", b"y": "refused"}
"""The last answer, and what then becomes of the message."""


@dataclass
class Treated:
    """What a milter does to a message.

    :param becomes: of it: accepted, discarded, refused, put off, quarantined.
    :param headers: that it adds, with their values.
    """

    becomes: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)


def probe(socket: str, timeout: float = 5) -> dict[str, int]:
    """Greet a milter as an MTA does, and return what it answers: ``version``, ``actions`` and ``steps``.

    A milter may accept connections long before it serves them, or when it no longer does; only the answer tells.

    :param socket: Where the milter listens: ``unix:/path`` or ``local:/path``; ``inet:port@host`` as milters write it,
        or ``inet:host:port`` as Postfix does; ``inet6:`` likewise, an address in brackets.
    :param timeout: Seconds for connection and answer together.
    :raises RelayError: saying which: no such socket, nobody listens, not allowed, no answer in time, no
        milter.
    """
    with sockets.conversation(_place(socket), timeout, _sentences(socket, timeout)) as milter:
        answer = _greeted(milter, socket)
        _send(milter, QUIT)
    return answer


def treated(
    socket: str, client: str, envelope: tuple[str, str], headers: Mapping[str, str], body: bytes, timeout: float = 10
) -> Treated:
    """Give a milter a message as Postfix does, and return what it would have done with it: nothing is delivered.

    :param socket: as of :func:`probe`.
    :param client: the address that it comes from, of IPv4.
    :param envelope: sender and recipient.
    :param headers: by their names.
    :param body: with CRLF at its lines' ends.
    :param timeout: Seconds for all of it.
    :raises RelayError: as of :func:`probe`.
    """
    with sockets.conversation(_place(socket), timeout, _sentences(socket, timeout)) as milter:
        steps, found = _greeted(milter, socket)["steps"], Treated()
        for command, data in _said(client, envelope, headers, body):
            if steps & SKIPPED.get(command, 0):
                continue
            _send(milter, command, data)
            if steps & UNANSWERED.get(command, 0):
                continue
            answer = _answered(milter, socket, found)
            if command == END or answer not in GOES_ON:
                found.becomes = found.becomes or ENDS.get(answer, f"answered {answer!r}")
                break
        _send(milter, QUIT)
    return found


def _said(
    client: str, envelope: tuple[str, str], headers: Mapping[str, str], body: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield what an MTA tells of a message (mfdef.h; libmilter/docs)."""
    sender, recipient = (f"<{address}>".encode() + b"\0" for address in envelope)
    yield CONNECT, f"[{client}]".encode() + b"\0" + b"4" + struct.pack(">H", 4242) + client.encode() + b"\0"
    yield HELO, f"[{client}]".encode() + b"\0"
    yield MAIL, sender
    yield RCPT, recipient
    yield DATA, b""
    for name, value in headers.items():
        yield HEADER, b"\0".join([name.encode(), value.encode(), b""])
    yield HEADERS_END, b""
    yield BODY, body
    yield END, b""


def _answered(milter: sockets.Conversation, socket: str, found: Treated) -> bytes:
    """Return the letter of an answer; what the milter changes before it is noted."""
    while True:
        letter, data = _received(milter, socket)
        if letter in (ADDED, INSERTED):
            name, value, *_ = data[4 if letter == INSERTED else 0 :].split(b"\0")
            found.headers.append((name.decode(errors="replace"), value.decode(errors="replace")))
        elif letter == QUARANTINED:
            found.becomes = "quarantined"
        elif letter in ENDS or letter in GOES_ON:
            return letter


def _greeted(milter: sockets.Conversation, socket: str) -> dict[str, int]:
    """Agree on a version, on changes and on steps; return what the milter wants."""
    _send(milter, OPTNEG, struct.pack(">3I", VERSION, EVERY_ACTION, EVERY_STEP))
    letter, data = _received(milter, socket)
    if letter != OPTNEG or len(data) < 12:
        raise RelayError(f"{socket}: what listens there is no milter")
    version, actions, steps = struct.unpack(">3I", data[:12])
    return {"version": version, "actions": actions, "steps": steps}


def _send(milter: sockets.Conversation, command: bytes, data: bytes = b"") -> None:
    milter.send(struct.pack(">I", 1 + len(data)) + command + data)


def _received(milter: sockets.Conversation, socket: str) -> tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", milter.receive(4))
    if not 1 <= length <= LONGEST_ANSWER:
        raise RelayError(f"{socket}: what listens there is no milter")
    answer = milter.receive(length)
    return answer[:1], answer[1:]


def _sentences(socket: str, timeout: float) -> sockets.Sentences:
    return {
        TimeoutError: f"{socket}: no answer within {timeout} s",
        EOFError: f"{socket}: the connection was closed without an answer",
        OSError: socket,
    }


def _place(socket: str) -> sockets.Place:
    """Return where a milter listens."""
    if unix := re.fullmatch(r"(?:unix|local):(/.+)", socket):
        return unix[1]
    inet = re.fullmatch(r"inet6?:(?:(?P<port>\d+)@(?P<host>.+)|(?P<Host>.+):(?P<Port>\d+))", socket)
    if not inet:
        raise RelayError(f"{socket}: not unix:/path, inet:port@host or inet:host:port")
    host, port = inet["host"] or inet["Host"], inet["port"] or inet["Port"]
    return host.strip("[]"), int(port)
