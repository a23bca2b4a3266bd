"""Postfix is started aside with a new configuration: its daemons say what is wrong, and nothing of it stays.

On this machine's own Postfix, whose service doesn't run; as root, since namespaces are made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from smtpout_core import files
from smtpout_core.change import checking
from smtpout_core.change.parts import Daemon
from smtpout_core.change.plan import Step
from smtpout_core.change.staging import Stage
from smtpout_core.daemons.postfix import certificate, check, trial
from smtpout_core.host import Host

MAIN = """
compatibility_level = 3.6
myhostname = relay.example.com
smtpd_tls_security_level = may
smtpd_tls_chain_files = {chain}
inet_interfaces = loopback-only
"""
MASTER = """
smtp inet n - n - - smtpd
465 inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
virtual unix - n n - - virtual
policy unix - n n - 0 spawn user=nobody argv=/bin/touch /tmp/the-policy-ran
postlog unix-dgram n - n - 1 postlogd
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces"),
    pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix isn't installed"),
]


@pytest.fixture
def tried(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that tries a configuration with other parameters, and returns what the daemons said."""
    certificate.create_self_signed(str(tmp_path / "relay.pem"), "relay.example.com")

    def run(main: str = "", master: str = "") -> list[str]:
        folder = tmp_path / "staged/etc/postfix"
        folder.mkdir(parents=True)
        (folder / "main.cf").write_text(MAIN.format(chain=tmp_path / "relay.pem") + main, encoding="utf-8")
        (folder / "master.cf").write_text(MASTER.lstrip() + master, encoding="utf-8")
        names = ("/etc/postfix/main.cf", "/etc/postfix/master.cf")
        return trial.complaints({name: f"{tmp_path}/staged{name}" for name in names})

    return run


def test_a_right_configuration_brings_no_complaint(tried: Callable[..., list[str]]) -> None:
    assert tried() == []


@pytest.mark.parametrize(
    ("main", "says"),
    [
        ("smtpd_recipient_limit = many", "smtpd: fatal: bad numerical configuration: smtpd_recipient_limit = many"),
        ("qmgr_message_active_limit = 1x", "qmgr: fatal: bad numerical configuration"),
        ("smtp_connect_timeout = 3x", "smtp: fatal: parameter smtp_connect_timeout: bad time value"),
        ("smtpd_tls_security_level = maybe", 'Invalid TLS level "maybe"'),
        ("transport_maps = nosql:/etc/x", "unsupported dictionary type: nosql"),
        ("header_checks = regexp:/nonexistent", "cleanup: error: open /nonexistent"),
        ("smtpd_tls_chain_files = /etc/hosts", "No PEM data in /etc/hosts"),
        ("smtpd_tls_chain_files = /nonexistent.pem", "error opening chain file: /nonexistent.pem"),
        ("mynetworks = 192.0.2.1/24", "non-null host address bits"),
        ("inet_interfaces = 192.0.2.1", "master: fatal: parameter inet_interfaces: no local interface found"),
    ],
)
def test_a_daemon_says_what_is_wrong(tried: Callable[..., list[str]], main: str, says: str) -> None:
    assert any(says in line for line in tried(main + "\n"))


def test_options_of_a_service_are_tried_too(tried: Callable[..., list[str]]) -> None:
    complaints = tried(master="2525 inet n - n - - smtpd\n  -o smtpd_client_connection_count_limit=few\n")
    assert "smtpd: fatal: bad numerical configuration: smtpd_client_connection_count_limit = few" in complaints


def mounts() -> list[str]:
    """What is mounted, but for the network namespaces of a lab that runs beside."""
    return [line for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines() if "/netns/" not in line]


@pytest.mark.parametrize("main", ["", "smtpd_recipient_limit = many\n"])
def test_nothing_of_a_trial_stays(tried: Callable[..., list[str]], tmp_path: Path, main: str) -> None:
    before = mounts()
    tried(main)
    # Of its shell, with which all of its processes end.
    assert subprocess.run(["pgrep", "-f", f"{tmp_path}/staged"], check=False, capture_output=True).stdout == b""
    assert mounts() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".smtpout-aside.")) == []


def test_no_program_of_the_sites_is_run(tried: Callable[..., list[str]]) -> None:
    tried()
    assert not Path("/tmp/the-policy-ran").exists()


@pytest.mark.parametrize("space", ["\u2028", "\f", "\x85"])
def test_only_a_line_feed_ends_a_line(tried: Callable[..., list[str]], space: str) -> None:
    # As postconf(1) reads it: the value goes on behind the space.
    assert tried(master=f"2525 inet n - n - - smtpd\n  -o smtpd_banner=one{space}two\n") == []


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_a_trial_is_the_same_under_any_umask(tried: Callable[..., list[str]], umask: int) -> None:
    before = os.umask(umask)
    try:
        assert tried() == []
    finally:
        os.umask(before)


def test_a_chain_file_that_is_gone_holds_up_no_other_change_and_one_that_a_change_names_does(tmp_path: Path) -> None:
    chain, live = tmp_path / "relay.pem", tmp_path / "etc/postfix"
    certificate.create_self_signed(str(chain), "relay.example.com")
    place = tmp_path / "staged"

    def put(folder: Path, more: str = "", named: Path = chain) -> dict[str, str]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.cf").write_text(MAIN.format(chain=named) + more, encoding="utf-8")
        (folder / "master.cf").write_text(MASTER.lstrip(), encoding="utf-8")
        return {f"{live}/{name}": f"{folder}/{name}" for name in ("main.cf", "master.cf")}

    postfix = Daemon("postfix", check=lambda staged, _host: check.complaints(staged, str(live)), reads=(str(chain),))
    records = {"postfix": {"disk": {path: files.digest(path) for path in put(live)}, "read": {str(chain): "a digest"}}}

    def said(more: str = "", named: Path = chain) -> tuple[list[str], list[str]]:
        stage = Stage(str(place), put(Path(f"{place}{live}"), more, named), {}, {})
        step = Step(postfix, changes={"main.cf": "changed"}, wanted={"read": {str(chain): files.digest(str(chain))}})
        notes: list[str] = []
        return list(checking.complaints([step], stage, records, Host(), notes)), notes

    chain.unlink()
    refused, notes = said("mynetworks = 192.0.2.0/24\n")
    assert refused == []
    gone = f"As before this change: postfix: smtpd: warning: error opening chain file: {chain}"
    assert any(gone in note for note in notes)
    refused, _ = said(named=Path("/nonexistent.pem"))
    assert any("error opening chain file: /nonexistent.pem" in line for line in refused)
    chain.write_text("nothing of the kind", encoding="utf-8")
    refused, notes = said()
    assert any(str(chain) in line for line in refused), refused
    assert notes == []
