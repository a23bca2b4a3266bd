"""A reload that OpenDKIM doesn't follow is noticed by its own words, and what no reload brings about takes a restart.

A real one runs aside, and logs to the test's own /dev/log; as root, since namespaces are made.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from smtpout_core.change import checking
from smtpout_core.change.plan import Step
from smtpout_core.change.staging import Stage
from smtpout_core.daemons import milter
from smtpout_core.daemons.opendkim import daemon
from smtpout_core.errors import RelayError
from smtpout_core.host import Host
from support import load

CONFIG = """\
PidFile {place}/opendkim.pid
Syslog yes
Umask 007
UserID root:root
Socket local:{place}/socket
KeyTable file:{place}/KeyTable
SigningTable file:{place}/SigningTable
"""
ALONE = """
for node in null zero random urandom; do : >"$1/dev/$node"; mount --bind "/dev/$node" "$1/dev/$node"; done
mount --rbind "$1/dev" /dev
exec opendkim -f -x "$1/opendkim.conf"
"""
FOLLOWED = "configuration reloaded from"

Reload = Callable[[str], str]


@pytest.fixture
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reload]:
    """Return a function that has a running OpenDKIM reload other options, and returns what it logs of that."""
    if os.geteuid() != 0 or not shutil.which("opendkim"):
        pytest.skip("OpenDKIM isn't installed, or may not be started aside")
    place = tmp_path_factory.mktemp("dkim")  # a socket's path has an end
    (place / "dev").mkdir()
    for name in ("KeyTable", "SigningTable"):
        (place / name).touch()
    (place / "opendkim.conf").write_text(CONFIG.format(place=place), encoding="utf-8")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(place / "dev/log"))
        log.settimeout(5)
        opendkim = subprocess.Popen(["unshare", "--mount", "sh", "-ec", ALONE, "sh", place])
        try:
            heard(log)
            yield lambda options: reload(place, options, opendkim, log)
        finally:
            opendkim.kill()
            opendkim.wait()


def heard(log: socket.socket) -> str:
    """Return the next message of a log, as the journal shows it."""
    return log.recv(1 << 16).decode().partition("]: ")[2]


def reload(place: Path, options: str, opendkim: subprocess.Popen[bytes], log: socket.socket) -> str:
    (place / "opendkim.conf").write_text(CONFIG.format(place=place) + options.format(place=place), encoding="utf-8")
    for _ in range(100):  # it has no socket yet
        with suppress(RelayError):
            milter.probe(f"local:{place}/socket")
            break
        time.sleep(0.05)
    opendkim.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    milter.probe(f"local:{place}/socket")  # it reloads for the next client
    return heard(log)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("Misspelt yes\n", ": configuration error at line 8: unrecognized parameter"),
        ("MaximumHeaders many\n", ": configuration error at line 8: illegal value"),
        ("Canonicalization none\n", 'unknown canonicalization algorithm "none"'),
        ("InternalHosts file:{place}/gone\n", "gone: dkimf_db_open(): No such file or directory"),
        ("Nameservers nobody\n", "can't configure DKIM library: failed to set nameserver list; continuing"),
    ],
)
def test_opendkim_says_that_it_does_not_follow_a_reload(reloaded: Reload, options: str, said: str) -> None:
    words = reloaded(options)
    assert said in words
    assert daemon.IGNORED.search(f"{words}\n{FOLLOWED} /etc/opendkim.conf")
    words = reloaded("")
    assert words.startswith(FOLLOWED)
    assert not daemon.IGNORED.search(words)


def test_opendkim_takes_another_socket_for_followed_and_stays_where_it_was(reloaded: Reload) -> None:
    assert reloaded("Socket local:{place}/another\n").startswith(FOLLOWED)


@pytest.mark.parametrize("option", ["UserID opendkim:mail", "PidFile /run/opendkim/another.pid", "UMask 002"])
def test_what_no_reload_brings_about_restarts(
    settings: Callable[..., dict[str, Any]], tmp_path: Path, option: str
) -> None:
    [described] = daemon.described(settings(load("default")["smtpout"]), Host())
    opendkim = replace(described, main=f"{tmp_path}/live/opendkim.conf")
    where = {opendkim.main: f"{tmp_path}/aside/opendkim.conf"}
    records: dict[str, Any] = {}
    for folder in ("live", "aside"):
        (tmp_path / folder).mkdir()
    Path(opendkim.main).write_text(CONFIG, encoding="utf-8")
    for text, action in ((CONFIG, "reload"), (CONFIG + "LogWhy yes\n", "reload"), (without(option), "restart")):
        Path(where[opendkim.main]).write_text(text, encoding="utf-8")
        step = Step(opendkim, action="reload")
        checking.note_starts([step], records, Stage(str(tmp_path), where, {}, {}), Host())
        assert step.action == action, text
        records = {"opendkim": step.wanted}
    assert step.reasons == [option.partition(" ")[0].replace("UM", "Um")]


def without(option: str) -> str:
    """Return the configuration with another value of an option."""
    name = option.partition(" ")[0].lower()
    lines = [line for line in CONFIG.splitlines() if line.partition(" ")[0].lower() != name]
    return "\n".join([*lines, option, ""])


def test_its_drop_in_is_read_by_a_start(settings: Callable[..., dict[str, Any]]) -> None:
    site = settings(load("default")["smtpout"])
    [opendkim] = daemon.described(site, Host())
    assert [file.path for file in opendkim.files if file.restart] == [site["opendkim"]["unit_file"]]
