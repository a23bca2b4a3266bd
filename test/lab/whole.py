"""What a relay is at a moment, all of it: its files, its daemons; and when the daemons were away.

Pillars that differ from pillar.example, too: they are what makes another whole of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

from lab import breaking
from lab.host import Host
from lab.lab import EXAMPLE, REPOSITORY, Lab

SITE = "The site changes as one"
"""The state that brings it."""

ASKED = (
    len(yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text())["properties"]["promises"]["properties"]) - 4
)
"""How many promises pillar.example makes: all but those of clients, of both limits and of who is blocked."""

# Everything that a change could leave: contents, modes and owners, links; without times, and without locks.
LISTING = r"""
cd /
find etc var/lib/smtpout ! -name '*.lock' -printf '%p\t%y %m %U:%G %l\n'
find etc var/lib/smtpout -type f ! -name '*.lock' -exec sha256sum {} + | sed -E 's/^([0-9a-f]*)  (.*)/\2\t\1/'
"""
LEFT = r"""
find /etc /var/lib/smtpout /tmp /var/tmp \( -name '*.smtpout-*' -o -name '*.building' -o -path '*/staging/*' \
    -o -path '/var/lib/smtpout/change*' \) -print
pgrep -af '[m]aster -d' || true
"""

# systemd.journal-fields(7), MESSAGE_ID: what systemd says of a unit that goes, and of one that is there.
GOES = {
    "de5b426a63be47a7b6ac3eaac82e2f6f",  # stopping
    "98e322203f7a4ed290d09fe03c09fe15",  # a process of it has exited
    "7d4958e842da4a758f6c1cdc7b36dcc5",  # starting
}
STARTED = "39f53479d3a045ac8e11786248231fbf"
SAID, SETTLES = 0.1, 1.5
"""Seconds after which systemd says that it has stopped a daemon, and that a started one has to open its socket."""


def merged(base: Any, over: Any) -> Any:
    """Return a part of a pillar with another one laid over it."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def changed(change: dict[str, Any]) -> str:
    """Return pillar.example with a change."""
    return yaml.safe_dump(merged(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")), {"smtpout": change}))


def units(lab: Lab) -> list[str]:
    """Return the units of the relay's daemons on this release, in the order in which they are activated."""
    daemons = ["saslauthd", "clamav-freshclam", "clamav-daemon", "clamav-milter", "opendkim", breaking.MASTER]
    return [f"{breaking.unit(lab, name)}.service" for name in daemons]


def daemon(unit: str) -> str:
    """Return what a unit is called on every release."""
    return unit.rpartition(".")[0].removesuffix("@-")


class Unit(NamedTuple):
    """How a unit is."""

    state: str
    enabled: str
    life: tuple[str, ...]


class Whole(NamedTuple):
    """A relay at a moment."""

    files: dict[str, str]
    units: dict[str, Unit]

    def configuration(self) -> dict[str, str]:
        """Return the files below /etc; those of the formula's memory tell of what was done, too."""
        return {path: held for path, held in self.files.items() if path.startswith("etc/")}

    def restarted(self, before: Whole) -> set[str]:
        """Return the daemons that aren't the same processes as before."""
        return {daemon(name) for name, unit in self.units.items() if unit.life != before.units[name].life}

    def standing(self) -> dict[str, tuple[str, str]]:
        """Return whether each unit runs, and whether it starts at boot."""
        return {name: (unit.state, unit.enabled) for name, unit in self.units.items()}


def seen(lab: Lab) -> Whole:
    """Return the relay as it is now."""
    relay, names = lab.host("relay"), units(lab)
    files: dict[str, str] = {}
    for line in relay.run(["sh", "-c", LISTING], timeout=60).stdout.splitlines():
        path, _, held = line.partition("\t")
        files[path] = f"{files.get(path, '')} {held}"
    properties = "--property=ActiveState,UnitFileState,MainPID,InvocationID,NRestarts"
    shown = relay.run(["systemctl", "show", properties, *names]).stdout.strip().split("\n\n")
    found = [dict(line.split("=", 1) for line in one.splitlines()) for one in shown]
    life = ("MainPID", "InvocationID", "NRestarts")
    each = [Unit(one["ActiveState"], one["UnitFileState"], tuple(one[key] for key in life)) for one in found]
    return Whole(files, dict(zip(names, each, strict=True)))


class Pause(NamedTuple):
    """When something was away, in seconds since 1970, until it served again."""

    what: str
    began: float
    ended: float

    def covers(self, began: float, ended: float) -> bool:
        """Tell whether a session of that time could have met it."""
        return began <= self.ended and self.began <= ended


def pauses(lab: Lab, since: float, until: float) -> list[Pause]:
    """Return when each daemon of the relay was away, by the times that systemd's journal has of stop and start."""
    names = [*units(lab), "clamav-daemon.socket"]
    asked = ["journalctl", "--quiet", "--output=json", f"--since=@{since:.6f}", "_PID=1", *_any("UNIT", names)]
    found, away = [], dict[str, float]()
    for line in lab.host("relay").run(asked, timeout=60).stdout.splitlines():
        entry = json.loads(line)
        unit, said, at = entry["UNIT"], entry.get("MESSAGE_ID"), int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        if said in GOES:
            away.setdefault(unit, at - SAID)
        elif said == STARTED and unit in away:
            found.append(Pause(daemon(unit), away.pop(unit), at + SETTLES))
    return found + [Pause(daemon(unit), began, until) for unit, began in away.items()]


def _any(field: str, values: Iterable[str]) -> list[str]:
    """Return the matches of journalctl for one of several values."""
    return [f"{field}={value}" for value in values]


def left(relay: Host) -> str:
    """Return what a run that was killed has left: half files, what lies aside, a journal, a Postfix that is tried."""
    return relay.run(["sh", "-c", LEFT]).stdout
