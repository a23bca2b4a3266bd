"""Ask a mail filter (milter) whether it serves."""

from __future__ import annotations

import re
import struct

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
LONGEST_ANSWER = 4096  # bytes; three words and perhaps a list of macros


def probe(socket: str, timeout: float = 5) -> dict[str, int]:
    """Greet a milter as an MTA does, and return what it answers: ``version``, ``actions`` and ``steps``.

    A milter may accept connections long before it serves them, or when it no longer does; only the answer tells.

    :param socket: Where the milter listens: ``unix:/path`` or ``local:/path``; ``inet:port@host`` as milters write it,
        or ``inet:host:port`` as Postfix does; ``inet6:`` likewise, an address in brackets.
    :param timeout: Seconds for connection and answer together.
    :raises RelayError: saying which: no such socket, nobody listens, not allowed, no answer in time, no
        milter.
    """
    said = {
        TimeoutError: f"{socket}: no answer within {timeout} s",
        EOFError: f"{socket}: the connection was closed without an answer",
        OSError: socket,
    }
    with sockets.conversation(_place(socket), timeout, said) as milter:
        offer = OPTNEG + struct.pack(">3I", VERSION, EVERY_ACTION, EVERY_STEP)
        milter.send(struct.pack(">I", len(offer)) + offer)
        (length,) = struct.unpack(">I", milter.receive(4))
        if not 13 <= length <= LONGEST_ANSWER:
            raise RelayError(f"{socket}: what listens there is no milter")
        answer = milter.receive(length)
        if answer[:1] != OPTNEG:
            raise RelayError(f"{socket}: what listens there is no milter")
        milter.send(struct.pack(">I", 1) + QUIT)
    version, actions, steps = struct.unpack(">3I", answer[1:13])
    return {"version": version, "actions": actions, "steps": steps}


def _place(socket: str) -> sockets.Place:
    """Return where a milter listens."""
    if unix := re.fullmatch(r"(?:unix|local):(/.+)", socket):
        return unix[1]
    inet = re.fullmatch(r"inet6?:(?:(?P<port>\d+)@(?P<host>.+)|(?P<Host>.+):(?P<Port>\d+))", socket)
    if not inet:
        raise RelayError(f"{socket}: not unix:/path, inet:port@host or inet:host:port")
    host, port = inet["host"] or inet["Host"], inet["port"] or inet["Port"]
    return host.strip("[]"), int(port)
