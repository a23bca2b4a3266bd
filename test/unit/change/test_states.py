"""The states over the transaction: one that brings the site, one a daemon that tells, one that undoes all of it."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import pytest
import salt.output
import salt.payload
from minions import GRAINS
from pretend_daemons import Host
from salt import loader
from salt.exceptions import CommandExecutionError
from smtpout_core.change.parts import Promised
from smtpout_core.change.transaction import Transaction
from smtpout_core.daemons import descriptions
from smtpout_core.daemons.postfix import retire
from smtpout_core.host import STAGES
from smtpout_core.stages.record import ACTIVE, Key
from support import REPOSITORY, load, minion_opts

PASSWORD = load("default")["smtpout"]["directory"]["bind_password"]


class Run:
    """A run of Salt on a host of pretend daemons: its states share what they know."""

    def __init__(self, host: Host, *, test: bool = False) -> None:
        context = self.context = dict[str, Any]()
        opts = self.opts = minion_opts(
            host.root / "minion",
            pillar=load("default"),
            grains=GRAINS,
            test=test,
            file_roots={"base": [str(REPOSITORY), str(host.root / "templates")]},
            smtpout_state_dir=str(host.state),
        )
        self.modules = loader.minion_mods(opts, context=context)
        self.states = loader.states(opts, self.modules, loader.utils(opts), None, context=context)
        self.states.inject_globals = {"__env__": "base"}

    def __call__(self, function: str, **arguments: Any) -> dict[str, Any]:
        ret: dict[str, Any] = self.states[f"smtpout_site.{function}"](name="name", **arguments)
        return ret


@pytest.fixture
def salted(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host whose daemons are the site's."""
    monkeypatch.setattr(descriptions, "described", lambda _settings, _host: host.wanted.daemons)
    monkeypatch.setattr(descriptions, "ways", lambda _labelled: host.ways)
    monkeypatch.setattr("smtpout_core.verify.failing", lambda _settings: {})
    monkeypatch.setattr("smtpout_core.promises.asked.trial", lambda _settings, _test, _staged: Promised())
    unit = str(host.root / "systemd/smtpout-restore.service")
    monkeypatch.setattr(Transaction.__init__, "__defaults__", (unit, ()))
    host.template("milter", "socket = {{ settings.clamav.socket }}\n")
    host.template("main", "milter = {{ settings.clamav.socket }}\n")
    host.template("ldap", "bind_pw = {{ settings.directory.bind_password }}\n")
    return host


@pytest.mark.parametrize("test", [True, False])
def test_each_daemon_has_a_state_that_tells_what_became_of_it(salted: Host, test: bool) -> None:
    before, run = salted.snapshot(), Run(salted, test=test)
    changed = run("changed")
    assert changed["result"] is (None if test else True)
    assert changed["changes"] == {"generation": {"old": "0", "new": "the next one" if test else "1"}}
    relay = run("runs", daemon="relay")
    assert relay["result"] is (None if test else True)
    assert relay["comment"] == (
        "2 of 2 files would change; relay would be started and enabled." if test
        else "2 of 2 files changed; relay started and enabled."
    )  # fmt: skip
    assert PASSWORD not in str(relay)
    assert "(secret)" in relay["changes"][f"{salted.etc}/relay/ldap.cf"]["diff"]
    assert (salted.snapshot() == before) is test
    if not test:
        again = Run(salted)
        assert (again("changed")["changes"], again("runs", daemon="relay")["changes"]) == ({}, {})


def test_the_site_changes_with_the_keys_that_were_found_to_sign_and_not_with_those_of_the_pillar(salted: Host) -> None:
    salted.template("main", "selector = {{ (settings.opendkim.signing_keys | first).selector }}\n")
    for selector in ("s2026", "s2027"):
        run = Run(salted)
        run.context[STAGES] = ([Key("domain01.dom", selector, "/etc/key", ACTIVE, 1)], None)
        run("changed")
        assert (salted.etc / "relay/main.cf").read_text() == f"selector = {selector}\n"


@pytest.mark.parametrize("test", [True, False])
def test_a_hand_edit_is_a_warning_without_secrets(salted: Host, test: bool) -> None:
    Run(salted)("changed")
    (salted.etc / "relay/ldap.cf").write_text(f"bind_pw = {PASSWORD}x\nscope = sub\n")
    for function in ("changed", "gone") if test else ("changed",):
        [warning] = Run(salted, test=test)(function)["warnings"]
        assert "+scope = sub" in warning.splitlines()
        assert PASSWORD not in warning


def test_a_generation_says_who_ran_what_and_nothing_of_a_pillar_in_the_arguments(
    salted: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "somebody")
    run = Run(salted)
    arguments = ["smtpout", {"__kwarg__": True, "pillar": {"password": "hunter2"}}, "pillar={password: hunter2}"]
    job = {"pid": os.getpid(), "jid": "20260102030405060708", "fun": "state.apply", "arg": arguments}
    proc = Path(run.opts["cachedir"], "proc")
    proc.mkdir(parents=True, exist_ok=True)
    for name, written in (("1", {**job, "pid": 1, "fun": "test.ping"}), ("2", job)):
        (proc / name).write_bytes(salt.payload.dumps(written))
    (proc / "3").write_bytes(b"")
    run("changed")
    [generation] = salted.memory.generations()
    assert generation["cause"] == {
        "who": f"somebody as {getpass.getuser()}", "ran": "state.apply smtpout", "job": "20260102030405060708"
    }  # fmt: skip
    assert "hunter2" not in str(generation)


def test_history_and_difference_read_well_in_salts_own_output(salted: Host) -> None:
    Run(salted)("changed")
    salted.template("main", "milter = {{ settings.clamav.socket }}\nother = one\n")
    run = Run(salted)
    run("changed")
    shown = salt.output.out_format(run.modules["smtpout.history"](), "nested", {**run.opts, "color": False})
    assert [line.strip() for line in shown.splitlines() if line.endswith(":")][:2] == ["2:", "cause:"]
    assert shown.index(f"- {salted.etc}/relay/main.cf") < shown.index(f"- {salted.etc}/milter/milter.cf")
    found = run.modules["smtpout.difference"](1)
    shown = salt.output.out_format(found, "nested", {**run.opts, "color": False})
    assert [line for line in shown.splitlines() if line.endswith(":")] == [
        "between:", "came:", "gone:", "how:", f"    {salted.etc}/relay/main.cf:"
    ]  # fmt: skip
    assert "\n        +other = one" in shown
    with pytest.raises(CommandExecutionError, match="3 is no generation that is kept; these are: 1, 2"):
        run.modules["smtpout.difference"](1, 3)


def test_without_the_change_before_it_no_daemon_is_said_to_run(salted: Host) -> None:
    assert Run(salted)("runs", daemon="relay")["result"] is False


@pytest.mark.parametrize("test", [True, False])
def test_what_is_refused_is_told_and_no_change(salted: Host, test: bool) -> None:
    Run(salted)("changed")
    before = salted.world()
    salted.template("main", "misspelt\n")
    told = Run(salted, test=test)("changed")
    assert (told["result"], told["changes"]) == (False, {})
    assert told["comment"].startswith("The new configuration is refused; nothing was changed:\n  relay: ")
    assert salted.world() == before


def test_a_relay_that_does_not_do_what_the_site_says_is_taken_back(
    salted: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(salted)("changed")
    before = salted.world()
    salted.template("main", "another = one\n")

    def failing(_settings: dict[str, Any]) -> dict[str, str]:
        new = "another" in salted.text("etc/relay/main.cf")
        return {"the scanner finds the EICAR test virus": "it came through"} if new else {}

    monkeypatch.setattr("smtpout_core.verify.failing", failing)
    told = Run(salted)("changed")
    assert told["result"] is False
    assert told["comment"].startswith("The new whole does not do what it should:\n  the scanner finds the EICAR")
    assert salted.world() == before


def test_a_daemon_that_the_site_no_longer_has_is_told_by_the_whole(salted: Host) -> None:
    Run(salted)("changed")
    salted.want(salted.milter)
    told = Run(salted)("changed")
    assert told["changes"]["relay"]["service"] == "stopped and disabled"
    assert Run(salted)("changed")["changes"] == {}


@pytest.mark.parametrize("test", [True, False])
def test_a_run_that_was_cut_short_is_undone_by_a_state_of_its_own(salted: Host, test: bool) -> None:
    assert Run(salted, test=test)("recovered")["changes"] == {}
    Run(salted)("changed")
    before = salted.world()
    salted.template("main", "milter = /run/other\n")
    child = os.fork()
    if child == 0:
        salted.ways.probes["alive"] = lambda **_told: os._exit(9)  # type: ignore[index]
        Run(salted)("changed")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    told = Run(salted, test=test)("recovered")
    assert told["result"] is (None if test else True)
    assert told["changes"]
    assert (salted.world() == before) is not test


@pytest.mark.parametrize("test", [True, False])
def test_all_of_it_is_undone_by_one_state(salted: Host, test: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [3]

    def look(*_: Any) -> int:
        retire.refuse(waiting[0])
        return 0

    for name in ("waiting", "stopped"):
        monkeypatch.setattr(retire, name, look)
    monkeypatch.setattr(retire, "shut", lambda _: {})
    Run(salted)("changed")
    before = salted.world()
    refused = Run(salted)("gone")
    assert (refused["result"], salted.world()) == (False, before)
    assert "3 messages wait" in refused["comment"]
    waiting[0] = 0
    told = Run(salted, test=test)("gone")
    assert told["result"] is (None if test else True)
    assert list(told["changes"]) == ["relay", "milter"]
    assert (salted.world() == before) is test
    if not test:
        assert Run(salted)("gone")["changes"] == {}


def test_another_run_at_work_is_told(salted: Host) -> None:
    Run(salted)("changed")
    with salted.transaction().memory.locked():
        for function in ("changed", "gone"):
            told = Run(salted)(function)
            assert told["result"] is False
            assert "Another run is changing this relay" in told["comment"]
