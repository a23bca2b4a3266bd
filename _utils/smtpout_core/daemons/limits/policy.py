"""The policy service: what smtpd(8) asks before a message of a logged-in user or a client, and what keeps the counts.

A program of the distribution's own Python and nothing else; systemd starts it, gives it its socket (sd_listen_fds(3))
and restarts it where it dies or hangs (sd_notify(3), WATCHDOG). The protocol is Postfix's policy delegation
(SMTPD_POLICY_README). It never refuses mail for a fault of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smtpout_core.daemons.limits import clients
from smtpout_core.daemons.limits.accounts import Account, Accounts, by_postmap
from smtpout_core.daemons.limits.counts import Counts, Over, spans
from smtpout_core.daemons.limits.notice import Notices

STATUS = "smtpout_status"
"""The ``request`` that nobody but the formula makes: how it is, as JSON, counted nowhere."""
COUNTED = ("DATA", "BDAT")
"""States of the SMTP session in which smtpd asks: ``recipient_count`` holds the recipients that were taken by then."""
DUNNO = "DUNNO"
NOW = {"hour": "this hour", "day": "today"}
LARGEST = 65_536
"""Bytes of a request; smtpd's have some 1,000."""
SAVED = 5.0
"""Seconds between two savings of the counts, and two signs of life; systemd misses the latter after ten."""
WARNING, NOTE = "<4>", "<5>"
"""What stands before a line of the journal (sd-daemon(3))."""


class Policy:
    """What is answered, and why.

    :param path: of the site's limits, as JSON; read anew by :meth:`reload`.
    :param state: of the counts; None where none are kept.
    :param over_from: addresses of clients that are over every limit, by where they come from or by what they call
        themselves: those that a trial poses as. With any, nobody else is counted.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        path: str,
        state: str | None = None,
        over_from: tuple[str, ...] = (),
        clock: Callable[[], float] = time.time,
        say: Callable[[str, str], None] | None = None,
    ) -> None:
        self.path, self.state, self.over_from, self.clock = path, state, over_from, clock
        self.say = say or _say
        self.counts, self.accounts = Counts(), Accounts(None)
        self.clients, self.of_clients = list[clients.Client](), Counts()
        self.notices = Notices(None, self._warn)
        self.digest, self.trouble, self._saved = "", "", b""
        self.begun_anew, self._told_until = "", 0
        self.load()

    def load(self) -> None:
        """Read the site's limits; what was counted stays.

        :raises OSError: they can't be read.
        :raises ValueError: they are none.
        """
        given = Path(self.path).read_bytes()
        site = json.loads(given)
        self.counts.limit = {kind: site[kind] for kind in ("messages", "recipients")}
        self.counts.exceptions = site["exceptions"]
        self.clients = clients.read(site.get("clients", ()))
        self.accounts.ask = (
            by_postmap(_credential(site["accounts"])) if site["accounts"] and not self.over_from else None
        )
        self.accounts.moved = lambda name, account: self.counts.move(name, account, self.clock())
        self.notices.settings = None if self.over_from else site["notice"]
        self.digest = hashlib.sha256(given).hexdigest()

    def reload(self) -> None:
        """Read the site's limits anew; go on with the old ones where that can't be."""
        try:
            self.load()
        except (OSError, ValueError, KeyError) as error:
            self._warn(f"reload ignored: {self.path}: {error}")
        else:
            self.say(NOTE, "limits were read anew; what was counted stays")

    def at_once(self, request: Mapping[str, str]) -> str | None:
        """Return the answer to a request; None where the directory is to be asked first.

        :param request: its attributes.
        """
        if request.get("request") == STATUS:
            return json.dumps(self.status())
        login = request.get("sasl_username", "")
        if request.get("protocol_state") not in COUNTED:
            return DUNNO
        if request.get("policy_context") == clients.CONTEXT:
            return DUNNO if login else self._of_a_client(request)
        if not login:
            return DUNNO
        if self.over_from:
            return self._answer(request, Account(login, ()), {"messages": {"hour": 0}}, only=self.over_from)
        account = self.accounts.at_once(login, self.clock())
        return None if account is None else self._answer(request, account, self.counts.of(account.names))

    async def later(self, request: Mapping[str, str]) -> str:
        """Return the answer to a request, once it is known whose login it is."""
        account = await self.accounts.found(request["sasl_username"], self.clock())
        return self._answer(request, account, self.counts.of(account.names))

    def _answer(
        self, request: Mapping[str, str], account: Account, limit: Any, only: tuple[str, ...] | None = None
    ) -> str:
        if not limit or (only is not None and request.get("client_address") not in only):
            return DUNNO
        recipients, now = int(request.get("recipient_count") or 0), self.clock()
        over = self.counts.sends(account.name, limit, recipients, now)
        if over is None:
            return DUNNO
        login, client = plain(request["sasl_username"]), plain(request.get("client_address", ""))
        said = f"{over.kind} {over.period} {over.sent} of {over.most}"
        self._warn(f"over the limit: login={login} account={plain(account.name)} client={client} {said}")
        if over.first:
            self.notices.tell(*notice(over, login, account, client))
        return f"450 4.7.1 {advice(over)}"

    def _of_a_client(self, request: Mapping[str, str]) -> str:
        """Return the answer to a client that hasn't logged in."""
        address, called = (request.get(each, "") for each in ("client_address", "helo_name"))
        client = clients.found(self.clients, address)
        if client is None or (self.over_from and not {address, called.strip("[]")} & {*self.over_from}):
            return DUNNO
        limit = {"messages": {"hour": 0 if self.over_from else client.messages}}
        over = self.of_clients.sends(client.name, limit, int(request.get("recipient_count") or 0), self.clock())
        if over is None:
            return DUNNO
        said = f"client={plain(address)} {over.kind} {over.period} {over.sent} of {over.most}"
        self._warn(f"over the limit: clients={client.name} {said}")
        if over.first:
            self.notices.tell(*notice_of_clients(over, client.name, plain(address)))
        return f"450 4.7.1 {advice(over, clients.WHO)}"

    def status(self) -> dict[str, Any]:
        """Return what it counts by, and what troubles it."""
        now = self.clock()
        troubled = self.accounts.troubled(now)
        troubles = [
            self.trouble,
            self.begun_anew if now < self._told_until else "",
            f"whose a login is can't be asked, and names are counted as they are: {troubled}" if troubled else "",
        ]
        return {
            "limits": self.digest,
            "accounts": len(self.counts.accounts),
            "over": self.counts.over(now),
            "clients": len(self.of_clients.accounts),
            "clients_over": self.of_clients.over(now),
            "trouble": [each for each in troubles if each],
        }

    def restore(self) -> None:
        """Take the counts that were saved last; begin anew, and say so, where they can't be read."""
        if self.state is None:
            return
        try:
            saved = json.loads(Path(self.state).read_bytes())
            self.counts.read(saved["counts"])
            self.accounts.read(saved["names"])
            self.of_clients.read(saved.get("clients", {}))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.clock()))
            self.begun_anew = f"{self.state} could not be read at {when}, and all began anew at nothing: {error}"
            self._told_until = spans(self.clock())[1].ends  # when all would have begun anew
            self._warn(self.begun_anew)
            with contextlib.suppress(OSError):
                os.rename(self.state, f"{self.state}.unreadable")

    def written(self) -> bytes:
        """Return what is to be saved: what has ended is forgotten first."""
        now = self.clock()
        self.counts.forget(now)
        self.of_clients.forget(now)
        self.accounts.forget(now)
        counts = {"counts": self.counts.written(), "clients": self.of_clients.written()}
        return json.dumps({**counts, "names": self.accounts.written()}).encode()

    def save(self, data: bytes) -> None:
        """Write the counts, whole or not at all; mail goes on being counted where that can't be."""
        if self.state is None or data == self._saved:
            return
        try:
            _write(self.state, data)
        except OSError as error:
            told = f"{self.state} can't be written: {error.strerror}; a restart would begin at older counts"
            if told != self.trouble:
                self._warn(told)
            self.trouble = told
        else:
            self._saved = data
            if self.trouble:
                self.say(NOTE, "the counts are saved again")
            self.trouble = ""

    def _warn(self, line: str) -> None:
        self.say(WARNING, line)


class Connection(asyncio.Protocol):
    """A connection of smtpd's: one request after the other, each of lines ``name=value`` up to an empty one."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.buffer = policy, b""
        self.transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self.transport = transport  # type: ignore[assignment]  # a stream's

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self.buffer += data
        if self._task is None or self._task.done():
            self._next()
        if len(self.buffer) > LARGEST:
            self.transport.abort()

    def _next(self) -> None:
        while b"\n\n" in self.buffer:
            text, _, self.buffer = self.buffer.partition(b"\n\n")
            pairs = (line.partition("=") for line in text.decode(errors="replace").split("\n"))
            request = {name: value for name, _, value in pairs}
            try:
                answer = self.policy.at_once(request)
            except Exception as error:  # noqa: BLE001 - a fault of ours lets mail pass
                answer = self._fault(error)
            if answer is None:
                self._task = asyncio.get_running_loop().create_task(self._later(request))
                return
            self._say(answer)

    async def _later(self, request: Mapping[str, str]) -> None:
        try:
            answer = await self.policy.later(request)
        except Exception as error:  # noqa: BLE001 - as above
            answer = self._fault(error)
        self._say(answer)
        self._next()

    def _fault(self, error: Exception) -> str:
        self.policy.say(WARNING, f"a message passes uncounted: {type(error).__name__}: {error}")
        return DUNNO

    def _say(self, answer: str) -> None:
        self.transport.write(f"action={answer}\n\n".encode())


def advice(over: Over, who: str = "this login") -> str:
    """Return what the one who sends is told: ASCII, on one line, and what to do."""
    if over.kind == "recipients" and over.more > over.most:
        most = f"more than this login may have in one {over.period}, {over.most}"
        return f"{over.more} recipients are {most}: send it in parts"
    more = "" if over.kind == "messages" else f", and this message has {over.more}"
    sent = f"{over.sent} of {over.most} {over.kind} {NOW[over.period]}{more}"
    return f"{who} has had {sent}; it goes on at {_time(over.ends)}, or ask your administrator"


def notice(over: Over, login: str, account: Account, client: str) -> tuple[str, str]:
    """Return subject and text of what the administrators are told."""
    searched = re.sub(r"[^\w@+-]", ".", login)  # it goes into a shell
    others = ", ".join(plain(name) for name in account.names if name != account.name)
    text = (
        f"{login} has had {over.sent} of the {over.most} {over.kind} that it may {NOW[over.period]}.\n"
        f"What it sends now is put off (450) until {_time(over.ends)}.\n\n"
        f"It came from {client}.{f' Other names of the account: {others}.' if others else ''}\n\n"
        "Is it a program gone astray, or somebody who has got the password? The log tells\n"
        "what was sent:\n\n"
        f"  journalctl --since today --grep 'sasl_username={searched}'\n"
        "  journalctl --since today --unit smtpout-policy\n\n"
        "Who has to send more gets a limit of their own in the pillar,\n"
        "smtpout:limits:exceptions.\n"
    )
    return f"{login} sends more {over.kind} {NOW[over.period]} than it may", text


def notice_of_clients(over: Over, networks: str, client: str) -> tuple[str, str]:
    """Return subject and text of what the administrators are told of clients that haven't logged in."""
    text = (
        f"{networks} has had {over.sent} of the {over.most} {over.kind} that it may {NOW[over.period]}.\n"
        f"What it sends now without a login is put off (450) until {_time(over.ends)}.\n\n"
        f"The last one came from {client}. The log tells what was sent:\n\n"
        f"  journalctl --since today --grep '{client}'\n\n"
        "Who has to send more gets another limit in the pillar, smtpout:clients.\n"
    )
    return f"{networks} sends more {over.kind} {NOW[over.period]} than it may", text


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M %z", time.localtime(at))


def plain(text: str) -> str:
    """Return a text that stands in a line of the log and in a header: no blank, nothing beyond ASCII."""
    return "".join(each if 33 <= ord(each) <= 126 else "?" for each in text[:254])


def _credential(table: str) -> str:
    """Return a table whose file lies where systemd has put it for this service alone (LoadCredential=)."""
    kind, _, name = table.partition(":")
    return f"{kind}:{os.environ.get('CREDENTIALS_DIRECTORY', '')}/{name}"


def _say(priority: str, line: str) -> None:
    sys.stdout.write(f"{priority}{line}\n")
    sys.stdout.flush()


def _write(path: str, data: bytes) -> None:
    """Write a file beside its place, for its owner alone, and move it there."""
    aside = f"{path}.new"
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def told(message: str) -> None:
    """Tell systemd something (sd_notify(3)); nobody where it isn't there."""
    if place := os.environ.get("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, contextlib.suppress(OSError):
            notified.sendto(message.encode(), f"\0{place[1:]}" if place.startswith("@") else place)


async def serve(policy: Policy, listening: socket.socket) -> None:
    """Answer until SIGTERM; save the counts now and then, and at the end. SIGHUP has the limits read anew.

    :param listening: where smtpd connects.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGINT, ended.set)
    loop.add_signal_handler(signal.SIGHUP, policy.reload)
    notices = asyncio.create_task(policy.notices.run())
    server = await loop.create_unix_server(lambda: Connection(policy), sock=listening, backlog=4096)
    told("READY=1")
    while not ended.is_set():
        told("WATCHDOG=1")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), SAVED)
        # In a thread: a disk that is slow keeps nobody waiting.
        await loop.run_in_executor(None, policy.save, policy.written())
    told("STOPPING=1")
    server.close()
    notices.cancel()
    policy.save(policy.written())


def main(arguments: list[str] | None = None) -> int:
    """Run the service: as systemd's, or, with a socket of its own, for a trial."""
    lines = argparse.ArgumentParser(prog="smtpout-policy")
    lines.add_argument("limits", help="the site's limits, as JSON")
    lines.add_argument("--state", help="where the counts are kept")
    lines.add_argument("--socket", help="where to listen; default, what systemd hands over")
    lines.add_argument("--over-from", action="append", default=[], help="a client that a trial poses as")
    given = lines.parse_args(arguments)
    policy = Policy(given.limits, given.state, tuple(given.over_from))
    policy.restore()
    if given.socket:
        os.environ.pop("NOTIFY_SOCKET", None)  # that of the minion, say, which a trial is started by
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(given.socket)
        os.chmod(given.socket, 0o666)  # noqa: S103 - in a trial's own /tmp
    else:
        listening = socket.socket(fileno=3)  # SD_LISTEN_FDS_START
    listening.setblocking(False)
    asyncio.run(serve(policy, listening))
    return 0
