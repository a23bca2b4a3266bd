"""A wrong pillar ends in a sentence that names its key, or in files that the real daemons' parsers take.

Each of some thousand broken pillars goes as far as an apply in test mode goes: settings, SLS, every daemon's files, and
the check of each set by the daemon's own parser. What several pillars have in common is checked once.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from mutations import Mutation, mutations
from renderer import Renderer
from smtpout_core.change.parts import Daemon, Part
from smtpout_core.change.staging import staged
from smtpout_core.daemons.postfix import trial
from smtpout_core.errors import RelayError
from support import REPOSITORY, load

LEAST = 2000
GRAINS = {"fqdn": "relay.example.com", "kernel": "Linux", "os": "Debian", "os_family": "Debian", "osmajorrelease": 12}
PARSERS = ("postconf", "postmap", "opendkim", "clamconf", "haproxy")

# Where the pillar speaks a daemon's own language, and only the daemon can say what is wrong.
NATIVE = ("postfix:main", "postfix:master", "postfix:maps", "saslauthd:options", "opendkim:options")
NATIVE += ("clamav:clamd", "clamav:milter", "clamav:freshclam")
NATIVE += ("directory:ca_file",)  # whether there is such a file only the daemon knows

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

pytestmark = pytest.mark.skipif(not all(map(shutil.which, PARSERS)), reason="a daemon's parser is missing")


def full_site() -> Any:
    """Return the example's site with every key that it lacks, as the schema's examples have them."""
    schema = yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8"))
    site = load("default")["smtpout"]
    _fill(site, schema)
    site["tls"] = {"chain_file": "/etc/ssl/private/relay.pem"}
    site["authentication"] = {"clear_text_on_25": False, "submission": True}
    site["directory"] |= {"servers": ["ldaps://dc1.example", "ldaps://dc2.example"], "ca_file": AUTHORITIES}
    site["directory"] |= {"start_tls": False, "senders": "own_header"}
    site["directory"] |= {"login": "(&(objectClass=person)(uid=%u))", "login_attribute": "uid"}
    site["clamav"] |= {"enabled": True}
    site["opendkim"] |= {"enabled": True, "on_fail": "tempfail"}
    site["opendkim"]["domains"]["domain01.dom"] = {"selectors": ["s2026", {"name": "s2027", "stage": "published"}]}
    site["watch"] |= {"enabled": True}
    site["postfix"]["maps"] |= {"rules": {"type": "regexp", "entries": {"/^root@/": "postmaster@domain01.dom"}}}
    return site


def _fill(site: Any, schema: Any) -> None:
    for key, part in schema.get("properties", {}).items():
        if key not in site:
            site[key] = copy.deepcopy(part["examples"][0])
        if isinstance(site[key], dict):
            _fill(site[key], part)


class Relay:
    """A Debian 12 relay that takes one pillar after the other, in test mode."""

    def __init__(self, root: Path) -> None:
        self.renderer = Renderer(root, GRAINS)
        state = self.renderer.state
        self.ask = state.functions
        # A Postfix started aside takes seconds: test/lab tries that out. Here its parser has the word.
        trial.complaints = lambda *_, **__: []
        self.complaints: dict[str, list[str]] = {}

    def refusal(self, site: Any) -> list[str]:
        """Return what is said against a pillar before any state runs."""
        self.renderer.use({"smtpout": site})
        errors: list[str] = self.ask["smtpout.settings"]()["errors"]
        return errors

    def objections(self, site: Any) -> list[str]:
        """Return what the daemons say against the files of a right pillar."""
        self.renderer.use({"smtpout": site})
        said = []
        for daemon in self.renderer.daemons():
            try:
                parts = self.renderer.parts(daemon)
                key = digest([daemon.name, [part.wanted for part in parts]])
                if key not in self.complaints:
                    self.complaints[key] = self.checked(daemon, parts)
            except RelayError as error:
                key = digest(str(error))
                self.complaints[key] = [str(error)]
            said += self.complaints[key]
        return said

    def checked(self, daemon: Daemon, parts: list[Part]) -> list[str]:
        host = self.renderer.host()
        with staged(parts, host) as stage:
            return [*map(stage.without_place, daemon.check(stage.where, host))] if daemon.check else []


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class Outcome(NamedTuple):
    """How a broken pillar ends, what is wrong with that, and how many sets of files had to be checked to know."""

    end: str
    fault: str | None
    checked: int


RELAYS: list[Relay] = []
"""This process's own."""


def begin(root: Path) -> None:
    """Make a worker's relay."""
    RELAYS.append(Relay(root / str(os.getpid())))


def outcome(mutation: Mutation) -> Outcome:
    relay = RELAYS[0]
    before = len(relay.complaints)
    try:
        end, fault = judged(relay, mutation)
    except Exception as error:  # noqa: BLE001 - any exception is what must not be
        end, fault = "a traceback", f"{type(error).__name__}: {error}"
    return Outcome(end, f"{mutation}: {fault}" if fault else None, len(relay.complaints) - before)


def judged(relay: Relay, mutation: Mutation) -> tuple[str, str | None]:
    errors = relay.refusal(mutation.site)
    if errors:
        unnamed = [error for error in errors if not error.startswith("smtpout:") or "\n" in error]
        return "refused with their path", f"no path or more than a line: {unnamed}" if unnamed else None
    said = relay.objections(mutation.site)
    if not said:
        return "accepted by the daemons", None
    where = ":".join(map(str, mutation.path))
    native = any(where.startswith(key) or key.startswith(where) for key in NATIVE)
    return "refused in a daemon's words", None if native else f"only the daemon objects: {said}"


@pytest.mark.timeout(1200)
def test_a_broken_pillar_ends_in_a_clear_error_or_in_what_the_daemons_take(
    tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    example, recipe, full = load("default")["smtpout"], load("recipe")["smtpout"], full_site()
    right = [Mutation("as it is", (), site) for site in (example, recipe, full)]
    broken = [*mutations(example), *mutations(recipe, example), *mutations(full, example, recipe)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork"), begin, [tmp_path]) as workers:
        assert {each.end for each in workers.map(outcome, right)} == {"accepted by the daemons"}
        outcomes = list(workers.map(outcome, broken, chunksize=20))
    counts = Counter(each.end for each in outcomes)
    for end, count in sorted(counts.items()):
        record_property(end, count)
    ends = ", ".join(f"{count} {end}" for end, count in sorted(counts.items()))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(broken)} broken pillars: {ends}; {sum(each.checked for each in outcomes)} sets of files checked\n"
        )
    assert [each.fault for each in outcomes if each.fault] == []
    assert len(broken) >= LEAST
