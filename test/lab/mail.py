"""Mail in the lab: send a message from an address, find it where it arrived."""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab.host import Host
from lab.lab import CLIENT, ROLES, Lab

RELAY = ROLES["relay"].addresses[0]
STRANGER = "198.51.100.66"
PASSWORD = "P@ssw0rd"  # the recipe's own user
SCRIPT = Path(__file__).with_name("smtp_client.py")
# The EICAR test file, in two pieces, so that no scanner takes this file for it.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
ARRIVAL = 30.0


class Entry(NamedTuple):
    """Where and how a client comes in."""

    port: int = 25
    tls: str = "no"  # or starttls, implicit


SERVERS = Entry()
USERS = Entry(587, "starttls")
USERS_OVER_TLS = Entry(465, "implicit")


class Answer(NamedTuple):
    """One answer of a server."""

    command: str
    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".replace("\n", " ")


def session(
    lab: Lab,
    *,
    address: str = CLIENT,
    entry: Entry = SERVERS,
    user: str = "",
    password: str = PASSWORD,
    sender: str = "",
    recipients: Sequence[str] = (),
    message: email.message.EmailMessage | str | None = None,
) -> list[Answer]:
    """Hold one SMTP session with the relay and return its answers, the last of them the one that counts.

    :param address: where the client stands: the site's network by default.
    :param entry: port and TLS.
    :param user: whom to log in as; nobody when empty.
    :param message: what to send, a text as it stands; without one the session ends after the recipients.
    """
    text = message or ""
    if not isinstance(text, str):
        text = text.as_bytes(policy=email.policy.SMTP).decode()
    given = {
        "host": RELAY, "port": entry.port, "tls": entry.tls, "user": user, "password": password,
        "sender": sender, "recipients": list(recipients), "message": text,
    }  # fmt: skip
    done = lab.client(address).run([sys.executable, str(SCRIPT)], input=json.dumps(given), timeout=120)
    return [Answer(*answer) for answer in json.loads(done.stdout)]


def compose(sender: str, recipient: str, attachment: bytes | None = None) -> email.message.EmailMessage:
    """Return a message that can be told from every other by its Message-ID."""
    message = email.message.EmailMessage()
    message["From"], message["To"] = sender, recipient
    message["Subject"] = "A message of the lab"
    message["Date"] = email.utils.formatdate()
    message["Message-ID"] = f"<{uuid.uuid4()}@lab.example>"
    message.set_content("One line.\n")
    if attachment is not None:
        message.add_attachment(attachment, maintype="application", subtype="octet-stream", filename="attachment.bin")
    return message


def arrived(host: Host, message: email.message.EmailMessage, wait: float = ARRIVAL) -> list[email.message.EmailMessage]:
    """Return the copies of a message that a host has, waiting for the first one.

    :param wait: seconds; 0 looks once.
    """
    ends = time.monotonic() + wait
    while True:
        found = host.run(["grep", "-rlF", f"Message-ID: {message['Message-ID']}", "/srv/mail"], check=False).stdout
        # A maildir's tmp holds what is still being written (maildir(5)).
        copies = [host.read(path) for path in found.splitlines() if "/new/" in path]
        if copies or time.monotonic() >= ends:
            return [email.message_from_string(copy, policy=email.policy.default) for copy in copies]
        time.sleep(0.2)
