"""A change that fails is taken back, all of it, and what served before serves again."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from pretend_daemons import NEW, OLD, Host, Member
from smtpout_core.change.journal import Journal
from smtpout_core.errors import RelayError

BACK = "All of it was taken back: files and daemons are as they were before."


@pytest.fixture
def changed(applied: Host) -> Host:
    """Return a host whose daemons run, and whose settings have changed since."""
    applied.pillar = dict(NEW)
    return applied


@pytest.mark.parametrize(
    ("fault", "words"), [("crash", "Job for relay failed."), ("deaf", "127.0.0.1:25 does not answer")]
)
def test_a_daemon_that_fails_takes_all_of_them_back(changed: Host, fault: str, words: str) -> None:
    before = changed.world()
    changed.pillar["hostname"] = fault
    told = changed.refused()
    assert told.startswith("relay does not serve with its new configuration: ")
    assert words in told
    assert "\nIts log:\n  daemon: fatal: bad configuration\n" in told
    assert told.endswith(BACK)
    assert "hunter" not in told
    assert changed.world() == before
    assert changed.calls() == [
        "restart milter", "restart relay", "daemon-reload",
        "restart milter", "restart relay",
    ]  # fmt: skip
    changed.pillar = dict(OLD)
    assert changed.apply().changed == []


def test_the_first_daemon_that_fails_leaves_the_others_alone(changed: Host) -> None:
    before = changed.world()
    changed.pillar["socket"] = "crash"
    assert changed.refused().endswith(BACK)
    assert changed.calls() == ["restart milter", "daemon-reload", "restart milter"]
    assert changed.world() == before


def test_a_proof_that_fails_takes_all_of_it_back(changed: Host) -> None:
    before = changed.world()
    changed.want(proof=lambda: {"mail is scanned": "EICAR came through"} if "/run/b" in changed.text(
        "started/milter/milter.cf") else {})  # fmt: skip
    told = changed.refused()
    assert told.startswith("The new whole does not do what it should:\n  mail is scanned: EICAR came through\n")
    assert told.endswith(BACK)
    assert changed.world() == before


def test_what_failed_before_this_change_does_not_take_it_back(changed: Host) -> None:
    changed.want(proof=lambda: {"mail is scanned": "EICAR came through"})
    outcome = changed.apply()
    assert outcome.notes == ["As before this change: mail is scanned: EICAR came through"]
    assert changed.text("etc/milter/milter.cf") == "socket = /run/b\n"


def test_what_failed_before_for_another_reason_takes_it_back(changed: Host) -> None:
    before = changed.world()
    changed.want(proof=lambda: {"mail is scanned": "EICAR came through" if "/run/b" in changed.text(
        "started/milter/milter.cf") else "the scanner is down"})  # fmt: skip
    told = changed.refused()
    assert "\n  mail is scanned: EICAR came through (before this change: the scanner is down)\n" in told
    assert changed.world() == before


def test_the_next_run_tries_again_and_succeeds_once_the_fault_is_gone(changed: Host) -> None:
    changed.pillar["hostname"] = "crash"
    assert changed.refused() == changed.refused()
    changed.pillar = dict(NEW)
    assert changed.apply().generation == 2
    assert changed.apply().changed == []


@pytest.mark.parametrize("distribution", [None, "the distribution's\n"])
def test_a_failed_first_apply_leaves_the_host_as_it_was(host: Host, distribution: str | None) -> None:
    if distribution:
        (host.etc / "relay/main.cf").write_text(distribution)
    hold = host.root / "systemd/relay.service.d/00-smtpout-hold.conf"
    hold.parent.mkdir()
    hold.write_text("held\n")
    host.pillar["hostname"] = "crash"
    deep = host.file("relay/deep/er.cf", "ldap")
    host.want(host.milter, replace(host.relay, files=(*host.relay.files, deep)))
    before = host.world()
    assert host.refused().endswith(BACK)
    assert host.world() == before
    assert host.calls()[-5:] == ["disable milter", "disable relay", "daemon-reload", "stop relay", "stop milter"]


def test_a_server_that_was_there_before_serves_again_after_a_failed_first_apply(host: Host) -> None:
    (host.etc / "relay/main.cf").write_text("the administrator's\n")
    subprocess.run(["systemctl", "start", "relay"], check=True)
    before = host.world()
    host.pillar["hostname"] = "crash"
    assert host.refused().endswith(BACK)
    assert host.world() == before


def test_a_daemon_that_serves_neither_whole_is_said_to_and_does_not_keep_a_better_one_away(changed: Host) -> None:
    (changed.etc / "relay/main.cf").write_text("crash by hand\n")
    changed.pillar["hostname"] = "crash"
    told = changed.refused()
    assert "What was there before could not be brought back whole:\n" in told
    assert "  relay does not serve with its old configuration either: systemctl restart" in told
    changed.pillar = dict(NEW)
    assert changed.apply().steps["relay"].changes["service"] == "started"
    assert changed.apply().changed == []


def test_a_daemon_that_could_not_be_restarted_on_the_way_back_is_restarted_by_the_next_run(changed: Host) -> None:
    asked = []

    def stubborn(name: str) -> None:
        asked.append(name)
        if len(asked) in (2, 3):  # the new relay, then the milter on the way back: it goes on all the same
            raise RelayError("no answer")

    changed.pillar = dict(OLD)
    changed.want(*(replace(daemon, patience=0) for daemon in changed.wanted.daemons))
    assert changed.apply().changed == []
    changed.ways = replace(changed.ways, probes={**changed.ways.probes, "alive": stubborn})
    changed.pillar = dict(NEW)
    assert "milter does not serve with its old configuration either: no answer" in changed.refused()
    changed.pillar = dict(OLD)
    why = "restarted (it did not serve when it was last brought back)"
    assert changed.changes(changed.apply()) == {"milter": {"service": why}, "relay": {"service": why}}
    assert changed.apply().changed == []


def test_a_unit_whose_disabling_was_cut_short_is_enabled_again(changed: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    changed.unit("relay", "enabled", "enabled")
    links = changed.root / "rc3.d"
    links.mkdir()
    (links / "K01relay").symlink_to("../init.d/relay")
    monkeypatch.setattr("smtpout_core.change.units.SYSV_STOPPED", f"{links}/K[0-9][0-9]{{}}")
    changed.pillar["hostname"] = "crash"
    changed.refused()
    assert "enable relay" in changed.calls()


def test_a_daemon_that_cannot_be_enabled_takes_the_change_back(applied: Host) -> None:
    applied.unit("relay", "enabled", "disabled")
    applied.unit("relay", "masked", "")
    told = applied.refused()
    assert told.startswith("systemctl enable relay: Failed to enable unit: Unit file ")
    assert "`systemctl unmask relay.service`, and apply again" in told
    assert told.endswith(BACK)
    assert applied.text("units/relay.active") == "active\n"


def test_a_file_for_an_unknown_user_leaves_all_as_it_was(changed: Host) -> None:
    before = changed.world()
    changed.want(changed.milter, replace(changed.relay, files=(changed.relay.files[0], changed.secret(user="nobody-"))))
    assert changed.refused() == (
        f"{changed.etc}/relay/ldap.cf: no such user or group: getpwnam(): name not found: 'nobody-'\n"
        "Nothing was changed."
    )
    assert changed.world() == before
    assert changed.calls() == []


def test_an_immutable_file_leaves_all_as_it_was(changed: Host) -> None:
    frozen = changed.etc / "relay/ldap.cf"
    if subprocess.run(["chattr", "+i", frozen], check=False).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        before = changed.world()
        told = changed.refused()
        assert f"{frozen}: Operation not permitted" in told
        assert told.endswith("\nNothing was changed.")
        assert changed.world() == before
    finally:
        subprocess.run(["chattr", "-i", frozen], check=True)
    assert changed.apply().generation == 2


def test_a_disk_that_is_full_once_files_are_swapped_takes_all_of_it_back(
    changed: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, add = changed.world(), Journal._add

    def full(journal: Journal, name: str, line: str) -> None:
        if (name, line) == ("acted", "relay"):
            raise RelayError(f"{journal.folder}: No space left on device")
        add(journal, name, line)

    monkeypatch.setattr(Journal, "_add", full)
    told = changed.refused()
    assert told.startswith(f"{changed.state}/change: No space left on device\n")
    assert told.endswith(BACK)
    assert changed.world() == before


@pytest.mark.parametrize("folder", ["etc", "state"])
def test_a_full_disk_leaves_all_as_it_was(host: Host, folder: str) -> None:
    place = host.root / folder
    place.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", place], check=False).returncode:
        pytest.skip("this process may not mount")
    try:
        for name in ("milter", "relay"):
            (host.etc / name).mkdir(exist_ok=True)
        host.apply()
        before = host.world()
        host.calls()
        host.template("ldap", "bind_pw = {{ settings.password }}\n" + "# full\n" * 60000)
        told = host.refused()
        assert "No space left on device" in told
        assert "hunter" not in told
        assert folder == "state" or told.endswith("\nNothing was changed.")
        assert host.world() == before
        assert host.calls() == []
        host.template("ldap", "bind_pw = {{ settings.password }}\n# not full\n")
        assert host.apply().generation == 2
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_membership_is_taken_back(changed: Host) -> None:
    changed.want(replace(changed.milter, settings=(Member(changed.groups, "relay"),)), changed.relay)
    before = changed.world()
    changed.pillar["hostname"] = "crash"
    assert changed.refused().endswith(BACK)
    assert changed.world() == before


def test_a_gone_daemon_comes_back_before_the_one_that_names_it(changed: Host) -> None:
    before = changed.world()
    changed.template("main", "myhostname = deaf later\n")
    changed.want(changed.relay, proof=lambda: {} if changed.text("running/milter/milter.cf") else {"scan": "none"})
    assert changed.refused().endswith(BACK)
    assert changed.world() == before


def test_what_nobody_foresaw_is_told_by_its_kind_and_taken_back(changed: Host) -> None:
    before = changed.world()

    def fault() -> dict[str, str]:
        if "/run/b" in changed.text("started/milter/milter.cf"):
            raise KeyError("paths")
        return {}

    changed.want(proof=fault)
    assert changed.refused() == f"KeyError: 'paths'\nIts log:\n  daemon: fatal: bad configuration\n{BACK}"
    assert changed.world() == before


def test_without_a_journal_of_systemd_all_of_it_is_taken_back(changed: Host) -> None:
    before = changed.world()
    (changed.root / "bin/journalctl").write_text("#!/nonexistent\n")
    changed.pillar["hostname"] = "crash"
    assert changed.refused().endswith(BACK)
    assert changed.world() == before


@pytest.mark.parametrize("test", [True, False])
def test_undoing_stops_the_daemons_and_puts_the_originals_back(host: Host, test: bool) -> None:
    (host.etc / "relay/main.cf").write_text("the distribution's\n")
    bare = host.world()
    host.apply()
    host.calls()
    before = host.snapshot()
    outcome = host.transaction(test).unmake()
    assert host.changes(outcome) == {
        "relay": {
            f"{host.etc}/relay/main.cf": {"diff": "put back as it was before smtpout"},
            f"{host.etc}/relay/ldap.cf": {"diff": "removed"},
            "service": "stopped and disabled",
        },
        "milter": {f"{host.etc}/milter/milter.cf": {"diff": "removed"}, "service": "stopped and disabled"},
    }
    if test:
        assert host.snapshot() == before
        return
    asked = ["stop relay", "disable relay", "stop milter", "disable milter"]
    assert host.calls() == [*asked, "disable smtpout-restore.service", "daemon-reload"]
    assert host.world() == bare
    assert [path.name for path in host.state.iterdir()] == ["lock"]
    assert not (host.root / "systemd/smtpout-restore.service").exists()


@pytest.mark.parametrize("test", [True, False])
def test_undoing_twice_keeps_what_smtpout_did_not_write(applied: Host, test: bool) -> None:
    applied.transaction().unmake()
    (applied.etc / "relay/main.cf").write_text("the administrator's\n")
    applied.unit("relay", "active", "active")
    assert applied.transaction(test).unmake().changed == []
    assert applied.text("etc/relay/main.cf") == "the administrator's\n"


def test_undoing_that_may_not_be_is_taken_back(applied: Host) -> None:
    def waiting() -> None:
        raise RelayError("3 messages wait in the queue.")

    before = applied.world()
    with pytest.raises(RelayError, match="All of it was taken back") as refusal:
        applied.transaction().unmake(waiting)
    assert str(refusal.value).startswith("3 messages wait in the queue.\n")
    assert applied.world() == before
    assert applied.apply().changed == []


def test_undone_and_applied_again_it_serves(applied: Host) -> None:
    before = applied.world()
    applied.transaction().unmake()
    assert applied.changes(applied.apply())["relay"]["service"] == "started and enabled"
    assert applied.world() == before
