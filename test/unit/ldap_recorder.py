"""An LDAP server that writes down what it is asked and finds nothing: what a daemon has read shows in what it sends."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# RFC 4511: the tag of each request, and of what answers it.
BIND, SEARCH = 0x60, 0x63
ANSWERS = {BIND: 0x61, SEARCH: 0x65}
SUCCESS = bytes((0x0A, 1, 0, 0x04, 0, 0x04, 0))
AND, OR, EQUAL = 0xA0, 0xA1, 0xA3


class Recorder(socketserver.ThreadingTCPServer):
    """Answers each request with success; ``binds`` and ``searches`` are what it was asked since they were cleared."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.binds: list[tuple[str, str]] = []
        self.searches: list[tuple[str, list[tuple[str, str]]]] = []

    @property
    def uri(self) -> str:
        """Return its address."""
        return f"ldap://127.0.0.1:{self.server_address[1]}"

    def clear(self) -> None:
        """Forget what was asked."""
        self.binds.clear()
        self.searches.clear()


class _Session(socketserver.BaseRequestHandler):
    server: Recorder

    def handle(self) -> None:
        data = b""
        while received := self.request.recv(65536):
            data += received
            while (end := first_end(data)) and end <= len(data):
                (_, message), *_ = parts(data[:end])
                data = data[end:]
                self.answer(*parts(message)[:2])

    def answer(self, number: tuple[int, bytes], operation: tuple[int, bytes]) -> None:
        tag, content = operation
        fields = parts(content) if tag in ANSWERS else []
        if tag == BIND:
            self.server.binds.append((fields[1][1].decode(), fields[2][1].decode()))
        elif tag == SEARCH:
            self.server.searches.append((fields[0][1].decode(), list(comparisons(*fields[6]))))
        if tag in ANSWERS:
            reply = part(number[0], number[1]) + part(ANSWERS[tag], SUCCESS)
            self.request.sendall(part(0x30, reply))


def first_end(data: bytes) -> int:
    """Return where the first element of BER ends; 0 where that can't be told yet."""
    if len(data) < 2:
        return 0
    if data[1] < 0x80:
        return 2 + data[1]
    start = 2 + data[1] % 0x80
    return start + int.from_bytes(data[2:start], "big") if len(data) >= start else 0


def parts(data: bytes) -> list[tuple[int, bytes]]:
    """Return the elements of BER that follow each other: tag and content."""
    found = []
    while data:
        start, end = 2 + (data[1] % 0x80 if data[1] >= 0x80 else 0), first_end(data)
        found.append((data[0], data[start:end]))
        data = data[end:]
    return found


def part(tag: int, content: bytes) -> bytes:
    """Return a short element of BER."""
    return bytes((tag, len(content))) + content


def comparisons(tag: int, content: bytes) -> Iterator[tuple[str, str]]:
    """Yield what a filter compares with which value; of any other part its tag."""
    if tag in {AND, OR}:
        yield ("and" if tag == AND else "or"), ""
        for inner in parts(content):
            yield from comparisons(*inner)
    elif tag == EQUAL:
        (_, attribute), (_, value) = parts(content)
        yield attribute.decode(), value.decode()
    else:
        yield f"{tag:x}", ""


@contextmanager
def recording() -> Iterator[Recorder]:
    """Run a recorder."""
    with Recorder() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
