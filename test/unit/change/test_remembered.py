"""What a host remembers: originals, the last whole, and the generations."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import replace

import pytest
from pretend_daemons import NEW, Host, Key


def test_the_distributions_file_is_kept_once(host: Host) -> None:
    (host.etc / "relay/main.cf").write_text("the distribution's\n")
    host.apply()
    host.pillar = dict(NEW)
    host.apply()
    assert host.text("etc/relay/main.cf.ORG") == "the distribution's\n"
    assert not (host.etc / "relay/ldap.cf.ORG").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", None])
def test_a_lost_record_costs_a_restart_and_nothing_else(host: Host, content: str | None) -> None:
    (host.etc / "relay/extra.cf").write_text("the distribution's\n")
    bare = host.world()
    host.want(host.milter, replace(host.relay, files=(*host.relay.files, host.file("relay/extra.cf", "milter"))))
    host.apply()
    record = host.state / "whole.json"
    record.unlink() if content is None else record.write_text(content)
    host.pillar["password"] = "hunter3"
    host.want(host.milter, host.relay)
    outcome = host.apply()
    assert {name: changes["service"] for name, changes in host.changes(outcome).items()} == dict.fromkeys(
        ("milter", "relay"), "restarted (first configuration)"
    )
    assert outcome.generation == 2
    assert host.text("etc/relay/extra.cf") == "the distribution's\n"
    assert host.apply().changed == []
    record.unlink()
    host.transaction().unmake()
    assert host.world() == bare


@pytest.mark.parametrize("lost", [("originals.json",), ("originals.json", "whole.json")])
@pytest.mark.parametrize("content", ["", None])
def test_a_lost_record_of_originals_makes_none_of_smtpouts_own_files(
    host: Host, content: str | None, lost: tuple[str, ...]
) -> None:
    (host.etc / "relay/main.cf").write_text("the distribution's\n")
    bare = host.world()
    host.apply()
    for name in lost:
        (host.state / name).unlink() if content is None else (host.state / name).write_text(content)
    host.pillar = dict(NEW)
    host.apply()
    assert [path.name for path in host.etc.rglob("*.ORG")] == ["main.cf.ORG"]
    assert host.text("etc/relay/main.cf.ORG") == "the distribution's\n"
    host.transaction().unmake()
    assert host.world() == bare


def test_every_whole_that_proved_itself_is_a_generation(applied: Host) -> None:
    applied.pillar["hostname"] = "mx.example.org"
    assert applied.apply().generation == 2
    first, second = applied.memory.generations()
    assert (first["number"], second["number"]) == (1, 2)
    path = f"{applied.etc}/relay/main.cf"
    assert second["changed"] == {"relay": [path, "service"]}
    digest = hashlib.sha256((applied.etc / "relay/main.cf").read_bytes()).hexdigest()
    assert second["files"][path] == {"digest": digest, "mode": "0644", "owner": "root:root", "secret": ""}
    assert first["files"].keys() == second["files"].keys()
    assert first["digest"] != second["digest"]
    assert first["time"] <= second["time"]


def test_the_last_ten_generations_are_kept_for_root_alone(applied: Host) -> None:
    for number in range(12):
        applied.pillar["hostname"] = f"mx{number}.example.org"
        applied.apply()
    memory = applied.memory
    assert [generation["number"] for generation in memory.generations()] == list(range(4, 14))
    path = f"{applied.etc}/relay/main.cf"
    assert "mx10.example.org" in (memory.text(12, path) or "")
    assert memory.text(3, path) is None
    kept = [applied.state, applied.state / "generations", *(applied.state / "generations").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in kept} == {0}


def test_a_generation_keeps_no_private_key_but_knows_of_it(host: Host) -> None:
    key = Key(f"{host.etc}/relay/key.pem")
    host.want(replace(host.milter, parts=(key,)))
    host.apply()
    host.pillar["socket"] = "/run/b"
    host.apply()
    first, second = host.memory.generations()
    assert first["files"][key.path] == second["files"][key.path]
    assert first["files"][key.path]["mode"] == "0600"
    assert host.memory.text(1, key.path) is None
    assert [file for file in host.state.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()] == []


def test_a_failed_change_is_no_generation(applied: Host) -> None:
    applied.want(proof=lambda: {"x": "fails"} if "deaf" in applied.text("etc/milter/milter.cf") else {})
    applied.pillar["hostname"] = "deaf"
    applied.refused()
    assert [generation["number"] for generation in applied.memory.generations()] == [1]


def test_nothing_of_a_change_is_left_beside_the_record(applied: Host) -> None:
    assert sorted(path.name for path in applied.state.iterdir()) == [
        "generations", "lock", "originals.json", "restore", "staging", "whole.json"
    ]  # fmt: skip
