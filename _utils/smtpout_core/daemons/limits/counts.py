"""What each account has sent in this hour and on this day, and whether it may send more.

An hour and a day are the clock's, where the relay stands: they end when a person would say so, and a refusal can name
the time. A day is as long as it is (23 or 25 hours where the clock is changed).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KINDS = ("messages", "recipients")
PERIODS = ("hour", "day")

Limit = Mapping[str, Mapping[str, int]]
"""How many ``messages`` and ``recipients`` in an ``hour`` and in a ``day``; what isn't there has no limit."""


class Span(NamedTuple):
    """The hour, or the day, that a time lies in: seconds since 1970."""

    begins: int
    ends: int


def spans(now: float) -> tuple[Span, Span]:
    """Return the hour and the day that a time lies in, by the local clock.

    :param now: seconds since 1970.
    """
    local = time.localtime(now)
    hour = int(now) - 60 * local.tm_min - local.tm_sec
    day, next_day = (
        int(time.mktime((local.tm_year, local.tm_mon, local.tm_mday + more, 0, 0, 0, 0, 0, -1))) for more in (0, 1)
    )
    return Span(hour, hour + 3600), Span(day, next_day)


class Over(NamedTuple):
    """Why a message is put off.

    :param kind: ``messages`` or ``recipients``.
    :param period: ``hour`` or ``day``.
    :param most: of them in that.
    :param sent: so far.
    :param more: with this message.
    :param ends: when the period does, seconds since 1970.
    :param first: whether it is the first of the account in that period.
    """

    kind: str
    period: str
    most: int
    sent: int
    more: int
    ends: int
    first: bool


@dataclass
class Count:
    """What an account has sent in a period that began then, and whether somebody was told that it was too much."""

    begins: int = 0
    messages: int = 0
    recipients: int = 0
    told: bool = False

    def current(self, begins: int) -> Count:
        """Return itself, for the period that began then: anew in a new one.

        A clock that was set back makes no new one, and leaves none in the future.
        """
        if begins > self.begins:
            self.messages = self.recipients = 0
            self.told = False
        self.begins = begins
        return self


@dataclass
class Counts:
    """The accounts of a site.

    :param limit: of everybody.
    :param exceptions: instead of that, by a name of the account in lower case.
    :param accounts: hour and day of each by its name.
    """

    limit: Limit = field(default_factory=dict)
    exceptions: Mapping[str, Limit] = field(default_factory=dict)
    accounts: dict[str, tuple[Count, Count]] = field(default_factory=dict)
    _spans: tuple[Span, Span] = (Span(0, 0), Span(0, 0))

    def of(self, names: Iterable[str]) -> Limit:
        """Return the limit of an account.

        :param names: all of its names, in lower case.
        """
        return next((self.exceptions[name] for name in names if name in self.exceptions), self.limit)

    def sends(self, account: str, limit: Limit, recipients: int, now: float) -> Over | None:
        """Count a message; or say why it is too much, and count nothing.

        :param account: its name.
        :param recipients: of the message.
        :param now: seconds since 1970.
        """
        spans_now = self._now(now)
        known = self.accounts.get(account) or (Count(), Count())
        counts = [count.current(span.begins) for count, span in zip(known, spans_now, strict=True)]
        more = {"messages": 1, "recipients": recipients}
        # The day's first: it ends last.
        for place in (1, 0):
            count, period = counts[place], PERIODS[place]
            for kind in KINDS:
                most = limit.get(kind, {}).get(period)
                sent = getattr(count, kind)
                if most is not None and sent + more[kind] > most:
                    first, count.told = not count.told, True
                    self.accounts[account] = known
                    return Over(kind, period, most, sent, more[kind], spans_now[place].ends, first)
        for count in counts:
            count.messages += 1
            count.recipients += recipients
        self.accounts[account] = known
        return None

    def move(self, name: str, account: str, now: float) -> None:
        """Add what was counted under a name to the account whose name it turned out to be."""
        if name == account or name not in self.accounts:
            return
        spans_now, other = self._now(now), self.accounts.pop(name)
        own = self.accounts.setdefault(account, (Count(), Count()))
        for count, moved, span in zip(own, other, spans_now, strict=True):
            count.current(span.begins)
            moved.current(span.begins)
            count.messages += moved.messages
            count.recipients += moved.recipients
            count.told |= moved.told

    def over(self, now: float) -> int:
        """Return how many accounts were put off in this hour or on this day."""
        begun = [span.begins for span in self._now(now)]
        return sum(
            any(count.told and count.begins >= since for count, since in zip(each, begun, strict=True))
            for each in self.accounts.values()
        )

    def forget(self, now: float) -> None:
        """Forget the accounts that have sent nothing today."""
        since = self._now(now)[1].begins
        for name in [name for name, (_, day) in self.accounts.items() if day.begins < since]:
            del self.accounts[name]

    def written(self) -> dict[str, Any]:
        """Return the accounts as JSON has them: of hour and day when it began, messages, recipients, told."""
        return {
            name: [[count.begins, count.messages, count.recipients, int(count.told)] for count in each]
            for name, each in self.accounts.items()
        }

    def read(self, written: Mapping[str, Any]) -> None:
        """Take the accounts that were written.

        :raises ValueError: they are none.
        """
        try:
            self.accounts = {
                name: (_count(*hour), _count(*day))  # two, or it is none
                for name, (hour, day) in written.items()
            }
        except (AttributeError, TypeError) as error:
            raise ValueError(f"no counts: {error}") from error

    def _now(self, now: float) -> tuple[Span, Span]:
        hour, day = self._spans
        if not (hour.begins <= now < hour.ends and day.begins <= now < day.ends):
            self._spans = spans(now)
        return self._spans


def _count(begins: int, messages: int, recipients: int, told: int) -> Count:
    return Count(int(begins), int(messages), int(recipients), bool(told))
