"""A load of mail, run as a script at a client's address: sessions that log in, keep their connection and send.

Input, as JSON: host, port, tls (STARTTLS), user and password (nobody when empty), sender, recipients and sizes (each
used in turn), sessions, count, reuse (messages a connection) and pace (messages a second from when they are due,
whether sessions are free or not; 0, as fast as sessions are). Output, as JSON: what became of the messages.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

TIMEOUT = 300  # seconds for a message; RFC 5321 (4.5.3.2) allows as many for MAIL's answer alone
LINE = b"A line of a message that is as long as lines of a message are, more or less.\r\n"
Latencies = list[float]


class Refused(Exception):
    """A reply of 4xx or 5xx."""


class Session:
    """One connection after the other, each used for some messages."""

    def __init__(self, given: dict[str, Any], context: ssl.SSLContext | None) -> None:
        self.given = given
        self.context = context
        self.sent = 0
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        given = self.given
        self.reader, self.writer = await asyncio.open_connection(given["host"], given["port"])
        await self.ask()
        await self.ask(b"EHLO client.example\r\n")
        if self.context:
            await self.ask(b"STARTTLS\r\n")
            await self.writer.start_tls(self.context)  # type: ignore[attr-defined]  # since Python 3.11
            await self.ask(b"EHLO client.example\r\n")
        if given["user"]:
            await self.ask(b"AUTH PLAIN " + given["plain"] + b"\r\n")

    async def ask(self, command: bytes = b"") -> None:
        """Send a command and wait for its reply."""
        assert self.writer
        if command:
            self.writer.write(command)
        line = await self.reader.readline()
        while line[3:4] == b"-":
            line = await self.reader.readline()
        if not line:
            raise ConnectionError
        if line >= b"4":
            raise Refused(line[:3].decode())

    async def send(self, recipient: bytes, content: bytes) -> float:
        """Send a message; return when its first command went out."""
        if self.writer is None:
            await self.connect()
        begun = time.monotonic()
        await self.ask(b"MAIL FROM:<" + self.given["sender"].encode() + b">\r\n")
        await self.ask(b"RCPT TO:<" + recipient + b">\r\n")
        await self.ask(b"DATA\r\n")
        await self.ask(content)
        self.sent += 1
        return begun

    async def leave(self) -> None:
        """Say goodbye, as far as there is anyone."""
        if self.writer:
            with contextlib.suppress(OSError, Refused):
                await self.ask(b"QUIT\r\n")
            self.writer.close()
        self.writer, self.sent = None, 0


def header(given: dict[str, Any]) -> bytes:
    """Return what begins every message."""
    text = f"From: <{given['sender']}>\r\nTo: <somebody@outside.example>\r\nSubject: One of many\r\n"
    return f"{text}Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <".encode()


def body(size: int) -> bytes:
    """Return what ends a message of a size, with the end of data."""
    return b"@client.example>\r\n\r\n" + LINE * max(1, (size - 256) // len(LINE))


class Load:
    """The messages that are still to be sent, shared by the sessions, and what became of those that were."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.numbers: Iterator[int] = iter(range(given["count"]))
        self.header, self.bodies = header(given), [body(size) for size in given["sizes"]]
        self.recipients = [recipient.encode() for recipient in given["recipients"]]
        self.codes: Counter[str] = Counter()
        self.lost = 0
        self.mail: Latencies = []
        self.whole: Latencies = []
        self.started = time.monotonic()

    async def work(self, session: Session) -> None:
        """Send, as one session, until nothing is left."""
        for number in self.numbers:
            due = time.monotonic()
            if pace := self.given["pace"]:
                due = self.started + number / pace
                await asyncio.sleep(due - time.monotonic())
            await self.one(session, number, due)
        await session.leave()

    async def one(self, session: Session, number: int, due: float) -> None:
        # No two messages are alike, in their header or in their text: clamd remembers what it found clean.
        name = f"{number}.{self.started}".encode()
        content = self.header + name + self.bodies[number % len(self.bodies)] + name + b"\r\n.\r\n"
        try:
            sending = session.send(self.recipients[number % len(self.recipients)], content)
            begun = await asyncio.wait_for(sending, TIMEOUT)
        except Refused as refused:
            self.codes[str(refused)] += 1
            await session.leave()
        except (OSError, ssl.SSLError):
            self.lost += 1
            if session.writer:
                session.writer.transport.abort()
            session.writer, session.sent = None, 0
        else:
            now = time.monotonic()
            self.mail.append(now - begun)
            self.whole.append(now - due)
            if session.sent >= self.given["reuse"]:
                await session.leave()

    def said(self) -> dict[str, Any]:
        """Return the figures: codes of refusals, percentiles in seconds, the clock's time of the start."""
        return {
            "accepted": len(self.mail), "refused": dict(self.codes), "lost": self.lost, "started": self.started,
            "mail": percentiles(self.mail), "whole": percentiles(self.whole),
        }  # fmt: skip


def percentiles(latencies: Latencies) -> dict[str, float]:
    """Return the median, the 90th and the 99th percentile and the longest."""
    if not latencies:
        return {}
    ordered, last = sorted(latencies), len(latencies) - 1
    return {f"p{part}": ordered[last * part // 100] for part in (50, 90, 99, 100)}


async def load(given: dict[str, Any]) -> dict[str, Any]:
    """Send everything; return what became of it."""
    given["plain"] = base64.b64encode(f"\0{given['user']}\0{given['password']}".encode())
    # The relay's certificate is self-made; it is the load that counts.
    context = ssl._create_unverified_context() if given["tls"] else None  # noqa: S323 - as said
    whole = Load(given)
    await asyncio.gather(*(whole.work(Session(given, context)) for _ in range(given["sessions"])))
    return whole.said()


if __name__ == "__main__":
    json.dump(asyncio.run(load(json.load(sys.stdin))), sys.stdout)
