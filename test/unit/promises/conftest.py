"""A site whose chain can be started aside on this machine: rendered by the formula, on a real directory, with keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from minions import minion
from slapd_server import SLAPD, Slapd, free_port, running_slapd, wait_for_port
from smtpout_core.change import staging
from smtpout_core.change.templates import Templates
from smtpout_core.daemons import descriptions
from smtpout_core.daemons.opendkim import keys as private
from smtpout_core.host import Host
from smtpout_core.promises import asked, derived
from smtpout_core.promises.promise import Verdict
from smtpout_core.site.derived import merged

MISSING = [name for name in ("postconf", "haproxy", "clamd", "clamav-milter", "opendkim") if not shutil.which(name)]
real = pytest.mark.skipif(bool(MISSING) or not SLAPD or os.geteuid() != 0, reason="as root, with all daemons")


@pytest.fixture(scope="package")
def slapd() -> Iterator[Slapd]:
    with running_slapd() as server:
        yield server


@contextmanager
def delivery_layer(*options: str) -> Iterator[str]:
    """Give the nexthop of a server that takes all mail, and drops it; with smtp-sink(1)'s options otherwise."""
    port = free_port()
    with subprocess.Popen(["smtp-sink", "-u", "nobody", *options, f"inet:127.0.0.1:{port}", "10"]) as process:
        wait_for_port(port)
        yield f"smtp:[127.0.0.1]:{port}"
        process.terminate()


@pytest.fixture(scope="package")
def delivery() -> Iterator[str]:
    with delivery_layer() as nexthop:
        yield nexthop


class Site:
    """A site, and what its trial says."""

    def __init__(self, slapd: Slapd, delivery: str, root: Path, keys: dict[str, str], changes: dict[str, Any]) -> None:
        base = (
            slapd.pillar()
            | {"delivery": {"nexthop": delivery}}
            | {"networks": ["172.16.10.0/24"], "hostname": "relay.domain01.dom"}
        )
        given = merged(
            base | {"opendkim": {"domains": {name: {"key_file": path} for name, path in keys.items()}}}, changes
        )
        modules = minion(root, given)
        self.settings = modules["smtpout.settings"]()
        assert self.settings["valid"], self.settings
        self.host = Host(state_dir=str(root / "state"), cache_dir=str(root / "cache"),
                         cache_file=modules["cp.cache_file"])  # fmt: skip

    @contextmanager
    def staged(self) -> Iterator[dict[str, str]]:
        """Give where each file lies aside."""
        templates = Templates(self.settings, self.host)
        daemons = descriptions.described(self.settings, self.host)
        parts = [part for each in daemons for part in (*each.parts, *map(templates.rendered, each.files))]
        for part in parts:
            part.difference({})  # a certificate is made by then
        with staging.staged(parts, self.host) as stage:
            yield stage.where

    def verdicts(self) -> dict[str, Verdict]:
        """Return how each promise stands."""
        return self._asked(self.settings)

    def verdict(self, name: str) -> Verdict:
        """Return how one promise stands, the others taken back: they aren't asked then."""
        others = {each.name: False for each in derived.everything(self.settings) if each.name != name}
        return self._asked(self.settings | {"promises": others})[name]

    def _asked(self, settings: dict[str, Any]) -> dict[str, Verdict]:
        with self.staged() as where:
            return {verdict.promise.name: verdict for verdict in asked.asked(settings, where)}


@pytest.fixture(scope="package")
def keys() -> Iterator[dict[str, str]]:
    """Return the file of a key by its domain; not in /tmp, which OpenDKIM takes for unsafe."""
    with tempfile.TemporaryDirectory(prefix="smtpout-test-", dir="/var/lib") as name:
        Path(name).chmod(0o755)
        paths = {domain: f"{name}/{domain}" for domain in ("domain01.dom", "domain02.dom")}
        private.generate_keys(list(paths.values()), 1024, "opendkim", "opendkim")
        yield paths


@pytest.fixture
def site(slapd: Slapd, delivery: str, keys: dict[str, str], tmp_path: Path) -> Callable[..., Site]:
    """Return a function that makes a site, with changes to its pillar."""

    def made(**changes: Any) -> Site:
        tmp_path.chmod(0o755)
        return Site(slapd, delivery, tmp_path, keys, changes)

    return made
