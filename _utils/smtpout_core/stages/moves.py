"""What would move now: pure, of what is remembered, what the site wants, what DNS said, and what the clock says.

Receivers look a key up by its selector. As long as the old record stays, mail of either verifies; so what has to be
waited for is, before a key signs, that every server has its record (a resolver may remember for as long that there was
none), and before its record goes, that nobody signs with it and all mail that was has arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from smtpout_core.errors import RelayError
from smtpout_core.stages.record import ACTIVE, MADE, PUBLISHED, REMOVED, RETIRED, Key

ALL, SOME, NOBODY, UNKNOWN = "all", "some", "nobody", "unknown"
"""Which servers have a key's record, and it alone; unknown where one didn't say, which moves nothing."""
AUTHORITATIVE, RESOLVER, NONE = "authoritative", "resolver", "none"
"""Who has to have a record before its key signs: all servers of its zone, one resolver, or nobody."""


class Want(NamedTuple):
    """A key that the site wants a domain to have.

    :param path: where its file is, or is made.
    :param most: the stage that it isn't to go beyond, ``published`` or ``active``.
    :param given: whether the pillar says which key that is, or where it lies.
    """

    domain: str
    selector: str
    path: str
    most: str = ACTIVE
    given: bool = False


class Answer(NamedTuple):
    """What DNS has of a key: one of ``ALL``, ``SOME``, ``NOBODY``, ``UNKNOWN``; and what was seen."""

    state: str
    seen: str = ""


class Rules(NamedTuple):
    """When a stage is over.

    :param gate: who has to have a record before its key signs.
    :param hold: seconds that all of them have to have had it.
    :param retire: seconds after which mail that was signed with a key has arrived or was given up.
    """

    gate: str = AUTHORITATIVE
    hold: int = 3600
    retire: int = 14 * 86400


class Facts(NamedTuple):
    """How things are.

    :param now: seconds since 1970.
    :param held: returns by what the public key of a file is known again; an empty text where there is no usable key.
    :param answers: what DNS has, by domain and selector, of those that :func:`asked` names.
    :param signing: domain and selector by which relays of the site sign; one that couldn't be asked counts with all.
    """

    now: int
    held: Callable[[str], str]
    answers: Mapping[tuple[str, str], Answer]
    signing: Collection[tuple[str, str]]


class Note(NamedTuple):
    """A key that moves, or waits, and why.

    :param before: its stage; empty for one that wasn't there.
    :param after: the same where it waits.
    :param warns: whether a person has to do something.
    """

    key: Key
    before: str
    after: str
    why: str
    warns: bool = False

    def __str__(self) -> str:
        how = self.after if self.before in ("", self.after) else f"{self.before} -> {self.after}"
        return f"{self.key.name}: {how}: {self.why}"


class Plan(NamedTuple):
    """What is remembered then, what has moved, and what waits."""

    keys: list[Key]
    moves: list[Note]
    waits: list[Note]


def asked(kept: Sequence[Key], wanted: Mapping[str, Sequence[Want]], rules: Rules) -> list[Key]:
    """Return the keys of which DNS has to be asked before :func:`decided`: those that an answer may move.

    :param kept: what is remembered; of a domain of which nothing is, the first key signs at once.
    :param wanted: by domain, as in :func:`decided`.
    """
    if rules.gate == NONE:
        return []
    by_domain = _by_domain(kept)
    found = []
    for domain, wants in wanted.items():
        own = by_domain.get(domain, {})
        ahead = True
        for want in wants:
            key = own.get(want.selector)
            if key is None or key.stage == REMOVED:
                if own:
                    found.append(Key(domain, want.selector, want.path, MADE, 0))
            elif key.stage == ACTIVE:
                ahead = False
            elif ahead or (key.stage != RETIRED and not key.complete):
                found.append(key)
    return found


def decided(kept: Sequence[Key], wanted: Mapping[str, Sequence[Want]], facts: Facts, rules: Rules) -> Plan:
    """Return what moves.

    :param kept: what is remembered.
    :param wanted: by domain the keys that it is to have, the one that is to sign first: the first one that may, signs.
    :raises RelayError: a selector is to sign with another key than it did.
    """
    by_domain = _by_domain(kept)
    plan = Plan([], [], [])
    for domain in dict.fromkeys([*wanted, *by_domain]):
        one = _Domain(by_domain.get(domain, {}), wanted.get(domain, ()), facts, rules)
        one.decide()
        plan.keys.extend(one.keys.values())
        plan.moves.extend(one.moves)
        plan.waits.extend(one.waits)
    return plan


def _by_domain(kept: Sequence[Key]) -> dict[str, dict[str, Key]]:
    found: dict[str, dict[str, Key]] = {}
    for key in kept:
        found.setdefault(key.domain, {})[key.selector] = key
    return found


class _Domain:
    """The keys of one domain."""

    def __init__(self, keys: Mapping[str, Key], wants: Sequence[Want], facts: Facts, rules: Rules) -> None:
        now = facts.now  # a clock that was ahead is no reason to wait for it
        self.keys = {
            selector: replace(key, since=min(key.since, now), complete=min(key.complete, now))
            for selector, key in keys.items()
        }
        self.wants, self.facts, self.rules = wants, facts, rules
        self.moves: list[Note] = []
        self.waits: list[Note] = []

    @property
    def active(self) -> Key | None:
        """The key that signs."""
        return next((key for key in self.keys.values() if key.stage == ACTIVE), None)

    def decide(self) -> None:
        for want in self.wants:
            self._make(want)
            self._hear(want)
        self._sign()
        for key in list(self.keys.values()):
            self._leave(key)
        self._forget()

    def _make(self, want: Want) -> None:
        """Take a key whose file is there into what is known; see to it that a selector keeps the key that it has."""
        key = self.keys.get(want.selector)
        if key is not None and key.stage == ACTIVE and key.path == want.path:
            return  # and isn't read: most keys are such
        public = self.facts.held(want.path)
        if key is None or key.stage == REMOVED:
            made = Key(want.domain, want.selector, want.path, MADE, self.facts.now, public=public)
            if public:
                self._move(made, "" if key is None else key.stage, "its file is there, and its record can be published")
            elif self.active:
                self.waits.append(Note(made, "", "to be made", "it is made by one of the next applies"))
            return
        if key.path != want.path:
            if public and public == (key.public or self.facts.held(key.path)):
                key = self.keys[want.selector] = replace(key, path=want.path, public=public)
            elif want.given:
                raise RelayError(
                    f"smtpout:opendkim:domains:{want.domain}: {want.path} hasn't the key whose record is {key.name}, "
                    f"which {key.path} has; copy that there, or give the new key a selector of its own"
                )
            else:
                public = self.facts.held(key.path)
        if key.stage != ACTIVE and public and key.public and public != key.public:
            self._move(
                replace(key, stage=MADE, since=self.facts.now, complete=0, public=public),
                key.stage,
                f"{key.path} has another key than it had, whose record is still to be published",
            )

    def _hear(self, want: Want) -> None:
        """Follow what DNS has of a key that doesn't sign."""
        key, answer = self.keys.get(want.selector), self.facts.answers.get((want.domain, want.selector))
        if key is None or answer is None or answer.state == UNKNOWN or key.stage in (ACTIVE, REMOVED):
            return
        complete = self.facts.now if answer.state == ALL else 0
        stage = key.stage if key.stage == RETIRED else MADE if answer.state == NOBODY else PUBLISHED
        if (stage, bool(complete)) != (key.stage, bool(key.complete)):
            since = key.since if stage == key.stage else self.facts.now
            who = {ALL: "all servers have its record", SOME: "some servers have its record", NOBODY: "no server has it"}
            self._move(replace(key, stage=stage, since=since, complete=complete), key.stage, who[answer.state])

    def _sign(self) -> None:
        """Have the first key that may sign do so; whoever signs goes on until then."""
        active = self.active
        for want in self.wants:
            key = self.keys.get(want.selector)
            if key is not None and key is active:
                return
            if key is None or key.stage == REMOVED or want.most != ACTIVE:
                continue
            shut = self._shut(key)
            if not shut:
                self._begin(key, "all that have to have its record do" if self.rules.gate != NONE else "gate: none")
                return
            if active:
                self.waits.append(
                    Note(key, key.stage, key.stage, f"{active.selector} signs until it may: {shut}", warns=True)
                )
        if active is None:
            self._sign_at_once()

    def _sign_at_once(self) -> None:
        """Have a key sign whatever DNS has: of a domain without one that signs, no mail could leave."""
        for want in sorted(self.wants, key=lambda each: each.most != ACTIVE):
            key = self.keys.get(want.selector)
            if key is not None and key.stage != REMOVED and self.facts.held(key.path):
                why = "the domain has no other that signs, so it signs at once; its record is to be published now"
                self._begin(key, why, warns=True)
                return

    def _shut(self, key: Key) -> str:
        """Return why a key may not sign yet; an empty text where it may."""
        if not self.facts.held(key.path):
            return f"this relay doesn't hold the key, which would be {key.path}"
        if self.rules.gate == NONE:
            return ""
        answer = self.facts.answers.get(key.id, Answer(UNKNOWN, "nobody was asked"))
        if answer.state != ALL:
            return answer.seen or "not all servers have its record"
        if (until := key.complete + self.rules.hold) > self.facts.now:
            return f"all servers have its record, and have to have had it until {moment(until)}"
        return ""

    def _begin(self, key: Key, why: str, *, warns: bool = False) -> None:
        if active := self.active:
            retired = replace(active, stage=RETIRED, since=self.facts.now)
            self._move(retired, ACTIVE, f"{key.selector} signs; mail that this one has signed is still on its way")
        self._move(replace(key, stage=ACTIVE, since=self.facts.now), key.stage, why, warns=warns)

    def _leave(self, key: Key) -> None:
        """Retire a key that isn't wanted any more, and give it up once nobody can meet it."""
        wanted = any(want.selector == key.selector for want in self.wants)
        if key.stage == ACTIVE and not self.wants:
            key = replace(key, stage=RETIRED, since=self.facts.now)
            self._move(key, ACTIVE, "the site has the domain no more")
        if key.stage == RETIRED and key.id in self.facts.signing and key.since < self.facts.now:
            key = self.keys[key.selector] = replace(key, since=self.facts.now)
            self.waits.append(Note(key, RETIRED, RETIRED, "a relay still signs with it; its time begins after that"))
        elif key.stage == RETIRED and not wanted:
            until = key.since + self.rules.retire
            if until > self.facts.now:
                why = f"mail that it has signed may be on its way until {moment(until)}; leave its record there"
                self.waits.append(Note(key, RETIRED, RETIRED, why))
            else:
                self._remove(key, "nobody signs with it, and what it has signed has arrived")
        elif key.stage in (MADE, PUBLISHED) and not wanted:
            if key.id in self.facts.signing:
                self._move(replace(key, stage=RETIRED, since=self.facts.now), key.stage, "a relay signs with it")
            else:
                self._remove(key, "nobody has signed with it, and the site wants it no more")

    def _remove(self, key: Key, why: str) -> None:
        said = f"{why}: its record may go from DNS, and {key.path} from this host"
        self._move(replace(key, stage=REMOVED, since=self.facts.now, complete=0), key.stage, said)

    def _forget(self) -> None:
        """Remember only the last of those that are removed."""
        gone = sorted((key for key in self.keys.values() if key.stage == REMOVED), key=lambda key: key.since)
        for key in gone[:-1]:
            del self.keys[key.selector]

    def _move(self, key: Key, before: str, why: str, *, warns: bool = False) -> None:
        self.keys[key.selector] = key
        self.moves.append(Note(key, before, key.stage, why, warns))


def moment(when: int) -> str:
    """Return a time as a person reads it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))
