"""Render the formula in process, for any platform and pillar, as a minion of that platform would.

The one place that touches Salt's private interfaces (BaseHighState); it runs unchanged on 3006, 3007 and 3008.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import salt.fileclient
import salt.state
from smtpout_core.change.parts import Daemon, Part
from smtpout_core.change.templates import Rendered, Templates
from smtpout_core.daemons import descriptions
from smtpout_core.host import Host
from support import REPOSITORY, minion_opts


def grains(name: str, family: str, release: str, **more: str) -> dict[str, Any]:
    """Return what Salt's own grains say on such a host (salt/grains/core.py, os_data)."""
    major = int(release.partition(".")[0])
    return {"os": name, "os_family": family, "osrelease": release, "osmajorrelease": major, **more}


# Good for rendering only: with another family's grains, pkg and service are that family's.
GRAINS = {
    "debian-12": grains("Debian", "Debian", "12"),
    "debian-13": grains("Debian", "Debian", "13"),
    "ubuntu-24.04": grains("Ubuntu", "Debian", "24.04"),
    "ubuntu-26.04": grains("Ubuntu", "Debian", "26.04"),
    "el-7": grains("CentOS", "RedHat", "7.9.2009"),
    "el-8": grains("CentOS Stream", "RedHat", "8"),
    "el-9": grains("AlmaLinux", "RedHat", "9.6"),
    "el-10": grains("Rocky", "RedHat", "10.1"),
    "fedora": grains("Fedora", "RedHat", "44"),
    "amazon-2023": grains("Amazon", "RedHat", "2023"),
    "leap-15.6": grains("SUSE", "Suse", "15.6", osfullname="Leap"),
    "leap-16": grains("SUSE", "Suse", "16.0", osfullname="Leap"),
}


def as_run(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the states in the order in which they run: what a state requires before it.

    Salt 3008 compiles them so; 3006 and 3007 run what is required when they come to the one that requires it.
    """
    ordered: list[dict[str, Any]] = []

    def run(chunk: dict[str, Any]) -> None:
        if chunk not in ordered:
            for wanted in chunk.get("require", []):
                for required in chunks:
                    if wanted.get(required["state"]) in (required["__id__"], required["name"]):
                        run(required)
            ordered.append(chunk)

    for chunk in chunks:
        run(chunk)
    return ordered


class _State(salt.state.State):
    """A state compiler whose pillar is handed in."""

    def _gather_pillar(self) -> Any:
        return self.opts["pillar"]


class Renderer(salt.state.BaseHighState):
    """Renders for one platform; call it with an SLS name and a pillar, or ask it for a configuration file's text."""

    def __init__(self, root: Path, grains: dict[str, Any], formula: Path = REPOSITORY) -> None:
        # One cache directory for all renderers: the loader of templates is shared by Salt.
        opts = minion_opts(
            root,
            saltenv="base",
            __role="minion",
            autoload_dynamic_modules=False,
            state_events=False,
            grains=grains,
            file_roots={"base": [str(formula)]},
            module_dirs=[str(formula)],
            test=True,  # what is asked of it goes no further than an apply in test mode
        )
        self.client = salt.fileclient.get_file_client(opts)
        super().__init__(opts)
        self.opts, self.matchers = opts, None
        self._pydsl_all_decls: dict[str, Any] = {}
        self._pydsl_render_stack: list[Any] = []
        self.state = _State(opts)
        self.templates: Templates | None = None

    def use(self, pillar: dict[str, Any]) -> None:
        """Make ``pillar`` the minion's pillar."""
        self.opts["pillar"] = self.state.opts["pillar"] = pillar
        loaders = [self.state.functions, self.state.states, self.state.rend._dict]
        for loader in loaders + [loader.pack["__salt__"] for loader in loaders if "__salt__" in loader.pack]:
            loader.opts["pillar"] = loader.pack["__pillar__"] = pillar

    def highstate(self, sls: str, pillar: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the high data of an SLS with all that it includes, and the errors."""
        self.use(pillar)
        self.building_highstate = type(self.building_highstate)()
        return self.render_highstate({"base": [sls]})

    def low(self, high: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the states in the order in which they would run, requisites resolved, and the errors."""
        state = self.state
        high, extend_errors = state.reconcile_extend(copy.deepcopy(high))
        errors = extend_errors + state.verify_high(high)
        high, requisite_errors = state.requisite_in(high)
        compiled = state.compile_high_data(high)
        chunks, order_errors = compiled if isinstance(compiled, tuple) else (compiled, [])
        return as_run(chunks), errors + requisite_errors + order_errors

    def host(self) -> Host:
        """Return this minion, as the package gets it."""
        place = Path(self.opts["cachedir"], "smtpout")
        return Host(test=True, cache_dir=str(place), cache_file=lambda source: self.client.cache_file(source) or "")

    def daemons(self) -> list[Daemon]:
        """Return the descriptions of the site's daemons; none where its pillar is refused."""
        settings = self.state.functions["smtpout.settings"]()
        return descriptions.described(settings, self.host()) if settings["valid"] else []

    def parts(self, daemon: Daemon) -> list[Part]:
        """Return the maps and the rendered files of a daemon."""
        settings = self.state.functions["smtpout.settings"]()
        if self.templates is None or self.templates.settings is not settings:
            self.templates = Templates(settings, self.host())
        return [*daemon.parts, *map(self.templates.rendered, daemon.files)]

    def files(self) -> dict[str, str]:
        """Return the text of every rendered file of the site, by path."""
        parts = [part for daemon in self.daemons() for part in self.parts(daemon)]
        return {part.path: part.text for part in parts if isinstance(part, Rendered)}
