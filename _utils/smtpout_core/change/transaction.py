"""A host changes as one whole, or not at all.

Everything that is wanted is made aside and checked before the first live file is touched. Then each daemon in turn gets
its files and reads them, a partner before the one that is told of it; at the end the whole proves itself. If anything
fails on the way, all of it goes back. How everything was is written down before (``journal``), so a run that is killed,
at any instruction, is undone by the next one, and by a unit at boot.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any

from smtpout_core import files
from smtpout_core.change import plan, units
from smtpout_core.change.journal import UNIT_PATH, Journal
from smtpout_core.change.memory import ORIGINAL, Memory
from smtpout_core.change.parts import Content, Daemon, digest
from smtpout_core.change.plan import Step
from smtpout_core.change.staging import Stage, staged
from smtpout_core.change.templates import Templates
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.host import Host

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ways:
    """What the transaction is told of the daemons' world, by name.

    :param probes: how a daemon is asked whether it serves; raises RelayError as long as it doesn't.
    :param undo: how a setting is taken back, given what its ``undoing`` returned.
    :param labelled: gives files that were put in place the label that the host's policy has for them.
    """

    probes: Mapping[str, Callable[..., object]]
    undo: Mapping[str, Callable[[dict[str, Any]], None]]
    labelled: Callable[[Sequence[str]], None] = lambda _paths: None


@dataclass(frozen=True)
class Wanted:
    """A whole that is wanted.

    :param daemons: in the order of activation: a partner before the one that is told of it.
    :param agreements: what two daemons' files have to agree on: complaints, given where each file lies aside.
    :param proof: what the running whole fails to do, by name with a sentence each; asked before and after.
    :param private: files that no generation keeps a copy of.
    :param cause: who asked for it, and how.
    """

    daemons: Sequence[Daemon]
    agreements: Callable[[Mapping[str, str]], Sequence[str]] = lambda _where: ()
    proof: Callable[[], Mapping[str, str]] = dict
    private: frozenset[str] = frozenset()
    cause: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a change did, or would do.

    :param steps: by the daemon's name.
    :param generation: the number of the whole that runs now.
    :param before: the number of the one before; the same where nothing changed.
    :param notes: what a person should know though nothing failed.
    """

    steps: dict[str, Step]
    generation: int
    before: int
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> list[Step]:
        """Return the daemons of which something changed."""
        return [step for step in self.steps.values() if step.changes]


class Transaction:
    """What changes a host."""

    def __init__(self, host: Host, ways: Ways, unit_path: str = UNIT_PATH) -> None:
        self.host = host
        self.ways = ways
        self.memory = Memory(host.state_dir)
        self.journal = Journal(host.state_dir, unit_path)

    # --- what an earlier run has left -------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Undo what a run that was cut short has left; say what was done, nothing where there was nothing.

        :raises RelayError: it can't be undone, or another run is at work.
        """
        if self.host.test:
            begun = self.journal.begun()
            return ["A run was cut short; the apply would put back what was there before it."] if begun else []
        if not self.journal.folder.exists():
            return []
        with self._alone():
            return self._recovered()

    def _recovered(self) -> list[str]:
        facts = self.journal.begun()
        if facts is None or facts["generation"] == self.memory.whole()["generation"]:
            self.journal.end()
            return []
        trouble = self._go_back(facts)
        if trouble:
            raise RelayError("\n".join(["A run was cut short, and what was there before it could not be brought back:",
                                        *trouble]))  # fmt: skip
        return ["A run was cut short; what was there before it serves again."]

    # --- a change ---------------------------------------------------------------------------------------------------

    def bring(self, wanted: Wanted, templates: Templates) -> Outcome:
        """Have the host's daemons run with what is wanted, or with what they had.

        In test mode everything is compared and checked, and nothing is written.

        :raises RelayError: what is wrong; and whether anything was changed, and how the way back went.
        """
        with self._alone():
            notes = [] if self.host.test else self._recovered()
            whole = self.memory.whole()
            steps = self._planned(wanted.daemons, whole, templates)
            outcome = Outcome({step.daemon.name: step for step in steps}, whole["generation"], whole["generation"])
            outcome.notes += notes
            if not outcome.changed:
                self._untouched(whole, wanted, outcome)
                return outcome
            try:
                with staged([part for step in steps for part in step.parts], self.host) as stage:
                    proven = self._checked(wanted, steps, stage, whole, outcome)
                    if not self.host.test:
                        self._change(wanted, steps, stage.contents, whole, proven, outcome)
            except _Refused as error:
                raise RelayError(str(error)) from error
            return outcome

    def unmake(self, before: Callable[[], None] = lambda: None) -> Outcome:
        """Have nothing of what smtpout made on the host: daemons stopped and disabled, files as they were before.

        :param before: the last word before a daemon is stopped; raises RelayError where it may not be.
        """
        with self._alone():
            notes = [] if self.host.test else self._recovered()
            whole = self.memory.whole()
            names = reversed(whole["daemons"])
            steps = [plan.going(name, whole["daemons"][name]) for name in names]
            outcome = Outcome({step.daemon.name: step for step in steps}, 0, whole["generation"], notes)
            if not self.host.test:
                if outcome.changed:
                    self._change(Wanted([]), steps, {}, whole, {}, outcome, before)
                self.journal.remove_unit()
                self.memory.forget()
            return outcome

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock, and let nothing of the caller's shell into what is made."""
        umask = os.umask(0o022)
        try:
            with self.memory.locked(self.host.test):
                yield
        finally:
            os.umask(umask)

    def _planned(self, daemons: Sequence[Daemon], whole: Mapping[str, Any], templates: Templates) -> list[Step]:
        parts = {daemon.name: [*map(templates.rendered, daemon.files), *daemon.parts] for daemon in daemons}
        every = {path for of_one in parts.values() for part in of_one for path in part.paths}
        records = whole["daemons"]
        steps = [plan.step(daemon, parts[daemon.name], records.get(daemon.name, {}), every) for daemon in daemons]
        acted = {step.daemon.name for step in steps if step.action}
        for step in steps:
            for other in step.daemon.follows:
                if other in acted:
                    step.must_restart(f"{other} was activated")
                    acted.add(step.daemon.name)
        return steps + [plan.going(name, records[name]) for name in reversed(records) if name not in parts]

    def _untouched(self, whole: Mapping[str, Any], wanted: Wanted, outcome: Outcome) -> None:
        """Write down what is now known though nothing changed: a record that was lost, say."""
        if not self.host.test and {step.daemon.name for step in outcome.steps.values()} != set(whole["daemons"]):
            self._remember(whole, list(outcome.steps.values()), {}, whole["proven"], whole["generation"])
        log.debug("nothing of %s changed", [daemon.name for daemon in wanted.daemons])

    # --- before anything is touched ---------------------------------------------------------------------------------

    def _checked(
        self, wanted: Wanted, steps: Sequence[Step], stage: Stage, whole: Mapping[str, Any], outcome: Outcome
    ) -> dict[str, str]:
        """Have each daemon's parser read its files aside, compare what they agree on, try what they need."""
        complaints = [f"  {line}" for line in self._complaints(wanted, steps, stage, outcome)]
        proven, failed = self._tried(steps, whole, outcome)
        lines = [*complaints, *failed]
        if lines:
            raise _Refused("\n".join(["The new configuration is refused; nothing was changed:", *lines]))
        self._note_start(steps, stage)
        return proven

    def _complaints(self, wanted: Wanted, steps: Sequence[Step], stage: Stage, outcome: Outcome) -> Iterator[str]:
        checked = True
        for step in steps:
            if not (step.daemon.check and step.changes):
                continue
            try:
                for line in step.daemon.check(stage.where, self.host):
                    yield f"{step.daemon.name}: {stage.without_place(line)}"
            except NotInstalledError as error:
                if not self.host.test:
                    raise
                checked = False  # a state before this one installs it
                outcome.notes.append(f"{step.daemon.name}'s configuration was not checked: {error}.")
            except RelayError as error:
                yield f"{step.daemon.name}: {stage.without_place(str(error))}"
        if checked:
            yield from map(stage.without_place, wanted.agreements(stage.where))

    def _tried(
        self, steps: Sequence[Step], whole: Mapping[str, Any], outcome: Outcome
    ) -> tuple[dict[str, str], list[str]]:
        """Try what has to work for the daemons; return what is proven now, and what newly fails."""
        proven: dict[str, str] = {}
        failed = []
        for trial in {trial.name: trial for step in steps for trial in step.daemon.trials}.values():
            about = digest(trial.about)
            known = whole["proven"].get(trial.name) == about
            try:
                trial.ask()
            except NotInstalledError as error:
                if not self.host.test:
                    raise
                outcome.notes.append(f"Not tried: {trial.name}: {error}.")
            except RelayError as error:
                if not known:
                    failed += [f"  {trial.name}: {line}" for line in str(error).splitlines()]
                    continue
                outcome.notes.append(f"Has worked, and fails by itself since: {trial.name}: {error}")
                proven[trial.name] = about
            else:
                proven[trial.name] = about
        return proven, failed

    def _note_start(self, steps: Sequence[Step], stage: Stage) -> None:
        """See which daemon has to start anew for what it reads at its start alone."""
        for step in steps:
            main, ask = step.daemon.main, step.daemon.started_with
            if not (ask and main in stage.where):
                continue
            new = ask(os.path.dirname(stage.where[main]))
            new = {name: stage.without_place(value) for name, value in new.items()}
            step.wanted["started_with"] = new
            if step.action == "reload":
                now = ask(os.path.dirname(main)) if os.path.exists(main) else {}
                for name in sorted(name for name in new if now.get(name) != new[name]):
                    step.must_restart(name)

    # --- the change -------------------------------------------------------------------------------------------------

    def _change(
        self,
        wanted: Wanted,
        steps: Sequence[Step],
        contents: Mapping[str, Content],
        whole: Mapping[str, Any],
        proven: Mapping[str, str],
        outcome: Outcome,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Put everything in place and have the daemons serve with it; else bring back what was there."""
        changing = [step for step in steps if step.changes]
        broken = dict(wanted.proof()) if whole["daemons"] else {}
        number = int(whole["generation"]) + 1 if wanted.daemons else 0
        facts = self._facts(number, changing, whole)
        began = time.time()
        self.journal.begin(facts, self._all_paths(changing), units.each(_all_units(steps)))
        try:
            before()
            self._keep_edits(changing, whole, outcome)
            self.memory.keep_originals(path for step in changing for part in step.due for path in part.paths)
            asides = self._written_aside(changing, contents)
            for step in changing:
                self._activate(step, asides)
            if wanted.daemons:
                self._prove(wanted, broken, outcome)
            gone = [path for step in changing for path in step.orphans]
            self.memory.forget_originals(gone)
            self._remember(whole, steps, contents, proven, number)
        except BaseException as error:  # whatever it is, what was there has to come back
            said = str(error) if isinstance(error, RelayError) else f"{type(error).__name__}: {error}"
            back = self._taken_back(facts, changing, began)
            raise RelayError("\n".join([said, *back])) from error
        outcome.generation = number
        if wanted.daemons:
            self._keep_generation(wanted, changing, steps, contents, number)
        self.journal.end()

    def _facts(self, number: int, changing: Sequence[Step], whole: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the way back has to know of the daemons and their settings."""
        records = whole["daemons"]
        return {
            "generation": number,
            "daemons": [
                {
                    "name": step.daemon.name,
                    "units": step.units,
                    "own": list(step.daemon.units),
                    "working": step.daemon.working,
                    "served": step.running,
                    "probes": records.get(step.daemon.name, {}).get("probes", []),
                    "patience": records.get(step.daemon.name, {}).get("patience", 30),
                }
                for step in changing
                if step.daemon.units
            ],
            "settings": [
                [setting.kind, setting.undoing()]
                for step in changing
                for setting in step.daemon.settings
                if setting.differences()
            ],
        }

    def _all_paths(self, changing: Sequence[Step]) -> list[str]:
        """Return every file that a change may touch: smtpout's own memory of what was there before is one of them."""
        memory = str(self.memory.folder / "originals.json")
        return list(dict.fromkeys([memory, *(path for step in changing for path in step.written)]))

    def _keep_edits(self, changing: Sequence[Step], whole: Mapping[str, Any], outcome: Outcome) -> None:
        """Keep what was changed by hand and is about to be put back."""
        when = time.strftime("%Y%m%dT%H%M%S")
        for step in changing:
            for path in plan.edited_by_hand(step, whole["daemons"].get(step.daemon.name, {})):
                place = self.memory.keep_edited(path, when)
                outcome.notes.append(f"{path} was changed by hand; it was put back, and what it held is in {place}.")

    def _written_aside(self, changing: Sequence[Step], contents: Mapping[str, Content]) -> dict[str, str]:
        """Write all new files beside their places: a full disk or a missing owner is found before any is swapped."""
        asides = {}
        for step in changing:
            for path in [path for part in step.due for path in part.paths if path in contents]:
                content = contents[path]
                try:
                    numbers = files.ids(content.user, content.group)
                    asides[path] = files.aside(path, content.data, content.mode, *numbers)
                except RelayError as error:
                    raise RelayError(f"{path}: {error}") from error
                except OSError as error:
                    raise RelayError(f"{path}: {error.strerror}") from error
        return asides

    def _activate(self, step: Step, asides: Mapping[str, str]) -> None:
        """Put one daemon's files in place, and have it serve with them."""
        self.journal.tell(step.daemon.name)
        for verb in step.stop:
            units.act(verb, step.daemon.units)
        self._swap(step, asides)
        for setting in step.daemon.settings:
            setting.bring()
        if step.outdated or (step.units and any(path.startswith(plan.UNITS) for path in step.written)):
            units.act("daemon-reload")
        if step.enable:
            units.act("enable", step.daemon.units)
        if step.action:
            try:
                self._act(step)
            except RelayError as error:
                raise RelayError(f"{step.daemon.name} does not serve with its new configuration: {error}") from error

    def _swap(self, step: Step, asides: Mapping[str, str]) -> None:
        paths = [path for part in step.due for path in part.paths if path in asides]
        try:
            for path in paths:
                os.rename(asides[path], path)
            for path in step.orphans:
                _put_back(path)
            for path in step.holds:
                os.unlink(path)
            for folder in {os.path.dirname(path) for path in step.written}:
                if os.path.isdir(folder):
                    files.sync(folder)
        except OSError as error:
            raise RelayError(f"{error.filename2 or error.filename}: {error.strerror}") from error
        self.ways.labelled(paths)

    def _act(self, step: Step) -> None:
        daemon, began = step.daemon, time.time()

        def probe() -> None:
            for each in daemon.probes:
                self.ways.probes[each.way](**each.told)

        if step.action == "reload":
            units.act("reload", [daemon.working] if daemon.working else daemon.units)
            units.wait_until_serving(daemon.units, daemon.working, probe, daemon.patience)
            said = units.journal(step.units, since=began, lines=200) if daemon.ignored else ""
            ignored = daemon.ignored.search(said) if daemon.ignored else None
            if not ignored:
                return
            step.must_restart(ignored[0].strip())
        _restart(daemon.units, daemon.working)
        units.wait_until_serving(daemon.units, daemon.working, probe, daemon.patience)

    def _prove(self, wanted: Wanted, broken: Mapping[str, str], outcome: Outcome) -> None:
        """Have the running whole show that it does what it should; what failed before as well is told."""
        failing = wanted.proof()
        new = [f"  {name}: {sentence}" for name, sentence in failing.items() if name not in broken]
        if new:
            raise RelayError("\n".join(["The new whole does not do what it should:", *new]))
        outcome.notes += [f"As before this change: {name}: {sentence}" for name, sentence in failing.items()]

    # --- the way back -----------------------------------------------------------------------------------------------

    def _taken_back(self, facts: Mapping[str, Any], changing: Sequence[Step], began: float) -> list[str]:
        """Bring everything back, and say how that went; the daemons' own words first."""
        told = self.journal.told()
        asked = [unit for step in changing if step.daemon.name in told[-1:] for unit in step.units]
        words = units.journal(asked, since=began) if asked else ""
        said = ["Its log:", *(f"  {line}" for line in words.splitlines())] if words else []
        trouble = self._go_back(facts)
        if trouble:
            return [*said, "What was there before could not be brought back whole:", *trouble]
        if not told:
            return [*said, "Nothing was changed."]
        return [*said, "All of it was taken back: files and daemons are as they were before."]

    def _go_back(self, facts: Mapping[str, Any]) -> list[str]:
        """Bring everything back to how it was before a change; return what is in the way of that."""
        told = set(self.journal.told())
        trouble = list(self._disabled_again(facts, told))
        try:
            self.journal.put_files_back()
        except RelayError as error:  # the journal stays: the next run tries again
            return [*trouble, *(f"  {line}" for line in str(error).splitlines())]
        trouble += self._settings_undone(facts["settings"])
        trouble += self._units_back(facts, told)
        if not trouble:
            self.journal.end()
        return trouble

    def _disabled_again(self, facts: Mapping[str, Any], told: set[str]) -> Iterator[str]:
        """Disable what wasn't enabled, while the unit files that say how are still there."""
        now = units.each(list(facts["units"])) if told else {}
        for unit, state in now.items():
            if state["enabled"] and facts["units"][unit]["enabled"] is False:
                yield from _tried_to(partial(units.act, "disable", [unit]))

    def _settings_undone(self, settings: Iterable[Sequence[Any]]) -> Iterator[str]:
        for kind, data in settings:
            try:
                self.ways.undo[kind](data)
            except RelayError as error:
                yield f"  {error}"

    def _units_back(self, facts: Mapping[str, Any], told: set[str]) -> Iterator[str]:
        """Bring units back; a daemon that served before serves again, and its partners come before it."""
        if not told:
            return
        units.act("daemon-reload")
        now = units.each(list(facts["units"]))
        for unit, state in facts["units"].items():
            if state["enabled"] and not now[unit]["enabled"]:
                yield from _tried_to(partial(units.act, "enable", [unit]))
        for daemon in facts["daemons"]:
            if daemon["name"] in told:
                yield from _tried_to(partial(self._as_before, daemon))

    def _as_before(self, daemon: Mapping[str, Any]) -> None:
        if not daemon["served"]:
            units.act("stop", daemon["own"])
            return
        # A daemon that has failed a few times in a row is not started again before its counter is reset.
        units.act("reset-failed", daemon["units"])
        _restart(daemon["own"], daemon["working"])

        def probe() -> None:
            for way, asked in daemon["probes"]:
                self.ways.probes[way](**asked)

        try:
            units.wait_until_serving(daemon["own"], daemon["working"], probe, daemon["patience"])
        except RelayError as error:
            raise RelayError(f"{daemon['name']} does not serve with its old configuration either: {error}") from error

    # --- what is remembered -----------------------------------------------------------------------------------------

    def _remember(
        self,
        whole: Mapping[str, Any],
        steps: Sequence[Step],
        contents: Mapping[str, Content],
        proven: Mapping[str, str],
        number: int,
    ) -> None:
        """Write down what the daemons run with; that is the moment from which the new whole counts."""
        daemons = {}
        for step in [step for step in steps if not step.gone]:
            before = whole["daemons"].get(step.daemon.name, {})
            record = {**before, **step.wanted}
            record["disk"] = {
                path: files.digest(path)
                if path in contents or path not in before.get("disk", {})
                else before["disk"][path]
                for path in step.wanted["paths"]
            }
            if step.action or "activated" not in before:
                record["activated"] = datetime.now(timezone.utc).isoformat()
            daemons[step.daemon.name] = record
        self.memory.remember({"generation": number, "daemons": daemons, "proven": dict(proven)})

    def _keep_generation(
        self,
        wanted: Wanted,
        changing: Sequence[Step],
        steps: Sequence[Step],
        contents: Mapping[str, Content],
        number: int,
    ) -> None:
        digests = {path: digest(content.data.hex()) for path, content in sorted(contents.items())}
        generation = {
            "number": number,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "cause": dict(wanted.cause),
            "changed": {step.daemon.name: sorted(step.changes) for step in changing},
            "daemons": [step.daemon.name for step in steps if not step.gone],
            "files": digests,
            "digest": digest(digests),
        }
        kept = {path: content for path, content in contents.items() if path not in wanted.private}
        self.memory.keep_generation(generation, kept)


class _Refused(RelayError):
    """What is refused before anything is touched."""


def _restart(own: Sequence[str], working: str | None) -> None:
    """Restart a daemon, which starts one that is stopped, too; one behind a dummy unit as well."""
    before = units.status(own, working).life
    units.act("restart", own)
    if working and units.status(own, working).life == before:
        units.act("restart", [working])


def _put_back(path: str) -> None:
    if os.path.lexists(path + ORIGINAL):
        os.rename(path + ORIGINAL, path)
    elif os.path.lexists(path):
        os.unlink(path)


def _all_units(steps: Sequence[Step]) -> list[str]:
    return list(dict.fromkeys(unit for step in steps for unit in step.units))


def _tried_to(act: Callable[[], None]) -> Iterator[str]:
    try:
        act()
    except RelayError as error:
        yield f"  {error}"
