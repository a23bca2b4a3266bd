"""A whole is brought: what an apply changes, says and activates."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pretend_daemons import NEW, Host, Member
from smtpout_core import files
from smtpout_core.change.parts import Content, Daemon, Part
from smtpout_core.errors import RelayError


def test_the_first_apply_writes_starts_and_enables_partners_first(host: Host) -> None:
    outcome = host.apply()
    assert host.text("etc/milter/milter.cf") == "socket = /run/a\n"
    assert host.text("etc/relay/main.cf") == (
        f"myhostname = relay.example.org\nmilter = /run/a\npasswords = {host.etc}/relay/ldap.cf\n"
    )
    assert stat.S_IMODE((host.etc / "relay/ldap.cf").stat().st_mode) == 0o640
    assert host.calls() == ["daemon-reload", "enable milter", "restart milter", "enable relay", "restart relay"]
    assert (outcome.before, outcome.generation) == (0, 1)
    assert [step.summary(test=False) for step in outcome.changed] == [
        "1 of 1 file changed; milter started and enabled.",
        "2 of 2 files changed; relay started and enabled.",
    ]


def test_the_second_apply_changes_nothing(applied: Host) -> None:
    before = applied.snapshot()
    outcome = applied.apply()
    assert (outcome.changed, outcome.before, outcome.generation) == ([], 1, 1)
    assert outcome.steps["relay"].summary(test=False) == "2 files as they should be; relay runs with them."
    assert applied.snapshot() == before
    assert applied.calls() == []


@pytest.mark.parametrize("fresh", [True, False])
def test_test_mode_predicts_the_apply_and_touches_nothing(host: Host, fresh: bool) -> None:
    if not fresh:
        host.apply()
        host.pillar = dict(NEW)
    before = host.snapshot()
    predicted = host.apply(test=True)
    assert predicted.changed
    assert host.snapshot() == before
    assert host.changes(host.apply()) == host.changes(predicted)
    assert host.apply(test=True).changed == []


def test_a_changed_file_is_reloaded_and_shown(applied: Host) -> None:
    applied.pillar["hostname"] = "mx.example.org"
    changes = applied.changes(applied.apply())
    assert applied.calls() == ["reload relay"]
    assert changes["relay"]["service"] == "reloaded"
    diff = changes["relay"][f"{applied.etc}/relay/main.cf"]["diff"]
    assert "-myhostname = relay.example.org\n+myhostname = mx.example.org" in diff


def test_a_changed_secret_restarts_and_is_not_shown(applied: Host) -> None:
    applied.pillar["password"] = "hunter3"
    outcome = applied.apply()
    assert applied.calls() == ["restart relay"]
    assert applied.changes(outcome)["relay"] == {
        f"{applied.etc}/relay/ldap.cf": {"diff": "only what is secret changed (not shown)"},
        "service": "restarted (ldap.cf)",
    }


def test_the_difference_of_a_secret_file_is_masked(applied: Host) -> None:
    applied.template("ldap", "bind_pw = {{ settings.password }}x\nserver_host = ldap://a:hunter2@localhost\n")
    shown = str(applied.changes(applied.apply()))
    assert "+server_host = ldap://(secret)@localhost" in shown
    assert "hunter" not in shown


def test_what_somebody_has_opened_up_is_put_right(applied: Host) -> None:
    (applied.etc / "relay/ldap.cf").chmod(0o644)
    os.chown(applied.etc / "relay/ldap.cf", 1, 1)
    change = applied.changes(applied.apply())["relay"][f"{applied.etc}/relay/ldap.cf"]
    assert change == {"mode": "0644 -> 0640", "owner": "daemon:daemon -> root:root"}
    assert applied.apply().changed == []


def test_a_symbolic_link_is_replaced_and_its_target_stays(applied: Host, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("somebody else's")
    (applied.etc / "relay/main.cf").unlink()
    (applied.etc / "relay/main.cf").symlink_to(target)
    applied.apply()
    assert not (applied.etc / "relay/main.cf").is_symlink()
    assert target.read_text() == "somebody else's"


def test_a_stopped_daemon_is_started_and_a_disabled_one_enabled(applied: Host) -> None:
    applied.unit("relay", "active", "failed")
    assert applied.changes(applied.apply()) == {"relay": {"service": "started"}}
    applied.unit("relay", "enabled", "disabled")
    assert applied.changes(applied.apply()) == {"relay": {"service": "enabled"}}
    assert applied.calls() == ["restart relay", "enable relay"]


def test_a_daemon_that_has_died_too_often_for_systemd_is_started_again(applied: Host) -> None:
    applied.unit("relay", "active", "failed")
    applied.unit("relay", "limit", "hit")
    assert applied.changes(applied.apply()) == {"relay": {"service": "started"}}
    assert applied.apply().changed == []


def test_a_unit_file_edited_read_and_put_back_by_hand_is_read_anew(applied: Host) -> None:
    applied.unit("relay", "outdated", "yes")
    assert applied.changes(applied.apply()) == {"relay": {"service": "its unit files were read anew"}}
    assert applied.calls() == ["daemon-reload"]
    assert applied.apply().changed == []


def test_a_changed_unit_file_is_read_before_its_daemon_is_restarted(applied: Host) -> None:
    applied.template("unit", "[Service]\nRestart={{ settings.restart }}\n")
    applied.pillar["restart"] = "always"
    drop_in = replace(
        applied.file("", "unit", restart=True), path=f"{applied.root}/systemd/relay.service.d/smtpout.conf"
    )
    applied.want(applied.milter, replace(applied.relay, files=(*applied.relay.files, drop_in)))
    applied.apply()
    assert applied.calls() == ["daemon-reload", "restart relay"]


def test_a_hold_keeps_a_unit_from_starting_until_its_files_are_there(host: Host) -> None:
    hold = host.root / "systemd/relay.service.d/00-smtpout-hold.conf"
    hold.parent.mkdir()
    hold.write_text("[Unit]\nConditionPathExists=/nonexistent\n")
    assert host.apply(test=True).steps["relay"].holds == [str(hold)]
    host.apply()
    assert not hold.exists()
    assert host.calls()[-3:] == ["daemon-reload", "enable relay", "restart relay"]
    assert host.text("units/relay.active") == "active\n"


def test_the_unit_that_counts_may_be_another_one(applied: Host) -> None:
    applied.want(applied.milter, replace(applied.relay, working="relay@-"))
    applied.unit("relay@-", "active", "active")
    assert applied.apply().changed == []
    applied.unit("relay@-", "active", "failed")
    assert applied.changes(applied.apply(test=True)) == {"relay": {"service": "started"}}
    applied.apply()
    assert applied.calls()[-2:] == ["restart relay", "restart relay@-"]


def test_a_socket_and_its_service_are_handled_together(host: Host) -> None:
    units = ("milter.socket", "milter.service")
    host.want(replace(host.milter, units=units))
    host.apply()
    assert host.calls()[1:] == ["enable milter.socket milter.service", "restart milter.socket milter.service"]
    assert host.apply().changed == []


def test_a_daemon_that_cannot_reload_is_restarted(applied: Host) -> None:
    applied.pillar["hostname"] = "mx.example.org"
    applied.want(applied.milter, replace(applied.relay, reloads=False))
    assert applied.changes(applied.apply())["relay"]["service"] == "restarted (main.cf)"


def test_a_reload_that_the_daemon_ignores_becomes_a_restart(applied: Host) -> None:
    applied.want(applied.milter, replace(applied.relay, ignored=re.compile("warning: .*: ignoring the change")))
    applied.unit("relay", "stubborn", "")
    applied.pillar["hostname"] = "mx.example.org"
    outcome = applied.apply()
    assert applied.calls() == ["reload relay", "restart relay"]
    said = "restarted (warning: socket: ignoring the change)"
    assert applied.changes(outcome)["relay"]["service"] == said
    assert applied.text("running/relay/main.cf") == applied.text("etc/relay/main.cf")


def hostname(folder: str) -> dict[str, str]:
    """Return what the relay reads at its start alone; it can't be said of a file that is broken."""
    text = (Path(folder) / "main.cf").read_text()
    if "broken" in text:
        raise RelayError("main.cf is broken")
    return dict(re.findall("^(myhostname|passwords) = (.*)", text, re.MULTILINE))


def test_what_is_read_at_the_start_alone_takes_a_restart(host: Host) -> None:
    host.want(host.milter, replace(host.relay, started_with=hostname, main=f"{host.etc}/relay/main.cf"))
    host.apply()
    host.pillar["hostname"] = "mx.example.org"
    predicted = host.changes(host.apply(test=True))
    assert predicted["relay"]["service"] == "restarted (myhostname)"
    assert host.changes(host.apply()) == predicted
    host.template("main", "{{ settings.hostname }}\nmyhostname = {{ settings.hostname }}\npasswords = {{ ldap }}\n")
    assert host.changes(host.apply())["relay"]["service"] == "reloaded"


def test_a_live_file_that_its_daemon_cannot_read_is_replaced(host: Host) -> None:
    host.want(host.milter, replace(host.relay, started_with=hostname, main=f"{host.etc}/relay/main.cf"))
    host.apply()
    (host.etc / "relay/main.cf").write_text("broken\n")
    assert host.changes(host.apply())["relay"]["service"] == "restarted (myhostname, passwords)"


def test_an_edit_that_the_pillar_takes_over_is_restarted_for(host: Host) -> None:
    host.want(host.milter, replace(host.relay, started_with=hostname, main=f"{host.etc}/relay/main.cf"))
    host.apply()
    edited = host.text("etc/relay/main.cf").replace("relay.example.org", "mx.example.org")
    (host.etc / "relay/main.cf").write_text(edited)
    host.pillar["hostname"] = "mx.example.org"
    assert host.changes(host.apply()) == {"relay": {"service": "restarted (myhostname)"}}


def test_a_daemon_that_runs_astray_is_restarted(applied: Host) -> None:
    wrong = ["it does not listen where it should"]
    applied.want(applied.milter, replace(applied.relay, astray=lambda: wrong.pop() if wrong else None))
    assert applied.changes(applied.apply()) == {"relay": {"service": "restarted (it does not listen where it should)"}}
    assert applied.apply().changed == []


def test_a_new_package_or_group_restarts_and_is_named(host: Host) -> None:
    host.want(replace(host.milter, restart_for={"groups": ["a"], "package": "1"}))
    host.apply()
    host.want(replace(host.milter, restart_for={"groups": ["a", "b"], "package": "1"}))
    assert host.changes(host.apply()) == {"milter": {"service": "restarted (groups)"}}


def test_a_membership_is_brought_before_its_daemon_is_restarted(applied: Host) -> None:
    applied.want(replace(applied.milter, settings=(Member(applied.groups, "relay"),)), applied.relay)
    assert applied.changes(applied.apply()) == {
        "milter": {"groups": {"old": "", "new": "relay"}, "service": "restarted (groups)"}
    }
    assert applied.groups.read_text() == "mail\nrelay\n"
    assert applied.apply().changed == []


def test_a_renewed_certificate_is_reloaded(host: Host, tmp_path: Path) -> None:
    certificate = tmp_path / "relay.pem"
    certificate.write_text("old")
    host.want(replace(host.milter, reads=(str(certificate),)))
    host.apply()
    certificate.write_text("new")
    assert host.changes(host.apply()) == {"milter": {"service": "reloaded"}}
    assert host.apply().changed == []


def test_a_follower_restarts_once_after_the_one_it_follows(applied: Host) -> None:
    applied.want(applied.milter, replace(applied.relay, follows=("milter",)))
    applied.unit("milter", "active", "failed")
    predicted = applied.changes(applied.apply(test=True))
    assert predicted["relay"] == {"service": "restarted (milter was activated)"}
    assert applied.changes(applied.apply()) == predicted
    assert applied.calls() == ["restart milter", "restart relay"]
    assert applied.apply().changed == []


def test_a_daemon_without_units_is_only_files(host: Host) -> None:
    host.want(Daemon("tables", files=(host.secret(),)))
    assert host.apply().steps["tables"].summary(test=False) == "1 of 1 file changed."
    assert host.apply().steps["tables"].summary(test=False) == "1 file as they should be."
    assert host.calls() == []


def test_a_folder_is_made_for_everybody_and_the_memory_for_root(host: Host) -> None:
    host.want(Daemon("tables", files=(host.file("deep/er/main.cf", "main", context={"ldap": 1}),)))
    umask = os.umask(0o077)
    try:
        host.apply()
    finally:
        os.umask(umask)
    assert stat.S_IMODE((host.etc / "deep").stat().st_mode) == 0o755
    assert stat.S_IMODE(host.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((host.state / "whole.json").stat().st_mode) == 0o600


def test_a_file_that_is_young_is_not_taken_for_one_that_is_being_written(applied: Host) -> None:
    assert (applied.etc / "relay/main.cf").stat().st_mtime < time.time() - 2


def test_a_gone_daemon_is_stopped_and_disabled_and_its_files_put_back(host: Host) -> None:
    (host.etc / "milter/milter.cf").write_text("the distribution's\n")
    host.apply()
    host.calls()
    host.template("main", "myhostname = {{ settings.hostname }}\npasswords = {{ ldap }}\n")
    host.want(host.relay)
    predicted = host.changes(host.apply(test=True))
    assert predicted["milter"] == {
        f"{host.etc}/milter/milter.cf": {"diff": "put back as it was before smtpout"},
        "service": "stopped and disabled",
    }
    assert host.changes(host.apply()) == predicted
    assert host.calls() == ["reload relay", "stop milter", "disable milter"]
    assert host.text("etc/milter/milter.cf") == "the distribution's\n"
    assert host.apply().steps.keys() == {"relay"}


def test_a_file_that_moves_to_another_daemon_stays(applied: Host) -> None:
    applied.want(replace(applied.relay, files=(*applied.milter.files, *applied.relay.files)))
    applied.apply()
    assert applied.text("etc/milter/milter.cf") == "socket = /run/a\n"
    assert applied.apply().changed == []


def test_a_file_that_is_no_longer_wanted_is_put_back(host: Host) -> None:
    (host.etc / "relay/extra.cf").write_text("the distribution's\n")
    extra = host.file("relay/extra.cf", "milter")
    host.want(host.milter, replace(host.relay, files=(*host.relay.files, extra)))
    host.apply()
    assert host.text("etc/relay/extra.cf.ORG") == "the distribution's\n"
    host.want(host.milter, host.relay)
    assert host.changes(host.apply())["relay"] == {
        extra.path: {"diff": "put back as it was before smtpout"},
        "service": "restarted (extra.cf)",
    }
    assert host.text("etc/relay/extra.cf") == "the distribution's\n"
    assert not (host.etc / "relay/extra.cf.ORG").exists()
    # Whoever changes it now changes his own file: it is kept anew.
    (host.etc / "relay/extra.cf").write_text("the administrator's\n")
    host.want(host.milter, replace(host.relay, files=(*host.relay.files, extra)))
    host.apply()
    assert host.text("etc/relay/extra.cf.ORG") == "the administrator's\n"


def test_a_file_that_somebody_removed_with_its_state_is_forgotten(host: Host) -> None:
    extra = host.file("relay/extra.cf", "milter")
    host.want(host.milter, replace(host.relay, files=(*host.relay.files, extra)))
    host.apply()
    (host.etc / "relay/extra.cf").unlink()
    host.want(host.milter, host.relay)
    host.apply()
    (host.etc / "relay/extra.cf").write_text("the administrator's\n")
    host.want(host.milter, replace(host.relay, files=(*host.relay.files, extra)))
    host.apply()
    assert host.text("etc/relay/extra.cf.ORG") == "the administrator's\n"


class Made(Part):
    """A file that is made of nothing but chance, where it isn't there."""

    def __init__(self, path: str) -> None:
        self.path, self.made = path, b""

    @property
    def wanted(self) -> str:
        return hashlib.sha256(self.made).hexdigest() if self.made else str(files.digest(self.path))

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:  # noqa: ARG002 - it tells
        self.made = b"" if os.path.exists(self.path) else os.urandom(20).hex().encode()
        return {"old": "absent", "new": "made"} if self.made else None

    def contents(self, folder: str) -> dict[str, Content]:  # noqa: ARG002 - made in memory
        return {self.path: Content(self.made, 0o600)} if self.made else {}


def test_what_is_made_by_chance_is_made_once_and_read_once(applied: Host) -> None:
    applied.want(applied.milter, replace(applied.relay, parts=(Made(f"{applied.etc}/relay/made.pem"),)))
    assert applied.apply().changed != []
    applied.want(applied.milter, replace(applied.relay, parts=(Made(f"{applied.etc}/relay/made.pem"),)))
    assert applied.apply().changed == []
