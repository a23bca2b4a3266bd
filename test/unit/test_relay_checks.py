"""The checks of the running relay: each says its own, whatever becomes of the others."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from minions import minion
from slapd_server import needs_slapd, running_slapd

pytestmark = [needs_slapd, pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix is not installed")]


def test_a_check_that_cannot_be_made_keeps_none_of_the_others_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.import_module

    def without_ldap3(name: str, package: str | None = None) -> Any:
        if name == "ldap3":
            raise ImportError(name)
        return found(name, package)

    with running_slapd() as slapd:
        modules = minion(tmp_path, slapd.pillar())
        monkeypatch.setattr(importlib, "import_module", without_ldap3)
        said = {check["check"]: check for check in modules["smtpout.verify"]()}
    assert "ldap3 is missing from Salt's Python" in said["the directory answers as the pillar says"]["seen"]
    assert said["the directory answers as the pillar says"]["state"] == "failed"
    assert said["logins are checked"]["state"] == "failed"  # no relay runs here, and that is said as well
