"""Values as people write them: lists, several lines, what is added to the formula's own, tables whose order counts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core.change.filters import overridden
from smtpout_core.daemons.postfix import maps
from smtpout_core.errors import RelayError
from smtpout_core.site import written


def test_lists_and_lines_of_a_parameter_are_one_line(settings: Settings, site: dict[str, Any]) -> None:
    site["postfix"] = {
        "main": {
            "smtpd_recipient_restrictions": "permit_mynetworks,\n  reject_unauth_destination\n",
            "smtpd_etrn_restrictions": ["permit_mynetworks", "reject"],
            "smtpd_discard_ehlo_keywords": ["chunking"],
        },
        "master": {"smtp/inet": {"options": {"smtpd_helo_restrictions": ["permit_mynetworks", "reject"]}}},
    }
    made = settings(site)
    assert made["errors"] == []
    assert made["postfix"]["main"] == {
        "smtpd_recipient_restrictions": "permit_mynetworks, reject_unauth_destination",
        "smtpd_etrn_restrictions": "permit_mynetworks, reject",
        "smtpd_discard_ehlo_keywords": "chunking",
    }
    options = made["postfix"]["services"]["smtp/inet"]["options"]
    assert options["smtpd_helo_restrictions"] == "permit_mynetworks, reject"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"append": ["a", "b"]}, "x = own, a, b"),
        ({"prepend": "a"}, "x = a, own"),
        ({"prepend": ["a"], "append": "b"}, "x = a, own, b"),
        ({}, "x = own"),
    ],
)
def test_what_is_added_stands_beside_the_formulas_own(given: dict[str, Any], line: str) -> None:
    assert overridden("x = own\ny = 1\n", {"x": written.value(given)}, " = ") == f"{line}\ny = 1\n"


def test_nothing_can_be_added_to_what_the_formula_does_not_write() -> None:
    with pytest.raises(RelayError, match="smtpout:postfix:main:z: smtpout writes none that could be added to"):
        overridden("x = own\n", {"z": {"append": "a"}}, " = ")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"add": ["a"]}, "smtpout:postfix:main:mynetworks:add: unknown key"),
        ({"append": ["0.0.0.0/0"]}, 'smtpout:postfix:main:mynetworks: "0.0.0.0/0" holds 4.3e+09 addresses'),
        ([], "smtpout:postfix:main:mynetworks: no entries"),
        ([["a"]], "smtpout:postfix:main:mynetworks:0"),
        ("a\0b", "smtpout:postfix:main:mynetworks"),
    ],
)
def test_what_can_not_be_a_value_is_refused(settings: Settings, site: dict[str, Any], value: Any, says: str) -> None:
    site["postfix"] = {"main": {"mynetworks": value}}
    errors = settings(site)["errors"]
    assert any(says in error for error in errors), errors


def entries(settings: Settings, site: dict[str, Any], type_: str, given: Any) -> Any:
    """Return what a table of a site holds, or what is wrong with it."""
    site["postfix"] = {"maps": {"own": {"type": type_, "entries": given}}}
    made = settings(site)
    return made["errors"] or made["postfix"]["maps"]["own"]["entries"]


def test_what_is_found_may_be_a_list(settings: Settings, site: dict[str, Any]) -> None:
    found = entries(settings, site, "hash", {"all": ["a@x.dom", "b@x.dom"], "info": "a@x.dom,\n  b@x.dom"})
    assert found == {"all": "a@x.dom, b@x.dom", "info": "a@x.dom, b@x.dom"}


RULES = ["if /^Subject:/", ["/confidencial/", "HOLD"], ["/confidencial/", "WARN seen twice"], "endif"]


@pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix isn't installed")
def test_rules_keep_their_order_and_their_blocks(settings: Settings, site: dict[str, Any], tmp_path: Path) -> None:
    made = entries(settings, site, "regexp", RULES)
    path = str(tmp_path / "checks")
    maps.build(path, "regexp", made)
    assert maps.query(path, "regexp", "Subject: confidencial") == "HOLD"
    assert maps.query(path, "regexp", "X-Other: confidencial") is None
    assert (tmp_path / "checks").read_text(encoding="utf-8").splitlines()[1::3] == ["if /^Subject:/", "endif"]


@pytest.mark.parametrize(
    ("type_", "given", "says"),
    [
        ("regexp", RULES[:-1], "1 if without an endif"),
        ("regexp", RULES[1:], "key 'endif': there is no if before it"),
        ("hash", RULES, "key 'if /^Subject:/': the value is missing"),
        ("regexp", [["/a/", "b", "c"]], "entries have to be a dict or a list of [key, value] pairs"),
        ("regexp", ["/a/ b"], "smtpout:postfix:maps:own:entries:0"),
    ],
)
def test_a_table_that_is_none_is_refused(
    settings: Settings, site: dict[str, Any], type_: str, given: Any, says: str
) -> None:
    errors = entries(settings, site, type_, given)
    assert any(says in error and "smtpout:postfix:maps:own" in error for error in errors), errors
