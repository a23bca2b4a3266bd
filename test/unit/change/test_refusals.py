"""What is refused, with nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pretend_daemons import NEW, Host
from smtpout_core.change.parts import Content, Part, Promised, Trial
from smtpout_core.change.transaction import Ways
from smtpout_core.errors import NotInstalledError, RelayError

DOWN = Promised(broken={"Mail is taken": {"the directory is down": "asked"}}, causes={"Mail is taken": "Look there."})
UNASKED = "Not checked: what the site promises: there is nothing yet to ask."
REFUSED = "The new configuration is refused; nothing was changed:"


@pytest.mark.parametrize("test", [True, False])
def test_what_any_parser_complains_of_is_told_at_once(applied: Host, test: bool) -> None:
    applied.pillar |= {"hostname": "misspelt", "socket": "misspelt"}
    applied.want(
        replace(applied.milter, check=lambda staged, _host: applied.check(
            {path: aside for path, aside in staged.items() if "milter" in path}, _host)),
        applied.relay,
        promises=lambda _staged: pytest.fail("what no parser takes is not tried"),
    )  # fmt: skip
    before = applied.snapshot(times=test)
    told = applied.refused(test=test).splitlines()
    assert told[0] == REFUSED
    assert told[1] == f"  milter: {applied.etc}/milter/milter.cf: socket = misspelt: no such parameter"
    assert f"  relay: {applied.etc}/relay/main.cf: myhostname = misspelt: no such parameter" in told
    left = {path: what for path, what in applied.snapshot(times=test).items() if path != f"{applied.state}/staging"}
    assert left == {path: what for path, what in before.items() if path != f"{applied.state}/staging"}
    assert applied.calls() == []


@pytest.fixture
def chained(applied: Host) -> Host:
    """Return a host whose relay reads a file of somebody else's, and whose parser looks at that, too."""
    chain = applied.root / "chain.pem"
    chain.write_text("a certificate")

    def check(staged: Mapping[str, str], host: Any) -> list[str]:
        main = staged[f"{applied.etc}/relay/main.cf"]
        fault = "gone" if not chain.exists() else "no PEM" if "certificate" not in chain.read_text() else ""
        return [*applied.check(staged, host), *([f"{main}: {chain}: {fault}"] if fault else [])]

    applied.want(applied.milter, replace(applied.relay, check=check, reads=(str(chain),)))
    applied.apply()
    return applied


@pytest.mark.parametrize("test", [True, False])
def test_what_a_parser_has_against_what_runs_already_is_told_and_holds_up_nothing_else(
    chained: Host, test: bool
) -> None:
    (chained.root / "chain.pem").unlink()
    for name in ("other", "third"):
        chained.pillar["hostname"] = name
        outcome = chained.apply(test=test)
        assert outcome.notes == [
            f"As before this change: relay: {chained.etc}/relay/main.cf: {chained.root}/chain.pem: gone"
        ]
        assert "relay" in chained.changes(outcome)


def test_what_a_change_brings_is_refused_beside_what_was_so_before(chained: Host) -> None:
    (chained.root / "chain.pem").unlink()
    chained.pillar["hostname"] = "misspelt"
    before = chained.world()
    assert chained.refused().splitlines() == [
        REFUSED,
        f"  relay: {chained.etc}/relay/main.cf: myhostname = misspelt: no such parameter",
    ]
    assert chained.world() == before


def test_a_file_of_somebody_elses_that_was_replaced_by_one_that_does_not_work_is_refused(chained: Host) -> None:
    (chained.root / "chain.pem").write_text("nothing of the kind")
    assert f"  relay: {chained.etc}/relay/main.cf: {chained.root}/chain.pem: no PEM" in chained.refused()


def test_a_fault_that_somebody_has_written_by_hand_is_refused_where_the_pillar_brings_it(applied: Host) -> None:
    main = applied.etc / "relay/main.cf"
    main.write_text(main.read_text().replace("relay.example.org", "misspelt"))
    applied.pillar["hostname"] = "misspelt"
    assert "myhostname = misspelt: no such parameter" in applied.refused()


def test_where_nobody_knows_what_was_put_in_place_nothing_was_so_before(chained: Host) -> None:
    (chained.root / "chain.pem").unlink()
    (chained.state / "whole.json").unlink()
    assert "chain.pem: gone" in chained.refused()


def test_a_daemon_that_comes_with_a_change_was_never_so_before(chained: Host) -> None:
    folder = chained.etc / "signer"
    folder.mkdir()
    signer = replace(
        chained.milter,
        name="signer",
        units=("signer",),
        files=(chained.file("signer/signer.cf", "milter"),),
        check=lambda _staged, _host: ["its key is gone"],
        probes=(),
    )
    chained.want(*chained.wanted.daemons, signer)
    assert "  signer: its key is gone" in chained.refused()


@pytest.mark.parametrize("test", [True, False])
def test_what_a_change_would_break_is_refused_with_what_was_seen_and_where_to_look(applied: Host, test: bool) -> None:
    def asked(staged: Mapping[str, str]) -> Promised:
        [main] = [aside for path, aside in staged.items() if path.endswith("relay/main.cf")]
        if "other" not in Path(main).read_text(encoding="utf-8"):
            return Promised(kept=1)
        return Promised(broken={"Mail is taken": {f"{main}: no": "asked"}}, causes={"Mail is taken": "Look there."})

    applied.pillar |= {"hostname": "other"}
    applied.want(applied.milter, applied.relay, promises=asked)
    before = applied.world()
    assert applied.refused(test=test).splitlines() == [
        REFUSED,
        "  Mail is taken: that would be broken.",
        f"    {applied.etc}/relay/main.cf: no",
        "    Look there.",
    ]
    assert applied.world() == before


def test_what_is_broken_anyway_for_the_same_reason_is_told_and_keeps_nothing_from_going_live(applied: Host) -> None:
    applied.pillar |= {"hostname": "kept"}
    applied.want(applied.milter, applied.relay, promises=lambda _staged: Promised(asked=["asked"], kept=1))
    applied.apply()
    applied.pillar |= {"hostname": "other"}
    applied.want(applied.milter, applied.relay, promises=lambda _staged: DOWN)
    assert "Broken before this change as well: Mail is taken:\n    the directory is down" in applied.apply().notes


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        (Promised(asked=["of another"], kept=1), True),
        (Promised(asked=["asked"], kept=1), False),
        (Promised(asked=["of another"], unproven={"Mail is taken": "there are no users"}), True),
        (Promised(trial="no namespaces"), True),
    ],
    ids=["not promised", "promised", "not promised, and not all asked", "nothing asked"],
)
def test_what_was_broken_before_may_stay_so_only_where_it_was_promised(
    applied: Host, before: Promised, refused: bool
) -> None:
    applied.pillar |= {"hostname": "first"}
    applied.want(applied.milter, applied.relay, promises=lambda _staged: before, accept_unproven=True)
    applied.apply()
    applied.pillar |= {"hostname": "second"}
    applied.want(applied.milter, applied.relay, promises=lambda _staged: replace(DOWN, asked=["asked"]))
    if refused:
        assert "Mail is taken: that would be broken." in applied.refused()
    else:
        assert "Broken before this change as well: Mail is taken:\n    the directory is down" in applied.apply().notes


def test_of_a_whole_of_before_promises_were_remembered_all_may_have_been_made(applied: Host) -> None:
    record = applied.state / "whole.json"
    whole = json.loads(record.read_text())
    del whole["promised"]
    record.write_text(json.dumps(whole))
    applied.pillar |= {"hostname": "other"}
    applied.want(applied.milter, applied.relay, promises=lambda _staged: DOWN)
    assert any("Broken before" in note for note in applied.apply().notes)


def test_what_was_promised_is_known_after_an_apply_that_changes_nothing_and_one_that_could_ask_nobody(
    applied: Host,
) -> None:
    for name, promised in {
        "first": Promised(asked=["asked"], kept=1),
        "second": Promised(asked=["more"], unproven={"Mail is taken": "there are no users"}),
        "third": Promised(trial="no namespaces"),
    }.items():
        applied.pillar |= {"hostname": name}
        applied.want(applied.milter, applied.relay, promises=lambda _staged, it=promised: it, accept_unproven=True)
        assert applied.apply().changed
        assert not applied.apply().changed
    applied.pillar |= {"hostname": "fourth"}
    applied.want(applied.milter, applied.relay, promises=lambda _staged: replace(DOWN, asked=["asked"]))
    assert any("Broken before" in note for note in applied.apply().notes)


@pytest.mark.parametrize("test", [True, False])
def test_terms_that_are_new_are_asked_though_no_file_changes(applied: Host, test: bool) -> None:
    applied.want(applied.milter, applied.relay, terms="others", promises=lambda _staged: replace(DOWN, asked=["asked"]))
    before = applied.world()
    assert "Mail is taken: that would be broken." in applied.refused(test=test)
    assert applied.world() == before
    applied.want(applied.milter, applied.relay, terms="others", promises=lambda _staged: Promised(kept=1))
    assert (applied.apply(test=test).kept, applied.apply(test=test).kept) == (1, 1 if test else 0)
    assert not applied.calls()


def test_terms_that_nobody_could_be_asked_by_are_asked_the_next_time(applied: Host) -> None:
    applied.want(applied.milter, applied.relay, terms="others", promises=lambda _staged: Promised(trial="none"),
                 accept_unproven=True)  # fmt: skip
    applied.apply()
    applied.want(applied.milter, applied.relay, terms="others", promises=lambda _staged: Promised(kept=1))
    assert applied.apply().kept == 1


def test_what_the_run_has_brought_before_is_no_less_a_change(applied: Host) -> None:
    applied.pillar |= {"hostname": "misspelt"}
    applied.want(applied.milter, applied.relay)
    applied.brought = ["packages were installed", "signing keys were made"]
    said = (
        "The new configuration is refused; packages were installed, signing keys were made; nothing else was changed:"
    )
    assert applied.refused().startswith(f"{said}\n")


def test_a_first_whole_has_nothing_before_it(host: Host) -> None:
    host.want(host.milter, host.relay, promises=lambda _staged: DOWN)
    assert "Mail is taken: that would be broken." in host.refused()


def test_where_no_trial_can_be_had_nothing_goes_live_unless_the_site_accepts_that(applied: Host) -> None:
    applied.pillar |= {"hostname": "other"}
    none = Promised(trial="no namespaces")
    applied.want(applied.milter, applied.relay, promises=lambda _staged: none)
    assert applied.refused().splitlines()[1] == (
        "  no trial could be had: no namespaces; where that can't be helped, smtpout:accept_unproven: true applies "
        "without proof"
    )
    applied.want(applied.milter, applied.relay, promises=lambda _staged: none, accept_unproven=True)
    outcome = applied.apply()
    assert outcome.changed
    assert any("smtpout:accept_unproven lets it pass: no trial could be had" in note for note in outcome.notes)


def test_what_could_not_be_asked_is_told_and_counts_as_nothing(applied: Host) -> None:
    applied.pillar |= {"hostname": "other"}
    partly = Promised(unproven={"Users send": "there is no user"}, kept=3)
    applied.want(applied.milter, applied.relay, promises=lambda _staged: partly)
    outcome = applied.apply()
    assert "Not proven: Users send: there is no user" in outcome.notes
    assert outcome.kept == 3


def test_the_check_reads_the_files_aside_with_their_paths_led_there(applied: Host) -> None:
    seen = {}

    def check(staged: Any, _host: Any) -> list[str]:
        seen.update({path: Path(aside).read_text() for path, aside in staged.items()})
        return []

    applied.template("main", "map = ldap:{{ ldap }}, other = {{ ldap }}.bak\n")
    applied.want(applied.milter, replace(applied.relay, check=check))
    applied.apply()
    ldap = f"{applied.etc}/relay/ldap.cf"
    text = seen[f"{applied.etc}/relay/main.cf"]
    assert text.startswith(f"map = ldap:{applied.state}/staging/.smtpout-aside.")
    assert text.endswith(f"{ldap}, other = {ldap}.bak\n")
    assert list((applied.state / "staging").iterdir()) == []


def test_a_missing_parser_is_a_note_in_test_mode_and_a_failure_else(host: Host) -> None:
    host.want(host.milter, replace(host.relay, check=host.not_there))
    predicted = host.apply(test=True)
    assert predicted.notes == ["Not checked: relay's configuration: relayd is not installed.", UNASKED]
    with pytest.raises(NotInstalledError, match="relayd is not installed"):
        host.apply()
    assert not (host.etc / "milter/milter.cf").exists()


MISSING = NotInstalledError("postmap is not installed")


class Table(Part):
    """A table that a program would have to make."""

    wanted = "a table"

    def __init__(self, path: str, fault: RelayError = MISSING) -> None:
        self.path, self.fault = path, fault

    def difference(self, placed: Any) -> dict[str, str]:  # noqa: ARG002
        return {"diff": "new"}

    def contents(self, folder: str) -> dict[str, Content]:  # noqa: ARG002
        raise self.fault


def test_a_part_that_cannot_be_made_yet_is_a_note_in_test_mode_and_a_failure_else(host: Host) -> None:
    table = f"{host.etc}/table"
    host.want(replace(host.milter, parts=(Table(table),)))
    assert host.apply(test=True).notes == [f"Not checked: {table}: postmap is not installed.", UNASKED]
    with pytest.raises(NotInstalledError):
        host.apply()
    assert host.calls() == []


def test_a_part_that_cannot_be_made_leaves_all_as_it_was(applied: Host) -> None:
    before = applied.world()
    applied.want(replace(applied.milter, parts=(Table(f"{applied.etc}/table", RelayError("line 2: no such key")),)))
    assert applied.refused() == "line 2: no such key\nNothing was changed."
    assert applied.world() == before
    assert applied.calls() == []


@pytest.mark.parametrize(
    ("template", "settings", "message"),
    [
        ("a\n{{ settings.nothing }}\n", {}, "salt://main.jinja, line 2: 'dict object' has no attribute 'nothing'"),
        ("a\n\n{% if %}\n", {}, "salt://main.jinja, line 3: "),
        ("{{ settings.x }}", {"x": "a\nb = c"}, "line 1: smtpout:x holds a line break"),
        ("\n{{ settings.x | join(',') }}", {"x": ["fine", "a\0"]}, "line 2: a value holds a line break"),
        ('{% include "salt://gone.jinja" %}', {}, "salt://gone.jinja: there is no such template."),
    ],
)
def test_a_template_error_says_where(host: Host, template: str, settings: dict[str, Any], message: str) -> None:
    host.template("main", template)
    host.pillar |= settings
    told = host.refused(test=True)
    assert message in told
    assert "hunter2" not in told


def test_a_mode_that_exposes_a_secret_is_refused(host: Host) -> None:
    host.want(replace(host.relay, files=(host.secret(mode="0644"),)))
    assert host.refused().endswith("ldap.cf: mode 0644: other users could read its secrets.\nNothing was changed.")


def test_without_systemd_nothing_is_written(host: Host) -> None:
    (host.root / "bin/systemctl").write_text("#!/bin/sh\necho 'not booted with systemd' >&2; exit 1\n")
    assert host.refused() == "systemd does not run here, so nothing can be said about relay.\nNothing was changed."
    assert not (host.etc / "milter/milter.cf").exists()


def test_what_can_be_checked_before_anything_is_installed_is(host: Host) -> None:
    with_table = replace(host.milter, parts=(Table(f"{host.etc}/table"),), check=host.not_there)
    started = {"started_with": host.not_there, "main": f"{host.etc}/relay/main.cf"}
    host.want(with_table, replace(host.relay, **started, trials=(trial(lambda: None),)))
    assert [note.split(": ")[1] for note in host.apply(test=True).notes] == [
        f"{host.etc}/table", "milter's configuration", "what the site promises"
    ]  # fmt: skip
    host.want(with_table, replace(host.relay, trials=(trial(fails),)))
    host.pillar["hostname"] = "misspelt"
    told = host.refused(test=True)
    assert "relay: " in told
    assert "no such parameter" in told
    assert "usuario01 logs in: invalid credentials" in told


def test_two_runs_do_not_mix(applied: Host) -> None:
    with applied.transaction()._alone():
        for work in (applied.apply, applied.transaction().unmake, lambda: applied.apply(test=True)):
            with pytest.raises(RelayError, match="Another run is changing this relay"):
                work()
    assert applied.apply().changed == []


def trial(ask: Callable[[], None], about: str = "ldap://a") -> Trial:
    return Trial("usuario01 logs in", about, ask)


def fails() -> None:
    raise RelayError("invalid credentials")


@pytest.mark.parametrize("test", [True, False])
def test_a_trial_that_newly_fails_is_refused(applied: Host, test: bool) -> None:
    applied.pillar = dict(NEW)
    before = applied.world()
    applied.want(applied.milter, replace(applied.relay, trials=(trial(fails),)))
    assert applied.refused(test=test) == f"{REFUSED}\n  usuario01 logs in: invalid credentials"
    assert applied.world() == before


def test_what_has_worked_and_fails_by_itself_since_is_told_and_holds_up_nothing(applied: Host) -> None:
    applied.pillar = dict(NEW)
    applied.want(applied.milter, replace(applied.relay, trials=(trial(lambda: None),)))
    applied.apply()
    applied.pillar["hostname"] = "other"
    applied.want(applied.milter, replace(applied.relay, trials=(trial(fails),)))
    for _ in range(2):
        applied.pillar["hostname"] += ".example.org"
        assert applied.apply().notes == [
            "Has worked, and fails by itself since: usuario01 logs in: invalid credentials"
        ]
    applied.want(applied.milter, replace(applied.relay, trials=(trial(fails, "ldap://b"),)))
    applied.pillar["hostname"] = "third"
    assert REFUSED in applied.refused()


def test_a_trial_that_cannot_be_asked_yet_is_a_note_in_test_mode(host: Host) -> None:
    host.want(host.milter, replace(host.relay, trials=(trial(lambda: host.not_there() and None),)))
    assert host.apply(test=True).notes == ["Not checked: usuario01 logs in: relayd is not installed.", UNASKED]


def test_ways_and_wants_come_with_the_transaction() -> None:
    assert Ways(probes={}, undo={}).probe([])() is None
