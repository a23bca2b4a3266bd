"""What the generations that are kept tell: what each changed, and how two of them differ."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from pretend_daemons import NEW, Host, Key
from smtpout_core.change import history
from smtpout_core.errors import RelayError


@pytest.fixture
def twice(applied: Host) -> Host:
    """Return a host on which another whole was applied after the first one."""
    applied.pillar = dict(NEW)
    applied.want(cause={"who": "somebody as root", "ran": "state.apply smtpout", "job": "20260102030405060708"})
    applied.apply()
    return applied


def test_generations_are_listed_the_newest_first(twice: Host) -> None:
    second, first = (each[number] for each, number in zip(history.listed(twice.memory), "21", strict=True))
    assert list(second) == ["time", "cause", "changed", "digest"]
    assert second["cause"] == "somebody as root ran state.apply smtpout, job 20260102030405060708"
    assert first["cause"] == "a test ran an apply"
    assert second["changed"]["milter"] == [f"{twice.etc}/milter/milter.cf", "service"]
    assert second["digest"] != first["digest"]


def test_a_host_without_a_generation_has_no_history(host: Host) -> None:
    assert history.listed(host.memory) == []
    with pytest.raises(RelayError, match="No generation is kept"):
        history.difference(host.memory, 1)


def test_two_generations_are_compared_file_by_file_and_no_secret_is_shown(twice: Host) -> None:
    found = history.difference(twice.memory, 1, 2)
    main, ldap = f"{twice.etc}/relay/main.cf", f"{twice.etc}/relay/ldap.cf"
    assert re.fullmatch(r"1 of \S+ and 2 of \S+", found["between"])
    assert (found["came"], found["gone"]) == ([], [])
    assert list(found["how"]) == [f"{twice.etc}/milter/milter.cf", ldap, main]
    assert found["how"][main].splitlines()[:2] == [f"--- {main} (1)", f"+++ {main} (2)"]
    assert "\n-myhostname = relay.example.org\n" in found["how"][main]
    assert found["how"][ldap] == "only what is secret changed (not shown)"
    assert "hunter" not in str(found)


def test_wholes_of_another_key_or_certificate_differ(applied: Host) -> None:
    chain, key, folder = (applied.root / name for name in ("chain.pem", "key", "folder"))
    folder.mkdir()
    uses = (str(key), str(folder), str(applied.root / "gone"))
    applied.want(applied.milter, replace(applied.relay, reads=(str(chain),), uses=uses))
    for certificate, private in (("one", "one"), ("another", "one"), ("another", "another")):
        chain.write_text(certificate)
        key.write_text(private)
        applied.unit("relay", "enabled", "disabled")  # something is to be changed, whatever the files are
        applied.apply()
    _, first, second, third = applied.memory.generations()
    assert first["files"] == second["files"] == third["files"]
    assert len({generation["digest"] for generation in (first, second, third)}) == 3
    assert [*third["read"]] == [str(chain), str(key)]
    assert history.difference(applied.memory, 3)["how"] == {str(key): "another one (no copy is kept)"}


def test_a_key_that_is_another_asks_for_nothing(applied: Host) -> None:
    key = applied.root / "key"
    key.write_text("one")
    applied.want(applied.milter, replace(applied.relay, uses=(str(key),)))
    assert applied.apply().changed == []
    key.write_text("another")
    assert applied.apply().changed == []


def test_one_is_compared_with_the_last(twice: Host) -> None:
    assert history.difference(twice.memory, 1) == history.difference(twice.memory, "1", "2")
    assert history.difference(twice.memory, 2)["how"] == {}


def test_a_file_that_came_or_went_is_said_to_and_shown(twice: Host) -> None:
    extra = twice.file("relay/extra.cf", "ldap", secret=True, mode="0600")
    twice.want(twice.milter, replace(twice.relay, files=(*twice.relay.files, extra)))
    twice.apply()
    came = history.difference(twice.memory, 2, 3)
    assert (came["came"], came["gone"]) == ([extra.path], [])
    assert came["how"][extra.path].endswith("\n+bind_pw = (secret)\n")
    went = history.difference(twice.memory, 3, 2)
    assert (went["came"], went["gone"]) == ([], [extra.path])
    assert went["how"][extra.path].splitlines()[:2] == [f"--- {extra.path} (3)", "+++ /dev/null"]


def test_another_mode_or_owner_is_a_difference(twice: Host) -> None:
    files = (twice.relay.files[0], twice.secret(mode="0600", group="daemon"))
    twice.want(twice.milter, replace(twice.relay, files=files))
    twice.apply()
    said = history.difference(twice.memory, 2)["how"]
    assert said == {f"{twice.etc}/relay/ldap.cf": "mode 0640 -> 0600\nowner root:root -> root:daemon"}


def test_a_file_that_was_secret_once_stays_so(twice: Host) -> None:
    files = (twice.relay.files[0], twice.secret(secret=False))
    twice.want(twice.milter, replace(twice.relay, files=files))
    twice.pillar["password"] = "hunter4"
    twice.apply()
    assert "hunter" not in str(history.difference(twice.memory, 2, 3))
    assert "hunter" not in str(history.difference(twice.memory, 3, 2))


def test_of_a_private_key_it_is_said_that_it_changed(host: Host) -> None:
    key = Key(f"{host.etc}/relay/key.pem")
    host.want(host.milter)
    host.apply()
    host.want(replace(host.milter, parts=(key,)))
    host.apply()
    (host.etc / "relay/key.pem").unlink()
    key.data = key.data.replace(b"hunter2", b"hunter3")
    host.apply()
    for first, second in ((1, 2), (2, 3), (3, 1)):
        assert history.difference(host.memory, first, second)["how"] == {key.path: "a private key (not shown)"}


@pytest.mark.parametrize("number", [3, 0, -1, "two", True, 1.5])
def test_a_number_that_is_not_kept_is_refused_with_those_that_are(twice: Host, number: object) -> None:
    for numbers in ((number,), (1, number)):
        with pytest.raises(RelayError) as refusal:
            history.difference(twice.memory, *numbers)
        assert str(refusal.value) == f"{number!r} is no generation that is kept; these are: 1, 2."
