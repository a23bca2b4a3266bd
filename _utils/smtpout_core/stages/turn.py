"""One look at a relay's keys: what it remembers, holds and signs with, what DNS has, and so what moves."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from smtpout_core.change.parts import digest
from smtpout_core.daemons.opendkim import keys as private
from smtpout_core.dns import comparison
from smtpout_core.errors import RelayError
from smtpout_core.stages import gate, moves, signing
from smtpout_core.stages.moves import Facts, Plan
from smtpout_core.stages.record import ACTIVE, REMOVED, Key, Record

COMING = "made before it is asked for"
"""What stands in a dry run for the public key of a file that an apply makes."""
NOT_YET = moves.Answer(moves.UNKNOWN, "the key is made before its record can be published")


class Turn:
    """What there is to decide of, read once.

    :param settings: the site's.
    :param state_dir: the host's.
    :param test: in a dry run keys that aren't there yet count as made.
    :param clock: returns seconds since 1970.
    """

    def __init__(
        self, settings: dict[str, Any], state_dir: str, *, test: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings, self.test, self.now = settings, test, int(clock())
        self.record = Record(state_dir)
        self.remembered = self.record.read()
        self.tables = signing.tables_of(settings)
        self.held = functools.cache(self._held)
        self.kept = signing.adopted(settings, self.remembered, self.tables, self.held, self.now)
        self.wanted = signing.wanted(settings, self.kept, self.now)

    def keys(self) -> list[dict[str, Any]]:
        """Return the keys whose files have to be there, in the form of the settings' ``signing_keys``.

        :return: first those without which mail couldn't leave, then those that are to follow.
        """
        laid = signing.laid(self.settings, self.kept)["opendkim"]["keys"]
        places = {(key["domain"], key["selector"], key["path"]) for key in laid}
        names = {place[:2] for place in places}
        given = {(key["domain"], key["selector"], key["path"]): key for key in self.settings["opendkim"]["wanted_keys"]}
        wants = [want for own in self.wanted.values() for want in own if want[:2] not in names]
        # The pillar's own key is put where it is looked for, whatever signs by its selector today.
        own = [key for place, key in given.items() if key["from_pillar"] and place not in places and place[:2] in names]
        made = [given.get(want[:3]) or signing.entry(Key(*want[:3], stage=ACTIVE, since=0)) for want in wants]
        return [*laid, *made, *own]

    def plan(self, way: comparison.Way | None = None) -> Plan:
        """Return what moves now; DNS is asked, nothing is changed.

        :param way: who is asked. Default, as the site's settings say.
        :raises RelayError: a selector is to sign with another key than it did.
        """
        if not self.settings["opendkim"]["enabled"]:
            return Plan(self.kept, [], [])
        rules = signing.rules(self.settings)
        asked = moves.asked(self.kept, self.wanted, rules)
        way = way or comparison.Way(servers=self.settings["dns"]["servers"], seconds=gate.SECONDS)
        own = [*self.settings["domains"], *self.settings["signed_domains"]]
        answers = {key.id: NOT_YET for key in asked}
        answers |= gate.answers([key for key in asked if os.path.lexists(key.path)], rules.gate, own, way)
        signs = [(domain, selector) for domain, (selector, _) in self.tables.items()]
        plan = moves.decided(self.kept, self.wanted, Facts(self.now, self.held, answers, signs), rules)
        return Plan(plan.keys, [*self._adopted(), *plan.moves], plan.waits)

    def _adopted(self) -> list[moves.Note]:
        new = self.kept[len(self.remembered) :]
        return [moves.Note(key, "", ACTIVE, "it signs today") for key in new]

    def _held(self, path: str) -> str:
        """Return by what the public key of a file is known again; an empty text where there is no usable key."""
        if self.test and not os.path.lexists(path):
            return COMING
        try:
            return digest(private.key_info(path)["public"])[:16]
        except RelayError:
            return ""


def changes(before: Sequence[Key], after: Sequence[Key]) -> dict[str, dict[str, str]]:
    """Return what is remembered otherwise than before, by the record's name, as a state shows it."""
    old = {key.id: key for key in before}
    new = {key.id: key for key in after}
    names = {each: key.name for each, key in (old | new).items()}
    return {
        name: {"old": _shown(old.get(each)), "new": _shown(new.get(each))}
        for each, name in names.items()
        if old.get(each) != new.get(each)
    }


def _shown(key: Key | None) -> str:
    if key is None:
        return "absent"
    served = f", by all servers since {moves.moment(key.complete)}" if key.complete and key.stage != REMOVED else ""
    return f"{key.stage} since {moves.moment(key.since)}{served}"


def told(plan: Plan) -> dict[str, Any]:
    """Return a plan as a person reads it.

    :return: how many keys are in each stage as ``counts``; and as ``keys`` those that don't simply sign, or are about
        to move: of each its record's name, its ``stage`` and ``since`` when, then, and what is to be ``said`` of it.
    """
    notes: dict[tuple[str, str], list[str]] = {}
    for note in [*plan.moves, *plan.waits]:
        how = "" if note.before in ("", note.after) else f"{note.before} -> {note.after}: "
        notes.setdefault(note.key.id, []).append(f"{how}{note.why}")
    known = {note.key.id: note.key for note in plan.waits} | {key.id: key for key in plan.keys}
    return {
        "counts": dict(Counter(key.stage for key in plan.keys)),
        "keys": [
            {"key": key.name, "stage": key.stage, "since": moves.moment(key.since), "said": "; ".join(notes[each])}
            for each, key in known.items()
            if each in notes
        ],
    }
