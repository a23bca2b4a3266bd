"""What a login may send in an hour and on a day: how it is counted, and what the pillar makes of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from minions import Settings
from smtpout_core.daemons.limits import accounts, counts
from smtpout_core.daemons.limits.accounts import Account, Accounts
from smtpout_core.daemons.limits.counts import Counts, Over
from smtpout_core.promises import derived
from smtpout_core.site.rules import limits

NOON = "2026-11-25 12:00"
MESSAGES = {"messages": {"hour": 2, "day": 3}}


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that puts this process into a time zone."""

    def put(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    put("Europe/Madrid")
    yield put
    monkeypatch.undo()
    time.tzset()


def at(when: str) -> float:
    """Return a local time in seconds since 1970."""
    return time.mktime(time.strptime(when, "%Y-%m-%d %H:%M"))


def sent(kept: Counts, limit: Any, now: float, recipients: int = 1, account: str = "usuario01") -> bool:
    """Send a message, and tell whether it was taken."""
    return kept.sends(account, limit, recipients, now) is None


@pytest.mark.usefixtures("zone")
def test_an_hour_is_the_clocks_and_so_is_a_day() -> None:
    kept, noon = Counts(), at(NOON)
    assert [sent(kept, MESSAGES, noon + seconds) for seconds in (0, 3598, 3599)] == [True, True, False]
    assert [sent(kept, MESSAGES, noon + seconds) for seconds in (3600, 3601)] == [True, False]
    assert not sent(kept, MESSAGES, at("2026-11-25 23:59"))
    assert sent(kept, MESSAGES, at("2026-11-26 00:00"))


@pytest.mark.usefixtures("zone")
def test_what_is_put_off_is_not_counted_and_the_first_of_a_period_is_told_apart() -> None:
    kept, limit, noon = Counts(), {"recipients": {"hour": 10}}, at(NOON)
    assert sent(kept, limit, noon, 8)
    assert kept.sends("usuario01", limit, 3, noon) == Over("recipients", "hour", 10, 8, 3, int(noon) + 3600, first=True)
    assert sent(kept, limit, noon, 2)
    again = kept.sends("usuario01", limit, 1, noon)
    assert again
    assert (again.sent, again.first) == (10, False)
    assert kept.over(noon) == 1
    later = kept.sends("usuario01", limit, 11, noon + 3600)
    assert later
    assert (later.sent, later.first) == (0, True)


@pytest.mark.usefixtures("zone")
def test_of_two_limits_the_one_that_ends_last_is_told() -> None:
    kept, noon = Counts(), at(NOON)
    limit = {"messages": {"hour": 1, "day": 1}}
    assert sent(kept, limit, noon)
    over = kept.sends("usuario01", limit, 1, noon)
    assert over
    assert (over.period, over.ends) == ("day", int(at("2026-11-26 00:00")))


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Europe/Madrid", "2026-10-25 12:00", 25),
        ("Europe/Madrid", "2026-03-29 12:00", 23),
        ("Asia/Kolkata", NOON, 24),
        ("America/Havana", "2026-03-08 12:00", 23),  # there is no midnight
    ],
)
def test_a_day_is_as_long_as_it_is(zone: Callable[[str], None], name: str, day: str, hours: int) -> None:
    zone(name)
    hour, whole = counts.spans(at(day))
    assert whole.ends - whole.begins == hours * 3600
    assert hour.begins <= at(day) < hour.ends
    assert time.localtime(hour.begins).tm_min == 0


def test_the_hour_that_comes_twice_is_two(zone: Callable[[str], None]) -> None:
    zone("Europe/Madrid")
    kept, limit = Counts(), {"messages": {"hour": 1}}
    first = at("2026-10-25 00:30") + 2 * 3600  # 02:30 in summer
    assert [sent(kept, limit, first + seconds) for seconds in (0, 60, 3600, 3660)] == [True, False, True, False]


@pytest.mark.usefixtures("zone")
def test_a_clock_that_is_set_back_gives_nothing_back_and_takes_nothing_for_long() -> None:
    kept, noon = Counts(), at(NOON)
    assert sent(kept, MESSAGES, noon)
    assert sent(kept, MESSAGES, noon + 60)
    assert not sent(kept, MESSAGES, noon - 7200)  # what was sent counts on, in the hour that it is now
    assert sent(kept, MESSAGES, noon - 3600)
    assert not sent(kept, MESSAGES, noon)  # of the day

    future = at("2031-01-01 10:00")
    assert sent(kept, MESSAGES, future, account="usuario02")
    assert sent(kept, MESSAGES, future, account="usuario02")
    assert not sent(kept, MESSAGES, noon, account="usuario02")
    assert sent(kept, MESSAGES, noon + 3600, account="usuario02")
    assert sent(kept, MESSAGES, noon + 24 * 3600, account="usuario02")


@pytest.mark.usefixtures("zone")
def test_a_changed_limit_counts_what_was_sent_before() -> None:
    kept, noon = Counts(), at(NOON)
    assert [sent(kept, {"messages": {"hour": 2}}, noon) for _ in range(3)] == [True, True, False]
    assert [sent(kept, {"messages": {"hour": 3}}, noon) for _ in range(2)] == [True, False]
    assert not sent(kept, {"messages": {"day": 3}}, noon)


def test_an_exception_is_anothers_limit_by_any_of_the_accounts_names() -> None:
    kept = Counts({"messages": {"hour": 1}}, {"erp@domain01.dom": {"messages": {"day": 30_000}}, "news": {}})
    assert kept.of(("erp", "erp@domain01.dom")) == {"messages": {"day": 30_000}}
    assert kept.of(("news",)) == {}
    assert kept.of(("usuario01",)) == {"messages": {"hour": 1}}


@pytest.mark.usefixtures("zone")
def test_what_is_written_is_read_and_old_accounts_are_forgotten() -> None:
    kept, noon = Counts(), at(NOON)
    for account, now in (("old", noon - 86_400), ("usuario01", noon), ("usuario01", noon)):
        assert sent(kept, MESSAGES, now, account=account)
    kept.forget(noon)
    other = Counts()
    other.read(kept.written())
    assert other.accounts.keys() == {"usuario01"}
    assert not sent(other, MESSAGES, noon)
    for wrong in ([], {"a": 1}, {"a": [[1, 2, 3, 4]]}, {"a": [["x", 2, 3, 4], [1, 2, 3, 4]]}):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
            other.read(wrong)  # type: ignore[arg-type]


def asking(answers: Mapping[str, Sequence[str]] | Exception, asked: list[Sequence[str]], wait: float = 0) -> Any:
    """Return a directory that gives these answers."""

    async def ask(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        asked.append(names)
        await asyncio.sleep(wait)
        if isinstance(answers, Exception):
            raise answers
        return answers

    return ask


def test_all_forms_of_a_name_are_one_account_and_each_is_asked_for_once() -> None:
    names = ["usuario01", "Usuario01@domain01.dom", "first.last@domain01.dom"]
    asked: list[Sequence[str]] = []
    known = Accounts(asking({name.lower(): names for name in names}, asked))

    async def run() -> None:
        found = await asyncio.gather(*(known.found(typed, 1000.0) for typed in [*names, "USUARIO01"]))
        assert {each.name for each in found} == {"usuario01"}
        assert found[0].names == ("usuario01", "usuario01@domain01.dom", "first.last@domain01.dom")

    asyncio.run(run())
    assert known.at_once("USUARIO01", 1000.0) == known.at_once(names[2], 1000.0)
    assert sum(map(len, asked)) == 3
    assert known.at_once("usuario01", 1000.0 + accounts.LASTS) is None
    assert known.at_once("usuario01", 1000.0 - 2 * accounts.LASTS) is None

    other = Accounts(None)
    other.read(known.written())
    assert other.known == known.known
    for wrong in ({"a": [1.0]}, {"a": ["x", "a"]}, {"a": 1}, []):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
            other.read(wrong)  # type: ignore[arg-type]


def test_a_directory_that_is_down_leaves_a_name_as_it_is_and_what_was_counted_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[tuple[str, str]] = []
    known = Accounts(asking(OSError("can't be reached"), []), lambda name, account: moved.append((name, account)))
    assert asyncio.run(known.found("A@domain01.dom", 1000.0)) == Account("a@domain01.dom", ("a@domain01.dom",))
    assert known.troubled(1001.0) == "can't be reached"
    assert known.troubled(1001.0 + accounts.AGAIN) == ""
    known.ask = asking({"a@domain01.dom": ["a", "a@domain01.dom"]}, [])
    later = 1001.0 + accounts.AGAIN
    assert asyncio.run(known.found("a@domain01.dom", later)).name == "a"
    assert moved[-1] == ("a@domain01.dom", "a")
    assert known.trouble == ""
    # What was known once holds, where nobody says otherwise.
    known.ask = asking(OSError("can't be reached"), [])
    assert asyncio.run(known.found("a@domain01.dom", later + accounts.LASTS)).name == "a"
    # One that hangs keeps a message for a second, not longer.
    monkeypatch.setattr(accounts, "PATIENCE", 0.05)
    known.ask = asking({}, [], wait=0.3)
    began = time.monotonic()
    assert asyncio.run(known.found("b", later)).name == "b"
    assert time.monotonic() - began < 0.3


@pytest.mark.usefixtures("zone")
def test_counts_of_a_name_that_turns_out_to_be_anothers_are_added() -> None:
    kept, noon = Counts(), at(NOON)
    assert sent(kept, MESSAGES, noon, account="a@domain01.dom")
    assert sent(kept, MESSAGES, noon, account="a")
    kept.move("a@domain01.dom", "a", noon)
    kept.move("nobody", "a", noon)
    assert not sent(kept, MESSAGES, noon, account="a")
    assert kept.accounts.keys() == {"a"}


def test_postfixs_client_is_asked_for_many_names_by_one_program(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "postmap"
    fake.write_text('#!/bin/sh\necho "$@" >&2; while read -r name; do echo "$name\t$name, $name@domain01.dom"; done\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ask = accounts.by_postmap("ldap:/table")
    assert asyncio.run(ask(["a b", "c"])) == {"a b": ["a b", "a b@domain01.dom"], "c": ["c", "c@domain01.dom"]}
    fake.write_text("#!/bin/sh\nexit 1\n")
    assert asyncio.run(ask(["a"])) == {}
    fake.write_text("#!/bin/sh\necho 'postmap: fatal: no server' >&2; exit 1\n")
    with pytest.raises(OSError, match="no server"):
        asyncio.run(ask(["a"]))
    fake.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="not installed"):
        asyncio.run(ask(["a"]))


LIMITS = {"messages": {"hour": 100, "day": 500}, "exceptions": {"ERP": {"messages": {"day": 30_000}}}}


def test_a_site_that_says_nothing_limits_nobody(settings: Settings, site: dict[str, Any]) -> None:
    made = settings(site)
    assert made["limits"]["enabled"] is False
    assert "logins_are_limited" not in {each.name for each in derived.everything(made)}
    for empty in ({}, {"messages": {}}, {"exceptions": {}}):
        assert settings({**site, "limits": empty})["limits"]["enabled"] is False


def test_exceptions_are_known_without_case(settings: Settings, site: dict[str, Any]) -> None:
    made = settings({**site, "limits": LIMITS})
    assert made["valid"], made["errors"]
    assert made["limits"]["exceptions"] == {"erp": {"messages": {"day": 30_000}}}
    assert "python3" in made["packages"]


@pytest.mark.parametrize(
    ("login", "query"),
    [
        ("account_name", "(sAMAccountName=%s)"),
        (["account_name", "mail"], "(&(objectClass=user)(|(sAMAccountName=%s)(mail=%s)))"),
        ("(&(uid=%U)(dc=%d))", "(&(uid=%u)(dc=%d))"),
    ],
)
def test_whose_a_name_is_the_search_for_logins_says(
    settings: Settings, site: dict[str, Any], login: Any, query: str
) -> None:
    directory = {**site["directory"], "login": login}
    if "=" in str(login):
        directory["login_attribute"] = "uid"
    assert query in settings({**site, "directory": directory, "limits": LIMITS})["directory"]["login_query"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no number": ({"messages": {"hour": "many"}}, "smtpout:limits:messages:hour"),
    "nothing at all": ({"messages": {"hour": 0}}, "smtpout:limits:messages:hour"),
    "an hour beyond a day": (
        {"recipients": {"hour": 600, "day": 500}},
        "smtpout:limits:recipients:hour: 600 is more than in a day, 500, so it would never be met",
    ),
    "an exception's": (
        {"exceptions": {"erp": {"messages": {"hour": 2, "day": 1}}}},
        "smtpout:limits:exceptions:erp:messages:hour: 2 is more than in a day, 1",
    ),
    "twice": ({"exceptions": {"erp": {}, "ERP": {}}}, 'smtpout:limits:exceptions:ERP: "ERP" is the same login as'),
    "two names in one": ({"exceptions": {"a, b": {}}}, "a name that a user logs in with"),
    "another word": ({"mails": {"hour": 1}}, "smtpout:limits"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_limit_that_means_nothing_is_refused(settings: Settings, site: dict[str, Any], case: str) -> None:
    given, said = WRONG[case]
    assert said in "\n".join(settings({**site, "limits": given})["errors"])


def test_a_platform_without_a_python_for_it_has_none(site: dict[str, Any]) -> None:
    [(rule, _)] = [each for each in limits.RULES if each[0].__name__ == "_nobody_to_ask"]
    given = {**site, "clients": [{}, {"limit": 0}], "limits": {"messages": {}, "recipients": {}, "exceptions": {}}}
    assert list(rule(given, {"limits": {"packages": []}})) == []
    given["limits"]["messages"] = {"day": 1}
    given["clients"] = [{}, {"limit": 1}]
    assert [path for path, _, _ in rule(given, {"limits": {"packages": []}})] == ["limits", "clients:1:limit"]
    assert list(rule(given, {"limits": {"python": "/usr/bin/python3"}})) == []


@pytest.mark.parametrize("name", ["smtpd_data_restrictions", "smtpd_restriction_classes", "logins_limited"])
def test_a_parameter_that_hides_them_is_refused(settings: Settings, site: dict[str, Any], name: str) -> None:
    errors = settings({**site, "limits": LIMITS, "postfix": {"main": {name: "permit"}}})["errors"]
    assert f'smtpout:postfix:main:{name}: "permit" hides what smtpout:limits says; use prepend or append' in errors
    added = {"main": {"smtpd_data_restrictions": {"append": "reject_multi_recipient_bounce"}}}
    assert settings({**site, "limits": LIMITS, "postfix": added})["valid"]
