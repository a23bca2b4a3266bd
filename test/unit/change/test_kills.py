"""A run that is killed, at any change of files or units: once the next one has ended, the host is one whole.

The next run may be the same, one of the old whole, or one that is refused. After each kill it is one of the three, and
some kills are left out; with EVERY_KILL in the environment it is every one and all three, which takes minutes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pretend_daemons import OLD
from pretend_site import Site, Work, World, kills

pytestmark = pytest.mark.timeout(900)


class After:
    """What the host has to be like after the run that follows a kill.

    :param wholes: when the generation of this number counts.
    :param again: the run that is killed.
    :param done: when that has been done again.
    :param back: when the old whole comes after the new one; as it was before it, if that is left out.
    """

    def __init__(
        self, site: Site, wholes: dict[int, World], again: Work, done: World, back: World | None = None
    ) -> None:
        self.site, self.wholes, self.again, self.done = site, wholes, again, done
        self.back = back or wholes[1]
        self.runs = itertools.cycle([self.the_same, self.the_old_one, self.a_refused_one])

    def look(self, at: int, before: str = "") -> None:
        """Try what may come next; where it is more than one, each with the host as the kill has left it."""
        every = "EVERY_KILL" in os.environ
        place = self.site.kept("killed") if every else None
        for run in itertools.islice(self.runs, 3 if every else 1):
            if place:
                self.site.again(place)
            try:
                run()
                self.site.tidy()
            except AssertionError as error:
                error.add_note(f"{before}killed at {at}, then {run.__name__}")
                raise

    def the_same(self) -> None:
        self.again()
        assert self.site.host.world() == self.done

    def the_old_one(self) -> None:
        new = self.site.generation() == 2 and not (self.site.host.state / "change/begun").exists()
        assert self.site.brought(self.site.old) == (self.back if new else self.wholes[1])
        assert self.site.host.apply().changed == []

    def a_refused_one(self) -> None:
        host = self.site.host
        self.site.new(hostname="misspelt")
        undone = (host.state / "change/begun").exists()
        told = host.refused()
        assert "no such parameter" in told
        assert ("A run was cut short" in told, "nothing else was changed" in told) == (undone, undone)
        assert host.world() == self.wholes[self.site.generation()]
        assert host.transaction().recover() == []


def test_an_apply_that_is_killed(site: Site) -> None:
    old, new, back = site.both()
    again = site.apply(site.new)
    after = After(site, {1: old, 2: new}, again, new, back)
    for at in kills(site, again, step=4):
        after.look(at)


def test_an_apply_that_is_killed_as_it_is_taken_back(site: Site) -> None:
    old = site.brought(site.old)
    again = site.apply(lambda: site.new(hostname="deaf"))
    after = After(site, {1: old}, again, old)
    for at in kills(site, again, told=True, step=3):
        after.look(at)


def test_an_undoing_that_is_killed(site: Site) -> None:
    old = site.brought(site.old)
    after = After(site, {0: site.unmade, 1: old}, site.unmake, site.unmade)
    for at in kills(site, site.unmake, told=True, step=3):
        after.look(at)


def all_have_met_it(site: Site) -> bool:
    """Be the moment at which milter and relay serve with the new whole, and the filter is about to go."""
    return "filter" in site.told()


def on_the_way_back(site: Site) -> bool:
    """Be the moment at which the milter serves with the old whole again, and the relay doesn't yet."""
    socket = f"socket = {OLD['socket']}\n"
    return "relay" in site.told() and site.host.text("started/milter/milter.cf") == socket


@pytest.mark.parametrize(("hostname", "moment"), [("fine", all_have_met_it), ("deaf", on_the_way_back)])
def test_a_recovery_that_is_killed(site: Site, hostname: str, moment: Callable[[Site], bool]) -> None:
    old, new, _ = site.both(hostname=hostname)
    start = site.kept("start")
    again = site.apply(lambda: site.new(hostname=hostname))
    first = site.first(again, lambda: moment(site))
    site.again(start)

    def prepare() -> None:
        assert site.killed(first, again)

    after = After(site, {1: old, 2: new}, again, new)
    for at in kills(site, lambda: site.host.transaction().recover(), prepare, step=5):
        after.look(at, f"killed at {first}, then in the recovery ")


def test_a_first_apply_that_is_killed(site: Site) -> None:
    start = site.kept("start")
    old = site.brought(site.old)
    site.again(start)
    again = site.apply(site.old)
    after = After(site, {0: site.bare, 1: old}, again, old)
    for at in kills(site, again, step=5):
        after.look(at)


def test_a_hand_edit_after_a_kill_is_kept(site: Site) -> None:
    site.brought(site.old)
    edited = site.host.etc / "relay/main.cf"
    cut_short = 0
    for _ in kills(site, site.apply(site.new), told=True, step=9):
        edited.write_text("by hand\n")
        if not (site.host.state / "change/begun").exists():  # all was done before: what stands there stays
            assert site.host.transaction().recover() == []
            continue
        cut_short += 1
        [_, note] = site.host.transaction().recover()
        assert note.startswith(f"{edited} was changed by hand; it was put back, and what it held is in ")
        assert Path(note.splitlines()[0].split()[-1].rstrip(".")).read_text() == "by hand\n"
        assert "+by hand" in note.splitlines()
    assert cut_short


def test_test_mode_says_what_the_apply_would_put_back_first_and_touches_nothing(site: Site) -> None:
    site.brought(site.old)
    site.first(site.apply(site.new), site.told)  # it ends there
    first = site.host.snapshot()
    said = "A run was cut short; the apply would first put back what was there before it."
    assert site.host.transaction(test=True).recover() == [said]
    site.new()
    assert said in site.host.apply(test=True).notes
    assert site.host.snapshot() == first
