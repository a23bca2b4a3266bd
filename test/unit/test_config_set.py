"""A daemon's configuration as one set: what an apply changes, says and activates."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from pretend_host import Host


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


def test_the_first_apply_writes_starts_and_enables(host: Host) -> None:
    result = host.apply()
    assert result["result"] is True, result["comment"]
    assert host.read("main.cf") == f"myhostname = relay.example.org\npasswords = {host.etc}/ldap.cf\n"
    assert host.calls() == ["restart mydaemon", "enable mydaemon"]
    assert result["changes"]["service"] == "started and enabled"
    assert result["comment"] == "2 of 2 files changed; mydaemon started and enabled."
    assert stat.S_IMODE((host.etc / "ldap.cf").stat().st_mode) == 0o640


def test_the_second_apply_changes_nothing(applied: Host) -> None:
    before = applied.snapshot()
    result = applied.apply()
    assert (result["result"], result["changes"]) == (True, {})
    assert result["comment"] == "2 files as they should be; mydaemon runs with them."
    assert applied.snapshot() == before
    assert applied.calls() == []


@pytest.mark.parametrize("fresh", [True, False])
def test_test_mode_predicts_the_apply_and_touches_nothing(host: Host, fresh: bool) -> None:
    if not fresh:
        host.apply()
        host.settings(hostname="mx.example.org", password="hunter3")
    before = host.snapshot()
    predicted = host.apply(test=True)
    assert predicted["result"] is None
    assert host.snapshot() == before
    assert host.apply()["changes"] == predicted["changes"]


def test_test_mode_finds_nothing_to_do_on_an_applied_host(applied: Host) -> None:
    assert applied.apply(test=True)["result"] is True


def test_a_changed_file_is_reloaded_and_shown(applied: Host) -> None:
    applied.settings(hostname="mx.example.org", password="hunter2")
    result = applied.apply()
    assert applied.calls() == ["reload mydaemon"]
    assert result["comment"] == "1 of 2 files changed; mydaemon reloaded."
    change = result["changes"][f"{applied.etc}/main.cf"]
    assert "-myhostname = relay.example.org\n+myhostname = mx.example.org" in change["diff"]


def test_a_changed_secret_restarts_and_is_not_shown(applied: Host) -> None:
    applied.settings(hostname="relay.example.org", password="hunter3")
    result = applied.apply()
    assert applied.calls() == ["restart mydaemon"]
    assert result["changes"]["service"] == "restarted (ldap.cf)"
    assert "hunter" not in str(result)
    assert "hunter3" in applied.read("ldap.cf")


def test_what_somebody_has_edited_or_opened_up_is_put_right(applied: Host) -> None:
    (applied.etc / "main.cf").write_text("myhostname = elsewhere\n")
    (applied.etc / "ldap.cf").chmod(0o644)
    os.chown(applied.etc / "ldap.cf", 1, 1)
    result = applied.apply()
    change = result["changes"][f"{applied.etc}/ldap.cf"]
    assert (change["mode"], change["owner"]) == ("0644 -> 0640", "daemon:daemon -> root:root")
    assert "relay.example.org" in applied.read("main.cf")


def test_a_symbolic_link_is_replaced_and_its_target_stays(applied: Host, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("somebody else's")
    (applied.etc / "main.cf").unlink()
    (applied.etc / "main.cf").symlink_to(target)
    assert applied.apply()["result"] is True
    assert not (applied.etc / "main.cf").is_symlink()
    assert target.read_text() == "somebody else's"


def test_a_stopped_daemon_is_started_and_a_disabled_one_enabled(applied: Host) -> None:
    applied.unit("failed")
    assert applied.apply()["changes"] == {"service": "started"}
    (applied.root / "units/mydaemon.enabled").unlink()
    assert applied.apply()["changes"] == {"service": "enabled"}
    assert applied.calls() == ["restart mydaemon", "enable mydaemon"]


def test_a_changed_unit_file_is_read_before_anything_is_done(applied: Host) -> None:
    (applied.root / "units/mydaemon.outdated").write_text("yes\n")
    assert applied.apply()["changes"] == {}
    applied.unit("failed")
    applied.apply()
    assert applied.calls() == ["daemon-reload", "restart mydaemon"]


def test_the_unit_that_counts_may_be_another_one(applied: Host) -> None:
    applied.unit("active", "mydaemon@-")
    assert applied.apply(unit="mydaemon@-")["changes"] == {}
    applied.unit("failed", "mydaemon@-")
    assert applied.apply(unit="mydaemon@-", test=True)["changes"] == {"service": "started"}


def test_a_socket_and_its_service_are_handled_together(host: Host) -> None:
    units = ["clamd.socket", "clamd.service"]
    assert host.apply(service=units)["result"] is True
    assert host.calls() == ["restart clamd.socket clamd.service", "enable clamd.socket clamd.service"]
    assert host.apply(service=units)["changes"] == {}


def test_a_daemon_that_cannot_reload_is_restarted(applied: Host) -> None:
    applied.settings(hostname="mx.example.org", password="hunter2")
    assert applied.apply(reload=False)["changes"]["service"] == "restarted (main.cf)"


def test_a_new_group_or_package_restarts_and_is_named(host: Host) -> None:
    host.apply(restart_on={"groups": ["sasl"], "packages": ["3.7.11"]})
    result = host.apply(restart_on={"groups": ["sasl", "opendkim"], "packages": ["3.7.11"]})
    assert result["changes"] == {"service": "restarted (groups)"}


def test_a_renewed_certificate_is_reloaded(host: Host, tmp_path: Path) -> None:
    certificate = tmp_path / "relay.pem"
    certificate.write_text("old")
    host.apply(watch_files=[str(certificate)])
    certificate.write_text("new")
    assert host.apply(watch_files=[str(certificate)])["changes"] == {"service": "reloaded"}
    assert host.apply(watch_files=[str(certificate)])["changes"] == {}


def test_a_follower_restarts_once_after_the_set_it_follows(applied: Host) -> None:
    follower: dict[str, Any] = {"daemon": "milter", "files": [], "service": "milter", "follows": ["mydaemon"]}
    applied.apply(**follower)
    applied.unit("failed")
    predicted = [applied.apply(test=True)["changes"], applied.apply(test=True, **follower)["changes"]]
    assert predicted == [{"service": "started"}, {"service": "restarted (mydaemon was activated)"}]
    assert [applied.apply()["changes"], applied.apply(**follower)["changes"]] == predicted
    assert applied.apply(**follower)["changes"] == {}


def test_a_set_without_a_service_is_only_files(host: Host) -> None:
    result = host.apply(service=None, probe=None)
    assert result["comment"] == "2 of 2 files changed."
    assert host.apply(service=None, probe=None)["comment"] == "2 files as they should be."
    assert host.calls() == []


def test_the_distributions_file_is_kept_once(host: Host) -> None:
    (host.etc / "main.cf").write_text("the distribution's\n")
    host.apply()
    host.settings(hostname="mx.example.org", password="hunter2")
    host.apply()
    assert host.read("main.cf.ORG") == "the distribution's\n"
    assert not (host.etc / "ldap.cf.ORG").exists()


def test_the_check_reads_the_set_aside_with_its_paths_led_there(applied: Host) -> None:
    applied.template("main.cf", "map = ldap:{{ context_path }}, other = {{ context_path }}.bak\n")
    applied.apply()
    staged = (applied.root / "staged/main.cf").read_text()
    assert staged.startswith(f"map = ldap:{applied.root}/state/staging/.smtpout-aside.")
    assert staged.endswith(f"{applied.etc}/ldap.cf, other = {applied.etc}/ldap.cf.bak\n")
    assert list((applied.root / "state/staging").iterdir()) == []


@pytest.mark.parametrize("test", [True, False])
def test_a_refused_configuration_stays_aside(applied: Host, test: bool) -> None:
    applied.settings(hostname="misspelt", password="hunter2")
    before = applied.snapshot(times=test)
    result = applied.apply(test=test)
    assert (result["result"], result["changes"]) == (False, {})
    assert f"\n  {applied.etc}/main.cf: myhostname = misspelt: no such parameter" in result["comment"]
    assert applied.snapshot(times=test) == before
    assert applied.calls() == []


def test_a_missing_parser_is_a_note_in_test_mode_and_a_failure_else(host: Host) -> None:
    predicted = host.apply(test=True, check_args={"missing": True})
    assert predicted["result"] is None
    assert predicted["comment"].endswith("Not checked: mydaemon is not installed")
    assert host.apply(check_args={"missing": True})["result"] is False
    assert not (host.etc / "main.cf").exists()


def test_a_file_that_left_the_set_is_removed(applied: Host) -> None:
    files = applied.set["files"][:1]
    predicted = applied.apply(test=True, files=files)
    assert applied.apply(files=files)["changes"] == predicted["changes"]
    assert predicted["changes"][f"{applied.etc}/ldap.cf"] == {"diff": "removed"}
    assert not (applied.etc / "ldap.cf").exists()
    assert applied.apply(files=files)["changes"] == {}


def test_a_file_that_moved_to_another_set_stays(applied: Host) -> None:
    first, second = applied.set["files"]
    applied.apply(daemon="other", files=[second], service=None, probe=None)
    assert f"{applied.etc}/ldap.cf" not in applied.apply(files=[first])["changes"]
    assert (applied.etc / "ldap.cf").exists()


def test_missing_directories_are_made_for_everyone_to_read(host: Host) -> None:
    os.umask(0o077)
    try:
        host.template("deep/x.cf", "option = yes\n")
        result = host.apply(files=[*host.set["files"], host.file("deep/x.cf")])
    finally:
        os.umask(0o022)
    assert result["result"] is True, result["comment"]
    assert stat.S_IMODE((host.etc / "deep").stat().st_mode) == 0o755
    assert stat.S_IMODE((host.root / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((host.root / "state/mydaemon.json").stat().st_mode) == 0o600


def test_two_runs_do_not_mix(applied: Host) -> None:
    descriptor = applied.modules["config_swap.lock"]("mydaemon")
    try:
        result = applied.apply()
    finally:
        os.close(descriptor)
    assert result["result"] is False
    assert "Another run is changing mydaemon" in result["comment"]
    assert applied.apply()["result"] is True


def test_without_systemd_nothing_is_written(host: Host) -> None:
    (host.root / "bin/systemctl").write_text("#!/bin/sh\necho 'not booted with systemd' >&2; exit 1\n")
    result = host.apply()
    assert result["comment"] == "systemd does not run here, so nothing can be said about mydaemon."
    assert not (host.etc / "main.cf").exists()


@pytest.mark.parametrize(
    ("template", "settings", "message"),
    [
        ("a\n{{ settings.nothing }}\n", {}, "salt://main.cf.jinja, line 2: 'dict object' has no attribute 'nothing'"),
        ("a\n\n{% if %}\n", {}, "salt://main.cf.jinja, line 3: "),
        ("{{ settings.x }}", {"x": "a\nb = c"}, "line 1: smtpout:x holds a line break"),
        ("\n{{ settings.x | join(',') }}", {"x": ["fine", "a\0"]}, "line 2: smtpout:x:1 holds a line break"),
        ('{% include "salt://gone.jinja" %}', {}, "salt://gone.jinja: there is no such template."),
    ],
)
def test_a_template_error_says_where(host: Host, template: str, settings: dict[str, Any], message: str) -> None:
    host.template("main.cf", template)
    host.settings(password="hunter2", **settings)
    result = host.apply(test=True)
    assert result["result"] is False
    assert message in result["comment"]
    assert "hunter2" not in result["comment"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"secret": True, "mode": "0644"}, "mode 0644: other users could read its secrets."),
        ({"mode": 420}, "mode 420: write it in quotes"),
        ({"owner": "root"}, "owner: a file has no such setting."),
    ],
)
def test_a_file_described_wrongly_is_refused(host: Host, settings: dict[str, Any], message: str) -> None:
    result = host.apply(files=[host.file("ldap.cf", **settings)])
    assert result["result"] is False
    assert message in result["comment"]


@pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix is not installed")
def test_maps_are_part_of_the_set(host: Host) -> None:
    def settings(route: str) -> None:
        host.settings(hostname="x", password="hunter2", routes={"example.org": route})

    transport = {"name": str(host.etc / "transport"), "type": "lmdb", "entries": "routes"}
    settings("smtp:[192.0.2.1]:25")
    predicted = host.apply(test=True, maps=[transport])
    result = host.apply(maps=[transport])
    assert result["result"] is True, result["comment"]
    assert result["changes"] == predicted["changes"]
    assert host.apply(maps=[transport])["changes"] == {}
    host.calls()
    settings("smtp:[192.0.2.2]:25")
    assert host.apply(maps=[transport])["changes"]["service"] == "reloaded"
    assert host.modules["postmap.dump"](transport["name"], "lmdb") == {"example.org": "smtp:[192.0.2.2]:25"}
    (host.etc / "transport.lmdb").chmod(0o640)
    assert set(host.apply(maps=[transport])["changes"]) == {transport["name"], "service"}
    assert host.apply()["changes"][f"{host.etc}/transport.lmdb"] == {"diff": "removed"}
