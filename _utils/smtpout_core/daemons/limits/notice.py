"""Tell the administrators, by mail, of the first message in an hour or on a day that is more than a login may send."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

WAITING = 100
"""Notices that wait to be sent; of more than that the log alone tells."""
TRIES, PAUSE, TIMEOUT = 3, 60.0, 30.0
"""How often one is tried, and seconds between two tries and for one."""


class Notices:
    """What is sent, one after the other, while messages go on being counted.

    :param settings: ``to``, ``from`` and ``host``, the relay's name; None where nobody is told.
    :param say: writes a line of the log.
    :param send: hands a message over; raises OSError or SMTPException.
    """

    def __init__(
        self,
        settings: dict[str, Any] | None,
        say: Callable[[str], None],
        send: Callable[[EmailMessage], None] | None = None,
    ) -> None:
        self.settings, self.say, self.send = settings, say, send or over_smtp
        self._queue: asyncio.Queue[EmailMessage] = asyncio.Queue(WAITING)

    def tell(self, subject: str, text: str) -> None:
        """Have a notice sent; nothing waits for it."""
        if self.settings is None:
            return
        try:
            self._queue.put_nowait(composed(self.settings, subject, text))
        except asyncio.QueueFull:
            self.say(f"no notice is sent of: {subject}: {WAITING} wait already")

    async def run(self) -> None:
        """Send what there is, for ever."""
        while True:
            made = await self._queue.get()
            for attempt in range(1, TRIES + 1):
                try:
                    await asyncio.get_running_loop().run_in_executor(None, self.send, made)
                    break
                except (OSError, smtplib.SMTPException) as error:
                    self.say(f"no notice could be sent of: {made['Subject']}: {' '.join(str(error).split())}")
                    if attempt < TRIES:
                        await asyncio.sleep(PAUSE)


def composed(settings: dict[str, Any], subject: str, text: str) -> EmailMessage:
    """Return a notice."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = settings["from"], settings["to"], subject
    made["Date"], made["Message-ID"] = formatdate(localtime=True), make_msgid(domain=settings["host"])
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834, 5: nobody's vacation program answers
    made.set_content(text, charset="us-ascii", cte="7bit")
    return made


def over_smtp(message: EmailMessage) -> None:
    """Hand a notice to the relay itself, as a program on it does; its bounce would be another notice, so there is none.

    :raises OSError: nobody is there.
    :raises SMTPException: it isn't taken.
    """
    with smtplib.SMTP("localhost", 25, local_hostname=str(message["To"]).rpartition("@")[2], timeout=TIMEOUT) as relay:
        relay.send_message(message, from_addr="", to_addrs=[str(message["To"])])
