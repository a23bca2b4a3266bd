"""Ask a daemon over its socket: connect, send, receive what was announced, and say in a sentence what went wrong.

Seconds are those of the whole conversation: a daemon that sends a byte now and then holds nobody up.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from smtpout_core.errors import RelayError

Place = str | tuple[str, int]
"""Where a daemon listens: the path of a unix-domain socket, or host and port."""

Sentences = Mapping[type[Exception], str]
"""What is said of each error, the first that fits; one for OSError goes before the system's own words.

``EOFError`` is the connection's end before the answer's.
"""


class Conversation:
    """A connection whose every wait ends at the same time."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._wait_no_longer()
        self._connection.sendall(data)

    def receive(self, count: int) -> bytes:
        """Return the next so many bytes.

        :raises EOFError: the other side ends before.
        """
        data = b""
        while len(data) < count:
            data += self._part(count - len(data))
        return data

    def receive_to(self, mark: bytes) -> bytes:
        """Return what comes before a mark that ends the answer.

        :raises EOFError: the other side ends before.
        """
        data = b""
        while not data.endswith(mark):
            data += self._part(4096)
        return data.removesuffix(mark)

    def _part(self, most: int) -> bytes:
        self._wait_no_longer()
        part = self._connection.recv(most)
        if not part:
            raise EOFError
        return part

    def _wait_no_longer(self) -> None:
        self._connection.settimeout(max(self._deadline - time.monotonic(), 0.001))


@contextmanager
def conversation(place: Place, timeout: float, sentences: Sentences) -> Iterator[Conversation]:
    """Give a conversation with who listens there.

    :param place: where.
    :param timeout: seconds for all of it.
    :param sentences: what is said of an error.
    :raises RelayError: the sentence.
    """
    deadline = time.monotonic() + timeout
    try:
        with _connected(place, timeout) as connection:
            yield Conversation(connection, deadline)
    except (OSError, EOFError) as error:
        kind, said = next((kind, said) for kind, said in sentences.items() if isinstance(error, kind))
        if kind is OSError and isinstance(error, OSError):
            said = f"{said}: {error.strerror or error}"
        raise RelayError(said) from None


def _connected(place: Place, timeout: float) -> socket.socket:
    if not isinstance(place, str):
        return socket.create_connection(place, timeout)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection
