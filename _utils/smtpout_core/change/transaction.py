"""A host changes as one whole, or not at all.

Everything that is wanted is made aside and checked before the first live file is touched. Then each daemon in turn gets
its files and reads them, a partner before the one that is told of it; at the end the whole proves itself. If anything
fails on the way, all of it goes back. How everything was is written down before (``journal``), so a run that is killed,
at any instruction, is undone by the next one, and by a unit at boot.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any

from smtpout_core import files
from smtpout_core.change import activation, checking, edits, history, plan, units, wayback
from smtpout_core.change.edits import Edit
from smtpout_core.change.journal import UNIT_PATH, Journal
from smtpout_core.change.memory import Memory
from smtpout_core.change.parts import Content, Promised, Wanted, Ways, digest
from smtpout_core.change.plan import Step
from smtpout_core.change.staging import Stage, staged, swept
from smtpout_core.change.templates import Templates
from smtpout_core.errors import RelayError
from smtpout_core.host import Host

NOTHING: Mapping[str, bytes] = {}

__all__ = ["Outcome", "Transaction", "Wanted", "Ways"]


@dataclass
class Outcome:
    """What a change did, or would do.

    :param steps: by the daemon's name.
    :param generation: the number of the whole that runs now.
    :param before: the number of the one before; the same where nothing changed.
    :param edits: what was changed by hand, and doesn't stay.
    :param notes: what a person should know though nothing failed.
    """

    steps: dict[str, Step]
    generation: int
    before: int
    kept: int = 0
    edits: list[Edit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> list[Step]:
        """Return the daemons of which something changed."""
        return [step for step in self.steps.values() if step.changes]


class Transaction:
    """What changes a host."""

    def __init__(self, host: Host, ways: Ways, unit_path: str = UNIT_PATH, brought: Sequence[str] = ()) -> None:
        """Begin with nothing changed, but for what the run has ``brought`` before, each a short sentence."""
        self.host = host
        self.ways = ways
        self.memory = Memory(host.state_dir)
        self.journal = Journal(host.state_dir, unit_path)
        self.back = wayback.WayBack(self.journal, self.memory, ways)
        before = ", ".join(brought)
        self.untouched = (
            f"{before[0].upper()}{before[1:]}; nothing else was changed." if before else "Nothing was changed."
        )

    # --- what an earlier run has left -------------------------------------------------------------------------------

    def recover(self) -> list[str]:
        """Undo what a run that was cut short has left; say what was done, nothing where there was nothing.

        :raises RelayError: it can't be undone, or another run is at work.
        """
        if not self.journal.folder.exists():
            return []
        with self._alone():
            return self._recovered()

    def _recovered(self) -> list[str]:
        facts = self.journal.begun()
        found = edits.since_cut_short(facts, self.journal, self.memory) if facts else []
        if self.host.test:
            said = "A run was cut short; the apply would first put back what was there before it."
            return [said, *self._foretold(found)] if facts else []
        swept(self.host)
        if facts is None:
            if self.journal.folder.exists():
                self.journal.end()
            return []
        self.untouched = "Nothing else was changed."
        notes = self._told(found, str)
        trouble = self.back.go(facts)
        if trouble.files:
            raise RelayError("\n".join(["A run was cut short, and what was there before it could not be brought back:",
                                        *trouble.files, *trouble.rest]))  # fmt: skip
        if trouble.rest:
            return ["A run was cut short; the files that were there before it are back, but:", *trouble.rest, *notes]
        return ["A run was cut short; what was there before it serves again.", *notes]

    # --- a change ---------------------------------------------------------------------------------------------------

    def bring(self, wanted: Wanted, templates: Templates) -> Outcome:
        """Have the host's daemons run with what is wanted, or with what they had.

        In test mode everything is compared and checked, and nothing is written.

        :raises RelayError: what is wrong; and whether anything was changed, and how the way back went.
        """
        with self._alone(), self._first_told() as notes:
            whole = self.memory.whole()
            with self._untouched_told():
                steps = self._planned(wanted, whole["daemons"], templates)
            number = whole["generation"]
            outcome = self._outcome(steps, whole, number, notes)
            if not outcome.changed and whole["terms"] == wanted.terms:
                if not self.host.test:  # a record was lost, say
                    self._remember(whole, steps, {}, whole, number)
                return outcome
            with ExitStack() as stack:
                with self._untouched_told():
                    parts = [part for step in steps for part in step.parts]
                    stage = stack.enter_context(staged(parts, self.host))
                known = self._checked(wanted, outcome, stage, whole)
                if outcome.changed and not self.host.test:
                    self._change(wanted, outcome, stage.contents, whole, known)
                elif not self.host.test:
                    self._remember(whole, steps, {}, known, number)
            return outcome

    def unmake(self, before: Callable[[], None] = lambda: None, passing: Mapping[str, bytes] = NOTHING) -> Outcome:
        """Have nothing of what smtpout made on the host: daemons stopped and disabled, files as they were before.

        :param before: has the first daemon that goes finish its work, and may stop it; raises RelayError where that
            can't be.
        :param passing: what ``before`` has files hold meanwhile, by path.
        """
        with self._alone(), self._first_told() as notes:
            whole = self.memory.whole()
            steps = self._going(whole["daemons"], [*whole["daemons"]], set())
            outcome = self._outcome(steps, whole, 0, notes)
            if not self.host.test:
                if outcome.changed:
                    self._change(Wanted([]), outcome, {}, whole, whole, before, passing)
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

    @contextmanager
    def _first_told(self) -> Iterator[list[str]]:
        """Undo what a run that was cut short has left, and say so, whatever comes after it."""
        notes = self._recovered()
        told = list(notes)
        try:
            yield notes
        except RelayError as error:
            if not told:
                raise
            raise type(error)("\n".join([*told, str(error)])) from error

    def _outcome(self, steps: Sequence[Step], whole: Mapping[str, Any], number: int, notes: list[str]) -> Outcome:
        """Return what a change is about to do; in test mode its notes tell what would be kept of hand edits."""
        outcome = Outcome({step.daemon.name: step for step in steps}, number, whole["generation"], notes=notes)
        outcome.edits = edits.found(outcome.changed, whole, self.memory)
        if self.host.test:
            notes += self._foretold(outcome.edits)
        return outcome

    @contextmanager
    def _untouched_told(self) -> Iterator[None]:
        """Say of what fails that nothing was changed."""
        try:
            yield
        except RelayError as error:
            raise type(error)(f"{error}\n{self.untouched}") from error

    def _planned(self, wanted: Wanted, records: Mapping[str, Any], templates: Templates) -> list[Step]:
        # A map is put in place before the main.cf that names it.
        parts = {daemon.name: [*daemon.parts, *map(templates.rendered, daemon.files)] for daemon in wanted.daemons}
        taken = {path for of_one in parts.values() for part in of_one for path in part.paths}
        served = [daemon for daemon in wanted.daemons if daemon.units]
        found = units.statuses([(daemon.units, daemon.working) for daemon in served])
        now = {daemon.name: status for daemon, status in zip(served, found, strict=True)}
        steps = []
        for daemon in wanted.daemons:
            record = records.get(daemon.name, {})
            steps.append(plan.step(daemon, parts[daemon.name], record, taken, now.get(daemon.name)))
            taken.update(steps[-1].orphans)
        acted = {step.daemon.name for step in steps if step.action}
        for step in steps:
            for other in step.daemon.follows:
                if other in acted:
                    step.must_restart(f"{other} was activated")
                    acted.add(step.daemon.name)
        return steps + self._going(records, [name for name in records if name not in parts], taken)

    def _going(self, records: Mapping[str, Any], names: Sequence[str], taken: set[str]) -> list[Step]:
        """Return the steps of daemons that aren't wanted: a partner is stopped after the one that was told of it."""
        steps = []
        for name in reversed(names):
            steps.append(plan.going(name, records[name], taken))
            taken.update(steps[-1].orphans)
        return steps

    def _checked(self, wanted: Wanted, outcome: Outcome, stage: Stage, whole: Mapping[str, Any]) -> dict[str, Any]:
        """Have all of it checked before anything is touched.

        :return: what is ``proven`` to work, and what is ``promised`` by what ``terms``.
        """
        steps = list(outcome.steps.values())
        complaints = list(checking.complaints(steps, stage, whole["daemons"], self.host, outcome.notes))
        proven, failed = checking.tried(steps, whole["proven"], self.host, outcome.notes)
        trial = Promised()
        if not (complaints or failed):
            complaints, trial = checking.broken_promises(wanted, stage, whole, outcome.notes)
            outcome.kept = trial.kept
        if complaints or failed:
            said = f"The new configuration is refused; {self.untouched[0].lower()}{self.untouched[1:-1]}:"
            raise RelayError("\n  ".join([said, *complaints, *failed]))
        checking.note_starts(steps, whole["daemons"], stage, self.host)
        terms = whole["terms"] if trial.trial else wanted.terms  # where nobody could be asked, they are still to be
        return {"proven": proven, "promised": checking.promised(trial, whole["promised"]), "terms": terms}

    def _change(
        self,
        wanted: Wanted,
        outcome: Outcome,
        contents: Mapping[str, Content],
        whole: Mapping[str, Any],
        known: Mapping[str, Any],
        before: Callable[[], None] = lambda: None,
        passing: Mapping[str, bytes] = NOTHING,
    ) -> None:
        """Put everything in place and have the daemons serve with it; else bring back what was there."""
        changing, steps = outcome.changed, list(outcome.steps.values())
        broken = wanted.proof() if whole["daemons"] else {}
        number = self.memory.next_number() if wanted.daemons else 0
        began = time.time()
        try:
            self._begin(number, steps, contents, whole["daemons"], passing)
            self.memory.keep_originals(path for step in changing for part in step.due for path in part.paths)
            if not wanted.daemons:
                self.journal.tell(changing[0].daemon.name)
                self.journal.act(changing[0].daemon.name)
                before()
            asides = activation.written_aside(changing, contents)
            for step in changing:
                self.journal.tell(step.daemon.name)
                activation.activate(step, asides, self.ways, partial(self.journal.act, step.daemon.name))
            if wanted.daemons:
                self._prove(wanted, broken, outcome)
            self._remember(whole, steps, contents, known, number)
            if wanted.daemons:
                self._keep_generation(wanted, outcome, contents, number)
            # At the end: where all of it is taken back, they are live again.
            outcome.notes += self._told(outcome.edits, self.journal.kept)
        except BaseException as error:  # whatever it is, what was there has to come back
            said = str(error) if isinstance(error, RelayError) else f"{type(error).__name__}: {error}"
            raise RelayError("\n".join([said, *self.back.taken(changing, began, self.untouched)])) from error
        self.journal.end()
        outcome.generation = number

    def _begin(
        self,
        number: int,
        steps: Sequence[Step],
        contents: Mapping[str, Content],
        records: Mapping[str, Any],
        passing: Mapping[str, bytes],
    ) -> None:
        """Write down how everything is."""
        changing = [step for step in steps if step.changes]
        written = [path for step in changing for path in step.written]
        new = {path: _sha256(contents[path]) if path in contents else None for path in written}
        passed = {path: hashlib.sha256(data).hexdigest() for path, data in passing.items()}
        known = {**wayback.facts(number, changing, records), "new": new, "passing": passed}
        paths = dict.fromkeys([*map(str, self.memory.files), *written])
        # Of all units, also of those that go on as they are: the unit at boot comes before each of them.
        every = list(dict.fromkeys(unit for step in steps for unit in step.units))
        self.journal.begin(known, paths, units.each(every))

    def _told(self, found: Sequence[Edit], source: Callable[[str], str]) -> list[str]:
        """Keep what was changed by hand, and say where.

        :param source: returns where it lies now, by its path.
        """
        places = self.memory.keep_edited({edit.path: source(edit.path) for edit in found})
        return [edit.told(places[edit.path]) for edit in found]

    def _foretold(self, found: Sequence[Edit]) -> list[str]:
        return [edit.foretold(str(self.memory.edited)) for edit in found]

    def _prove(self, wanted: Wanted, broken: Mapping[str, str], outcome: Outcome) -> None:
        """Have the running whole show that it does what it should; what failed before for the same reason is told."""
        failing = wanted.proof()
        new = [
            f"  {name}: {sentence}" + (f" (before this change: {broken[name]})" if name in broken else "")
            for name, sentence in failing.items()
            if broken.get(name) != sentence
        ]
        if new:
            raise RelayError("\n".join(["The new whole does not do what it should:", *new]))
        outcome.notes += [f"As before this change: {name}: {sentence}" for name, sentence in failing.items()]

    # --- what is remembered -----------------------------------------------------------------------------------------

    def _remember(
        self,
        whole: Mapping[str, Any],
        steps: Sequence[Step],
        contents: Mapping[str, Content],
        known: Mapping[str, Any],
        number: int,
    ) -> None:
        """Write down what the daemons run with, and of what is known what was proven to work and promised."""
        records = whole["daemons"]
        daemons = {
            step.daemon.name: _record(step, records.get(step.daemon.name, {}), contents)
            for step in steps
            if not step.gone
        }
        self.memory.forget_originals(_paths(records) - _paths(daemons))
        told = {key: known[key] for key in ("proven", "promised", "terms")}
        self.memory.remember({"generation": number, "daemons": daemons, **told})

    def _keep_generation(self, wanted: Wanted, outcome: Outcome, contents: Mapping[str, Content], number: int) -> None:
        records = self.memory.whole()["daemons"]
        digests = {path: known for record in records.values() for path, known in record["disk"].items()}
        steps = [step for step in outcome.steps.values() if not step.gone]
        held, read = history.held(steps, digests), history.read(steps)
        generation = {
            "number": number,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "cause": dict(wanted.cause),
            "changed": {step.daemon.name: sorted(step.changes) for step in outcome.changed},
            "daemons": {
                step.daemon.name: {key: step.wanted[key] for key in ("paths", "units", "working")} for step in steps
            },
            "files": held,
            "read": read,
            "digest": digest([held, read]),
        }
        self.memory.keep_generation(generation, contents)


def _record(step: Step, before: Mapping[str, Any], contents: Mapping[str, Content]) -> dict[str, Any]:
    """Return what the host remembers of a daemon that runs as it is wanted."""
    disk = before.get("disk", {})
    record = {**before, **step.wanted}
    record.pop("doubted", None)
    record["disk"] = {
        path: files.digest(path) if path in contents or path not in disk else disk[path]
        for path in step.wanted["paths"]
    }
    if step.action or "activated" not in before:
        record["activated"] = datetime.now(timezone.utc).isoformat()
    return record


def _paths(records: Mapping[str, Any]) -> set[str]:
    return {path for record in records.values() for path in record.get("paths", [])}


def _sha256(content: Content) -> str:
    return hashlib.sha256(content.data).hexdigest()
