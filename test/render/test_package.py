"""The SPM package that FORMULA describes: built, installed below a folder of its own, and rendered from there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import yaml
from renderer import GRAINS, Renderer
from support import REPOSITORY, load

PLATFORM = "debian-12"
MARK = "# from the package:"


class Package:
    """A machine's Salt package manager whose every folder lies below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # spm packs folders as they are and can't install Python's compiled files
        without = shutil.ignore_patterns("__pycache__", ".*")
        self.checkout = shutil.copytree(REPOSITORY, root / "checkout", ignore=without)
        folders = {
            "formula_path": "srv/formulas", "pillar_path": "srv/pillar", "reactor_path": "srv/reactor",
            "spm_build_dir": "build", "spm_cache_dir": "cache", "spm_db": "packages.db", "spm_share_dir": "share",
            "spm_logfile": "log", "log_file": "log", "cachedir": "cache", "pki_dir": "pki",
        }  # fmt: skip
        settings = {"root_dir": str(root)} | {key: str(root / folder) for key, folder in folders.items()}
        for name in ("spm", "master", "minion"):
            (root / name).write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.formulas, self.pillar = root / "srv/formulas", root / "srv/pillar"

    def spm(self, *arguments: str) -> str:
        command = [sys.executable, Path(sys.executable).with_name("spm"), f"--config-dir={self.root}", "--assume-yes"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, cwd=self.checkout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package, built from the checkout and installed."""
    package = Package(tmp_path_factory.mktemp("spm"))
    package.spm("build", str(package.checkout))
    (file,) = (package.root / "build").glob("*.spm")
    package.spm("local", "install", str(file))
    return package


def below(folder: Path, *parts: str) -> set[str]:
    """Return the files of some folders, without Python's own."""
    files = (path for part in parts for path in (folder / part).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in files if path.suffix != ".pyc"}


def test_the_package_brings_the_formula_its_modules_and_the_example(package: Package) -> None:
    parts = ["smtpout", *(path.name for path in REPOSITORY.glob("_*"))]
    assert below(REPOSITORY, *parts) <= below(package.formulas, *parts)
    assert not any(name.startswith(("test/", "bin/")) for name in below(package.formulas, "."))
    example = (package.pillar / "smtpout.sls.orig").read_text(encoding="utf-8")
    assert example == (REPOSITORY / "pillar.example").read_text(encoding="utf-8")


def rendered(renderer: Renderer) -> dict[str, str]:
    """Return every configuration file of the example's relay."""
    high, errors = renderer.highstate("smtpout", load("default"))
    assert errors + renderer.low(high)[1] == []
    return renderer.files()


def rendered_from(formula: Path, root: Path) -> dict[str, str]:
    """Return the same from another place, for a process of its own: Salt shares what reads the files."""
    grains = {"fqdn": "relay.example.com", "kernel": "Linux", **GRAINS[PLATFORM]}
    return rendered(Renderer(root, grains, formula))


def test_what_is_installed_renders_like_the_checkout(
    package: Package, renderers: dict[str, Renderer], tmp_path: Path
) -> None:
    formula = shutil.copytree(package.formulas, tmp_path / "formula")
    template = formula / "smtpout/postfix/main.cf.jinja"
    template.write_text(MARK + template.read_text(encoding="utf-8"), encoding="utf-8")
    with ProcessPoolExecutor(1, get_context("spawn")) as worker:
        texts = worker.submit(rendered_from, formula, tmp_path / "minion").result()
    assert MARK in texts["/etc/postfix/main.cf"], "the package's own template was rendered"
    texts["/etc/postfix/main.cf"] = texts["/etc/postfix/main.cf"].replace(MARK, "")
    assert texts == rendered(renderers[PLATFORM])


def test_what_was_installed_can_be_removed(package: Package) -> None:
    package.spm("remove", "smtpout")
    assert below(package.formulas, ".") == set()
