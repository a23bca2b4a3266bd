"""What is asked before anything is touched: each daemon's parser, what they need, and what the whole of them does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from smtpout_core import files
from smtpout_core.change.parts import Check, Daemon, Promised, Trial, Wanted, digest
from smtpout_core.change.plan import Step
from smtpout_core.change.staging import Stage
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.host import Host

UNCHECKED = "Not checked"
SHOWN = 3
"""Dialogues that are shown of a promise: the others say the same of another client, or another port."""


def complaints(
    steps: Sequence[Step], stage: Stage, records: Mapping[str, Any], host: Host, notes: list[str]
) -> Iterator[str]:
    """Yield what the daemons' parsers have against the new whole.

    :param records: what the host remembers of the daemons.
    :param notes: gets what a parser has against the live whole in the same words, for no change brings that; and what
        could not be checked, in test mode alone, where a state before this one brings the parser.
    :raises NotInstalledError: a parser isn't there.
    """
    notes += [f"{UNCHECKED}: {', '.join(paths)}: {why}." for why, paths in stage.unmade.items()]
    for step in steps:
        if not (step.daemon.check and step.changes):
            continue
        said = list(_said(step.daemon, step.daemon.check, stage, stage.where, host, notes))
        known = _said_of_the_live_whole(step, step.daemon.check, said, stage, records, host) if said else set()
        notes += [f"As before this change: {line}" for line in said if line in known]
        yield from (line for line in said if line not in known)


def _said(
    daemon: Daemon, check: Check, stage: Stage, where: Mapping[str, str], host: Host, notes: list[str]
) -> Iterator[str]:
    """Yield what a daemon's parser has against files, wherever they lie."""
    try:
        for line in check(where, host):
            yield f"{daemon.name}: {stage.without_place(line)}"
    except NotInstalledError as error:
        if not host.test:
            raise
        notes.append(f"{UNCHECKED}: {daemon.name}'s configuration: {error}.")
    except RelayError as error:
        yield f"{daemon.name}: {stage.without_place(str(error))}"


def _said_of_the_live_whole(
    step: Step, check: Check, said: Sequence[str], stage: Stage, records: Mapping[str, Any], host: Host
) -> set[str]:
    """Return what a daemon's parser has against the live whole.

    Nothing where that isn't what was put in place, or where another file that is complained of is about to be read.

    :param said: what its parser has against the new whole.
    """
    record = records.get(step.daemon.name, {})
    read, now = record.get("read", {}), step.wanted.get("read", {})
    brought = [path for path in step.daemon.reads if now.get(path) not in (None, read.get(path))]
    placed = {path: known for each in records.values() for path, known in each.get("disk", {}).items()}
    if "disk" not in record or any(path in line for path in brought for line in said):
        return set()
    with suppress(RelayError, KeyError):  # a file that can't be read; one that the live whole doesn't have
        if all(files.digest(path) == known for path, known in placed.items()):
            return set(_said(step.daemon, check, stage, {path: path for path in placed}, host, []))
    return set()


def broken_promises(
    wanted: Wanted, stage: Stage, whole: Mapping[str, Any], notes: list[str]
) -> tuple[list[str], Promised]:
    """Ask a trial of the new whole for every promise; return what this change would break, and what was seen.

    :param whole: what the host remembers. What it promised before, and the daemons that serve now break for the same
        reason, a change that doesn't mend it may break as well: it is told.
    :param notes: gets what is broken anyway, and what could not be asked. Where something could not even be checked, in
        test mode on a bare host, nothing is asked.
    """
    if any(note.startswith(UNCHECKED) for note in notes):
        notes.append(f"{UNCHECKED}: what the site promises: there is nothing yet to ask.")
        return [], Promised()
    trial = wanted.promises(stage.where)
    if trial.trial:
        said = f"no trial could be had: {stage.without_place(trial.trial)}"
        if wanted.accept_unproven:
            notes.append(f"Not proven: any promise, and smtpout:accept_unproven lets it pass: {said}.")
            return [], trial
        return [f"{said}; where that can't be helped, smtpout:accept_unproven: true applies without proof"], trial
    notes += [f"Not proven: {sentence}: {why}" for sentence, why in trial.unproven.items()]
    before = wanted.promises({path: path for path in stage.where}).broken if trial.broken and whole["daemons"] else {}
    # None: of a whole of before its promises were remembered, all may have been made.
    promised = whole["promised"]
    refused = []
    for sentence, seen in trial.broken.items():
        broken = before.get(sentence, {})
        known = {line for line, question in broken.items() if promised is None or question in promised}
        if new := [stage.without_place(line) for line in seen if line not in known]:
            refused.append("\n    ".join([f"{sentence}: that would be broken.", *new[:SHOWN], trial.causes[sentence]]))
        else:
            notes.append("\n    ".join([f"Broken before this change as well: {sentence}:", *list(seen)[:SHOWN]]))
    return refused, trial


def promised(trial: Promised, before: Sequence[str] | None) -> Sequence[str] | None:
    """Return the questions that a site gives its word on from now on.

    :param before: those of the site before; they go on where a trial, or a part of it, could not be had.
    """
    if trial.trial:
        return before
    return sorted({*trial.asked, *(before or ())}) if trial.unproven else trial.asked


def tried(
    steps: Sequence[Step], known: Mapping[str, str], host: Host, notes: list[str]
) -> tuple[dict[str, str], list[str]]:
    """Try what has to work for the daemons; return what is proven now, and what newly fails.

    :param known: what was proven before, as this returned it.
    :param notes: gets what has worked and fails by itself since, and what could not be tried in test mode.
    :raises NotInstalledError: what a trial needs isn't there.
    """
    proven: dict[str, str] = {}
    failed: list[str] = []
    for trial in {trial.name: trial for step in steps for trial in step.daemon.trials}.values():
        about = digest(trial.about)
        try:
            trial.ask()
        except NotInstalledError as error:
            if not host.test:
                raise
            notes.append(f"{UNCHECKED}: {trial.name}: {error}.")
        except RelayError as error:
            if known.get(trial.name) != about:
                failed += _lines(trial, error)
                continue
            notes.append(f"Has worked, and fails by itself since: {trial.name}: {error}")
            proven[trial.name] = about
        else:
            proven[trial.name] = about
    return proven, failed


def note_starts(steps: Sequence[Step], records: Mapping[str, Any], stage: Stage, host: Host) -> None:
    """See which daemon has to start anew for what it reads at its start alone.

    :param records: what the host remembers of the daemons: what they were started with, too.
    :raises NotInstalledError: what tells isn't there; in test mode, one that isn't installed yet is started anyway.
    """
    for step in steps:
        main, ask = step.daemon.main, step.daemon.started_with
        if not (ask and main in stage.where):
            continue
        try:
            asked = ask(os.path.dirname(stage.where[main]))
        except NotInstalledError:
            if not host.test:
                raise
            continue
        new = {name: stage.without_place(value) for name, value in asked.items()}
        step.wanted["started_with"] = new
        if step.action == "reload":
            then, now = records.get(step.daemon.name, {}).get("started_with", new), _now(ask, main)
            for name in sorted(name for name in new if not then.get(name) == now.get(name) == new[name]):
                step.must_restart(name)


def _now(ask: Callable[[str], dict[str, str]], main: str) -> dict[str, str]:
    """Return what a daemon would be started with now; nothing where its live files can't even be read by it."""
    with suppress(RelayError):
        return ask(os.path.dirname(main)) if os.path.exists(main) else {}
    return {}


def _lines(trial: Trial, error: RelayError) -> list[str]:
    return [f"{trial.name}: {line}" for line in str(error).splitlines()]
