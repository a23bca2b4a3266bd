"""An SMTP client without manners, run at a client's address: bytes as they are given, replies as they come.

Input, as JSON: a list of sessions, held one after the other, each of whose connections stays open until the end. A
session has host, port, tls ("no", "starttls", "implicit") and steps. A step is [bytes as Latin-1, how many times they
are sent, how many replies are waited for (-1: until the server closes), whether a TLS handshake follows]. Output, as
JSON: for each session a list of [step, code, text, seconds]; a closed connection is the reply 0, silence the reply -1.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from typing import Any

SILENCE = 60.0
CLOSED, SILENT = 0, -1
Reply = tuple[int, int, str, float]


class Connection:
    """One connection: what is sent is sent as it is, what comes back is cut into replies (RFC 5321, 4.2)."""

    def __init__(self, host: str, port: int, tls: str):
        self.socket: socket.socket = socket.create_connection((host, port), timeout=SILENCE)
        self.buffer = b""
        if tls == "implicit":
            self.handshake()
        elif tls == "starttls":
            for line in (b"", b"EHLO client.example\r\n", b"STARTTLS\r\n"):
                self.send(line)
                self.reply()
            self.handshake()

    def handshake(self) -> None:
        """Go on under TLS. Nothing that was read before counts; the certificate is self-made."""
        self.socket = ssl._create_unverified_context().wrap_socket(self.socket)  # noqa: S323 - as said

    def send(self, text: bytes) -> None:
        """Send; a server that has closed meanwhile shows when its replies are read."""
        try:
            self.socket.sendall(text)
        except OSError as error:
            print(error, file=sys.stderr)

    def reply(self) -> tuple[int, str]:
        """Return the next reply's code and text."""
        lines: list[str] = []
        while True:
            line = self._line()
            if isinstance(line, int):
                return line, " ".join(lines)
            lines.append(line[4:])
            if line[3:4] != "-":
                return int(line[:3]), " ".join(lines)

    def _line(self) -> str | int:
        """Return the next line, or CLOSED or SILENT."""
        while b"\r\n" not in self.buffer:
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                return SILENT
            except OSError:
                return CLOSED
            if not more:
                return CLOSED
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode(errors="replace")


def hold(session: dict[str, Any], opened: list[Connection]) -> list[Reply]:
    """Hold a session and return its replies."""
    replies: list[Reply] = []
    connection = Connection(session["host"], session["port"], session["tls"])
    opened.append(connection)
    for number, (text, times, expected, handshake) in enumerate(session["steps"]):
        started = time.monotonic()
        connection.send(text.encode("latin-1") * times)
        count = 0
        while count != expected:
            code, said = connection.reply()
            replies.append((number, code, said, time.monotonic() - started))
            count += 1
            if code in (CLOSED, SILENT):
                return replies
        if handshake:
            try:
                connection.handshake()
            except OSError as error:
                return [*replies, (number, CLOSED, str(error), time.monotonic() - started)]
    return replies


if __name__ == "__main__":
    kept: list[Connection] = []
    json.dump([hold(session, kept) for session in json.load(sys.stdin)], sys.stdout)
