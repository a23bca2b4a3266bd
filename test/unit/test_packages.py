"""Packages are installed once, repositories first; others are removed; no mail is stranded by either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minions
import pytest
from smtpout_core.change.memory import Memory
from smtpout_core.daemons import waiting

Installed = list[list[str]]


@pytest.fixture
def installed(states: Any, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Return what a package manager that has postfix only is told to install, in turn."""
    calls: Installed = []

    def present() -> dict[str, str]:
        return dict.fromkeys(["postfix", *(package for call in calls for package in call)], "1.0")

    monkeypatch.setitem(states.functions._dict, "pkg.list_pkgs", present)
    monkeypatch.setitem(states.functions._dict, "pkg.install", lambda pkgs, **_: calls.append(pkgs))
    return calls


def apply(states: Any, **arguments: Any) -> dict[str, Any]:
    packages = ["opendkim", "postfix"]
    return states("smtpout.packages_installed", name="packages", packages=packages, hold="presets", **arguments)


def test_repositories_come_first(states: Any, installed: Installed) -> None:
    ret = apply(states, repositories=["epel-release"])
    assert ret["result"] is True
    assert installed == [["epel-release"], ["opendkim"]]
    assert apply(states, repositories=["epel-release"])["changes"] == {}


def test_what_goes_for_a_package_is_told_too(
    states: Any, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def present() -> dict[str, str]:
        return dict.fromkeys(["postfix", "opendkim"] if installed else ["postfix", "exim4-base"], "1.0")

    monkeypatch.setitem(states.functions._dict, "pkg.list_pkgs", present)
    assert apply(states)["changes"] == {
        "opendkim": {"old": "", "new": "1.0"},
        "exim4-base": {"old": "1.0", "new": ""},
    }


def test_a_package_that_a_killed_manager_has_left_halfway_is_installed_again(
    states: Any, installed: Installed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    query = tmp_path / "dpkg-query"
    query.write_text(
        "#!/bin/sh\nhalf=half-installed; [ -e $0.done ] && half=installed; touch $0.done\n"
        'printf "opendkim $half\\npostfix installed\\n"\n'
    )
    query.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(states.functions._dict, "pkg.list_pkgs", lambda: dict.fromkeys(["opendkim", "postfix"], "1.0"))
    assert apply(states)["result"] is True
    assert installed == [["opendkim"]]


def test_a_dry_run_names_them_and_installs_nothing(states: Any, installed: Installed) -> None:
    ret = apply(states, repositories=["epel-release"], test=True)
    assert ret["result"] is None
    assert list(ret["changes"]) == ["epel-release", "opendkim"]
    assert ret["warnings"] == ["Not checked: that the host's repositories have these packages."]
    assert installed == []


@pytest.fixture
def removed(states: Any, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Return what a package manager that has exim and postfix is told to remove, in turn; it keeps held packages."""
    calls: Installed = []

    def present() -> dict[str, str]:
        gone = {package for call in calls for package in call if package != "held"}
        return {package: "1.0" for package in ("exim", "held", "postfix") if package not in gone}

    monkeypatch.setitem(states.functions._dict, "pkg.list_pkgs", present)
    monkeypatch.setitem(states.functions._dict, "pkg.remove", lambda **given: calls.append(given["pkgs"]))
    return calls


def remove(states: Any, packages: list[str], **arguments: Any) -> dict[str, Any]:
    return states("smtpout.packages_removed", name="others", packages=packages, **arguments)


def test_what_is_installed_is_removed_once(states: Any, removed: Installed) -> None:
    ret = remove(states, ["exim", "sendmail"])
    assert (ret["result"], ret["changes"]) == (True, {"exim": {"old": "1.0", "new": ""}})
    again = remove(states, ["exim", "sendmail"])
    assert (again["result"], again["changes"]) == (True, {})
    assert removed == [["exim"]]


def test_a_dry_run_of_a_removal_removes_nothing(states: Any, removed: Installed) -> None:
    ret = remove(states, ["exim"], test=True)
    assert (ret["result"], list(ret["changes"])) == (None, ["exim"])
    assert removed == []


def test_a_package_that_stays_fails_the_removal(states: Any, removed: Installed) -> None:
    ret = remove(states, ["exim", "held"])
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].endswith("did not remove held")
    assert removed == [["exim", "held"]]


@pytest.fixture
def held(states: Any) -> Iterator[None]:
    """Hold the formula's lock, as another run does."""
    with Memory(states.opts["smtpout_state_dir"]).locked():
        yield


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("test", [False, True])
def test_while_another_run_is_at_work_nothing_is_installed_or_removed(
    states: Any, installed: Installed, removed: Installed, test: bool
) -> None:
    requirements = "salt://smtpout/requirements.txt"
    for ret in (
        apply(states, test=test),
        remove(states, ["exim"], test=test),
        states("smtpout.python_packages_present", name="python", requirements=requirements, test=test),
    ):
        assert (ret["result"], ret["changes"]) == (False, {})
        assert "Another run is changing this relay." in ret["comment"]
    assert installed == removed == []


EXIM = waiting.Waiting("exim", "/var/spool/exim4/input", 3, "exim4 -qff")
QUEUE = waiting.Waiting("Postfix", "/srv/mailq", 1, "postqueue -c /etc/postfix -f")


@pytest.mark.parametrize(
    ("mail", "record", "missing", "refused"),
    [
        ([], {}, False, False),
        ([EXIM], {}, False, True),
        ([EXIM], {"paths": []}, True, True),
        ([EXIM], {"paths": []}, False, False),
        ([EXIM, QUEUE], {"paths": []}, False, True),
    ],
    ids=["no mail", "exim's", "exim is to go", "exim is long gone", "another queue of Postfix"],
)
def test_mail_that_would_be_left_behind_stops_an_apply_before_its_packages(
    tmp_path: Path,
    site: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    mail: list[waiting.Waiting],
    record: dict[str, Any],
    missing: bool,
    refused: bool,
) -> None:
    modules = minions.minion(tmp_path, site)
    needed = [] if missing else modules["smtpout.settings"]()["packages"]
    monkeypatch.setattr(waiting, "elsewhere", lambda *_: mail)
    monkeypatch.setitem(modules._dict, "pkg.list_pkgs", lambda: dict.fromkeys(needed, "1.0"))
    modules.opts["smtpout_state_dir"] = str(tmp_path)
    Memory(str(tmp_path)).remember({"daemons": {"postfix": record} if record else {}})
    for test in (True, False):
        ret = minions.apply(modules, "smtpout.nothing_left_behind", test=test)
        assert (ret["result"], ret["changes"]) == (not refused, {})
        assert all(str(each) in str([ret["comment"], ret.get("warnings")]) for each in mail)
