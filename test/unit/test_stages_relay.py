"""The stages of a relay's keys, on files, states and name servers: what an apply moves, and what signs then."""

from __future__ import annotations

import copy
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core import host
from smtpout_core.change.memory import Memory
from smtpout_core.daemons.opendkim import keys as private
from smtpout_core.daemons.watch import daemon as watch
from smtpout_core.dns.wanted import wanted
from smtpout_core.errors import RelayError
from smtpout_core.stages import gate, signing, turn
from smtpout_core.stages.moves import ALL, NOBODY, SOME, UNKNOWN, Answer
from smtpout_core.stages.record import ACTIVE, MADE, PUBLISHED, REMOVED, RETIRED, Key, Record
from smtpout_core.verify import stages

Site = dict[str, Any]
DAY = 86400
D = "domain01.dom"
HEAD = "$TTL 60\n@ SOA ns.domain01.dom. h.domain01.dom. 1 3600 600 86400 60\n@ NS ns1\n@ NS ns2\n"
HEAD += "ns1 A 127.0.1.1\nns2 A 127.0.1.2\n"


class Relay:
    """A relay of one domain whose keys and tables lie below a folder of the test's.

    :param keys: of smtpout:opendkim.
    """

    def __init__(self, folder: Path, settings: Settings, states: Any, site: Site, **keys: Any) -> None:
        self.folder, self.states, self.answers = folder, states, {}
        self.make = lambda given: settings(copy.deepcopy(given))  # a changed pillar is another object
        self.site = {**site, "domains": [D], "hostname": f"relay.{D}", "opendkim": keys}
        self.state_dir = states.opts["smtpout_state_dir"]
        self.record = Record(self.state_dir)
        self.asked: list[str] = []

    def use(self, **keys: Any) -> None:
        """Have the pillar say something else of smtpout:opendkim."""
        self.site["opendkim"] = keys

    def settings(self) -> dict[str, Any]:
        made = json.loads(json.dumps(self.make(self.site)).replace('"/etc/opendkim', f'"{self.folder}'))
        assert made["valid"], made["errors"]
        return signing.laid(made, self.record.read())

    def answer(self, keys: list[Key], *_: Any) -> dict[tuple[str, str], Answer]:
        self.asked += [key.selector for key in keys]
        return {key.id: self.answers.get(key.selector, Answer(UNKNOWN, "silence")) for key in keys}

    def apply(self, *, test: bool = False, refused: bool = False) -> dict[str, Any]:
        """Make keys, look at stages, have the tables say who signs, and remember it, as the states do in turn.

        :param refused: the site doesn't change, for whatever reason.
        """
        self.asked.clear()
        made = self.states("opendkim.keys_present", name="Keys", user="root", group="root", bits=1024, test=test)
        assert made["result"] is not False, made["comment"]
        planned = self.states("opendkim.stages_planned", name="Plan", test=test)
        assert (planned["result"], planned["changes"]) == (True, {}), planned["comment"]
        told = {"made": list(made["changes"]), "said of keys": made["comment"], "said": planned["comment"]}
        told |= {"warnings": planned.get("warnings", [])}
        if refused:
            return told
        if not test:
            self.write_tables(self.states._states.pack["__context__"][host.STAGES][0])
        return self.states("opendkim.stages_moved", name="Stages", test=test) | told

    def write_tables(self, keys: list[Key]) -> None:
        signs = signing.laid(self.settings(), keys)["opendkim"]["signing_keys"]
        name = "{selector}._domainkey.{domain}"
        lines = [f"{name} {{domain}}:{{selector}}:{{path}}\n".format(**key) for key in signs]
        self.folder.joinpath("KeyTable").write_text("".join(lines))
        lines = [f"{domain} {name.format(**key)}\n" for key in signs for domain in key["signs"]]
        self.folder.joinpath("SigningTable").write_text("".join(lines))

    def signs(self) -> str:
        return signing.tables_of(self.settings())[D][0]

    def stages(self) -> dict[str, str]:
        return {key.selector: key.stage for key in self.record.read()}

    def ages(self, days: float) -> None:
        """Have all that is remembered be older."""
        past = int(days * DAY)
        self.record.write(
            key.__class__(**{**vars(key), "since": key.since - past, "complete": key.complete and key.complete - past})
            for key in self.record.read()
        )


@pytest.fixture
def relay(
    tmp_path: Path, settings: Settings, states: Any, modules: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Relay]:
    (tmp_path / "opendkim").mkdir()
    made = Relay(tmp_path / "opendkim", settings, states, site)
    monkeypatch.setitem(modules, "smtpout.settings", made.settings)
    monkeypatch.setattr(gate, "answers", made.answer)
    yield made
    made.record.path.unlink(missing_ok=True)


# --- an apply ------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_the_first_apply_moves_and_the_second_apply_moves_nothing(relay: Relay) -> None:
    dry = relay.apply(test=True)
    assert (dry["result"], list(dry["changes"])) == (None, [f"default._domainkey.{D}"])
    assert not relay.record.path.exists()
    first = relay.apply()
    assert (first["result"], first["changes"].keys()) == (True, dry["changes"].keys())
    assert "its record is to be published now" in first["warnings"][0]
    assert stat.S_IMODE(relay.record.path.stat().st_mode) == 0o600
    again = relay.apply()
    assert (again["result"], again["changes"], again["made"]) == (True, {}, [])
    assert (again["said"], again["comment"]) == ("Every key stays in its stage.", "No keys moved.")
    assert relay.asked == []


def test_a_changed_selector_signs_once_all_servers_have_had_its_record(relay: Relay) -> None:
    relay.apply()
    relay.use(selector="s2027")
    relay.answers["s2027"] = Answer(NOBODY, "ns2.domain01.dom. has no such name")
    dry = relay.apply(test=True)
    assert dry["result"] is None
    assert relay.signs() == "default"
    ret = relay.apply()
    assert ret["result"] is True
    assert ret["made"] == [f"{relay.folder}/keys/{D}.s2027.private"]
    assert "default signs until it may: ns2.domain01.dom. has no such name" in ret["warnings"][0]
    assert (relay.signs(), relay.stages()) == ("default", {"default": ACTIVE, "s2027": MADE})
    assert [key["selector"] for key in relay.settings()["opendkim"]["keys"]] == ["default", "s2027"]
    assert [key.selector for key in wanted(relay.settings()).keys] == ["default", "s2027"]
    assert relay.apply()["changes"] == {}
    relay.answers["s2027"] = Answer(ALL)
    ret = relay.apply()
    assert (relay.signs(), relay.stages()) == ("default", {"default": ACTIVE, "s2027": PUBLISHED})
    assert "have to have had it until" in ret["warnings"][0]
    assert relay.apply()["changes"] == {}
    relay.ages(1)
    dry = relay.apply(test=True)
    assert "published -> active" in dry["said"]
    assert relay.signs() == "default"
    ret = relay.apply()
    assert ret["changes"].keys() == {f"default._domainkey.{D}", f"s2027._domainkey.{D}"}
    assert (relay.signs(), relay.stages()) == ("s2027", {"default": RETIRED, "s2027": ACTIVE})
    ret = relay.apply()
    assert (ret["changes"], ret["result"]) == ({}, True)
    assert ret["warnings"] == []
    assert "leave its record there" in ret["said"]
    relay.ages(15)
    ret = relay.apply()
    assert relay.stages() == {"default": REMOVED, "s2027": ACTIVE}
    assert Path(f"{relay.folder}/keys/{D}.default.private").exists()
    assert [key["selector"] for key in relay.settings()["opendkim"]["keys"]] == ["s2027"]
    assert relay.apply()["changes"] == {}


def test_a_change_that_never_came_leaves_the_old_key_its_record(relay: Relay) -> None:
    relay.apply()
    tables = [(path, path.read_text()) for path in relay.folder.glob("*Table")]
    relay.use(selector="s2027", gate="none")
    relay.apply(refused=True)
    assert relay.stages() == {"default": ACTIVE}
    relay.apply()
    assert relay.signs() == "s2027"
    for path, text in tables:  # as from a backup
        path.write_text(text)
    relay.ages(30)
    relay.apply()
    assert relay.stages() == {"default": RETIRED, "s2027": ACTIVE}
    relay.ages(13)
    relay.apply()
    assert relay.stages()["default"] == RETIRED


def test_what_signs_today_is_taken_for_active_where_nothing_is_remembered(relay: Relay) -> None:
    relay.apply()
    relay.record.path.unlink()
    relay.use(selector="s2027")
    relay.answers["s2027"] = Answer(NOBODY, "no such record")
    ret = relay.apply()
    assert (relay.signs(), relay.stages()) == ("default", {"default": ACTIVE, "s2027": MADE})
    assert "it signs today" in ret["said"]


def test_a_key_of_another_name_that_signs_today_goes_on_doing_so_by_its_selector(relay: Relay, tmp_path: Path) -> None:
    path = str(tmp_path / "theirs")
    private.generate_key(path)
    relay.folder.joinpath("KeyTable").write_text(f"theirs {D}:default:{path}\n")
    relay.folder.joinpath("SigningTable").write_text(f"*@{D} theirs\n")
    ret = relay.apply()
    assert [key.path for key in relay.record.read()] == [path]
    assert ret["made"] == []
    assert signing.tables_of(relay.settings())[D] == ("default", path)
    assert relay.apply()["changes"] == {}
    text = Path(path).read_text()  # and the pillar may have it
    relay.use(domains={D: {"private_key": text}})
    relay.apply()
    assert [key.path for key in relay.record.read()] == [f"{relay.folder}/keys/{D}.default.private"]
    assert relay.apply()["changes"] == {}


def test_a_table_that_leads_to_no_key_makes_nothing_active(relay: Relay) -> None:
    relay.folder.joinpath("KeyTable").write_text(f"x {D}:x:/nowhere\ny {D}:y\n")
    relay.folder.joinpath("SigningTable").write_text(f"{D} x\n*@{D} y\nother.dom z\n")
    relay.apply()
    assert relay.stages() == {"default": ACTIVE}


def test_a_memory_that_cannot_be_read_stops_the_apply_and_says_what_helps(relay: Relay) -> None:
    relay.apply()
    for text in ("half", '[{"domain": "a"}]', '[{"domain":"a","selector":"b","path":"c","stage":"d","since":1}]'):
        relay.record.path.write_text(text)
        ret = relay.states("opendkim.stages_planned", name="Plan")
        assert (ret["result"], ret["comment"].partition(" ")[0]) == (False, str(relay.record.path))
        with pytest.raises(RelayError, match="nobody knows which DKIM keys receivers may meet"):
            relay.record.read()


def test_while_another_run_is_at_work_or_was_meanwhile_nothing_moves(relay: Relay) -> None:
    relay.apply()
    relay.use(selector="s2027", gate="none")
    relay.apply(refused=True)
    with Memory(relay.state_dir).locked():
        ret = relay.states("opendkim.stages_moved", name="Stages")
    assert (ret["result"], ret["changes"]) == (False, {})
    relay.apply(refused=True)
    relay.record.write(relay.record.read())
    ret = relay.states("opendkim.stages_moved", name="Stages")
    assert (ret["result"], ret["comment"]) == (False, "Another run has moved keys meanwhile. Run this again.")
    assert relay.stages() == {"default": ACTIVE}
    assert relay.states("opendkim.stages_moved", name="Stages")["result"] is False  # without a look before


def test_with_the_keys_what_is_remembered_of_them_goes(relay: Relay) -> None:
    relay.apply()
    dry = relay.states("opendkim.stages_forgotten", name="Forgotten", test=True)
    assert (dry["result"], relay.stages()) == (None, {"default": ACTIVE})
    ret = relay.states("opendkim.stages_forgotten", name="Forgotten")
    assert (ret["result"], ret["changes"], relay.stages()) == (True, dry["changes"], {})
    assert relay.states("opendkim.stages_forgotten", name="Forgotten")["changes"] == {}


def test_keys_that_follow_are_made_in_batches_and_those_that_sign_at_once(relay: Relay) -> None:
    domains = [f"d{n}.dom" for n in range(5)]
    relay.site["domains"] = [D, *domains]
    relay.use(batch=2)
    assert len(relay.apply()["made"]) == 7  # with their folder
    relay.use(batch=2, selector="s2027")
    found = [relay.apply() for _ in range(4)]
    assert [len(ret["made"]) for ret in found] == [2, 2, 2, 0]
    assert "4 more are made by the next applies (smtpout:opendkim:batch)." in found[0]["said of keys"]
    assert "more are made" not in found[2]["said of keys"]


def test_a_retired_key_that_a_person_has_taken_away_is_not_made_anew(relay: Relay) -> None:
    relay.apply()
    relay.use(selector="s2027", gate="none")
    relay.apply()
    path = Path(f"{relay.folder}/keys/{D}.default.private")
    assert [key.selector for key in wanted(relay.settings()).keys] == ["s2027", "default"]
    path.unlink()
    assert relay.apply()["made"] == []
    assert not path.exists()
    assert [key.selector for key in wanted(relay.settings()).keys] == ["s2027"]


def test_of_a_site_that_signs_nothing_nothing_moves(relay: Relay) -> None:
    relay.apply()
    relay.use(enabled=False)
    plan = turn.Turn(relay.settings(), relay.state_dir, test=True).plan()
    assert (plan.keys, plan.moves, plan.waits) == (relay.record.read(), [], [])


# --- by hand, by the calendar --------------------------------------------------------------------------------------


def test_selectors_are_prepared_and_take_over_in_the_order_of_the_pillar(relay: Relay) -> None:
    relay.apply()
    relay.use(domains={D: {"selectors": ["default", {"name": "s2027", "stage": "published"}]}})
    relay.answers["s2027"] = Answer(ALL)
    relay.apply()
    relay.ages(1)
    relay.apply()
    assert (relay.signs(), relay.stages()) == ("default", {"default": ACTIVE, "s2027": PUBLISHED})
    relay.use(domains={D: {"selectors": ["s2027", "default"]}})
    relay.apply()
    relay.ages(30)
    relay.apply()
    assert (relay.signs(), relay.stages()) == ("s2027", {"default": RETIRED, "s2027": ACTIVE})


def test_a_key_is_renewed_by_the_calendar_once_it_is_older_than_the_domains_turn(relay: Relay) -> None:
    relay.use(rotate="monthly")
    relay.apply()
    assert relay.stages() == {"default": ACTIVE}  # it is new
    relay.ages(32)
    relay.answers = dict.fromkeys(
        (f"s{year}{month:02}" for year in (2026, 2027) for month in range(1, 13)), Answer(ALL)
    )
    relay.apply()
    (new,) = relay.stages().keys() - {"default"}
    assert relay.stages() == {"default": ACTIVE, new: PUBLISHED}
    relay.ages(40)  # the next month's isn't made as long as this one waits
    relay.apply()
    assert (relay.signs(), relay.stages()) == (new, {"default": RETIRED, new: ACTIVE})
    assert relay.apply()["changes"] == {}


# --- what is told ---------------------------------------------------------------------------------------------------


def test_a_plan_says_of_each_key_what_would_move_and_why_others_wait(relay: Relay) -> None:
    relay.apply()
    relay.use(selector="s2027")
    relay.answers["s2027"] = Answer(SOME, "ns2 lacks it")

    def told() -> dict[str, Any]:
        return turn.told(turn.Turn(relay.settings(), relay.state_dir, test=True).plan())

    (found,) = told()["keys"]
    assert (found["key"], found["stage"]) == (f"s2027._domainkey.{D}", MADE)
    assert found["said"].endswith("default signs until it may: the key is made before its record can be published")
    assert relay.stages() == {"default": ACTIVE}
    relay.apply()
    assert told()["keys"][0]["said"] == "default signs until it may: ns2 lacks it"
    assert told()["counts"] == {ACTIVE: 1, PUBLISHED: 1}
    relay.answers["s2027"] = Answer(ALL)
    relay.apply()
    relay.ages(1)
    moving = {each["key"]: each for each in told()["keys"]}
    assert moving[f"s2027._domainkey.{D}"]["said"].startswith("published -> active: ")
    assert moving[f"default._domainkey.{D}"]["said"].startswith("active -> retired: s2027 signs")
    assert relay.stages() == {"default": ACTIVE, "s2027": PUBLISHED}


def test_verify_and_the_watch_say_which_keys_wait_for_a_record_or_an_apply(relay: Relay) -> None:
    here = host.Host(state_dir=relay.state_dir)

    def said() -> list[str]:
        known = json.loads(watch.known(relay.settings(), here))["site"]
        found = stages.waiting(relay.settings(), here)
        assert stages.waiting(known, here) == found  # the watch knows less of the site
        return [seen for _, seen in found]

    assert said() == []  # nothing was applied
    relay.apply()
    assert said() == []
    relay.use(selector="s2027")
    relay.apply()
    assert said() == [f"s2027._domainkey.{D}: made: default signs until it may: silence"]
    relay.answers["s2027"] = Answer(ALL)
    relay.apply()
    relay.ages(1)
    (waits,) = said()
    assert waits.startswith(f"the next apply moves default._domainkey.{D}: active -> retired")
    relay.apply()
    assert said() == []
    relay.record.path.write_text("half")
    assert "nobody knows which DKIM keys" in stages.waiting(relay.make(relay.site), here)[0][1]
