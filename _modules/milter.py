"""Ask a mail filter (milter) whether it serves."""

from __future__ import annotations

import re
import socket as net
import struct
import time

from salt.exceptions import CommandExecutionError

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

    CLI Example:

    .. code-block:: bash

        salt-call --local milter.probe unix:/run/opendkim/opendkim.sock

    socket
        Where the milter listens: ``unix:/path`` or ``local:/path``; ``inet:port@host`` as milters write it, or
        ``inet:host:port`` as Postfix does; ``inet6:`` likewise, an address in brackets.

    timeout
        Seconds for connection and answer together.

    Raises CommandExecutionError, saying which: no such socket, nobody listens, not allowed, no answer in time, no
    milter.
    """
    deadline = time.monotonic() + timeout
    try:
        with _connected(socket, timeout) as connection:
            offer = OPTNEG + struct.pack(">3I", VERSION, EVERY_ACTION, EVERY_STEP)
            connection.sendall(struct.pack(">I", len(offer)) + offer)
            (length,) = struct.unpack(">I", _received(connection, 4, deadline))
            if not 13 <= length <= LONGEST_ANSWER:
                raise CommandExecutionError(f"{socket}: what listens there is no milter")
            answer = _received(connection, length, deadline)
            if answer[:1] != OPTNEG:
                raise CommandExecutionError(f"{socket}: what listens there is no milter")
            connection.sendall(struct.pack(">I", 1) + QUIT)
    except TimeoutError:
        raise CommandExecutionError(f"{socket}: no answer within {timeout} s") from None
    except EOFError:
        raise CommandExecutionError(f"{socket}: the connection was closed without an answer") from None
    except OSError as error:
        raise CommandExecutionError(f"{socket}: {error.strerror or error}") from error
    version, actions, steps = struct.unpack(">3I", answer[1:13])
    return {"version": version, "actions": actions, "steps": steps}


def _connected(socket: str, timeout: float) -> net.socket:
    """Return a connection to a milter."""
    if unix := re.fullmatch(r"(?:unix|local):(/.+)", socket):
        connection = net.socket(net.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(unix[1])
        except OSError:
            connection.close()
            raise
        return connection
    inet = re.fullmatch(r"inet6?:(?:(?P<port>\d+)@(?P<host>.+)|(?P<Host>.+):(?P<Port>\d+))", socket)
    if not inet:
        raise CommandExecutionError(f"{socket}: not unix:/path, inet:port@host or inet:host:port")
    host, port = inet["host"] or inet["Host"], inet["port"] or inet["Port"]
    return net.create_connection((host.strip("[]"), int(port)), timeout)


def _received(connection: net.socket, count: int, deadline: float) -> bytes:
    """Return the next ``count`` bytes; raise EOFError where the other side ends before."""
    data = b""
    while len(data) < count:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
