"""One daemon gets its files, its settings and its units, and serves with them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from smtpout_core import files
from smtpout_core.change import plan, units
from smtpout_core.change.memory import ORIGINAL
from smtpout_core.change.parts import Content, Ways
from smtpout_core.change.plan import Step
from smtpout_core.errors import RelayError, os_errors_told

FOLLOWED = 5
"""Seconds within which a daemon has to do what a reload tells it; a restart comes then."""


def written_aside(changing: Iterable[Step], contents: Mapping[str, Content]) -> dict[str, str]:
    """Write all new files beside their places: a full disk or a missing owner is found before any is swapped.

    :return: where each lies, by its path.
    """
    asides = {}
    for step in changing:
        for path in _new(step, contents):
            content = contents[path]
            try:
                files.replaceable(path)
                asides[path] = files.aside(
                    path, content.data, content.mode, *files.ids(content.user, content.group)
                )  # fmt: skip
            except RelayError as error:
                raise RelayError(f"{path}: {error}") from error
            except OSError as error:
                raise RelayError(f"{path}: {error.strerror}") from error
    return asides


def activate(step: Step, asides: Mapping[str, str], ways: Ways, acting: Callable[[], None]) -> None:
    """Put one daemon's files in place, and have it serve with them.

    :param asides: where the new files lie, by path.
    :param acting: is told before anything but files is touched.
    :raises RelayError: why it doesn't.
    """
    if step.stop:
        acting()
    for verb in step.stop:
        units.act(verb, step.daemon.units)
    _swap(step, asides)
    acting()
    ways.labelled(_new(step, asides))
    for setting in step.daemon.settings:
        setting.bring()
    if step.outdated or (step.units and any(path.startswith(plan.UNITS) for path in step.written)):
        units.act("daemon-reload")
    if step.enable:
        units.act("enable", step.daemon.units)
    if step.action:
        try:
            _act(step, ways)
        except RelayError as error:
            raise RelayError(f"{step.daemon.name} does not serve with its new configuration: {error}") from error


def restart(own: Sequence[str], working: str | None) -> None:
    """Restart a daemon, which starts one that is stopped, too; one behind a dummy unit as well."""
    before = units.status(own, working).life
    # One that has died too often isn't started again before its counter is reset.
    with suppress(RelayError):  # systemd has forgotten a unit: there is no counter
        units.act("reset-failed", [*own, *([working] if working else [])])
    units.act("restart", own)
    if working and units.status(own, working).life == before:
        units.act("restart", [working])


def _new(step: Step, made: Mapping[str, object]) -> list[str]:
    return [path for part in step.due for path in part.paths if path in made]


def _swap(step: Step, asides: Mapping[str, str]) -> None:
    with os_errors_told():
        for path in _new(step, asides):
            os.rename(asides[path], path)
        for path in step.orphans:
            _put_back(path)
        for path in step.holds:
            os.unlink(path)
        for folder in {os.path.dirname(path) for path in step.written}:
            if os.path.isdir(folder):
                files.sync(folder)


def _put_back(path: str) -> None:
    if os.path.lexists(path + ORIGINAL):
        os.rename(path + ORIGINAL, path)
    elif os.path.lexists(path):
        os.unlink(path)


def _act(step: Step, ways: Ways) -> None:
    daemon, began = step.daemon, time.time()
    probe = ways.probe(daemon.probes)
    if step.action == "reload":
        try:
            units.act("reload", [daemon.working] if daemon.working else daemon.units)
            units.wait_until_serving(daemon.units, daemon.working, probe, min(daemon.patience, FOLLOWED))
            said = units.journal(step.units, since=began, lines=200) if daemon.ignored else ""
            ignored = daemon.ignored.search(said) if daemon.ignored else None
            if not ignored:
                return
            step.must_restart(ignored[0].strip())
        except RelayError as error:
            step.must_restart(f"a reload brought it nowhere: {error}")
    restart(daemon.units, daemon.working)
    units.wait_until_serving(daemon.units, daemon.working, probe, daemon.patience)
