"""A minion of its own for a test that needs a site in the pillar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt import loader
from support import minion_opts

Settings = Callable[..., dict[str, Any]]
"""The fixture ``settings``: what the settings of a site are."""

GRAINS = {"os": "Debian", "osmajorrelease": 12, "fqdn": "relay.domain01.dom"}


def minion(root: Path, site: dict[str, Any]) -> Any:
    """Return the execution functions of a Debian 12 relay that has this site in its pillar."""
    return loader.minion_mods(minion_opts(root, pillar={"smtpout": site}, grains=GRAINS))


def apply(modules: Any, function: str, *, test: bool = False, **arguments: Any) -> dict[str, Any]:
    """Apply one state to such a minion."""
    opts = {**modules.opts, "test": test}
    ret: dict[str, Any] = loader.states(opts, modules, loader.utils(opts), None)[function](name="name", **arguments)
    return ret
