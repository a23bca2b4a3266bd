"""Packages are installed once, those that bring repositories before the others."""

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
