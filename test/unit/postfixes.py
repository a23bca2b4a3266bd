"""Postfix on real ports of this machine, with a queue of its own; its systemd is pretended."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from smtpout_core import listener
from smtpout_core.change import units
from smtpout_core.daemons.postfix import listen

HERE = [each for each in map(ipaddress.ip_address, sorted(listener.local_addresses())) if each.version == 4]
ADDRESS = next((str(each) for each in HERE if not each.is_loopback), "")
needs_postfix = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("postfix") or not ADDRESS, reason="as root, with Postfix and an address"
)

MAIN = """
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/queue/log
maillog_file_prefixes = /
multi_instance_name = postfix-{name}
myhostname = {name}.example
mydestination = {name}.example
inet_interfaces = {address}
inet_protocols = ipv4
mynetworks = {here} 127.0.0.0/8
enable_long_queue_ids = {long}
alias_maps =
{more}
"""
MASTER = """
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
local unix - n n - - local
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
flush unix n - n 1000? 0 flush
postlog unix-dgram n - n - 1 postlogd
"""


def free_port() -> int:
    """Return a port that nobody has: none that this machine's clients get (ip(7), ip_local_port_range)."""
    while True:
        with contextlib.suppress(OSError), socket.create_server((ADDRESS, random.randrange(20000, 32000))) as once:  # noqa: S311
            return int(once.getsockname()[1])


class Relay:
    """A Postfix of its own."""

    def __init__(self, root: Path, name: str, address: str, more: str = "", long: str = "yes") -> None:
        self.root, self.address, self.port = root / name, address, free_port()
        self.config = self.root / "config"
        for folder in (self.config, self.root / "queue", self.root / "data"):
            folder.mkdir(parents=True)
        (self.root / "queue/log").touch()
        for each in ("data", "queue/log"):  # postsuper(1) gives up root, and logs
            shutil.chown(self.root / each, "postfix")
        given = {"root": self.root, "name": name, "address": address, "here": ADDRESS, "more": more, "long": long}
        (self.config / "main.cf").write_text(MAIN.format(**given), encoding="utf-8")
        (self.config / "master.cf").write_text(MASTER.format(port=self.port), encoding="utf-8")
        for each in ("dynamicmaps.cf", "postfix-files"):
            if (there := Path("/etc/postfix", each)).exists():
                shutil.copy(there, self.config)
        self.calls: list[str] = []

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "postfix": {
                "directory": str(self.config),
                "service": "postfix",
                "unit": "postfix@-",
                "blocked": {"table": str(self.root / "blocked/logins"), "type": "lmdb"},
            },
            "directory": {"timeout": 1},
            "selinux": {"active": False},
            "domains": ["domain01.dom"],
        }

    def act(self, verb: str, _units: object = ()) -> None:
        # To stop it would wait for what it is about; nothing is lost by "abort" (postfix(1)).
        for each in {"restart": ("abort", "start"), "stop": ("abort",)}.get(verb, (verb,)):
            if each in ("start", "abort", "reload"):
                done = subprocess.run(["postfix", "-c", str(self.config), each], check=False, capture_output=True)
                assert each == "abort" or done.returncode == 0, (done, self.log())

    def runs(self) -> bool:
        done = subprocess.run(["postfix", "-c", str(self.config), "status"], check=False, capture_output=True)
        return done.returncode == 0

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP(self.address, self.port, timeout=10)

    def greeting(self) -> tuple[int, bytes]:
        with smtplib.SMTP(timeout=10) as client:
            return client.connect(self.address, self.port)

    def send(self, count: int, domain: str = "gone.example") -> None:
        with self.client() as client:
            for number in range(count):
                client.sendmail("a@domain01.dom", [f"u{number}@{domain}"], f"Subject: {number}\n\nhello\n")

    def mail(self, *queues: str) -> list[Path]:
        wanted = queues or ("maildrop", "incoming", "active", "deferred")
        return [path for each in wanted for path in (self.root / "queue" / each).rglob("*") if path.is_file()]

    def hold(self, count: int) -> list[str]:
        """Put some of what waits on hold, and return which."""
        names = [path.name for path in self.mail("deferred")][:count]
        lines = "".join(f"{name}\n" for name in names).encode()
        subprocess.run(["postsuper", "-c", self.config, "-h", "-"], input=lines, check=True, capture_output=True)
        return names

    def becomes_empty(self, seconds: float = 30) -> None:
        """Wait until all has left that isn't on hold."""
        ends = time.monotonic() + seconds
        while self.mail():
            assert time.monotonic() < ends, self.log()
            subprocess.run(["postqueue", "-c", self.config, "-f"], check=False, capture_output=True)
            time.sleep(0.2)

    def log(self) -> str:
        return (self.root / "queue/log").read_text(encoding="utf-8")


def pretended(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a relay be the one that systemd knows."""
    monkeypatch.setattr(units, "act", relay.act)
    monkeypatch.setattr(
        units, "status", lambda *_: SimpleNamespace(running=relay.runs(), dead=False, state="", life="")
    )
    monkeypatch.setattr(units, "each", lambda names: {name: {"enabled": True, "running": True} for name in names})
    monkeypatch.setattr(listen, "astray", lambda _settings: None)


def comes(what: Callable[[], object], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


def entered(folder: Path) -> Path:
    """Have Postfix's own user get to a folder."""
    for each in [*folder.parents, folder]:
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)
    return folder
