"""What differs on a host, and what that asks for: the lightest action that makes each daemon read what it hasn't."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smtpout_core import files
from smtpout_core.change import units
from smtpout_core.change.memory import ORIGINAL
from smtpout_core.change.parts import Daemon, Part, digest
from smtpout_core.change.units import Status

DONE = {
    "start": "started",
    "reload": "reloaded",
    "restart": "restarted",
    "enable": "enabled",
    "stop": "stopped",
    "disable": "disabled",
}
UNITS = "/etc/systemd/"


@dataclass
class Step:
    """What a run has to do for one daemon; nothing if there are no changes.

    :param due: parts to be put in place.
    :param orphans: files to be put back as they were before smtpout.
    :param holds: files that keep its units from starting, to be taken away.
    :param action: start, reload or restart; None where it goes on as it is.
    :param reasons: what asks for a restart.
    :param changes: what a state shows.
    :param wanted: what the host will remember of it.
    :param gone: whether the pillar no longer wants it.
    """

    daemon: Daemon
    parts: list[Part] = field(default_factory=list)
    due: list[Part] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    action: str | None = None
    enable: bool = False
    stop: list[str] = field(default_factory=list)
    outdated: bool = False
    running: bool = False
    reasons: list[str] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)
    gone: bool = False

    @property
    def written(self) -> list[str]:
        """Return all files that are to be written, put back or removed."""
        return [*(path for part in self.due for path in part.paths), *self.orphans, *self.holds]

    @property
    def units(self) -> list[str]:
        """Return all of the daemon's units."""
        return list(self.daemon.all_units)

    def must_restart(self, reason: str) -> None:
        """Make it a restart, unless it is to be started anyway."""
        if self.action != "start" and self.daemon.units:
            self.action = "restart"
            self.reasons.append(reason)
            self.say()

    def say(self) -> None:
        """Put the actions into what is shown."""
        words = [DONE[word] for word in [self.action, *(["enable"] if self.enable else []), *self.stop] if word]
        if words:
            said = " and ".join(words)
            self.changes["service"] = f"{said} ({', '.join(self.reasons)})" if self.reasons else said
        elif self.outdated:  # a drop-in was edited, read and put back
            self.changes["service"] = "its unit files were read anew"

    def summary(self, test: bool) -> str:
        """Say in a line what was done, or would be."""
        name, count = self.daemon.name, len(self.parts)
        size = f"{count} {'file' if count == 1 else 'files'}"
        if not self.changes:
            held = f"{size} as they should be" if self.parts else ""
            runs = f"{name} runs{' with them' if self.parts else ''}" if self.daemon.units else ""
            return f"{'; '.join(filter(None, [held, runs])) or f'{name} is as it should be'}."
        would, be = ("would change", "would be ") if test else ("changed", "")
        changed = len(self.due) + len(self.orphans)
        parts = [f"{changed} of {size} {would}" if self.parts else f"{changed} files {would}"] if changed else []
        others = [key for key in self.changes if key != "service" and not key.startswith("/")]
        parts += [f"{', '.join(others)} {would}"] if others else []
        if "service" in self.changes:
            parts.append(f"{name} {be}{self.changes['service']}")
        return f"{'; '.join(parts)}."


def step(
    daemon: Daemon,
    parts: Sequence[Part],
    record: Mapping[str, Any],
    elsewhere: Iterable[str],
    now: Status | None = None,
) -> Step:
    """Compare the host, and what it remembers, with what is wanted of a daemon.

    :param parts: all of its parts, its files rendered.
    :param record: what the host remembers of it, an empty one if it never served.
    :param elsewhere: files of the other daemons that are wanted.
    :param now: how its units are; None of a daemon without any.
    """
    own = {path for part in parts for path in (part.path, *part.paths)}
    orphans = sorted(set(record.get("paths", [])) - own - set(elsewhere))
    wanted = {part.path: part.wanted for part in parts}
    read, disk = record.get("read", {}), record.get("disk", {})
    placed = {part: disk if read.get(part.path) == wanted[part.path] else {} for part in parts}
    differing = {part: change for part in parts if (change := part.difference(placed[part])) is not None}
    wanted |= {part.path: part.wanted for part in differing}  # a certificate is made by then, and wasn't before
    made = Step(
        daemon,
        parts=list(parts),
        due=list(differing),
        orphans=[path for path in orphans if os.path.lexists(path) or os.path.lexists(path + ORIGINAL)],
        holds=[path for path in daemon.held_by if os.path.lexists(path)],
        wanted=_wanted(daemon, parts, wanted),
    )
    made.changes = {part.path: change for part, change in differing.items()} | undone(made.orphans)
    for setting in daemon.settings:
        made.changes |= setting.differences()
    if now:
        _act(made, record, now)
    return made


def going(name: str, record: Mapping[str, Any], elsewhere: Collection[str] = ()) -> Step:
    """Return what has to be done for a daemon that is no longer wanted: stopped, disabled, its files as before.

    :param elsewhere: files that another daemon has now, or puts back.
    """
    daemon = Daemon(name, units=tuple(record.get("units", ())), working=record.get("working"))
    made = Step(daemon, orphans=[path for path in record.get("paths", []) if path not in elsewhere], gone=True)
    made.changes = undone(made.orphans)
    made.orphans = [path for path in made.orphans if path in made.changes]
    if daemon.units:
        now = units.status(daemon.units, daemon.working)
        made.running = now.running
        made.stop = [verb for verb, due in (("stop", now.running), ("disable", now.enabled)) if due]
        made.say()
    return made


def undone(paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Tell what putting these files back as they were before smtpout would change."""
    removed = {path: {"diff": "removed"} for path in paths if os.path.lexists(path)}
    back = {path: {"diff": "put back as it was before smtpout"} for path in paths if os.path.lexists(path + ORIGINAL)}
    return removed | back


def _wanted(daemon: Daemon, parts: Sequence[Part], wanted: Mapping[str, str]) -> dict[str, Any]:
    """Say what a daemon is to run with: what is remembered of it but for times and the digests of its files.

    :param wanted: what each part tells of itself, by its path.
    """
    return {
        "paths": [path for part in parts for path in part.paths],
        "read": {
            **wanted,
            **{path: files.digest(path) for path in daemon.reads if path not in wanted},
        },
        "restart_for": {name: digest(value) for name, value in daemon.restart_for.items()},
        "units": list(daemon.units),
        "working": daemon.working,
        "probes": [[probe.way, probe.told] for probe in daemon.probes],
        "patience": daemon.patience,
    }


def _act(made: Step, record: Mapping[str, Any], now: Status) -> None:
    """Find the lightest action that makes a daemon read what it hasn't."""
    daemon, wanted = made.daemon, made.wanted
    unread = sorted({*made.changes, *_differing(wanted["read"], record.get("read", {}))})
    heavy = {part.path for part in made.parts if part.restart} | set(made.orphans)
    made.running, made.enable = now.running, not now.enabled
    made.outdated = now.outdated or bool(made.holds) or any(path.startswith(UNITS) for path in made.written)
    if not now.running:
        made.action = "start"
    elif not record.get("read"):
        made.action, made.reasons = "restart", ["first configuration"]
    elif record.get("doubted"):
        made.action, made.reasons = "restart", ["it did not serve when it was last brought back"]
    else:
        made.reasons = [os.path.basename(path) for path in unread if path in heavy or not daemon.reloads]
        made.reasons += sorted(_differing(wanted["restart_for"], record.get("restart_for", {})))
        made.reasons += [name for setting in daemon.settings for name in setting.differences()]
        if not made.reasons and daemon.astray and (why := daemon.astray()):
            made.reasons = [why]
        made.action = "restart" if made.reasons else "reload" if unread else None
    made.reasons = list(dict.fromkeys(made.reasons)) if made.action == "restart" else []
    made.say()


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def edited_by_hand(made: Step, record: Mapping[str, Any]) -> list[str]:
    """Return the files that are about to be replaced, and differ from what was put in place last."""
    disk = record.get("disk", {})
    about = [*(part.path for part in made.due), *made.orphans]
    return [
        path
        for path in about
        if path in disk and Path(path).is_file() and not Path(path).is_symlink() and files.digest(path) != disk[path]
    ]
