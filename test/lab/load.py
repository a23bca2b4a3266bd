"""Mail by the hundred: messages that a relay has to take or to refuse, sent at once by servers, users and strangers.

Run as a script, at a client's address, it is one such sender: it tries each message again until it gets 250, a 5xx or
runs out of time, as mail servers and mail programs do, and prints every reply. Imported, it plans the messages, starts
the senders, and counts at the receiving end what arrived.
"""

from __future__ import annotations

import json
import signal
import smtplib
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lab.host import Host
    from lab.lab import Lab

KNOWN = ["usuario01@domain01.dom", "usuario02@domain02.dom"]
OUTSIDE = "somebody@outside.example"
TIMEOUT = 300  # seconds for one answer (RFC 5321, 4.5.3.2, allows five to ten minutes)
LOST = 0  # the code of a connection that broke, or that nobody took

# Message-IDs in the header of each message of the mailboxes; a bounce holds that of another message in its body.
COUNTER = """
find /srv/mail -type f -path '*/new/*' -exec awk '
    FNR == 1 { header = 1 } /^$/ { header = 0 } header && /^Message-ID: <load-/ { print $2 }' {} +
"""


class Message(NamedTuple):
    """A message: who sends what to whom, and whether it is to arrive."""

    id: str
    sender: str
    recipient: str
    virus: bool = False
    wanted: bool = True


class Reply(NamedTuple):
    """An answer to one try: after which command, and whether the message may have been taken without a word.

    Times are seconds since 1970: when the try began, and when its answer was there.
    """

    id: str
    command: str
    code: int
    text: str
    doubtful: bool
    began: float
    at: float

    def __str__(self) -> str:
        return f"{self.command} {self.code or 'lost'}"

    @property
    def final(self) -> bool:
        """Whether a sender doesn't try again. A failed login is none: the message stays with its author."""
        return self.command in ("MAIL", "RCPT", "DATA") and (
            self.code >= 500 or (self.command, self.code) == ("DATA", 250)
        )


# --- the sender: stands alone, since it runs as a script ------------------------------------------------------------


class Sender:
    """One client: a connection that is used for some messages, then made anew."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.client: smtplib.SMTP | None = None
        self.sent = 0
        # The relay's certificate is self-made; what is looked at here is the mail, not the certificate.
        self.context = ssl._create_unverified_context()  # noqa: S323 - as said

    def tried(self, message: Message) -> Reply:
        """Try to send a message once, and return the answer that counts."""
        command, doubtful, began = "CONNECT", False, time.time()
        try:
            for command, ask in self._steps(message):
                doubtful = command == "DATA"
                code, text = ask()
                if code >= 400:
                    break
        except smtplib.SMTPResponseException as refused:
            code, said = refused.smtp_code, refused.smtp_error
            text = said if isinstance(said, bytes) else said.encode()
            self._leave()
        except (OSError, smtplib.SMTPException) as broken:
            code, text = LOST, str(broken).encode()
            self._leave()
        else:
            self._go_on(command, code)
        # 354 and a refusal of DATA itself come as a reply; only silence after the message leaves a doubt.
        doubtful = doubtful and code == LOST
        return Reply(message.id, command, code, text.decode(errors="replace"), doubtful, began, time.time())

    def _steps(self, message: Message) -> Iterable[tuple[str, Callable[[], tuple[int, bytes]]]]:
        if self.client is None:
            client = self.client = smtplib.SMTP(timeout=TIMEOUT, local_hostname="client.example")
            client._host = self.given["host"]  # type: ignore[attr-defined]  # the name that STARTTLS asks for
            yield "CONNECT", lambda: client.connect(self.given["host"], self.given["port"])
            yield "EHLO", client.ehlo
            if user := self.given["user"]:
                yield "STARTTLS", lambda: client.starttls(context=self.context)
                yield "EHLO", client.ehlo
                client.user, client.password = user, self.given["password"]
                yield "AUTH", lambda: client.auth("PLAIN", client.auth_plain)
        client = self.client
        yield "MAIL", lambda: client.mail(message.sender)
        yield "RCPT", lambda: client.rcpt(message.recipient)
        yield "DATA", lambda: client.data(self._text(message))

    def _text(self, message: Message) -> bytes:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Message-ID"] = message.sender, message.recipient, f"<{message.id}@lab.example>"
        mail["Subject"], mail["Date"] = "One of many", formatdate()
        mail.set_content("A line of a message.\n" * 50)
        if message.virus:
            mail.add_attachment(self.given["virus"].encode(), maintype="application", subtype="octet-stream")
        return mail.as_bytes()

    def _go_on(self, command: str, code: int) -> None:
        self.sent += 1
        if command in ("CONNECT", "EHLO", "STARTTLS", "AUTH") or code == 421 or self.sent >= self.given["reuse"]:
            self._leave()
        elif code >= 400 and self.client:
            try:
                ready = self.client.rset()[0] == 250  # else the relay ends the session: 421, too many errors
            except (OSError, smtplib.SMTPException):
                ready = False
            if not ready:
                self._leave()

    def _leave(self) -> None:
        if self.client:
            try:
                self.client.quit()
            except (OSError, smtplib.SMTPException):
                self.client.close()
        self.client, self.sent = None, 0


def send(given: dict[str, Any]) -> None:
    """Send messages until each has its final reply or the time is over; print every reply as a line of JSON.

    After SIGUSR1 no message is begun any more; before SIGUSR2 no more than are given to begin with.
    """
    sender, ends = Sender(given), time.monotonic() + given["seconds"]
    signal.signal(signal.SIGUSR1, lambda *_: given.update(enough=True))
    signal.signal(signal.SIGUSR2, lambda *_: given.update(first=len(given["messages"])))
    waiting = [Message(*message) for message in given["messages"]]
    begun: set[str] = set()
    while waiting and time.monotonic() < ends:
        again = []
        while waiting:
            message = waiting.pop(0)
            while message.id not in begun and len(begun) >= given["first"] and time.monotonic() < ends:
                time.sleep(0.02)
            if "enough" in given and message.id not in begun:
                continue
            begun.add(message.id)
            reply = sender.tried(message)
            print(json.dumps(reply), flush=True)
            if not reply.final:
                again.append(message)
            if reply.command in ("CONNECT", "EHLO", "STARTTLS", "AUTH"):
                break  # nothing else would get farther now
            time.sleep(given["pause"])
        if again:
            time.sleep(given["retry"])
        waiting = again + waiting
    sender._leave()


# --- the load: plans, starts, counts --------------------------------------------------------------------------------


class Figures(NamedTuple):
    """What became of the messages."""

    sent: int
    accepted: int
    arrived: int
    lost: int
    doubled: int
    refused: int


def plan(case: str, count: int) -> dict[str, list[Message]]:
    """Return the messages of a load by sender: two servers of the site, two users, one stranger."""
    shares = {"server 1": 0.25, "server 2": 0.25, "usuario01": 0.2, "usuario02": 0.2, "stranger": 0.1}
    return {
        sender: [
            _message(sender, f"load-{case}-{sender.replace(' ', '')}", number) for number in range(int(count * share))
        ]
        for sender, share in shares.items()
    }


def _message(sender: str, prefix: str, number: int) -> Message:
    """Return one message of a sender: most are to arrive, every fifth is to be refused, a stranger's every second."""
    own = {"usuario01": KNOWN[0], "usuario02": KNOWN[1], "stranger": "someone@stranger.example"}
    address = own.get(sender, "app@domain01.dom")
    recipient = (KNOWN[0], KNOWN[1], OUTSIDE)[number % 3]
    message = Message(f"{prefix}-{number}", address, recipient)
    unwanted = [
        message._replace(virus=True),
        message._replace(recipient=f"nobody{number}@{('domain01.dom', 'domain02.dom')[number % 2]}"),
    ]
    if sender.startswith("usuario"):
        unwanted[1] = message._replace(sender="president@domain01.dom")
    if sender == "stranger":
        message = message._replace(recipient=KNOWN[number % 2])
        unwanted = [message._replace(recipient=OUTSIDE), message._replace(recipient=f"nobody{number}@domain02.dom")]
    every = 2 if sender == "stranger" else 5
    if number % every == 1:
        return unwanted[number // every % 2]._replace(wanted=False)
    return message


class Load:
    """Senders at work on a relay, and what they were told.

    :param lab: the lab.
    :param case: a word of letters and digits: the messages' names begin with it.
    :param count: how many messages in all.
    :param seconds: how long the senders try.
    :param span: over how many seconds the first tries are spread; 0, as fast as they go.
    :param addresses: where users and strangers stand, in the network 198.51.100.0/24: the last number of the first.
    :param reuse: how many messages a connection is used for; 0, as many as the relay's limits call for.
    :param first: which part of its messages a sender begins before it is told to ``go_on``.
    """

    def __init__(
        self, lab: Lab, case: str, count: int, seconds: float, span: float, addresses: int,
        reuse: int = 0, first: float = 1,
    ) -> None:  # fmt: skip
        from lab import mail

        self.lab = lab
        self.replies: list[Reply] = []
        self.plan = plan(case, count)
        self.messages = {message.id: message for messages in self.plan.values() for message in messages}
        for host in ("delivery", "outside"):
            lab.host(host).run(["sh", "-c", "find /srv/mail -type f -delete"])
        self.processes = []
        for index, (sender, messages) in enumerate(self.plan.items()):
            server, user = sender.startswith("server"), sender.startswith("usuario")
            address = f"172.16.11.{50 + index}" if server else f"198.51.100.{addresses + index}"
            given = {
                "host": mail.RELAY, "port": 587 if user else 25, "user": sender if user else "",
                "password": mail.PASSWORD, "virus": mail.EICAR.decode(), "messages": messages,
                # With ten errors in a session the relay slows its answers down (smtpd_soft_error_limit).
                "reuse": reuse or max(5, len(messages) // (80 if server else 40)),
                "seconds": seconds, "pause": span / max(len(messages), 1), "first": len(messages) * first,
                # The relay lets a client that isn't the site's connect 60 times a minute.
                "retry": 0.5 if server else 2,
            }  # fmt: skip
            self.processes.append(self._started(lab.client(address).argv([sys.executable, __file__]), given))
        self.readers = [threading.Thread(target=self._read, args=[process]) for process in self.processes]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _started(argv: list[str], given: dict[str, Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin
        process.stdin.write(json.dumps(given))
        process.stdin.close()
        return process

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            self.replies.append(Reply(*json.loads(line)))

    def until(self, reached: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is reached, the senders have ended, or the time is over."""
        ends = time.monotonic() + seconds
        while not reached() and time.monotonic() < ends and any(reader.is_alive() for reader in self.readers):
            time.sleep(0.02)

    def finished(self) -> None:
        """Wait until every sender has ended."""
        for process, reader in zip(self.processes, self.readers, strict=True):
            reader.join()
            assert process.wait() == 0

    def go_on(self) -> None:
        """Have the senders begin the rest of their messages."""
        for process in self.processes:
            process.send_signal(signal.SIGUSR2)

    def enough(self) -> None:
        """Have the senders finish what they have begun, and forget the messages that they haven't."""
        for process in self.processes:
            process.send_signal(signal.SIGUSR1)
        self.finished()
        begun = {reply.id for reply in self.replies}
        self.messages = {name: message for name, message in self.messages.items() if name in begun}

    def stop(self) -> None:
        """End senders that are still at work."""
        for process in self.processes:
            process.kill()
        for reader in self.readers:
            reader.join()

    def temporary(self, since: float = 0) -> list[Reply]:
        """Return the replies that a sender tries again after."""
        return [reply for reply in self.replies if not reply.final and reply.at >= since]

    def counted(self) -> tuple[Figures, dict[str, list[str]]]:
        """Wait until the relay's queue is empty; return the figures, and the messages that went wrong, by how."""
        arrived = self.arrived()
        final = {reply.id: reply for reply in self.replies if reply.final}
        accepted = {name for name, reply in final.items() if reply.code == 250}
        doubtful = {reply.id for reply in self.replies if reply.doubtful}
        unwanted = {name for name, message in self.messages.items() if not message.wanted}
        doubled = {name for name, times in arrived.items() if times > 1}
        wrong = {
            "lost": accepted - arrived.keys(),
            "doubled though the sender got its answer": doubled - doubtful,
            "let through wrongly": unwanted & (arrived.keys() | accepted),
            "refused wrongly": final.keys() - accepted - unwanted,
            "without an answer": self.messages.keys() - final.keys(),
            "not sent by the load": arrived.keys() - self.messages.keys(),
        }
        figures = Figures(
            len(self.messages), len(accepted), len(arrived), len(wrong["lost"]), len(doubled),
            len(final.keys() & unwanted - accepted),
        )  # fmt: skip
        return figures, {how: sorted(names) for how, names in wrong.items() if names}

    def arrived(self) -> Counter[str]:
        """Wait until the relay's queue is empty; return how often each message is where mail arrives."""
        relay, ends = self.lab.host("relay"), time.monotonic() + 120 + len(self.messages) / 20
        while waiting(relay) and time.monotonic() < ends:
            time.sleep(0.2)
        arrived = Counter[str]()
        for host in ("delivery", "outside"):
            found = self.lab.host(host).run(["sh", "-c", COUNTER], timeout=300).stdout.split()
            arrived.update(name[1:].partition("@")[0] for name in found)
        return arrived


def waiting(relay: Host) -> int:
    """Return how many messages a relay's queue holds.

    One that cleanup(8) or postdrop(1) was stopped in the midst of is none: it stays for a day, and isn't executable.
    """
    # In the order in which messages move, and deferred again for those that were tried meanwhile: all of them together
    # have been seen to go from deferred to active between two looks.
    queues = "maildrop hold deferred incoming active deferred"
    look = f"cd /var/spool/postfix && find {queues} -type f -perm -u+x -printf '%f\\n' | sort -u | wc -l"
    return int(relay.run(["sh", "-c", look]).stdout)


if __name__ == "__main__":
    send(json.load(sys.stdin))
