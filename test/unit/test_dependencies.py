"""What the product imports: the standard library, Salt with what Salt brings, and the packages that pyproject names."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import REPOSITORY

MODULES = sorted([*REPOSITORY.glob("_[msw]*/*.py"), *REPOSITORY.glob("_utils/**/*.py")])
OWN = {"smtpout_core"}

# By what they are imported as.
SALT_BRINGS = {"yaml": "pyyaml", "jinja2": "jinja2", "cryptography": "cryptography"}
FORMULA_BRINGS = {"ldap3": "ldap3", "dkim": "dkimpy", "dns": "dnspython"}

BY_NAME = ("import_module", "__import__", "packages.imported")
LATE = {"packages.py": "name"}  # what it is told, and that is looked at where it is said

LOCKS = ["bin/requirements.txt", "test/requirements.txt", "test/requirements-3006.txt", "test/requirements-3007.txt"]


def imports(path: Path) -> Iterator[str]:
    """Return the top-level names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "" if node.level else str(node.module).partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(BY_NAME):
            named = ast.unparse(node.args[0])
            if named != LATE.get(path.name):
                yield str(ast.literal_eval(named)).partition(".")[0]


def group(name: str) -> list[str]:
    """Return the packages of one of pyproject's dependency groups; Python 3.10 has no reader of TOML."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (packages,) = re.findall(rf"^{name} = \[(.*?)\]", text, re.MULTILINE)
    return re.findall(r'"([\w.-]+==[\w.]+)"', packages)


def pinned(path: str) -> dict[str, str]:
    """Return the versions of a requirements file, by package."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (REPOSITORY / path).read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_imports_nothing_that_a_minion_lacks(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"salt"} | OWN | SALT_BRINGS.keys() | FORMULA_BRINGS.keys()
    assert set(imports(path)) - allowed == set()


def test_apply_imports_the_standard_library_only() -> None:
    assert set(imports(REPOSITORY / "bin/apply")) - sys.stdlib_module_names == set()


def test_every_package_of_the_formula_is_imported() -> None:
    assert FORMULA_BRINGS.keys() <= {name for path in MODULES for name in imports(path)}


def test_salt_brings_what_is_said_of_it() -> None:
    asked_for = {re.split(r"[^\w.-]", line)[0].lower() for line in importlib.metadata.requires("salt") or []}
    assert set(SALT_BRINGS.values()) <= asked_for


def test_every_list_of_packages_has_the_same_versions() -> None:
    formula = dict(package.split("==") for package in group("formula"))
    assert formula.keys() == set(FORMULA_BRINGS.values())
    assert pinned("smtpout/requirements.txt") == formula
    for lock in LOCKS:
        assert {name: version for name, version in pinned(lock).items() if name in formula} == formula, lock


@pytest.mark.parametrize("salt", ["3006", "3007", "3008"])
def test_each_salt_is_locked_in_the_version_that_pyproject_names(salt: str) -> None:
    locks = [lock for lock in LOCKS if salt in lock] or ["bin/requirements.txt", "test/requirements.txt"]
    assert {f"salt=={pinned(lock)['salt']}" for lock in locks} == set(group(f"salt{salt}"))


def test_lock_pins_every_package_with_a_hash_and_names_no_index() -> None:
    lock = (REPOSITORY / "bin/requirements.txt").read_text()
    packages = re.findall(r"^[a-z][^ ]*==.*$(?:\n    --hash=sha256:[0-9a-f]{64}.*$)+", lock, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[a-z]", lock, re.MULTILINE))
    assert "://" not in lock
    assert not re.search(r"^timelib", lock, re.MULTILINE)


def test_tests_run_on_the_versions_that_apply_installs() -> None:
    lines = [(REPOSITORY / name).read_text().splitlines() for name in ("bin/requirements.txt", "test/requirements.txt")]
    brought, tested = ({line.split("==")[0]: line for line in lock if "==" in line} for lock in lines)
    assert {name: line for name, line in brought.items() if tested[name] != line} == {}
