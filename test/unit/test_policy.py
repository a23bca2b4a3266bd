"""The policy service as smtpd asks it: over a socket, with the distribution's own Python, and through its faults."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core.daemons import program
from smtpout_core.daemons.limits import asking, daemon, notice
from smtpout_core.daemons.limits.counts import Over
from smtpout_core.daemons.limits.notice import Notices
from smtpout_core.daemons.limits.policy import Policy, advice, plain
from smtpout_core.errors import Doubt, RelayError

PYTHON = "/usr/bin/python3"
SITE: dict[str, Any] = {"messages": {"hour": 2}, "recipients": {}, "exceptions": {}, "accounts": "", "notice": None}
Started = Callable[..., subprocess.Popen[str]]


class Running:
    """A service of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.state = folder, str(folder / "socket"), folder / "counts.json"
        self.program, self.site = folder / "policy.pyz", folder / "limits.json"
        self.program.write_bytes(program.archive("smtpout_core.daemons.limits.policy", daemon.ROOMS))
        self.process: subprocess.Popen[str] | None = None
        self.configure()

    def configure(self, **changes: Any) -> None:
        self.site.write_text(json.dumps({**SITE, **changes}))

    def start(self, *arguments: str) -> None:
        Path(self.socket).unlink(missing_ok=True)
        argv = [PYTHON, "-I", str(self.program), str(self.site), "--socket", self.socket, "--state", str(self.state)]
        self.process = subprocess.Popen([*argv, *arguments], stdout=subprocess.PIPE, text=True)
        ends = time.monotonic() + 10
        while True:
            try:
                asking.ping(self.socket)
                return
            except RelayError:
                assert time.monotonic() < ends
                time.sleep(0.02)

    def end(self, how: int = signal.SIGTERM) -> str:
        """End it, and return what it has logged."""
        if self.process is None:
            return ""
        self.process.send_signal(how)
        said = self.process.communicate(timeout=10)[0]
        self.process = None
        return said

    def ask(self, login: str = "usuario01", recipients: int = 1, **more: str) -> str:
        """Return the answer to a message of a login's."""
        given = {"request": "smtpd_access_policy", "protocol_state": "DATA", "sasl_username": login,
                 "recipient_count": str(recipients), "client_address": "192.0.2.7", **more}  # fmt: skip
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(self.socket)
            connection.sendall("".join(f"{name}={value}\n" for name, value in given.items()).encode() + b"\n")
            said = b""
            while not said.endswith(b"\n\n"):
                said += connection.recv(4096)
        return said.decode().removeprefix("action=").strip()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.end(signal.SIGKILL)


def test_who_is_over_the_limit_is_put_off_and_nobody_else(running: Running) -> None:
    running.start()
    assert [running.ask()[:9] for _ in range(3)] == ["DUNNO", "DUNNO", "450 4.7.1"]
    assert running.ask("USUARIO01")[:9] == "450 4.7.1"
    assert [running.ask(login) for login in ("usuario02", "")] == ["DUNNO", "DUNNO"]
    assert running.ask(protocol_state="RCPT") == "DUNNO"
    said = running.end()
    assert "<4>over the limit: login=usuario01 account=usuario01 client=192.0.2.7 messages hour 2 of 2" in said


def test_requests_that_come_in_pieces_or_together_are_answered_in_order(running: Running) -> None:
    running.start()
    request = b"request=smtpd_access_policy\nprotocol_state=DATA\nsasl_username=a\nrecipient_count=1\n\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(running.socket)
        connection.sendall(request[:20])
        time.sleep(0.05)
        connection.sendall(request[20:] + 2 * request)
        said = b""
        while said.count(b"\n\n") < 3:
            said += connection.recv(4096)
        assert [answer[:12] for answer in said.split(b"\n\n")] == [b"action=DUNNO"] * 2 + [b"action=450 4", b""]
        connection.sendall(b"x" * 70_000)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(4096) == b""
    assert running.ask("b") == "DUNNO"


def test_counts_outlive_a_restart_and_a_kill_costs_seconds(running: Running) -> None:
    running.start()
    assert [running.ask() for _ in range(2)] == ["DUNNO", "DUNNO"]
    running.end()
    assert running.state.stat().st_mode & 0o777 == 0o600
    running.start()
    assert running.ask()[:3] == "450"
    running.end(signal.SIGKILL)
    running.start()
    assert running.ask()[:3] == "450"


def test_a_changed_limit_is_read_anew_and_one_that_is_none_ignored(running: Running) -> None:
    running.start()
    assert [running.ask()[:3] for _ in range(3)] == ["DUN", "DUN", "450"]
    running.configure(messages={"hour": 3})
    assert running.process
    running.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert [running.ask()[:3] for _ in range(2)] == ["DUN", "450"]
    running.site.write_text("{")
    running.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert running.ask()[:3] == "450"
    assert "<4>reload ignored" in running.end()


@pytest.mark.parametrize("kept", ["{", '{"counts": {"a": 1}, "names": {}}', "[]", "{}"])
def test_counts_that_can_not_be_read_begin_anew_and_that_is_told(running: Running, kept: str) -> None:
    running.state.write_text(kept)
    running.start()
    assert running.ask() == "DUNNO"
    assert "could not be read" in asking.ping(running.socket)["trouble"][0]
    assert (running.folder / "counts.json.unreadable").read_text() == kept
    running.end()
    running.start()
    assert asking.ping(running.socket)["trouble"] == []


def test_a_full_disk_is_told_and_mail_is_counted_all_the_same(tmp_path: Path) -> None:
    site, said = tmp_path / "limits.json", list[str]()
    site.write_text(json.dumps(SITE))
    full = Policy(str(site), "/dev/full/counts.json", say=lambda _priority, line: said.append(line))
    request = {"protocol_state": "DATA", "sasl_username": "a", "recipient_count": "1"}
    assert [str(full.at_once(request))[:3] for _ in range(3)] == ["DUN", "DUN", "450"]
    for _ in range(2):
        full.save(full.written())
    assert [line for line in said if "can't be written" in line] == full.status()["trouble"]
    full.state = str(tmp_path / "counts.json")
    full.save(full.written())
    assert full.status()["trouble"] == []
    assert said[-1] == "the counts are saved again"


def test_a_trial_counts_whom_it_poses_as_and_nobody_else(running: Running) -> None:
    running.start("--over-from", "203.0.113.99", "--over-from", "2001:db8::99")
    assert [running.ask() for _ in range(5)] == ["DUNNO"] * 5
    assert running.ask(client_address="203.0.113.99")[:9] == "450 4.7.1"


CLIENTS = [
    {"networks": ["172.16.30.0/24", "2001:db8:1::/64"], "messages": 2},
    {"networks": ["172.16.31.7/32"], "messages": 1},
]
PRINTER = {"login": "", "policy_context": "clients", "client_address": "172.16.30.9"}


def test_clients_of_an_entry_are_counted_together_and_apart_from_all_else(running: Running) -> None:
    running.configure(clients=CLIENTS)
    running.start()
    others = {"client_address": "2001:db8:1::7"}
    assert [running.ask(**PRINTER)[:9], running.ask(**PRINTER | others)[:9]] == ["DUNNO"] * 2
    answer = running.ask(**PRINTER)
    told = "450 4.7.1 this client, with all that share its limit, has had 2 of 2 messages this hour; it goes on at 20"
    assert answer.startswith(told), answer
    assert running.ask(**PRINTER | {"client_address": "172.16.31.7"}) == "DUNNO"
    for address in ("172.16.29.9", "unknown", ""):
        assert {running.ask(**PRINTER | {"client_address": address}) for _ in range(3)} == {"DUNNO"}
    # Who logs in there is no client, and is counted once: as a login.
    assert {running.ask(**PRINTER | {"login": "usuario01"}) for _ in range(5)} == {"DUNNO"}
    assert [running.ask(client_address="172.16.30.9")[:5] for _ in range(3)] == ["DUNNO", "DUNNO", "450 4"]
    status = asking.ping(running.socket)
    assert [status[name] for name in ("accounts", "over", "clients", "clients_over")] == [1, 1, 2, 1]
    said = running.end()
    assert "<4>over the limit: clients=172.16.30.0/24,2001:db8:1::/64 client=172.16.30.9 messages hour 2 of 2" in said
    running.configure(clients=CLIENTS[::-1])
    running.start()
    assert running.ask(**PRINTER)[:9] == "450 4.7.1", "counts outlive a restart and another order"


def test_counts_of_before_there_were_limits_of_clients_are_read(running: Running) -> None:
    running.state.write_text(json.dumps({"counts": {}, "names": {}}))
    running.configure(clients=CLIENTS)
    running.start()
    assert asking.ping(running.socket)["trouble"] == []


def test_a_trial_counts_a_client_that_calls_itself_spent_and_no_other(running: Running) -> None:
    running.configure(clients=CLIENTS)
    running.start("--over-from", "203.0.113.99", "--over-from", "2001:db8::99")
    assert {running.ask(**PRINTER, helo_name="[172.16.30.9]") for _ in range(5)} == {"DUNNO"}
    assert running.ask(**PRINTER, helo_name="[203.0.113.99]")[:9] == "450 4.7.1"
    assert running.ask(**PRINTER | {"client_address": "192.0.2.1"}, helo_name="[203.0.113.99]") == "DUNNO"


def test_administrators_are_told_of_clients_once_an_hour(tmp_path: Path) -> None:
    site = tmp_path / "limits.json"
    told = {"to": "root@relay.example", "from": "root@relay.example", "host": "relay.example"}
    site.write_text(json.dumps({**SITE, "clients": CLIENTS, "notice": told}))
    policy, subjects = Policy(str(site), say=lambda *_: None), list[str]()
    policy.notices.tell = lambda subject, _text: subjects.append(subject)  # type: ignore[method-assign]
    request = {"protocol_state": "DATA", "recipient_count": "1", **PRINTER, "client_address": "172.16.31.7"}
    for _ in range(5):
        policy.at_once(request)
    assert subjects == ["172.16.31.7/32 sends more messages this hour than it may"]


def test_a_fault_of_its_own_lets_mail_pass(running: Running) -> None:
    running.start()
    assert running.ask(recipient_count="many") == "DUNNO"
    assert "<4>a message passes uncounted: ValueError" in running.end()


def test_what_is_told_is_a_line_that_one_can_act_on() -> None:
    over = Over("messages", "hour", 100, 100, 1, 1_800_000_000, first=True)
    assert advice(over).startswith("this login has had 100 of 100 messages this hour; it goes on at 2027-")
    large = advice(over._replace(kind="recipients", more=200))
    assert large == "200 recipients are more than this login may have in one hour, 100: send it in parts"
    assert all("\n" not in text and text.isascii() for text in (advice(over), large))
    assert plain("a b\nñ\x1b") == "a?b???"


def test_administrators_are_told_once_a_login_and_period(tmp_path: Path) -> None:
    site = tmp_path / "limits.json"
    told = {"to": "root@relay.example", "from": "root@relay.example", "host": "relay.example"}
    site.write_text(json.dumps({**SITE, "notice": told}))
    policy, subjects = Policy(str(site), say=lambda *_: None), list[str]()
    policy.notices.tell = lambda subject, _text: subjects.append(subject)  # type: ignore[method-assign]
    request = {"protocol_state": "DATA", "sasl_username": "a'; rm", "recipient_count": "1"}
    for _ in range(5):
        policy.at_once(request)
    assert subjects == ["a';?rm sends more messages this hour than it may"]


def test_a_notice_waits_for_nobody_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(notice, "PAUSE", 0)
    said, taken = list[str](), list[EmailMessage]()

    def send(message: EmailMessage) -> None:
        if len(said) < 2:
            raise OSError("nobody there")
        taken.append(message)

    async def run() -> None:
        notices = Notices({"to": "root@r.example", "from": "root@r.example", "host": "r.example"}, said.append, send)
        for number in range(notice.WAITING + 1):
            notices.tell(f"a{number}", "Text.\n")
        assert said == ["no notice is sent of: a100: 100 wait already"]
        said.clear()
        task = asyncio.create_task(notices.run())
        while len(taken) < notice.WAITING:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(run())
    assert len(said) == 2
    assert [str(message["Subject"]) for message in taken[:2]] == ["a0", "a1"]
    assert str(taken[0]["Auto-Submitted"]) == "auto-generated"


def test_verify_tells_who_counts_by_others_limits_and_what_troubles(
    settings: Settings, site: dict[str, Any], running: Running
) -> None:
    made = settings({**site, "limits": {"messages": {"hour": 2}}})
    made["limits"]["socket"] = running.socket
    with pytest.raises(RelayError, match="can't be reached; until it is back, mail passes uncounted"):
        asking.seen(made)
    running.start()
    with pytest.raises(RelayError, match="other limits than the pillar's"):
        asking.seen(made)
    running.site.write_bytes(daemon.known(made))
    running.end()
    running.state.write_text("{")
    running.start()
    with pytest.raises(Doubt, match="could not be read"):
        asking.seen(made)
    running.end()
    running.start()
    assert asking.seen(made) == "0 accounts have sent today, 0 of them more than they may"
    assert running.process
    os.kill(running.process.pid, signal.SIGSTOP)
    with pytest.raises(RelayError, match="doesn't answer within 1 s"):
        asking.ping(running.socket, timeout=1)
    os.kill(running.process.pid, signal.SIGCONT)


def test_the_program_is_the_same_as_long_as_its_own_files_are() -> None:
    made = program.archive("smtpout_core.daemons.limits.policy", daemon.ROOMS)
    assert made == program.archive("smtpout_core.daemons.limits.policy", daemon.ROOMS)
    assert len(made) < 100_000
