"""One apply makes the relay, a second changes nothing, a dry run tells the truth and touches nothing."""

from __future__ import annotations

import pytest

from lab.conftest import Applied

ALIASES = "Local aliases are a map that Postfix can read"
UNITS = ["postfix", "saslauthd", "clamav-daemon", "clamav-milter", "clamav-freshclam", "opendkim"]


def test_first_apply_has_no_failure(applied: Applied) -> None:
    assert applied.failed("first") == {}


def test_second_apply_changes_nothing(applied: Applied) -> None:
    assert applied.failed("second") == {}
    assert applied.changed("second") == []


@pytest.mark.parametrize("step", ["dry run", "dry run again"])
def test_dry_run_writes_nothing(applied: Applied, step: str) -> None:
    assert applied.failed(step) == {}
    assert applied.touched[step] == []


def test_dry_run_predicts_what_the_apply_then_changes(applied: Applied) -> None:
    # Debian's package builds hash:/etc/aliases itself when it is installed, which a dry run before can't know.
    built_by_the_package = [ALIASES] if applied.suite == "recipe" else []
    predicted = [name for name in applied.changed("dry run") if name not in built_by_the_package]
    assert predicted == applied.changed("first")
    assert applied.changed("dry run again") == []


def test_dry_run_names_every_configuration_file_that_the_apply_then_changes(applied: Applied) -> None:
    sets = [
        name for name, state in applied.runs["first"].items() if any(key.startswith("/") for key in state["changes"])
    ]
    assert len(sets) > 5
    for name in sets:
        assert sorted(applied.runs["dry run"][name]["changes"]) == sorted(applied.runs["first"][name]["changes"]), name


@pytest.mark.parametrize("unit", ["postfix@-", "saslauthd", "clamav-daemon", "clamav-milter", "opendkim"])
def test_no_service_ran_before_its_configuration_was_in_place(applied: Applied, unit: str) -> None:
    if applied.release != "bookworm" and unit == "postfix@-":
        unit = "postfix"
    relay = applied.lab.host("relay")
    said = relay.run(["journalctl", "--unit", unit, "--output=cat", "--no-pager"]).stdout
    assert len([line for line in said.splitlines() if line.startswith("Started ")]) == 1, said


def test_the_relay_comes_back_after_a_reboot_of_its_services(example: Applied) -> None:
    relay = example.lab.host("relay")
    relay.run(["systemctl", "restart", *UNITS], timeout=60)
    assert example.apply("after restart")
    assert example.failed("after restart") == {}
    assert example.changed("after restart") == []
