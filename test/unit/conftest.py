"""What several of the unit tests start from: the example's site, and the settings that are made of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import salt.loader
from minions import Settings
from support import load, minion_opts


@pytest.fixture
def site() -> dict[str, Any]:
    """Return the example's site, to be changed at will."""
    return load("default")["smtpout"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return a function that makes the settings of a site on Debian 12."""
    opts = minion_opts(Path(tmp_path_factory.mktemp("minion")))
    opts["grains"] = {"os": "Debian", "osmajorrelease": 12, "fqdn": "relay.example.com"}
    functions = salt.loader.minion_mods(opts)

    def made(site: Any) -> dict[str, Any]:
        functions.opts["pillar"] = functions.pack["__pillar__"] = {"smtpout": site}
        return functions["smtpout.settings"]()

    made.functions = functions  # type: ignore[attr-defined]
    return made
