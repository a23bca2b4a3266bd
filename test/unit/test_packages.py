"""Packages are installed once, those that bring repositories before the others; others are removed."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_a_dry_run_names_them_and_installs_nothing(states: Any, installed: Installed) -> None:
    ret = apply(states, repositories=["epel-release"], test=True)
    assert ret["result"] is None
    assert list(ret["changes"]) == ["epel-release", "opendkim"]
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
