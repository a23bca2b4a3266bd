"""The way back: everything is as it was before a change, and what served then serves again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from smtpout_core.change import units
from smtpout_core.change.activation import restart
from smtpout_core.change.journal import Journal
from smtpout_core.change.memory import Memory
from smtpout_core.change.parts import Ways
from smtpout_core.change.plan import Step
from smtpout_core.errors import RelayError


class Trouble(NamedTuple):
    """What went wrong on the way back.

    :param files: not all of them could be put back; the journal stays, and the next run tries again.
    :param rest: units and settings. With the files back, the next run sees to them: a daemon that doesn't serve with
        its old configuration either must not keep a better one away for ever.
    """

    files: list[str]
    rest: list[str]


def facts(number: int, changing: Sequence[Step], records: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the way back has to know of daemons and settings, as JSON has it.

    :param number: of the generation that is tried.
    :param records: what the host remembers of the daemons.
    """
    # Those that go do so in the reverse order, a partner last.
    order = [*reversed([step for step in changing if step.gone]), *(step for step in changing if not step.gone)]
    return {
        "generation": number,
        "daemons": [_daemon(step, records.get(step.daemon.name, {})) for step in order if step.daemon.units],
        "settings": [
            [setting.kind, setting.undoing()]
            for step in changing
            for setting in step.daemon.settings
            if setting.differences()
        ],
    }


def _daemon(step: Step, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": step.daemon.name,
        "units": step.units,
        "own": list(step.daemon.units),
        "working": step.daemon.working,
        "served": step.running,
        "paths": step.written,
        "probes": record.get("probes", []),
        "patience": record.get("patience", 30),
    }


class WayBack:
    """How a change is undone, by the run itself or by the next one."""

    def __init__(self, journal: Journal, memory: Memory, ways: Ways) -> None:
        self.journal = journal
        self.memory = memory
        self.ways = ways

    def taken(self, changing: Sequence[Step], began: float, untouched: str) -> list[str]:
        """Bring everything back, and say how that went; the daemons' own words first.

        :param began: when the change did; seconds since 1970.
        :param untouched: what to say if nothing was changed.
        """
        known = self.journal.begun()
        if known is None:
            self.journal.end()
            return [untouched]
        told = self.journal.told(known)
        asked = [unit for step in changing if step.daemon.name in told[-1:] for unit in step.units]
        said = _words(asked, began)
        trouble = self.go(known)
        if trouble.files or trouble.rest:
            return [*said, "What was there before could not be brought back whole:", *trouble.files, *trouble.rest]
        if not told:
            return [*said, untouched]
        return [*said, "All of it was taken back: files and daemons are as they were before."]

    def go(self, known: Mapping[str, Any]) -> Trouble:
        """Bring everything back to how it was before a change.

        :param known: as ``Journal.begun`` returns it.
        """
        told = set(self.journal.told(known))
        for name in told:
            with suppress(RelayError):  # a full disk: the way back has to be gone all the same
                self.journal.act(name)  # with its files back, nothing else would tell the next run
        rest = _gone_through(self._disabled_again(known, told))
        try:
            self.journal.put_files_back()
        except RelayError as error:
            return Trouble([f"  {line}" for line in str(error).splitlines()], rest)
        rest += _gone_through(self._settings_undone(known["settings"]))
        rest += _gone_through(self._units_back(known, told))
        if rest:
            self.memory.doubt(told)
        self.memory.drop_generation(known["generation"])
        self.journal.end()
        return Trouble([], rest)

    def _disabled_again(self, known: Mapping[str, Any], told: set[str]) -> Iterator[str]:
        """Disable what wasn't enabled, while the unit files that say how are still there."""
        now = units.each(list(known["units"])) if told else {}
        for unit, state in now.items():
            if state["enabled"] and known["units"][unit]["enabled"] is False:
                yield from _tried_to(partial(units.act, "disable", [unit]))

    def _settings_undone(self, settings: Iterable[Sequence[Any]]) -> Iterator[str]:
        for kind, data in settings:
            yield from _tried_to(partial(self.ways.undo[kind], data))

    def _units_back(self, known: Mapping[str, Any], told: set[str]) -> Iterator[str]:
        """Bring units back: a daemon that served before serves again, its partners before it; then others stop."""
        if not told:
            return
        units.act("daemon-reload")
        now = units.each(list(known["units"]))
        for unit, state in known["units"].items():
            if state["enabled"] and (not now[unit]["enabled"] or units.half_disabled(unit)):
                yield from _tried_to(partial(units.act, "enable", [unit]))
        daemons = [daemon for daemon in known["daemons"] if daemon["name"] in told]
        for daemon in [daemon for daemon in daemons if daemon["served"]]:
            yield from _tried_to(partial(self._served_again, daemon))
        for daemon in [daemon for daemon in reversed(daemons) if not daemon["served"]]:
            yield from _tried_to(partial(units.act, "stop", daemon["own"]))

    def _served_again(self, daemon: Mapping[str, Any]) -> None:
        try:
            restart(daemon["own"], daemon["working"])
            probe = self.ways.probe(daemon["probes"])
            units.wait_until_serving(daemon["own"], daemon["working"], probe, daemon["patience"])
        except RelayError as error:
            raise RelayError(f"{daemon['name']} does not serve with its old configuration either: {error}") from error


def _words(asked: Sequence[str], since: float) -> list[str]:
    """Return what units have written, as far as that can be had: nothing may keep the way back waiting."""
    words = ""
    with suppress(RelayError):
        words = units.journal(asked, since=since) if asked else ""
    return ["Its log:", *(f"  {line}" for line in words.splitlines())] if words else []


def _gone_through(trouble: Iterator[str]) -> list[str]:
    """Do all of it, up to an error that ends it and is one more trouble."""
    found: list[str] = []
    try:
        found.extend(trouble)
    except RelayError as error:
        found.append(f"  {error}")
    return found


def _tried_to(act: Callable[[], None]) -> Iterator[str]:
    try:
        act()
    except RelayError as error:
        yield f"  {error}"
