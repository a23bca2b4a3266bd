"""Sessions with the relay as no mail client would hold them: each byte is the test's own."""

from __future__ import annotations

import email.message
import email.policy
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab.lab import Lab
from lab.mail import RELAY, SERVERS, Entry, compose
from lab.smtp_raw import CLOSED

SCRIPT = Path(__file__).with_name("smtp_raw.py")
UNTIL_CLOSED = -1
# Postfix counts connections and errors by address: sessions that are no test of that take turns at these.
ADDRESSES = itertools.cycle(f"198.51.100.{last}" for last in range(67, 91))


class Step(NamedTuple):
    """What is sent, byte for byte, how often, how many replies are waited for, and whether TLS begins after them."""

    send: str
    times: int = 1
    replies: int = 1
    handshake: bool = False


class Reply(NamedTuple):
    """A reply: to which step, and how many seconds after it. The code 0 is a closed connection, -1 is silence."""

    step: int
    code: int
    text: str
    seconds: float


GREETING = Step("")
Steps = Sequence[str | Step]


def sessions(lab: Lab, address: str, conversations: Sequence[Steps], entry: Entry = SERVERS) -> list[list[Reply]]:
    """Hold sessions from one address, one after the other, none hung up before the last has ended.

    :param conversations: steps each; a text is a command, sent with its line end and answered by one reply.
    """
    given = [
        {
            "host": RELAY,
            "port": entry.port,
            "tls": entry.tls,
            "steps": [Step(f"{step}\r\n") if isinstance(step, str) else step for step in steps],
        }
        for steps in conversations
    ]
    done = lab.client(address).run([sys.executable, str(SCRIPT)], input=json.dumps(given), timeout=240)
    return [[Reply(*reply) for reply in replies] for replies in json.loads(done.stdout)]


def session(lab: Lab, address: str, *steps: str | Step, entry: Entry = SERVERS) -> list[Reply]:
    """Hold one session and return its replies."""
    return sessions(lab, address, [steps], entry)[0]


def closed(replies: Sequence[Reply]) -> bool:
    """Tell whether the relay hung up."""
    return bool(replies) and replies[-1].code == CLOSED


def stranger() -> str:
    """Return an address outside the site that has not been heard of for a while."""
    return next(ADDRESSES)


def wire(message: email.message.EmailMessage) -> str:
    """Return a message as it is sent, without the end of data."""
    return message.as_bytes(policy=email.policy.SMTP).decode()


def attempt(
    lab: Lab,
    recipient: str,
    *,
    sender: str = "a@stranger.example",
    hello: str = "EHLO mx.stranger.example",
    address: str | None = None,
    entry: Entry = SERVERS,
    login: Sequence[str] = (),
) -> tuple[email.message.EmailMessage, list[Reply]]:
    """Try everything to get a message through, refused or not, and return it with the replies.

    :param login: the commands that log a user in.
    """
    message = compose("a@stranger.example", "somebody@outside.example")
    greeting = [] if entry.tls == "starttls" else [GREETING]
    replies = session(
        lab,
        address or stranger(),
        *greeting, hello, *login, f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA",
        Step(f"{wire(message)}\r\n.\r\nQUIT\r\n", replies=UNTIL_CLOSED),
        entry=entry,
    )  # fmt: skip
    return message, replies


def queued(replies: Sequence[Reply]) -> int:
    """Return how many messages the relay took on."""
    return sum(reply.code == 250 and "queued as" in reply.text for reply in replies)
