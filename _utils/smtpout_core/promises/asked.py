"""Ask a trial of the chain for a site's promises."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from smtpout_core.change.parts import Daemon, Promised, digest
from smtpout_core.daemons.postfix import conf
from smtpout_core.daemons.postfix.blocks import Blocks
from smtpout_core.directory import people as users
from smtpout_core.errors import RelayError, os_errors_told
from smtpout_core.promises import chain as chains
from smtpout_core.promises import derived, followed, judged, mentioned, posed
from smtpout_core.promises.chain import Chain
from smtpout_core.promises.entrances import Entrances
from smtpout_core.promises.promise import Outcome, Promise, Question, Verdict


def trial(settings: dict[str, Any], test: bool, staged: Mapping[str, str]) -> Promised:
    """Ask a trial of the chain for every promise of a site, as a change wants to know it.

    :param settings: the site's.
    :param test: keys need not be made yet; without them nothing is asked.
    :param staged: where each of the site's files lies, by its live path.
    """
    signing = settings["opendkim"]["signing_keys"] if settings["opendkim"]["enabled"] else []
    if test and (coming := [key["path"] for key in signing if not os.path.exists(key["path"])]):
        return Promised(unproven={"What the site promises": f"{coming[0]} is made before it is asked"})
    try:
        verdicts = asked(settings, staged)
    except RelayError as error:
        return Promised(trial=str(error))
    broken = [each for each in verdicts if each.outcome is Outcome.BROKEN]
    return Promised(
        asked=sorted({_digest(each.promise, question) for each in verdicts for question in each.promise.questions}),
        broken={
            each.promise.sentence: {line: _digest(each.promise, question) for line, question in each.wrong.items()}
            for each in broken
        },
        unproven={each.promise.sentence: each.seen[0] for each in verdicts if each.outcome is Outcome.UNPROVEN},
        kept=sum(each.outcome is Outcome.KEPT for each in verdicts),
        causes={each.promise.sentence: causes(settings, each.promise, each.wrong) for each in broken},
    )


def _digest(promise: Promise, question: Question) -> str:
    return digest([promise.name, *question.kind])[:16]


def live(daemons: Sequence[Daemon]) -> dict[str, str]:
    """Return where the files of what runs lie: each at its own path.

    :param daemons: the site's.
    """
    paths = [path for daemon in daemons for part in daemon.parts for path in part.paths]
    paths += [file.path for daemon in daemons for file in daemon.files]
    return {path: path for path in paths}


def causes(settings: dict[str, Any], promise: Promise, wrong: Mapping[str, Question]) -> str:
    """Return which keys of the pillar most likely break a promise: those that the site sets, or those there are.

    :param settings: the site's.
    :param promise: which.
    :param wrong: its questions that weren't answered as they should be, by what was seen, which may name a parameter in
        brackets; a question may know the key that it was asked for.
    """
    postfix = settings["postfix"]
    native = [(name, f"main:{name}") for name in postfix["main"]]
    native += [
        (name, f"master:{service}:options:{name}")
        for service, own in postfix["master"].items()
        for name in (own or {}).get("options") or ()
    ]
    likely, seen = re.compile(promise.parameters or "(?!)"), "\n".join(wrong)
    named = [path for name, path in native if f"({name})" in seen]
    given = [f"smtpout:postfix:{each}" for each in named or [path for name, path in native if likely.fullmatch(name)]]
    known = dict.fromkeys(f"smtpout:{each.key}" for each in wrong.values())
    if "smtpout:" not in known:
        given = [*known, *given]
    where = " or ".join(given) if given else ", ".join(f"smtpout:{key}" for key in promise.keys)
    return f"Look at {where}; or take it back: smtpout:promises:{promise.name}: false"


def asked(settings: dict[str, Any], staged: Mapping[str, str]) -> list[Verdict]:
    """Ask a trial of the chain for every promise of a site.

    :param settings: the site's.
    :param staged: where each of the site's files lies, by its live path.
    :return: a verdict each.
    :raises RelayError: no trial can be had, and why.
    """
    people, why = _people(settings)
    by_command = [name for each in Blocks.of(settings).read() if not each.ended for name in each.names]
    promises = derived.promised(settings, people, by_command=by_command)
    clients = {question.client for promise in promises for question in promise.questions}
    with os_errors_told(), chains.started(settings, staged, clients) as chain:
        versions = _versions(chain)
        promises = derived.promised(settings, people, versions, by_command)
        questions = {question.dialogue for promise in promises for question in promise.questions}
        seen = followed.asked(chain, questions, settings["verify"].get("password", ""))
        alike = {question: seen[question.dialogue] for promise in promises for question in promise.questions}
        signers, nexthops = judged.Signers(settings), judged.Nexthops.of(chain, settings, alike, min(versions))
        judges = judged.Judges(signers, nexthops, Entrances(chain.entrances, chain.answer))
        return [judged.verdict(promise, seen, judges, why) for promise in promises]


def _people(settings: dict[str, Any]) -> tuple[Sequence[users.Person], str]:
    """Return users of the directory, or none and why."""
    try:
        named = mentioned.addresses(settings)[: posed.MANY]
        return users.found(settings, posed.sample(settings["domains"], posed.MANY), named), ""
    except RelayError as error:
        return [], str(error)


def _versions(chain: Chain) -> list[int]:
    """Return the versions of IP that Postfix speaks."""
    said = conf.values(str(chain.folder.resolve() / "config"), "inet_protocols")["inet_protocols"].lower()
    return [version for version in (4, 6) if f"ipv{version}" in said or "all" in said]
