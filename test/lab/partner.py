"""A partner's server of the lab: it takes mail of whom it knows, over TLS, and keeps each message as a file.

Run on one of the lab's hosts: ``partner.py [ADDRESS:]PORT FOLDER CERTIFICATE USER PASSWORD``; without a certificate
(``-``) there is no TLS, without a user (``-``) no login. A file begins with a line that says who was logged in, and
whether by TLS.
"""

from __future__ import annotations

import base64
import socketserver
import ssl
import sys
import uuid
from pathlib import Path


class Session(socketserver.StreamRequestHandler):
    """A client's session."""

    server: Partner

    def handle(self) -> None:
        self.user, self.secure, self.sender = "-", False, ""
        self.say("220 mx.partner.example ESMTP")
        while line := self.rfile.readline():
            verb, _, rest = line.decode(errors="replace").strip().partition(" ")
            answer = getattr(self, f"do_{verb.lower()}", lambda _rest: self.say("502 5.5.1 No"))
            if answer(rest) is False:
                return

    def say(self, *lines: str) -> None:
        last = len(lines) - 1
        for number, line in enumerate(lines):
            self.wfile.write(f"{line[:3]}{' ' if number == last else '-'}{line[4:]}\r\n".encode())
        self.wfile.flush()

    def do_ehlo(self, _rest: str) -> None:
        tls = ["250 STARTTLS"] if self.server.tls and not self.secure else []
        login = ["250 AUTH PLAIN"] if self.server.user != "-" and (self.secure or not self.server.tls) else []
        self.say("250 mx.partner.example", "250 8BITMIME", *tls, *login)

    def do_starttls(self, _rest: str) -> None:
        self.say("220 2.0.0 Ready")
        assert self.server.tls is not None
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.secure = True
        self.setup()

    def do_auth(self, rest: str) -> None:
        self.server.logins += 1
        word = rest.partition(" ")[2]
        if not word:
            self.say("334 ")
            word = self.rfile.readline().decode().strip()
        _, user, password = base64.b64decode(word).decode().split("\0")
        if (user, password) == (self.server.user, self.server.password):
            self.user = user
            self.say("235 2.7.0 Ok")
        else:
            self.say("535 5.7.8 Nobody here has that password")

    def do_mail(self, rest: str) -> None:
        self.sender = rest
        self.say("250 2.1.0 Ok" if self.server.user in ("-", self.user) else "530 5.7.0 Log in first")

    def do_rcpt(self, _rest: str) -> None:
        self.say("250 2.1.5 Ok")

    def do_data(self, _rest: str) -> None:
        self.say("354 Go on")
        lines = [f"{self.user} {'TLS' if self.secure else 'clear'}\n".encode()]
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".").replace(b"\r\n", b"\n"))
        path = self.server.folder / uuid.uuid4().hex
        path.write_bytes(b"".join(lines))
        self.say("250 2.0.0 Kept")

    def do_rset(self, _rest: str) -> None:
        self.say("250 2.0.0 Ok")

    def do_quit(self, _rest: str) -> bool:
        self.say("221 2.0.0 Bye")
        return False


class Partner(socketserver.ThreadingTCPServer):
    """The server."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, place: str, folder: Path, certificate: str, user: str, password: str) -> None:
        self.folder, self.user, self.password, self.logins = folder, user, password, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.tls: ssl.SSLContext | None = None
        if certificate != "-":
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
        address, _, port = place.rpartition(":")
        super().__init__((address, int(port)), Session)


if __name__ == "__main__":
    where, kept, chain, name, secret = sys.argv[1:]
    Partner(where, Path(kept), chain, name, secret).serve_forever()
