"""What is asked before anything is touched: each daemon's parser, what two of them agree on, what they need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from smtpout_core.change.parts import Trial, Wanted, digest
from smtpout_core.change.plan import Step
from smtpout_core.change.staging import Stage
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.host import Host


def complaints(wanted: Wanted, steps: Sequence[Step], stage: Stage, host: Host, notes: list[str]) -> Iterator[str]:
    """Yield what the daemons' parsers have against the new whole, and where two daemons don't agree.

    :param notes: gets what could not be checked; in test mode alone, where a state before this one brings the parser.
    :raises NotInstalledError: a parser isn't there.
    """
    notes += [f"Not checked: {', '.join(paths)}: {why}." for why, paths in stage.unmade.items()]
    checked = not stage.unmade
    for step in steps:
        if not (step.daemon.check and step.changes):
            continue
        try:
            for line in step.daemon.check(stage.where, host):
                yield f"{step.daemon.name}: {stage.without_place(line)}"
        except NotInstalledError as error:
            if not host.test:
                raise
            checked = False
            notes.append(f"Not checked: {step.daemon.name}'s configuration: {error}.")
        except RelayError as error:
            checked = False
            yield f"{step.daemon.name}: {stage.without_place(str(error))}"
    if checked:
        yield from map(stage.without_place, wanted.agreements(stage.where))


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
            notes.append(f"Not checked: {trial.name}: {error}.")
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
