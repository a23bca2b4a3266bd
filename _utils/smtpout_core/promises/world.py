"""A server outside, as Postfix's client meets it: on loopback, with STARTTLS, and without anybody behind it."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LEVELS = ("", "none", "may", "encrypt", "dane")
"""Levels of TLS at which a client takes a server whose certificate nobody vouches for (postconf(5),
smtp_tls_security_level)."""
PATIENCE = 10.0
"""Seconds for a command."""
GREETING = b"220 mail.world.invalid ESMTP\r\n"
OFFERS = [b"mail.world.invalid", b"PIPELINING", b"8BITMIME", b"DSN"]
TAKEN, UNKNOWN = b"250 2.0.0 Ok\r\n", b"502 5.5.1 Command not implemented\r\n"
REPLIES = {
    **dict.fromkeys((b"HELO", b"MAIL", b"RCPT", b"RSET", b"NOOP"), TAKEN),
    b"QUIT": b"221 2.0.0 Bye\r\n",
    b"STARTTLS": b"220 2.0.0 Ready\r\n",
    b"DATA": b"554 5.3.0 No mail\r\n",
}
"""What it says to each command but EHLO; to another, LHLO for one, that it has none such (RFC 5321, 4.2.4)."""


@contextmanager
def served(certificate: str, version: int = 4) -> Iterator[str]:
    """Give the nexthop of a server that takes any recipient and no message.

    :param certificate: a file with the chain and the key of the TLS that it has; without it, it has none.
    :param version: of IP.
    """
    with _Server(_context(certificate), version) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        host, port, *_ = server.server_address
        yield f"[{host!s}]:{port}"
        server.shutdown()


class _Server(socketserver.ThreadingTCPServer):
    """What listens, on a port that is free."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None, version: int) -> None:
        self.tls = tls
        self.address_family = socket.AF_INET if version == 4 else socket.AF_INET6
        super().__init__(("127.0.0.1" if version == 4 else "::1", 0), _Session)


def _context(certificate: str) -> ssl.SSLContext | None:
    """Return TLS with a certificate; None where there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError):
        return None
    return context


class _Session(socketserver.BaseRequestHandler):
    """A client's session."""

    server: _Server

    def handle(self) -> None:
        with suppress(OSError):  # whatever goes wrong, the client says what
            self.request.settimeout(PATIENCE)
            self._say(GREETING)
            while self._answered():
                pass

    def _answered(self) -> bool:
        """Answer a command; tell whether another may come."""
        words = self._line().split(None, 1)
        verb = words[0].upper() if words else b"QUIT"
        context = self.server.tls
        secure = isinstance(self.request, ssl.SSLSocket)
        if verb == b"EHLO":
            offers = [*OFFERS, b"STARTTLS"] if context and not secure else OFFERS
            self._say(b"".join(b"250%s%s\r\n" % (b" " if each is offers[-1] else b"-", each) for each in offers))
            return True
        self._say(REPLIES.get(verb, UNKNOWN))
        if verb == b"STARTTLS" and context:
            self.request = context.wrap_socket(self.request, server_side=True)
        return verb != b"QUIT"

    def _line(self) -> bytes:
        """Return a line, byte by byte: what follows STARTTLS is TLS's."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self.request.recv(1)
            if not byte:
                return b""
            line += byte
        return line

    def _say(self, words: bytes) -> None:
        self.request.sendall(words)
