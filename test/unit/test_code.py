"""The code that is served: its list is current, and a host with any other says what brings it."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import salt.loader
from smtpout_core import code
from support import REPOSITORY, load, minion_opts

SERVED = REPOSITORY / code.LIST
GRAINS = {"os": "Debian", "osmajorrelease": 12, "fqdn": "relay.domain01.dom"}


def listed() -> str:
    """Return what the list should say: every file that a host imports."""
    paths = (path for kind in ("_modules", "_states", "_utils") for path in (REPOSITORY / kind).rglob("*.py"))
    digests = {path.relative_to(REPOSITORY).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def test_the_served_list_is_that_of_the_code(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update"):
        SERVED.write_text(listed(), encoding="utf-8")
    assert SERVED.read_text(encoding="utf-8") == listed(), "code has changed: bin/test unit -k code --update"


@pytest.fixture
def formula(tmp_path: Path) -> Path:
    """Return a copy of the formula with its list current."""
    copy = tmp_path / "formula"
    for name in ("_modules", "_states", "smtpout"):
        shutil.copytree(REPOSITORY / name, copy / name)
    (copy / code.LIST).write_text(listed(), encoding="utf-8")
    return copy


@pytest.fixture
def synced(formula: Path, tmp_path: Path) -> Path:
    """Return a minion's folder of synced modules."""
    for kind in ("modules", "states"):
        shutil.copytree(formula / f"_{kind}", tmp_path / "extmods" / kind)
    return tmp_path / "extmods"


def minion(formula: Path, root: Path, **changes: Any) -> Any:
    """Return the execution functions of a minion that is served this formula."""
    roots = {"file_roots": {"base": [str(formula)]}, "extension_modules": str(root / "extmods")}
    opts = minion_opts(root, grains=GRAINS, pillar=load("default"), **{**roots, "module_dirs": [], **changes})
    return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))


def test_synced_modules_are_the_code_that_is_served(formula: Path, synced: Path, tmp_path: Path) -> None:
    (synced / "states/of_another_formula.py").write_text("", encoding="utf-8")
    assert minion(formula, tmp_path)["smtpout.other_code"]() == []


def test_what_was_not_synced_anew_is_told_by_name(formula: Path, synced: Path, tmp_path: Path) -> None:
    (synced / "states/postmap.py").unlink()
    (synced / "modules/clamav.py").write_text("", encoding="utf-8")
    assert minion(formula, tmp_path)["smtpout.other_code"]() == ["_modules/clamav.py", "_states/postmap.py"]


def test_another_package_is_told_by_its_files(formula: Path, synced: Path) -> None:
    served = (formula / code.LIST).read_text(encoding="utf-8")
    (line,) = (line for line in served.splitlines() if line.endswith("smtpout_core/files.py"))
    served = served.replace(line, f"{'0' * 64}  _utils/smtpout_core/files.py")
    assert code.other(str(synced / "modules/smtpout.py"), served) == ["_utils/smtpout_core/files.py"]


def test_a_formula_in_module_dirs_may_be_changed_where_it_is_served_from(
    formula: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(REPOSITORY / "_utils", formula / "_utils")
    module = formula / "_modules/smtpout.py"
    module.write_text(f"{module.read_text(encoding='utf-8')}\n", encoding="utf-8")
    served = (formula / code.LIST).read_text(encoding="utf-8")
    assert code.other(str(module), served) == ["_modules/smtpout.py"], "the package is that of another tree"
    monkeypatch.setattr(code, "HOME", formula / "_utils/smtpout_core")
    assert code.other(str(module), served) == []
    assert code.other(str(module), f"{served}{'0' * 64}  _states/new.py\n") == ["_modules/smtpout.py", "_states/new.py"]


def test_a_host_of_salt_sshs_says_that_it_has_what_was_packed(
    states: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = states("smtpout_code.current", name="The code")
    assert (right["result"], right["comment"]) == (True, "The code is the one that is served.")
    packed = tmp_path / "py3/smtpout_core"
    shutil.copytree(REPOSITORY / "_utils/smtpout_core", packed)
    (packed / "files.py").unlink()
    monkeypatch.setattr(code, "HOME", packed)
    for test in (False, True):
        said = states("smtpout_code.current", name="The code", test=test)
        assert said["result"] is False
        assert "(_utils/smtpout_core/files.py; 1 in all)" in said["comment"]
        assert "--regen-thin" in said["comment"]


def test_a_package_that_knows_no_list_is_another(states: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smtpout_core.code", None)
    said = states("smtpout_code.current", name="The code")
    assert said["result"] is False
    assert "--regen-thin" in said["comment"]
