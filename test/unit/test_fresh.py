"""An update of the formula runs its new code in a process that has imported the old one, as a minion's may have."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import salt.loader
from support import REPOSITORY, minion_opts

MODULE = """
    import smtpout_core

    smtpout_core.fresh()

    from smtpout_core import marker


    def said():
        return marker.TEXT
"""


@pytest.fixture
def formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a formula with the package, one room that says something, and a module that asks it."""
    core = tmp_path / "_utils/smtpout_core"
    core.mkdir(parents=True)
    shutil.copy(REPOSITORY / "_utils/smtpout_core/__init__.py", core)
    (core / "marker.py").write_text("TEXT = 'old'\n")
    (tmp_path / "_modules").mkdir()
    (tmp_path / "_modules/asks.py").write_text(textwrap.dedent(MODULE))
    known = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "smtpout_core"}
    for name in known:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (Path(entry) / "smtpout_core").is_dir()])
    return tmp_path


def loaded(formula: Path) -> Any:
    """Return the execution functions, loaded anew as after a sync, in this same process."""
    opts = minion_opts(formula / "minion", module_dirs=[str(formula)])
    return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))


def test_what_is_loaded_again_after_an_update_runs_the_new_code(formula: Path) -> None:
    assert loaded(formula)["asks.said"]() == "old"
    assert loaded(formula)["asks.said"]() == "old"
    (formula / "_utils/smtpout_core/marker.py").write_text("TEXT = 'newer'\n")
    assert loaded(formula)["asks.said"]() == "newer"


def test_what_is_the_same_is_not_imported_again(formula: Path) -> None:
    assert loaded(formula)["asks.said"]() == "old"
    room = sys.modules["smtpout_core.marker"]
    assert loaded(formula)["asks.said"]() == "old"
    assert sys.modules["smtpout_core.marker"] is room
