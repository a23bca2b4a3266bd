"""The formula in an environment of its own, as gitfs makes one of each branch: all of its files come from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import salt.loader
from smtpout_core import host
from smtpout_core.change.parts import File
from smtpout_core.change.templates import Templates
from support import REPOSITORY, load, minion_opts

GRAINS = {"os": "Debian", "osmajorrelease": 12, "fqdn": "relay.example.com", "os_family": "Debian"}
MAIN = "salt://smtpout/postfix/main.cf.jinja"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return the folder of the environment base, with a top file that takes the formula from prod."""
    path = tmp_path / "base"
    path.mkdir()
    (path / "top.sls").write_text("prod:\n  '*': [smtpout]\n", encoding="utf-8")
    return path


@pytest.fixture
def functions(tmp_path: Path, base: Path) -> Any:
    """Return the functions of a minion that has the formula in prod."""
    roots = {"base": [str(base)], "prod": [str(REPOSITORY)]}
    opts = minion_opts(tmp_path, file_roots=roots, grains=GRAINS, pillar=load("default"))
    return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))


def rendered(functions: Any) -> str:
    """Return main.cf as a run whose SLS files come from prod would write it."""
    settings = functions["smtpout.settings"]("prod")
    assert settings["errors"] == []
    pack = functions.pack
    here = host.minion(
        pack["__opts__"], GRAINS, functions["cp.cache_file"], functions.pack["__context__"].get(host.SALTENV)
    )
    return str(Templates(settings, here).rendered(File("/etc/postfix/main.cf", MAIN)).text)


def test_a_highstate_renders_with_nothing_of_the_formula_in_base(functions: Any) -> None:
    made = functions["state.show_highstate"]()
    assert isinstance(made, dict), made
    assert made["The site's pillar is right"]["__env__"] == "prod"
    assert "Postfix runs the site's configuration" in made
    assert "smtpd_banner" in rendered(functions)


def test_another_version_in_base_is_not_looked_at(functions: Any, base: Path) -> None:
    shutil.copytree(REPOSITORY / "smtpout", base / "smtpout")
    (base / "smtpout/schema.yaml").write_text("type: object\nproperties: {}\n", encoding="utf-8")
    (base / "smtpout/postfix/main.cf.jinja").write_text("old\n", encoding="utf-8")
    made = functions["state.show_highstate"]()
    assert isinstance(made, dict), made
    assert rendered(functions) != "old\n"


def test_a_state_reads_the_formula_where_its_sls_file_lies(functions: Any, base: Path) -> None:
    shutil.copytree(REPOSITORY / "smtpout", base / "smtpout")
    (base / "smtpout/schema.yaml").write_text("type: object\nproperties: {}\n", encoding="utf-8")
    states = functions["state.sls"]("smtpout.valid", saltenv="prod").values()
    (state,) = (state for state in states if state["__id__"] == "The site's pillar is right")
    assert (state["result"], state["comment"]) == (True, "The pillar is as smtpout/schema.yaml says.")


def test_without_a_word_of_the_environment_it_is_the_minions_own(functions: Any, base: Path) -> None:
    shutil.copytree(REPOSITORY / "smtpout", base / "smtpout")
    assert functions["smtpout.settings"]()["valid"]
