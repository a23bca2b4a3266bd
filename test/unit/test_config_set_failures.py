"""A daemon's configuration as one set: what is left of an apply that failed, was killed, or is undone."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pretend_host import Host

SERVES = "The old configuration serves again."


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def applied(host: Host) -> Host:
    """Return a host on which the set has been applied, and whose daemon runs."""
    result = host.apply()
    assert result["result"] is True, result["comment"]
    host.calls()
    return host


@pytest.fixture
def changed(applied: Host) -> Host:
    """Return a host whose daemon runs, and whose settings have changed since."""
    applied.settings(hostname="mx.example.org", password="hunter3")
    return applied


@pytest.mark.parametrize(
    ("fault", "calls", "words"),
    [
        ("crash", ["restart mydaemon", "reset-failed mydaemon", "restart mydaemon"], "Job for mydaemon failed."),
        ("deaf", ["restart mydaemon", "reset-failed mydaemon", "restart mydaemon"], "127.0.0.1:25 does not answer"),
    ],
)
def test_a_daemon_that_fails_gets_its_whole_old_set_back(
    changed: Host, fault: str, calls: list[str], words: str
) -> None:
    changed.settings(hostname=fault, password="hunter3")
    before = changed.snapshot(times=False)
    result = changed.apply()
    assert (result["result"], result["changes"]) == (False, {})
    assert words in result["comment"]
    assert "Its log:\n  daemon: fatal: bad configuration\n" in result["comment"]
    assert result["comment"].endswith(SERVES)
    assert "hunter" not in result["comment"]
    assert changed.snapshot(times=False) == before
    assert changed.calls() == calls
    assert (changed.root / "running/main.cf").read_text() == changed.read("main.cf")


def test_the_next_run_tries_again_and_succeeds_once_the_fault_is_gone(changed: Host) -> None:
    changed.settings(hostname="crash", password="hunter3")
    assert [changed.apply()["result"] for _ in range(2)] == [False, False]
    changed.settings(hostname="mx.example.org", password="hunter3")
    assert changed.apply()["result"] is True
    assert changed.apply()["changes"] == {}


@pytest.mark.parametrize("distribution", [None, "the distribution's\n"])
def test_a_failed_first_apply_leaves_the_host_as_it_was(host: Host, distribution: str | None) -> None:
    if distribution:
        (host.etc / "main.cf").write_text(distribution)
    host.settings(hostname="crash", password="hunter2")
    before = {path: what for path, what in host.snapshot(times=False).items() if path.startswith(str(host.etc))}
    result = host.apply(files=[*host.set["files"], host.file("ldap.d/ldap.cf", source="salt://ldap.cf.jinja")])
    assert result["result"] is False
    assert result["comment"].endswith("mydaemon is stopped, and its configuration as it was before.")
    after = {path: what for path, what in host.snapshot(times=False).items() if path.startswith(str(host.etc))}
    assert after == before
    assert host.calls() == ["restart mydaemon", "stop mydaemon"]


def test_a_server_that_was_there_before_serves_again_after_a_failed_first_apply(host: Host) -> None:
    (host.etc / "main.cf").write_text("the administrator's\n")
    host.unit("active")
    host.settings(hostname="crash", password="hunter2")
    assert host.apply()["comment"].endswith(SERVES)
    assert (host.root / "running/main.cf").read_text() == "the administrator's\n"


def test_a_daemon_that_serves_neither_set_is_said_to(changed: Host) -> None:
    (changed.etc / "main.cf").write_text("crash\n")
    changed.settings(hostname="crash", password="hunter3")
    assert "The old configuration does not serve either: systemctl restart" in changed.apply()["comment"]
    changed.settings(hostname="mx.example.org", password="hunter3")
    assert changed.apply()["result"] is True


def test_a_daemon_that_cannot_be_enabled_goes_on_serving(applied: Host) -> None:
    (applied.root / "units/mydaemon.enabled").unlink()
    (applied.root / "units/mydaemon.masked").touch()
    result = applied.apply()
    assert "systemctl enable mydaemon: Unit mydaemon is masked." in result["comment"]
    assert applied.calls() == ["enable mydaemon"]


def test_a_file_for_an_unknown_user_leaves_all_as_it_was(changed: Host) -> None:
    before = changed.snapshot(times=False)
    first, second = changed.set["files"]
    result = changed.apply(files=[first, {**second, "user": "nobody-knows"}])
    assert "nobody-knows" in result["comment"]
    assert result["comment"].endswith("mydaemon's configuration is as it was before.")
    assert changed.snapshot(times=False) == before
    assert changed.calls() == []


def test_an_immutable_file_leaves_all_as_it_was(changed: Host) -> None:
    frozen = changed.etc / "ldap.cf"
    if not shutil.which("chattr") or subprocess.run(["chattr", "+i", frozen], check=False).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        before = changed.snapshot(times=False)
        result = changed.apply()
        assert f"{frozen}: Operation not permitted" in result["comment"]
        assert changed.snapshot(times=False) == before
    finally:
        subprocess.run(["chattr", "-i", frozen], check=True)
    assert changed.apply()["result"] is True


def test_a_full_disk_leaves_all_as_it_was(host: Host) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", host.etc], check=False).returncode:
        pytest.skip("this process may not mount")
    try:
        assert host.apply()["result"] is True
        host.calls()
        before = host.snapshot(times=False)
        host.template("ldap.cf", "bind_pw = {{ settings.password }}\n" + "# full\n" * 20000)
        result = host.apply()
        assert "No space left on device" in result["comment"]
        assert "hunter" not in result["comment"]
        assert host.snapshot(times=False) == before
        assert host.calls() == []
    finally:
        subprocess.run(["umount", host.etc], check=True)


@pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix is not installed")
def test_maps_come_back_with_the_rest(host: Host) -> None:
    transport = {"name": str(host.etc / "transport"), "type": "lmdb", "entries": "routes"}
    host.settings(hostname="x", password="hunter2", routes={"example.org": "smtp:[192.0.2.1]:25"})
    host.apply(maps=[transport])
    host.settings(hostname="crash", password="hunter2", routes={"example.org": "smtp:[192.0.2.2]:25"})
    assert host.apply(maps=[transport])["comment"].endswith(SERVES)
    assert host.modules["postmap.dump"](transport["name"], "lmdb") == {"example.org": "smtp:[192.0.2.1]:25"}
    assert "192.0.2.1" in host.read("transport")


@pytest.mark.timeout(300)
def test_a_run_killed_at_any_change_is_finished_by_the_next(changed: Host) -> None:
    (changed.etc / "new.cf").write_text("there before\n")
    files = [
        changed.set["files"][0],
        changed.file("new.cf", source="salt://main.cf.jinja", context={"context_path": 1}),
    ]
    at = 0
    while changed.killed(at, lambda: changed.apply(files=files)):
        result = changed.apply(files=files)
        assert result["result"] is True, f"killed at {at}: {result['comment']}"
        assert (changed.root / "running/main.cf").read_text() == changed.read("main.cf")
        assert changed.read("new.cf.ORG") == "there before\n"
        assert sorted(path.name for path in changed.etc.iterdir()) == ["main.cf", "new.cf", "new.cf.ORG"]
        assert sorted(path.name for path in (changed.root / "state").rglob("*")) == [
            "backup", "mydaemon.json", "mydaemon.lock", "staging"
        ]  # fmt: skip
        assert changed.apply(files=files)["changes"] == {}
        # Back to where it began: ldap.cf in the set, new.cf somebody else's.
        changed.settings(hostname="relay.example.org", password="hunter2")
        assert changed.apply()["result"] is True
        assert changed.read("new.cf") == "there before\n"
        changed.settings(hostname="mx.example.org", password="hunter3")
        at += 1
    assert at > 15


def test_after_a_killed_run_the_last_set_that_served_comes_back(changed: Host) -> None:
    last = changed.read("main.cf")
    at = 0
    while changed.read("main.cf") == last:
        changed.modules["config_swap.settle"]("mydaemon")
        assert changed.killed(at, changed.apply)
        at += 1
    changed.settings(hostname="crash", password="hunter3")
    assert changed.apply()["comment"].endswith(SERVES)
    assert changed.read("main.cf") == last


def test_files_that_were_swapped_but_never_activated_are_activated(applied: Host) -> None:
    record = applied.root / "state/mydaemon.json"
    known = json.loads(record.read_text())
    known["read"][f"{applied.etc}/main.cf"] = "another"
    record.write_text(json.dumps(known))
    assert applied.apply()["changes"] == {"service": "reloaded"}
    assert applied.calls() == ["reload mydaemon"]


@pytest.mark.parametrize("content", ["", "{", None])
def test_a_lost_record_costs_a_restart(applied: Host, content: str | None) -> None:
    record = applied.root / "state/mydaemon.json"
    record.unlink() if content is None else record.write_text(content)
    assert applied.apply()["changes"] == {"service": "restarted (first configuration)"}
    assert applied.apply()["changes"] == {}


@pytest.mark.parametrize("test", [True, False])
def test_undoing_stops_the_daemon_and_puts_the_originals_back(host: Host, test: bool) -> None:
    (host.etc / "main.cf").write_text("the distribution's\n")
    host.apply()
    host.calls()
    before = host.snapshot()
    result = host.remove(test=test)
    assert result["changes"] == {
        f"{host.etc}/main.cf": {"diff": "put back as it was before smtpout"},
        f"{host.etc}/ldap.cf": {"diff": "removed"},
        "service": "stopped and disabled",
    }
    if test:
        assert result["result"] is None
        assert host.snapshot() == before
    else:
        assert result["result"] is True
        assert host.calls() == ["stop mydaemon", "disable mydaemon"]
        assert {path.name: path.read_text() for path in host.etc.iterdir()} == {"main.cf": "the distribution's\n"}


@pytest.mark.parametrize("test", [True, False])
def test_undoing_twice_keeps_what_smtpout_did_not_write(applied: Host, test: bool) -> None:
    applied.remove()
    (applied.etc / "main.cf").write_text("the administrator's\n")
    applied.unit("active")
    result = applied.remove(test=test)
    assert (result["result"], result["changes"]) == (True, {})
    assert applied.read("main.cf") == "the administrator's\n"


@pytest.mark.timeout(300)
def test_undoing_killed_at_any_change_is_finished_by_the_next(host: Host) -> None:
    original = {"main.cf": "the distribution's\n"}
    (host.etc / "main.cf").write_text(original["main.cf"])
    at = 0
    while host.apply()["result"] and host.killed(at, host.remove):
        assert host.remove()["result"] is True
        assert {path.name: path.read_text() for path in host.etc.iterdir()} == original, f"killed at {at}"
        at += 1
    assert at > 5


def test_undone_and_applied_again_it_serves(applied: Host, tmp_path: Path) -> None:
    applied.remove()
    assert applied.apply()["changes"]["service"] == "started and enabled"
    assert (tmp_path / "running/main.cf").exists()
