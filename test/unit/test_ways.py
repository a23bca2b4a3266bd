"""What the ways in ask of the formula: settings made on the master for salt-ssh, packages left to the distribution."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import salt.loader
from support import REPOSITORY, load, minion_opts

GRAINS = {"os": "Debian", "osmajorrelease": 12, "fqdn": "relay.domain01.dom"}
PACKAGES = {"name": "Salt's Python has what the formula needs", "requirements": "salt://smtpout/requirements.txt"}


def test_salt_ssh_has_on_the_master_the_settings_that_a_minion_makes(tmp_path: Path) -> None:
    opts = minion_opts(tmp_path, grains=GRAINS, pillar=load("default"))
    minion = salt.loader.minion_mods(opts)
    wrapper = salt.loader.ssh_wrapper({**opts, "__master_opts__": minion_opts(tmp_path)}, {}, {})
    made = wrapper["smtpout.settings"]()
    assert made["valid"]
    assert made == minion["smtpout.settings"]()


def test_salt_ssh_compares_the_masters_own_code_with_what_it_serves(tmp_path: Path) -> None:
    (tmp_path / "smtpout").mkdir()
    (tmp_path / "smtpout/code.sha256").write_text(f"{'0' * 64}  _states/new.py\n", encoding="utf-8")
    opts = minion_opts(tmp_path, grains=GRAINS, pillar=load("default"))
    roots = {"base": [str(REPOSITORY)], "next": [str(tmp_path)]}  # gitfs makes an environment of each branch
    wrapper = salt.loader.ssh_wrapper({**opts, "__master_opts__": minion_opts(tmp_path, file_roots=roots)}, {}, {})
    assert wrapper["smtpout.other_code"]("next") == ["_states/new.py"]
    assert wrapper["smtpout.other_code"]("base") == []


@pytest.mark.parametrize("test", [True, False])
def test_packages_of_the_distributions_own_python_are_left_to_it(
    states: Any, monkeypatch: pytest.MonkeyPatch, test: bool
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "dkim" else there(name, *rest))
    monkeypatch.setattr(sys, "prefix", "/usr")
    answer = states("smtpout.python_packages_present", test=test, **PACKAGES)
    assert answer["result"] is False
    assert answer["changes"] == {}
    assert "dkimpy; it is the distribution's own" in answer["comment"]
    assert "thin_extra_mods" in answer["comment"]


def test_packages_that_can_be_imported_are_there(states: Any) -> None:
    answer = states("smtpout.python_packages_present", **PACKAGES)
    assert answer["result"] is True
    assert answer["comment"] == "ldap3, dkimpy, dnspython are there."
