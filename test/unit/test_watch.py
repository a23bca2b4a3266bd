"""The watch: a program of the distribution's Python, what it knows, and what is said of what it saw."""

from __future__ import annotations

import json
import subprocess
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core import verify
from smtpout_core.change.made import Made
from smtpout_core.change.memory import Memory
from smtpout_core.daemons import program as programs
from smtpout_core.daemons.opendkim import keys
from smtpout_core.daemons.postfix import certificate
from smtpout_core.daemons.watch import daemon, record
from smtpout_core.daemons.watch.record import Look
from smtpout_core.errors import Doubt, RelayError
from smtpout_core.host import Host
from smtpout_core.verify import look

PYTHON = "/usr/bin/python3"
FINE = {"check": "mail gets out", "state": "ok", "seen": "it does"}
KNOWN = {"check": "a user can log in", "state": "warning", "seen": "nobody tried"}
BROKEN = {"check": "the opendkim milter answers", "state": "failed", "seen": "it\ndoesn't"}


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where a look is left, on a host whose timer was started an hour ago."""
    monkeypatch.setattr(record, "_timer_began", lambda: time.time() - 3600)
    monkeypatch.setattr(record, "PATH", str(tmp_path / "watch.json"))
    monkeypatch.setattr(daemon, "SITE", str(tmp_path / "site.json"))
    (tmp_path / "site.json").write_text(json.dumps({"state_dir": str(tmp_path), "site": {}}))
    return str(tmp_path / "watch.json")


def test_the_distributions_own_python_runs_it(tmp_path: Path) -> None:
    program = tmp_path / "watch.pyz"
    program.write_bytes(programs.archive("smtpout_core.verify.look"))
    assert zipfile.ZipFile(program).testzip() is None
    keys.generate_key(str(tmp_path / "key"))
    (tmp_path / "certificate").write_bytes(certificate.self_signed("relay.example.com"))
    code = f"""
import sys
from concurrent import futures
sys.path.insert(0, sys.argv[1])
import smtpout_core.promises.derived, smtpout_core.verify.look
from smtpout_core import packages
from smtpout_core.daemons import program as programs
from smtpout_core.daemons.opendkim import keys
from smtpout_core.daemons.postfix import certificate
keys.key_info("{tmp_path}/key"), certificate.info("{tmp_path}/certificate")
with futures.ThreadPoolExecutor(20) as pool:
    list(pool.map(packages.imported, ["dns.resolver", "ldap3"] * 20, ["dnspython", "ldap3"] * 20))
assert "salt" not in sys.modules
"""
    subprocess.run([PYTHON, "-I", "-c", code, program], check=True)
    said = subprocess.run([PYTHON, "-I", program], check=False, capture_output=True, text=True)
    assert daemon.SITE in said.stderr  # which isn't there: so far it came
    assert programs.archive("smtpout_core.verify.look") == program.read_bytes()


def test_it_knows_the_site_and_of_its_secrets_only_the_one_that_asks_the_directory(
    settings: Settings, site: dict[str, Any]
) -> None:
    site["verify"] = {"user": "usuario01", "password": "of the user"}
    made = settings(site)
    made["opendkim"]["private_keys"] = {"domain01.dom": "of the domain"}
    made["opendkim"]["domains"] = {"domain01.dom": {"private_key": "of the domain"}}
    known = daemon.known(made, Host(state_dir="/state")).decode()
    assert "of the " not in known
    assert json.loads(known)["site"]["directory"]["bind_password"] == site["directory"]["bind_password"]
    assert json.loads(known)["state_dir"] == "/state"


def test_a_file_that_is_missing_another_or_open_to_others_differs(tmp_path: Path) -> None:
    part = Made(str(tmp_path / "made"), lambda: b"content", 0o600)
    assert part.difference({}) == {"content": "new"}
    Path(part.path).write_bytes(b"content")
    Path(part.path).chmod(0o600)
    assert (part.difference({}) or {}).keys() <= {"owner"}  # whoever runs this
    Path(part.path).chmod(0o644)
    assert (part.difference({}) or {})["mode"] == "0644 -> 0600"
    Path(part.path).write_bytes(b"another")
    assert (part.difference({}) or {})["content"] == "another (not shown)"


def test_what_was_seen_is_told_with_its_age(left: str) -> None:
    record.write(Look(time.time() - 300, [FINE, KNOWN]), left)
    assert record.seen(10, left) == "5 minutes ago 2 checks, none failed, 1 with a warning"
    assert Path(left).stat().st_mode & 0o777 == 0o600


def test_what_had_failed_is_a_warning(left: str) -> None:
    record.write(Look(time.time() - 300, [FINE, BROKEN]), left)
    with pytest.raises(Doubt, match=r"^5 minutes ago it saw: the opendkim milter answers: it"):
        record.seen(10, left)


def test_a_look_that_is_too_old_is_a_failure_and_so_is_one_that_never_came(left: str) -> None:
    with pytest.raises(RelayError, match=r"^the last look ended 60 minutes ago, and there is one every 10$"):
        record.seen(10, left)
    record.write(Look(time.time() - 45 * 60, [FINE]), left)
    with pytest.raises(RelayError, match=r"^the last look ended 45 minutes ago, and there is one every 10$"):
        record.seen(10, left)
    assert record.seen(15, left).startswith("45 minutes ago 1 checks")
    Path(left).write_text("no record")
    assert record.read(left) is None


def test_a_look_from_before_the_timer_was_started_tells_of_another_site(
    left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write(Look(time.time() - 300, [BROKEN]), left)
    monkeypatch.setattr(record, "_timer_began", lambda: time.time() - 60)
    assert record.seen(10, left) == "the first look comes two minutes after the timer's start"


def test_the_journal_hears_what_is_new_and_the_unit_fails_with_what_failed(
    left: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for checks, status, lines in (
        ([FINE, KNOWN], 0, ["<4>warning: a user can log in: nobody tried", "<6>2 checks, 0 failed, 1 with a warning"]),
        ([BROKEN, KNOWN], 1, ["<3>failed: the opendkim milter answers: it doesn't",
                              "<6>2 checks, 1 failed, 1 with a warning"]),
        ([BROKEN, KNOWN], 1, ["<6>2 checks, 1 failed, 1 with a warning"]),
        ([{**BROKEN, "seen": "another"}, KNOWN], 1, ["<3>failed: the opendkim milter answers: another",
                                                      "<6>2 checks, 1 failed, 1 with a warning"]),
        ([{**BROKEN, "state": "ok"}, KNOWN], 0, ["<6>ok: the opendkim milter answers: it doesn't",
                                                 "<6>2 checks, 0 failed, 1 with a warning"]),
        ([FINE], 0, ["<6>ok: a user can log in: no longer", "<6>1 checks, 0 failed, 0 with a warning"]),
    ):  # fmt: skip
        monkeypatch.setattr(verify, "run", lambda _site, _host, made=checks: made)
        assert look.main() == status
        assert capsys.readouterr().out.splitlines() == lines
        kept = record.read(left)
        assert kept
        assert kept.checks == checks


@pytest.mark.parametrize("change", ["before", "meanwhile", "quickly"])
def test_a_relay_that_is_being_changed_is_not_judged(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with ExitStack() as held:

        def asked(_site: object, _host: object) -> list[dict[str, str]]:
            if change == "meanwhile":
                held.enter_context(Memory(str(tmp_path)).locked())
            else:
                (tmp_path / "whole.json").write_text("{}")
            return [BROKEN]

        if change == "before":
            held.enter_context(Memory(str(tmp_path)).locked())
        monkeypatch.setattr(verify, "run", asked)
        assert look.main() == 0
    assert not Path(left).exists()


def test_a_change_that_was_cut_short_is_a_failure(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "change").mkdir()
    monkeypatch.setattr(verify, "run", lambda _site, _host: [FINE])
    assert look.main() == 1
    kept = record.read(left)
    assert kept
    assert [check["check"] for check in kept.in_state("failed")] == [look.CUT_SHORT]
