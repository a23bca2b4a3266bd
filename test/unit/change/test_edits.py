"""What was changed by hand is shown and kept, also where it isn't put back yet; and kept not for ever."""

from __future__ import annotations

import stat
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pretend_daemons import NEW, OLD, Host, Key
from smtpout_core.change import memory


def edit(host: Host, name: str, text: str = "by hand\n") -> str:
    """Change a file by hand; return its path."""
    (host.etc / name).write_text(text)
    return str(host.etc / name)


def at(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Have the memory take this for the time, in seconds since 1970."""
    clock = SimpleNamespace(strftime=time.strftime, gmtime=lambda: time.gmtime(seconds))
    monkeypatch.setattr(memory, "time", clock)


def place(note: str) -> Path:
    """Return where a note says that a copy is."""
    return Path(note.splitlines()[0].rpartition(" is in ")[2].rstrip("."))


@pytest.mark.parametrize("pillar", [OLD, NEW])
def test_a_hand_edit_is_shown_by_itself_and_kept(applied: Host, pillar: dict[str, str]) -> None:
    path = edit(applied, "relay/main.cf", applied.text("etc/relay/main.cf") + "by_hand = yes\n")
    held = applied.text("etc/relay/main.cf")
    applied.pillar = dict(pillar)
    [note] = applied.apply().notes
    first, *diff = note.splitlines()
    assert first == f"{path} was changed by hand; it was replaced, and what it held is in {place(note)}."
    assert diff[:2] == [f"--- {path}", f"+++ {path} (by hand)"]
    assert [line for line in diff[2:] if line[0] in "+-"] == ["+by_hand = yes"]
    assert place(note).read_text() == held
    assert "by_hand" not in applied.text("etc/relay/main.cf")
    assert applied.apply(test=True).notes == []


def test_test_mode_says_what_would_be_put_back_and_kept(applied: Host) -> None:
    path = edit(applied, "relay/main.cf")
    before = applied.snapshot()
    [note] = applied.apply(test=True).notes
    first, *diff = note.splitlines()
    would = f"it would be replaced, and what it holds would be kept in {applied.state}/edited."
    assert first == f"{path} was changed by hand; {would}"
    assert "+by hand" in diff
    assert applied.snapshot() == before
    assert applied.apply().notes[0].splitlines()[1:] == diff


@pytest.mark.parametrize("test", [True, False])
def test_a_secret_of_a_hand_edit_is_masked(applied: Host, test: bool) -> None:
    edit(applied, "relay/ldap.cf", "bind_pw = hunter4\nserver_host = ldap://a\n# bind_pw = hunter5\n")
    outcome = applied.apply(test=test)
    shown = f"{outcome.notes} {applied.changes(outcome)}"
    assert "+server_host = ldap://a" in outcome.notes[0].splitlines()
    assert "hunter" not in shown


def test_a_secret_that_was_changed_by_hand_alone_is_said_to_be(applied: Host) -> None:
    edit(applied, "relay/ldap.cf", "bind_pw = hunter4\n")
    [note] = applied.apply().notes
    assert note.splitlines()[1:] == ["only what is secret changed (not shown)"]
    assert place(note).read_text() == "bind_pw = hunter4\n"


@pytest.mark.parametrize("test", [True, False])
def test_an_edit_of_a_file_that_goes_is_shown_and_kept(applied: Host, test: bool) -> None:
    path = edit(applied, "milter/milter.cf")
    applied.template("main", "myhostname = {{ settings.hostname }}\npasswords = {{ ldap }}\n")
    applied.want(applied.relay)
    [note] = applied.apply(test=test).notes
    assert note.startswith(f"{path} was changed by hand; it {'would be' if test else 'was'} put back, and what it ")
    assert note.splitlines()[-2:] == ["-socket = /run/a", "+by hand"]
    assert test or place(note).read_text() == "by hand\n"


@pytest.mark.parametrize("test", [True, False])
def test_an_edit_is_kept_where_all_of_smtpout_goes(applied: Host, test: bool) -> None:
    edit(applied, "milter/milter.cf")
    [note] = applied.transaction(test).unmake().notes
    assert note.splitlines()[-1] == "+by hand"
    assert test or place(note).read_text() == "by hand\n"
    assert test or sorted(path.name for path in applied.state.iterdir()) == ["edited", "lock"]


def test_an_edit_of_a_private_key_is_kept_and_never_shown(host: Host) -> None:
    key = Key(f"{host.etc}/relay/key.pem")
    host.want(replace(host.milter, parts=(key,)))
    host.apply()
    edit(host, "relay/key.pem", "-----BEGIN PRIVATE KEY-----\nanother\n")
    host.want(host.milter)
    [note] = host.apply().notes
    assert "another\n" in place(note).read_text()
    assert len(note.splitlines()) == 1


def test_what_was_there_before_is_not_guessed(applied: Host) -> None:
    edit(applied, "relay/ldap.cf", "bind_pw = hunter4\nserver_host = ldap://a\n")
    applied.memory.drop_generation(1)
    [note] = applied.apply().notes
    assert len(note.splitlines()) == 1
    assert "hunter4" in place(note).read_text()


def test_a_long_difference_is_cut(applied: Host) -> None:
    edit(applied, "relay/main.cf", "by hand\n" * 1000)
    [note] = applied.apply().notes
    assert len(note.splitlines()) == 52
    assert note.endswith("\n... 956 more lines")


def test_an_edit_that_comes_back_with_a_failed_change_is_not_kept_a_second_time(applied: Host) -> None:
    path = edit(applied, "relay/main.cf")
    applied.pillar["hostname"] = "deaf"
    applied.refused()
    assert Path(path).read_text() == "by hand\n"
    assert not applied.memory.edited.exists()


def test_the_edits_of_the_last_ten_times_are_kept_for_root_alone(
    applied: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    for number in range(12):
        at(monkeypatch, 10**9 + number // 2)  # two in each second
        edit(applied, "relay/main.cf", f"{number}\n")
        edit(applied, "milter/milter.cf", f"{number}\n")
        places += [place(note) for note in applied.apply().notes]
    assert [path.exists() for path in places] == [False] * 4 + [True] * 20
    assert [path.read_text() for path in places[4:]] == [f"{number}\n" for number in range(2, 12) for _ in "ab"]
    kept = [applied.memory.edited, *applied.memory.edited.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in kept} == {0}


def test_a_clock_that_was_put_back_forgets_no_edit_that_was_just_kept(
    applied: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(11):
        at(monkeypatch, 10**9 - number)
        edit(applied, "relay/main.cf", f"{number}\n")
        assert place(applied.apply().notes[0]).exists()
