"""What a comparison finds, and how answers of several servers become one finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from smtpout_core.dns import said as words
from smtpout_core.dns.said import BROKEN, HAS, UNASKED, UNKNOWN, Said

OK, ABSENT, WARNING, UNSURE, MISSING, WRONG = "ok", "absent", "warning", "unknown", "missing", "wrong"
STATES = (OK, ABSENT, WARNING, UNSURE, MISSING, WRONG)
"""From good to bad. ``absent`` is what nothing needs; ``missing``, what every server that answers says isn't there."""

Verdict = tuple[str, str]
"""A state, and what was seen."""


class Finding(NamedTuple):
    """How one record is.

    :param kind: dkim, spf, dmarc, mta-sts, tls-rpt, mx, ptr or helo.
    :param domain: whose.
    :param name: of the record.
    :param state: one of ``STATES``.
    :param seen: what was seen, by which servers.
    """

    kind: str
    domain: str
    name: str
    state: str
    seen: str


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst state, with what was seen in it."""
    found = list(verdicts)
    state = max((each for each, _ in found), key=STATES.index)
    return state, "; ".join(dict.fromkeys(seen for each, seen in found if each == state and seen))


def combined(said: Sequence[Said], judge: Callable[[tuple[str, ...]], Verdict], none: Verdict) -> Verdict:
    """Return what the servers say together: one that lacks a record is wrong, one that is silent makes it unknown.

    :param said: what each says.
    :param judge: says how records are.
    :param none: how it is that there is none.
    """
    verdicts: dict[Verdict, list[Said]] = {}
    for each in said:
        if each.state == BROKEN:
            verdicts.setdefault((WRONG, each.why), []).append(each)
        elif each.state not in (UNKNOWN, UNASKED):
            verdict = judge(each.values) if each.state == HAS else _aliased(none, each)
            verdicts.setdefault(verdict, []).append(each)
    silent = [each for each in said if each.state == UNKNOWN]
    known = sum(map(len, verdicts.values()))
    if not known:
        return UNSURE, words.reasons(silent or said) or "nobody could be asked"
    if len(verdicts) > 1:
        told = "; ".join(f"{words.servers(whose)}: {state}, {seen}" for (state, seen), whose in verdicts.items())
        # Each may be good by itself, as while a change is on its way to all of them.
        state = max((state for state, _ in verdicts), key=STATES.index)
        state = WARNING if state in (OK, ABSENT) else WRONG if state == MISSING else state
        return state, f"servers differ, so receivers meet either: {told}"
    ((state, seen),) = verdicts
    if silent:
        # Fewer have answered than there are: what is good, or simply not there, isn't shown of all.
        seen = f"{seen} ({known} of {known + len(silent)} servers have answered; {words.reasons(silent)})"
        state = UNSURE if state in (OK, ABSENT, WARNING) else state
    return state, seen


def _aliased(none: Verdict, said: Said) -> Verdict:
    """Return how it is that there is no record where a CNAME leads to."""
    state, seen = none
    return (state if state != ABSENT else WRONG, f"{seen}: {' -> '.join(said.via)} leads to none") if said.via else none
