"""Between applies a timer looks at the relay, without Salt; what it saw is in journal, unit and verify."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from smtpout_core.daemons.watch import daemon, record

from lab.breaking import systemctl
from lab.checks import verify
from lab.conftest import Applied
from lab.host import Host
from lab.lab import EXAMPLE
from lab.whole import changed

CHECK = "the relay is looked at between applies"
SERVICE = "smtpout-watch.service"


@pytest.fixture
def watched(on_bookworm: Applied) -> Iterator[Applied]:
    """Return the relay of pillar.example; afterwards it runs as it does, and has been looked at."""
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    lab.set_pillar(changed({}))
    on_bookworm.apply("watched")
    assert on_bookworm.failed("watched") == {}
    yield on_bookworm
    on_bookworm.apply("watched again")
    assert on_bookworm.failed("watched again") == {}
    look(relay)
    relay.run(["systemctl", "reset-failed"])
    assert verify(lab, "failed") == []


def look(relay: Host) -> int:
    """Have the relay looked at now; return the unit's exit status."""
    return relay.run(["systemctl", "start", SERVICE], check=False).returncode


def seen(applied: Applied) -> tuple[str, str]:
    """Return what verify says of the watch: the state, and what was seen."""
    [said] = [each for each in verify(applied.lab, "ok", "warning", "failed") if each["check"] == CHECK]
    return said["state"], said["seen"]


def test_it_looks_without_salt_and_says_what_it_saw(watched: Applied) -> None:
    relay = watched.lab.host("relay")
    relay.run(["mv", "/opt/salt", "/opt/away"])
    try:
        assert look(relay) == 0
    finally:
        relay.run(["mv", "/opt/away", "/opt/salt"])
    state, said = seen(watched)
    assert (state, said[: said.index(" checks")].rpartition(" ")[0]) == ("ok", "0 minutes ago")
    assert "none failed" in said
    assert relay.run(["systemctl", "is-enabled", record.TIMER]).stdout.strip() == "enabled"


def test_what_fails_is_in_the_journal_in_the_unit_and_in_verify(watched: Applied) -> None:
    lab, relay = watched.lab, watched.lab.host("relay")
    systemctl("stop", "opendkim")(lab)
    try:
        assert look(relay) != 0
        assert relay.run(["systemctl", "is-failed", SERVICE], check=False).stdout.strip() == "failed"
        journal = relay.run(["journalctl", "--no-pager", "--output=cat", "--priority=err", f"--unit={SERVICE}"]).stdout
        assert "failed: the opendkim milter answers: " in journal
    finally:
        systemctl("start", "opendkim")(lab)
    state, said = seen(watched)
    assert state == "warning"
    assert "0 minutes ago it saw: the opendkim milter answers: " in said
    assert look(relay) == 0
    assert seen(watched)[0] == "ok"


def test_a_key_that_the_signer_can_not_read_any_more_is_seen_though_the_first_one_signs(watched: Applied) -> None:
    relay, key = watched.lab.host("relay"), "/etc/opendkim/keys/domain02.dom.default.private"
    relay.run(["chown", "root:root", key])
    try:
        assert look(relay) != 0
        [fault] = [each["seen"] for each in verify(watched.lab, "failed")]
    finally:
        relay.run(["chown", "opendkim:opendkim", key])
    assert "mail from domain02.dom is put off, and not signed with default" in fault
    assert look(relay) == 0


def test_a_relay_that_is_being_changed_is_not_judged(watched: Applied) -> None:
    relay = watched.lab.host("relay")
    assert look(relay) == 0
    before = relay.read(record.PATH)
    relay.run(["flock", "/var/lib/smtpout/lock", "systemctl", "start", SERVICE])
    assert relay.read(record.PATH) == before
    relay.run(["mkdir", "/var/lib/smtpout/change"])
    try:
        assert look(relay) != 0
    finally:
        relay.run(["rmdir", "/var/lib/smtpout/change"])
    assert "an apply was cut short; apply again" in seen(watched)[1]


def test_a_timer_that_is_stopped_is_a_failure_and_the_next_apply_starts_it(watched: Applied) -> None:
    relay = watched.lab.host("relay")
    relay.run(["systemctl", "stop", record.TIMER])
    state, said = seen(watched)
    assert (state, said.partition(":")[0]) == ("failed", f"{record.TIMER} is inactive")
    watched.apply("started again")
    assert watched.changed("started again") == ["The site changes as one", "The relay is looked at between applies"]
    assert seen(watched) == ("ok", "the first look comes two minutes after the timer's start")


def test_it_knows_of_secrets_only_the_directorys_password_and_root_alone_reads_it(watched: Applied) -> None:
    relay = watched.lab.host("relay")
    known: dict[str, Any] = json.loads(relay.read(daemon.SITE))["site"]
    pillar = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["smtpout"]
    assert known["directory"]["bind_password"] == pillar["directory"]["bind_password"]
    assert "password" not in known["verify"]
    assert relay.run(["stat", "--format=%a %U:%G", daemon.SITE]).stdout.strip() == "600 root:root"


def test_a_site_that_switches_it_off_has_nothing_of_it(watched: Applied) -> None:
    relay = watched.lab.host("relay")
    watched.lab.set_pillar(changed({"watch": {"enabled": False}}))
    watched.apply("unwatched")
    assert watched.failed("unwatched") == {}
    assert CHECK not in {each["check"] for each in verify(watched.lab, "ok", "warning", "failed")}
    left = relay.run(["sh", "-c", f"ls -d {daemon.SITE} {daemon.PROGRAM} {daemon.UNITS}/smtpout-watch.*"], check=False)
    assert left.stdout == ""
    watched.lab.set_pillar(changed({}))
