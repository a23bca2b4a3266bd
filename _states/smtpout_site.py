"""The site changes as one: all daemons of it run with what the pillar says, or with what they had.

:mod:`smtpout_core.change` does the work, in one state. Each daemon has a state of its own beside it, which says what
became of it, so that a report reads daemon by daemon.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import salt.payload
import smtpout_core
from salt.exceptions import SaltException

smtpout_core.fresh()

from smtpout_core import host as minions
from smtpout_core import verify
from smtpout_core.change import units
from smtpout_core.change.parts import Promised, Wanted, digest
from smtpout_core.change.templates import Templates
from smtpout_core.change.transaction import Outcome, Transaction
from smtpout_core.daemons import descriptions
from smtpout_core.daemons.postfix import retire
from smtpout_core.errors import RelayError
from smtpout_core.guard import selinux
from smtpout_core.stages import signing

OUTCOME = "smtpout.outcome"


def recovered(name: str) -> dict[str, Any]:
    """What a run that was cut short has left is undone, whatever comes after it.

    .. code-block:: yaml

        No change of the mail system is half done:
          smtpout_site.recovered

    :param name: the state's sentence.
    """
    try:
        notes = _transaction().recover()
    except RelayError as error:
        return _result(name, str(error), result=False)
    if not notes:
        return _result(name, "No run was cut short.")
    changes = {"mail system": {"old": "a run was cut short", "new": "as it was before that"}}
    return _result(name, notes[0], changes, None if __opts__["test"] else True, notes[1:])


def changed(name: str) -> dict[str, Any]:
    """All daemons of the site run with what the pillar says, and serve; else with what they had before.

    Test mode renders, compares and checks as well, and writes nothing. What changed of each daemon is shown by its own
    state, ``runs``.

    .. code-block:: yaml

        The site changes as one:
          smtpout_site.changed

    :param name: the state's sentence.
    """
    test = __opts__["test"]
    settings = __salt__["smtpout.settings"]()
    if minions.STAGES in __context__:
        settings = signing.laid(settings, __context__[minions.STAGES][0])
    try:
        host = _host()
        wanted = Wanted(
            descriptions.described(settings, host),
            promises=partial(_promises, settings, test),
            terms=digest([settings["promises"], settings["verify"].get("user"), settings["verify"].get("outside")]),
            accept_unproven=settings["accept_unproven"],
            proof=partial(verify.failing, settings),
            cause=_cause(),
        )
        outcome = _transaction(settings).bring(wanted, Templates(settings, host))
    except RelayError as error:
        return _result(name, str(error), result=False)
    __context__[OUTCOME] = outcome
    names = [step.daemon.name for step in outcome.changed]
    trial = f" A trial of it kept {outcome.kept} promises." if outcome.kept else ""
    if not names:
        return _result(name, f"Nothing is to be changed.{trial}", warnings=outcome.notes)
    would = "would change. Not checked: whether they serve then, which an apply does, or takes it back"
    said = f"{', '.join(names)} {would if test else 'changed'}.{trial}"
    changes = _numbered(outcome, test) | _gone(outcome)
    return _result(name, said, changes, None if test else True, outcome.notes)


def _promises(settings: dict[str, Any], test: bool, staged: Mapping[str, str]) -> Promised:
    """Ask a trial of what is staged for the site's promises; most runs change nothing, and need none of its code."""
    from smtpout_core.promises import asked

    return asked.trial(settings, test, staged)


def runs(name: str, daemon: str) -> dict[str, Any]:
    """Say what became of a daemon when the site changed; that comes before this.

    .. code-block:: yaml

        Postfix runs the site's configuration:
          smtpout_site.runs:
            - daemon: postfix
            - require:
              - smtpout_site: The site changes as one

    :param name: the state's sentence.
    :param daemon: its name in its description.
    """
    outcome: Outcome | None = __context__.get(OUTCOME)
    if outcome is None or daemon not in outcome.steps:
        return _result(name, f"The site was not changed before this, or has no {daemon}.", result=False)
    step, test = outcome.steps[daemon], __opts__["test"]
    result = None if test and step.changes else True
    warnings = [warning for part in step.parts for warning in part.warnings]
    return _result(name, step.summary(test), step.changes, result, warnings)


def gone(name: str, delete: bool = False) -> dict[str, Any]:
    """Nothing of what smtpout made is on the host: daemons stopped and disabled, files as they were before.

    Postfix takes no mail any more before its queue is looked at. Where mail is left in it, all stays as it was.

    .. code-block:: yaml

        The mail system is as it was before smtpout:
          smtpout_site.gone

    :param name: the state's sentence.
    :param delete: the mail may be lost.
    """
    settings, test = __salt__["smtpout.settings"](), __opts__["test"]
    lost: list[int] = []
    try:
        found = retire.waiting(settings, delete)
        outcome = _transaction(settings).unmake(
            lambda: lost.append(retire.stopped(settings, delete)), retire.shut(settings)
        )
    except RelayError as error:
        return _result(name, str(error), result=False)
    changes: dict[str, Any] = {step.daemon.name: step.changes for step in outcome.changed}
    if not test:
        units.release(unit for each in descriptions.described(settings, _host()) for unit in each.all_units)
    if not changes:
        return _result(name, "Nothing of smtpout is here.", warnings=outcome.notes)
    if found := sum(lost) or (found if test else 0):
        changes["queue"] = {"old": f"{found} messages", "new": "empty"}
    said = f"{', '.join(changes)} {'would be' if test else 'were'} undone."
    return _result(name, said, changes, None if test else True, outcome.notes)


def _host() -> minions.Host:
    return minions.minion(__opts__, __grains__, __salt__["cp.cache_file"], __context__.get(minions.SALTENV))


def _transaction(settings: dict[str, Any] | None = None) -> Transaction:
    labels = selinux.relabel if settings and settings["selinux"]["active"] else lambda _paths: None
    return Transaction(_host(), descriptions.ways(labels), brought=__context__.get(minions.BROUGHT, ()))


def _cause() -> dict[str, str]:
    """Return who changes the site, and by what; of the arguments, which a pillar may be among, the SLS files alone."""
    job = _job()
    behind = os.environ.get("SUDO_USER") or job.get("user")
    who = getpass.getuser()
    named = [each for each in job.get("arg", ()) if isinstance(each, str) and re.fullmatch(r"[\w.,-]+", each)]
    cause = {
        "who": f"{behind} as {who}" if behind not in (None, who) else who,
        "ran": " ".join([str(job.get("fun", "")), *named[:1]]).strip(),
        "job": str(job.get("jid", "")),
    }
    return {key: value for key, value in cause.items() if value}


def _job() -> dict[str, Any]:
    """Return the job that this process runs, as Salt has written it down: ``fun``, ``arg``, ``jid``, ``user``."""
    said = {key: __opts__[key] for key in ("fun", "arg") if key in __opts__}  # salt-call's own
    for path in Path(__opts__["cachedir"], "proc").glob("*"):
        try:
            written = path.read_bytes()
            job = salt.payload.loads(written) if written else None
        except (OSError, SaltException):  # another job's, which has ended meanwhile, or is just beginning
            continue
        if isinstance(job, dict) and job.get("pid") == os.getpid():
            return {**said, **job}
    return said


def _numbered(outcome: Outcome, test: bool) -> dict[str, Any]:
    number = "the next one" if test else str(outcome.generation)
    return {"generation": {"old": str(outcome.before), "new": number}}


def _gone(outcome: Outcome) -> dict[str, Any]:
    """Return what changed of daemons that the site no longer has: no other state tells."""
    return {step.daemon.name: step.changes for step in outcome.changed if step.gone}


def _result(
    name: str,
    comment: str,
    changes: dict[str, Any] | None = None,
    result: bool | None = True,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a state's answer."""
    ret = {"name": name, "result": result, "changes": changes or {}, "comment": comment}
    return {**ret, "warnings": list(warnings)} if warnings else ret
