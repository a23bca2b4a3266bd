"""When a DKIM key moves to its next stage, with a clock and DNS answers of the test's own."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from smtpout_core.errors import RelayError
from smtpout_core.stages import moves, rotation
from smtpout_core.stages.moves import ALL, NOBODY, SOME, UNKNOWN, Answer, Facts, Plan, Rules, Want
from smtpout_core.stages.record import ACTIVE, MADE, PUBLISHED, REMOVED, RETIRED, Key

HOUR, DAY = 3600, 86400
RULES = Rules()
NOW = 1_800_000_000
D = "a.dom"


def want(selector: str, most: str = ACTIVE, path: str = "") -> Want:
    return Want(D, selector, path or f"/keys/{selector}", most)


def key(selector: str, stage: str, since: int = NOW - 100 * DAY, complete: int = 0, **more: Any) -> Key:
    return Key(
        D, selector, more.pop("path", f"/keys/{selector}"), stage, since, complete, **{"public": selector, **more}
    )


def decide(
    kept: Iterable[Key],
    *wants: Want,
    answers: dict[str, str | Answer] | None = None,
    now: int = NOW,
    files: Iterable[str] = ("old", "new", "newer"),
    signing: Iterable[str] = (),
    rules: Rules = RULES,
) -> Plan:
    """Return what moves, where each selector's file has a key of the selector's name."""
    held = {f"/keys/{selector}": selector for selector in files}
    said = {
        (D, selector): answer if isinstance(answer, Answer) else Answer(answer, "ns2 has no such record")
        for selector, answer in (answers or {}).items()
    }
    facts = Facts(now, lambda path: held.get(path, ""), said, [(D, selector) for selector in signing])
    return moves.decided(list(kept), {D: list(wants)} if wants else {}, facts, rules)


def stages(plan: Plan) -> dict[str, str]:
    return {each.selector: each.stage for each in plan.keys}


# --- the first key -------------------------------------------------------------------------------------------------


def test_a_domains_first_key_signs_at_once_and_a_warning_says_to_publish_it() -> None:
    plan = decide([], want("new"))
    assert stages(plan) == {"new": ACTIVE}
    (warning,) = [str(note) for note in plan.moves if note.warns]
    assert warning.startswith(
        "new._domainkey.a.dom: made -> active: the domain has no other that signs, so it signs at"
    )
    assert warning.endswith("its record is to be published now")
    assert moves.asked([], {D: [want("new")]}, Rules()) == []


def test_a_first_key_whose_file_is_not_there_is_not_remembered() -> None:
    assert decide([], want("new"), files=()).keys == []


def test_a_key_that_is_to_go_no_further_than_published_signs_where_there_is_no_other() -> None:
    assert stages(decide([], want("old", PUBLISHED), want("new"))) == {"old": MADE, "new": ACTIVE}
    assert stages(decide([], want("old", PUBLISHED))) == {"old": ACTIVE}


# --- the gate ------------------------------------------------------------------------------------------------------


def test_a_new_selector_is_made_and_the_old_one_goes_on_signing() -> None:
    plan = decide([key("old", ACTIVE)], want("new"), answers={"new": NOBODY})
    assert stages(plan) == {"old": ACTIVE, "new": MADE}
    (wait,) = plan.waits
    assert wait.warns
    assert str(wait) == "new._domainkey.a.dom: made: old signs until it may: ns2 has no such record"


@pytest.mark.parametrize(
    ("answer", "stage", "complete"),
    [(NOBODY, MADE, 0), (SOME, PUBLISHED, 0), (ALL, PUBLISHED, NOW), (UNKNOWN, MADE, 0)],
)
def test_what_dns_has_is_followed_and_no_single_look_opens_the_gate(answer: str, stage: str, complete: int) -> None:
    plan = decide([key("old", ACTIVE), key("new", MADE)], want("new"), answers={"new": answer})
    made = next(each for each in plan.keys if each.selector == "new")
    assert (made.stage, made.complete) == (stage, complete)
    assert stages(plan)["old"] == ACTIVE


@pytest.mark.parametrize(("age", "signs"), [(HOUR - 1, "old"), (HOUR, "new")])
def test_the_gate_opens_once_all_servers_have_had_the_record_for_hold(age: int, signs: str) -> None:
    plan = decide([key("old", ACTIVE), key("new", PUBLISHED, complete=NOW - age)], want("new"), answers={"new": ALL})
    assert [each.selector for each in plan.keys if each.stage == ACTIVE] == [signs]
    if signs == "old":
        assert "have to have had it until 2027-01-15 08:00 UTC" in str(plan.waits[0])
    else:
        assert stages(plan) == {"old": RETIRED, "new": ACTIVE}


def test_a_server_that_lost_the_record_begins_the_time_anew() -> None:
    plan = decide([key("old", ACTIVE), key("new", PUBLISHED, complete=NOW - DAY)], want("new"), answers={"new": SOME})
    plan = decide(plan.keys, want("new"), answers={"new": ALL}, now=NOW + 60)
    assert stages(plan) == {"old": ACTIVE, "new": PUBLISHED}
    assert plan.keys[1].complete == NOW + 60


def test_silence_moves_nothing_and_takes_nothing_back() -> None:
    kept = [key("old", ACTIVE), key("new", PUBLISHED, complete=NOW - DAY)]
    for answers in ({"new": UNKNOWN}, {}):
        plan = decide(kept, want("new"), answers=answers)
        assert plan.keys == kept
        assert plan.moves == []
        assert plan.waits[0].warns


def test_a_key_that_this_relay_does_not_hold_does_not_sign_although_it_is_published() -> None:
    kept = [key("old", ACTIVE), key("new", PUBLISHED, complete=NOW - DAY)]
    plan = decide(kept, want("new"), answers={"new": ALL}, files=["old"])
    assert plan.keys == kept
    assert "this relay doesn't hold the key" in str(plan.waits[0])


def test_a_key_that_lies_there_anew_begins_anew() -> None:
    kept = [key("old", ACTIVE), key("new", PUBLISHED, complete=NOW - DAY, public="another")]
    plan = decide(kept, want("new"), answers={"new": ALL})
    assert stages(plan) == {"old": ACTIVE, "new": PUBLISHED}
    assert plan.keys[1].complete == NOW


def test_without_a_gate_a_new_key_signs_as_soon_as_it_is_made() -> None:
    rules = Rules(moves.NONE)
    assert moves.asked([key("old", ACTIVE)], {D: [want("new")]}, rules) == []
    assert stages(decide([key("old", ACTIVE)], want("new"), rules=rules)) == {"old": RETIRED, "new": ACTIVE}


def test_with_hold_zero_one_look_is_enough() -> None:
    plan = decide([key("old", ACTIVE)], want("new"), answers={"new": ALL}, rules=Rules(hold=0))
    assert stages(plan) == {"old": RETIRED, "new": ACTIVE}


def test_a_selector_taken_back_in_the_pillar_signs_again_as_its_record_is_still_there() -> None:
    kept = [key("old", RETIRED, since=NOW - DAY, complete=NOW - 9 * DAY), key("new", ACTIVE, since=NOW - DAY)]
    assert [each.selector for each in moves.asked(kept, {D: [want("old")]}, Rules())] == ["old"]
    assert stages(decide(kept, want("old"), answers={"old": ALL})) == {"old": ACTIVE, "new": RETIRED}
    plan = decide(kept, want("old"), answers={"old": SOME})
    assert stages(plan) == {"old": RETIRED, "new": ACTIVE}
    assert (plan.keys[0].since, plan.keys[0].complete) == (NOW - DAY, 0)


# --- by hand -------------------------------------------------------------------------------------------------------


def test_of_several_the_first_that_may_sign_does() -> None:
    kept = [key("old", ACTIVE), key("new", PUBLISHED, complete=NOW - DAY), key("newer", MADE)]
    wants = [want("newer"), want("new"), want("old")]
    plan = decide(kept, *wants, answers={"newer": NOBODY, "new": ALL})
    assert stages(plan) == {"old": RETIRED, "new": ACTIVE, "newer": MADE}


def test_what_stands_behind_the_one_that_signs_is_published_and_not_asked_for_any_more() -> None:
    kept = [key("old", ACTIVE), key("new", MADE)]
    wants = [want("old"), want("new", PUBLISHED)]
    assert [each.selector for each in moves.asked(kept, {D: wants}, Rules())] == ["new"]
    plan = decide(kept, *wants, answers={"new": ALL})
    assert stages(plan) == {"old": ACTIVE, "new": PUBLISHED}
    assert moves.asked(plan.keys, {D: wants}, Rules()) == []


def test_one_that_is_to_be_published_only_never_signs_beside_another() -> None:
    kept = [key("old", ACTIVE), key("new", PUBLISHED, complete=NOW - DAY)]
    assert decide(kept, want("new", PUBLISHED), want("old"), answers={"new": ALL}).keys == kept


def test_a_selector_keeps_its_key() -> None:
    given = want("old", path="/keys/new")._replace(given=True)
    with pytest.raises(
        RelayError, match=r"^smtpout:opendkim:domains:a\.dom: /keys/new hasn't the key whose record is old"
    ):
        decide([key("old", ACTIVE)], given)
    kept = [key("old", ACTIVE, path="/elsewhere")]
    assert [each.path for each in decide(kept, want("old")).keys] == ["/keys/old"]  # the same key, at another place
    kept = [key("old", ACTIVE)]
    assert decide(kept, given._replace(given=False)).keys == kept  # of another formula's, say


# --- retired, removed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "stage"), [(14 * DAY - 1, RETIRED), (14 * DAY, REMOVED)])
def test_a_key_is_removed_once_what_it_signed_has_arrived(age: int, stage: str) -> None:
    plan = decide([key("old", RETIRED, since=NOW - age), key("new", ACTIVE)], want("new"))
    assert stages(plan)["old"] == stage
    said = str((plan.moves or plan.waits)[0])
    assert ("its record may go from DNS" in said) == (stage == REMOVED)


def test_as_long_as_a_relay_signs_with_it_its_time_does_not_begin() -> None:
    kept = [key("old", RETIRED, since=NOW - 90 * DAY), key("new", ACTIVE)]
    plan = decide(kept, want("new"), signing=["old"])
    assert stages(plan)["old"] == RETIRED
    assert plan.keys[0].since == NOW


def test_a_key_that_is_still_listed_is_never_removed() -> None:
    kept = [key("old", RETIRED), key("new", ACTIVE)]
    assert decide(kept, want("new"), want("old")).keys == kept


def test_a_key_that_never_signed_is_given_up_as_soon_as_nobody_wants_it() -> None:
    kept = [key("old", ACTIVE), key("new", PUBLISHED)]
    assert stages(decide(kept, want("old"))) == {"old": ACTIVE, "new": REMOVED}
    assert stages(decide(kept, want("old"), signing=["new"])) == {"old": ACTIVE, "new": RETIRED}


def test_keys_of_a_domain_that_the_site_has_no_more_are_retired_and_then_removed() -> None:
    plan = decide([key("old", ACTIVE)], signing=["old"])
    assert stages(plan) == {"old": RETIRED}
    assert stages(decide(plan.keys, now=NOW + 14 * DAY)) == {"old": REMOVED}


def test_a_removed_selector_that_is_wanted_again_begins_anew_and_is_not_printed_before() -> None:
    kept = [key("old", REMOVED), key("new", ACTIVE)]
    assert stages(decide(kept, want("old"), answers={"old": NOBODY})) == {"old": MADE, "new": ACTIVE}


def test_of_removed_keys_the_last_one_is_remembered() -> None:
    kept = [key("old", REMOVED), key("new", RETIRED), key("newer", ACTIVE)]
    assert stages(decide(kept, want("newer"))) == {"new": REMOVED, "newer": ACTIVE}


def test_a_clock_that_was_ahead_is_not_waited_for() -> None:
    ahead = NOW + 1000 * DAY
    kept = [key("old", ACTIVE, since=ahead), key("new", PUBLISHED, since=ahead, complete=ahead)]
    plan = decide(kept, want("new"), answers={"new": ALL})
    assert stages(decide(plan.keys, want("new"), answers={"new": ALL}, now=NOW + HOUR))["new"] == ACTIVE


def test_a_second_look_at_the_same_time_moves_nothing() -> None:
    plan = decide([key("old", ACTIVE)], want("new"), answers={"new": ALL}, rules=Rules(hold=0))
    again = decide(plan.keys, want("new"), answers={"new": ALL}, rules=Rules(hold=0))
    assert (again.keys, again.moves) == (plan.keys, [])


# --- at any time ---------------------------------------------------------------------------------------------------


class World:
    """A relay, its site and its DNS over months, as chance has it; and what a receiver sees of its mail.

    :param seed: of chance.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.now = NOW
        self.kept: list[Key] = []
        self.wants = [want("s0")]
        self.files: dict[str, str] = {}
        self.servers: list[dict[str, str]] = [{}, {}]
        self.signing: set[tuple[str, str]] = set()
        self.sent: list[tuple[int, str]] = []
        self.count = 0

    def something_happens(self) -> None:
        chance = self.chance
        self.now += chance.choice([0, 60, HOUR, DAY, 5 * DAY])
        event = chance.randrange(6)
        if event == 0:
            self.count += 1
            self.wants = [want(f"s{self.count}")]
        elif event == 1 and self.count:
            self.wants = [
                want(f"s{chance.randrange(self.count + 1)}", chance.choice([PUBLISHED, ACTIVE])),
                *self.wants[:1],
            ]
            self.wants = list({each.selector: each for each in reversed(self.wants)}.values())[::-1]
        elif event == 2:
            self.kept_records(chance.choice(self.servers))
        elif event in (3, 4):
            for server in self.servers:
                self.kept_records(server)

    def kept_records(self, server: dict[str, str]) -> None:
        """Have a server publish what is printed: the person's part, who also takes away what is removed."""
        server |= {each.selector: each.public for each in self.kept if each.stage != REMOVED}
        for each in self.kept:
            if each.stage == REMOVED:
                server.pop(each.selector, None)

    def answer(self, selector: str) -> Answer:
        if self.chance.random() < 0.2:
            return Answer(UNKNOWN, "silence")
        have = sum(server.get(selector) == self.files.get(f"/keys/{selector}") for server in self.servers)
        return Answer({0: NOBODY, len(self.servers): ALL}.get(have, SOME))

    def apply(self) -> Plan:
        for each in self.wants:
            self.files.setdefault(each.path, f"key {each.path}")
        wanted = {D: self.wants}
        asked = {each.id: self.answer(each.selector) for each in moves.asked(self.kept, wanted, Rules())}
        facts = Facts(self.now, lambda path: self.files.get(path, ""), asked, set(self.signing))
        plan = moves.decided(self.kept, wanted, facts, Rules())
        self.kept = plan.keys
        if self.chance.random() < 0.9:  # or the change of the site is refused
            self.signing = {each.id for each in self.kept if each.stage == ACTIVE}
        return plan


@pytest.mark.parametrize("seed", range(60))
def test_at_any_time_one_key_signs_that_all_servers_had_when_it_began_and_is_not_removed_before_its_mail_is_there(
    seed: int,
) -> None:
    world = World(seed)
    for _ in range(80):
        before = {each.selector: each.stage for each in world.kept}
        plan = world.apply()
        now = {each.selector: each.stage for each in plan.keys}
        assert list(now.values()).count(ACTIVE) == 1
        (active,) = [selector for selector, stage in now.items() if stage == ACTIVE]
        if before and before.get(active) != ACTIVE:
            assert all(server.get(active) == world.files[f"/keys/{active}"] for server in world.servers)
        world.sent += [(world.now, selector) for _, selector in world.signing]
        for each in plan.keys:
            if each.stage == REMOVED and each.since == world.now:
                assert each.id not in world.signing
                last = max((when for when, selector in world.sent if selector == each.selector), default=0)
                assert not last or world.now - last >= 14 * DAY, each
        world.something_happens()


# --- by the calendar -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rotate", "months"), rotation.MONTHS.items())
def test_a_domain_is_due_once_a_period(rotate: str, months: int) -> None:
    found = [rotation.due(D, rotate, NOW + day * DAY) for day in range(4 * 366)]
    selectors = list(dict.fromkeys(selector for selector, _ in found))
    assert abs(len(selectors) - 48 // months) <= 1
    assert all(began <= NOW + day * DAY for day, (_, began) in enumerate(found))
    assert selectors == sorted(selectors)
    assert len(set(found)) == len(selectors)


def test_domains_take_turns() -> None:
    turns = [rotation.turn(f"domain{n}.dom", 3) // DAY for n in range(10_000)]
    assert max(turns.count(day) for day in range(84)) < 200
    assert rotation.due("a.dom", "quarterly", NOW)[0] in ("s202610", "s202701")
