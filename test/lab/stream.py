"""Mail on its way to a relay while that is changed, and what became of it meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lab.conftest import Applied
from lab.host import Host
from lab.lab import Lab
from lab.load import Load
from lab.whole import SETTLES, Pause, pauses

COLUMNS = ("applies", "sessions", "taken", "arrived", "refused", "4xx", "closed", "broken", "seconds")


class Span(NamedTuple):
    """A time within which something was applied."""

    what: str
    began: float
    ended: float


@dataclass
class Stream:
    """Mail on its way to a relay, and what was done to that meanwhile."""

    applied: Applied
    load: Load
    spans: list[Span] = field(default_factory=list)
    known: list[Pause] = field(default_factory=list)
    """When the relay was away as a whole: a reboot, or an undoing, which takes no mail."""

    @property
    def lab(self) -> Lab:
        """Return the lab."""
        return self.applied.lab

    @property
    def relay(self) -> Host:
        """Return the relay's host."""
        return self.lab.host("relay")

    @contextlib.contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Note when an apply was at work."""
        began = time.time()
        try:
            yield
        finally:
            self.spans.append(Span(what, began, time.time()))

    @contextlib.contextmanager
    def away(self, what: str) -> Iterator[None]:
        """Note that the relay takes no mail."""
        began = time.time()
        try:
            yield
        finally:
            self.known.append(Pause(what, began, time.time() + SETTLES))

    def pauses(self, since: float) -> list[Pause]:
        """Return when something was away since then."""
        return [*pauses(self.lab, since, time.time()), *(pause for pause in self.known if pause.ended >= since)]

    def met(self, since: float) -> tuple[set[str], list[str]]:
        """Return what was away since then, and the answers that nothing of it accounts for."""
        found = self.pauses(since)
        unexplained = [
            f"{reply} {reply.text} {reply.at - since:.2f} s later"
            for reply in self.load.temporary(since)
            if not any(pause.covers(reply.began, reply.at) for pause in found)
        ]
        return {pause.what for pause in found}, unexplained

    def apply(self, pillar: str, what: str = "") -> dict[str, str]:
        """Apply a pillar and return the comments of the states that failed."""
        self.lab.set_pillar(pillar)
        with self.during(what) if what else contextlib.nullcontext():
            self.applied.apply("case")
        return self.applied.failed("case")

    def green(self, pillar: str) -> list[str]:
        """Apply a pillar that is right, and return the states that changed something."""
        assert self.apply(pillar) == {}
        return self.applied.changed("case")


def row(stream: Stream, spans: list[Span], arrived: Counter[str]) -> list[int]:
    """Return what became of the sessions that were held within some times, in the order of the columns."""
    replies = [reply for reply in stream.load.replies if any(span.began <= reply.at <= span.ended for span in spans)]
    taken = [reply for reply in replies if (reply.command, reply.code) == ("DATA", 250)]
    closed = [reply for reply in replies if str(reply) == "CONNECT lost"]
    return [
        len(spans),
        len(replies),
        len(taken),
        sum(arrived[reply.id] for reply in taken),
        sum(reply.final and reply.code >= 500 for reply in replies),
        sum(400 <= reply.code < 500 for reply in replies),
        len(closed),
        sum(reply.code == 0 for reply in replies) - len(closed),
        round(sum(span.ended - span.began for span in spans)),
    ]
