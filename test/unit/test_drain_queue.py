"""What is left in a drained relay's queue is handed over to another relay, and a dead relay's queue is taken over.

On real Postfixes, at an address of this machine's; their systemd is pretended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postfixes import ADDRESS, Relay, comes, entered, needs_postfix, pretended
from smtpout_core.change import passing
from smtpout_core.change.memory import Memory
from smtpout_core.change.parts import Ways
from smtpout_core.change.transaction import Transaction
from smtpout_core.daemons.postfix import drained, draining, handover, rescue
from smtpout_core.errors import RelayError
from smtpout_core.guard import selinux
from smtpout_core.host import Host

pytestmark = needs_postfix
NOWHERE = "transport_maps = static:smtp:[127.0.0.9]:9"
THROWN_AWAY = "transport_maps = static:discard:"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host on which Postfix was applied."""
    monkeypatch.setattr(drained, "PATH", str(tmp_path / "state/drain/drained.json"))
    monkeypatch.setattr(passing, "UNIT_PATH", str(tmp_path / "restore.service"))
    made = Host(state_dir=str(tmp_path / "state"))
    memory = Memory(made.state_dir)
    record = {"units": ["postfix"], "working": "postfix@-", "probes": [], "patience": 5, "disk": {}, "paths": []}
    with memory.locked():
        memory.remember(memory.whole() | {"daemons": {"postfix": record}})
    return made


@pytest.fixture
def relay(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """Return a relay that is drained, and has three messages that wait and one on hold."""
    made = Relay(entered(tmp_path), "relay", ADDRESS, NOWHERE)
    pretended(made, monkeypatch)
    made.act("start")
    made.send(4)
    comes(lambda: len(made.mail("deferred")) == 4)
    made.hold(1)
    draining.start(made.settings, host, "somebody")
    yield made
    made.act("abort")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Relay]:
    """Return another relay, which throws away all that it takes."""
    made = Relay(tmp_path, "other", ADDRESS, THROWN_AWAY)
    made.act("start")
    yield made
    made.act("abort")


def sent(relay: Relay) -> Counter[str]:
    """Return how often each recipient's mail was delivered."""
    return Counter(re.findall(r"to=<(u\d+)@\S+>, .*status=sent", relay.log()))


# --- hand over -------------------------------------------------------------------------------------------------------


def test_what_waits_goes_to_the_other_relay_and_what_is_held_stays(relay: Relay, other: Relay, host: Host) -> None:
    main = relay.config / "main.cf"
    before, held = main.read_bytes(), {path.name for path in relay.mail("hold")}
    found = handover.hand_over(relay.settings, host, f"[{ADDRESS}]:{other.port}", 30)
    assert (found["left"], found["empty"], found["reasons"]) == (3, True, {})
    assert found["held"] == {"block": 0, "quarantine": 0, "others": 1}
    comes(lambda: sum(sent(other).values()) == 3)
    assert set(sent(other).values()) == {1}
    assert {path.name for path in relay.mail("hold")} == held
    assert main.read_bytes() == before
    assert not Path(host.state_dir, "change").exists()
    assert relay.greeting()[0] == 421


def test_who_would_not_relay_for_it_gets_nothing(relay: Relay, other: Relay, host: Host) -> None:
    before = (relay.config / "main.cf").read_bytes()
    subprocess.run(["postconf", "-c", other.config, "-e", "mynetworks=127.0.0.0/8"], check=True)
    other.act("reload")
    comes(lambda: "Relay access denied" in refused(relay, host, f"[{ADDRESS}]:{other.port}"))
    said = refused(relay, host, f"[{ADDRESS}]:{other.port}")
    assert "smtpout:networks has to have this host's address" in said
    assert "is this relay; name another one" in refused(relay, host, f"[{ADDRESS}]:{relay.port}")
    assert "is no nexthop; right is another relay, such as [172.16.11.97]:25" in refused(relay, host, "smtp:[relay2]")
    assert "doesn't relay for this host: 127.0.0.9:9: " in refused(relay, host, "[127.0.0.9]:9")
    assert (relay.config / "main.cf").read_bytes() == before
    assert len(relay.mail("deferred")) == 3


def refused(relay: Relay, host: Host, nexthop: str) -> str:
    """Return why nothing is handed over."""
    with pytest.raises(RelayError) as error:
        handover.hand_over(relay.settings, host, nexthop, 5)
    return str(error.value)


def test_what_the_other_relay_refuses_stays_and_does_not_bounce(relay: Relay, other: Relay, host: Host) -> None:
    [one] = re.findall(r"to=<(u\d+@gone.example)>", relay.log())[:1]
    waits = {path.name for path in relay.mail("deferred")}
    name = next(match[1] for match in re.finditer(rf"(\w+): to=<{one}>", relay.log()))
    rule = f"check_recipient_access inline:{{{one}=REJECT}}"
    subprocess.run(["postconf", "-c", other.config, "-e", f"smtpd_recipient_restrictions={rule}"], check=True)
    other.act("reload")
    kept = 1 if name in waits else 0
    found = handover.hand_over(relay.settings, host, f"[{ADDRESS}]:{other.port}", 6)
    assert (found["left"], found["empty"]) == (3 - kept, not kept)
    assert len(relay.mail()) == kept
    assert "non-delivery" not in relay.log()


def test_what_was_killed_meanwhile_is_undone_by_the_next_run(
    relay: Relay, other: Relay, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = relay.config / "main.cf"
    before = main.read_bytes()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(handover, "_left", lambda *_: os._exit(9))
        handover.hand_over(relay.settings, host, f"[{ADDRESS}]:{other.port}", 5)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert main.read_bytes() == before + handover.WAY.format(nexthop=f"[{ADDRESS}]:{other.port}").encode()
    assert draining.status(relay.settings, host)["said"] == [draining.CUT_SHORT]
    assert Transaction(host, Ways({}, {}), str(host.state_dir) + "/restore.service").recover()
    assert main.read_bytes() == before
    assert draining.status(relay.settings, host)["said"] == []
    assert relay.greeting()[0] == 421
    found = handover.hand_over(relay.settings, host, f"[{ADDRESS}]:{other.port}", 30)
    assert found["empty"] is True


def test_mail_goes_on_coming_in_where_nothing_is_drained(relay: Relay, host: Host) -> None:
    draining.ready(relay.settings, host)
    with pytest.raises(RelayError, match="isn't drained"):
        handover.hand_over(relay.settings, host, "[192.0.2.1]", 5)


# --- rescue ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["yes", "no"], ids=["long names", "short names"])
def died(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Return the queue of a relay that has died with five messages, one of them on hold."""
    made = Relay(entered(tmp_path_factory.mktemp("dead")), "dead", ADDRESS, NOWHERE, long=request.param)
    made.act("start")
    made.send(5)
    comes(lambda: len(made.mail("deferred")) == 5)
    made.hold(1)
    made.act("abort")
    [first, *_] = made.mail("deferred")
    first.rename(made.root / "queue/active" / first.name)
    (made.root / "queue/incoming/0F1A2B3C4D").write_bytes(b"half a message")
    return made.root / "queue"


@pytest.fixture
def dead(died: Path, tmp_path: Path) -> Path:
    """Return a copy of that queue."""
    copied = tmp_path / "mnt/spool"
    copied.parent.mkdir()
    subprocess.run(["cp", "-a", died, copied], check=True)
    return copied


@pytest.fixture
def new(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """Return a relay that takes over: it is stopped, and throws away what it sends."""
    assert host
    made = Relay(entered(tmp_path), "new", ADDRESS, THROWN_AWAY)
    pretended(made, monkeypatch)
    subprocess.run(["postfix", "-c", made.config, "check"], check=True, capture_output=True)
    yield made
    made.act("abort")


def taken(relay: Relay, host: Host, spool: Path | str) -> dict[str, Any]:
    """Return what is said when a queue is taken over."""
    return rescue.rescue({**relay.settings, "hostname": "new.example"}, host, str(spool))


def not_taken(relay: Relay, host: Host, spool: Path | str) -> str:
    """Return why a queue isn't taken over."""
    with pytest.raises(RelayError) as error:
        taken(relay, host, spool)
    return str(error.value)


def all_sent_once(relay: Relay) -> None:
    """Start a relay, and have each message that isn't held leave once."""
    assert len(relay.mail("hold")) == 1
    relay.act("start")
    relay.becomes_empty()
    assert len(sent(relay)) == 4, relay.log()
    assert set(sent(relay).values()) == {1}
    subprocess.run(["postsuper", "-c", relay.config, "-H", "ALL"], check=True, capture_output=True)
    relay.becomes_empty()
    assert sent(relay) == Counter([f"u{number}" for number in range(5)]), relay.log()


def test_each_message_of_a_dead_relay_leaves_once_and_what_was_held_stays(new: Relay, host: Host, dead: Path) -> None:
    assert taken(new, host, dead) == {"messages": 5, "held": 1, "unfinished": 1, "left": {}}
    assert not (new.root / "queue" / rescue.ASIDE).exists()
    assert re.fullmatch(
        rf"{dead} was rescued already: 5 messages, by new\.example, \S+; taken again, each would be sent twice",
        not_taken(new, host, dead),
    )
    all_sent_once(new)
    assert not re.search(r"fatal|panic|error|corrupt", new.log())


@pytest.mark.parametrize("died", ["no"], indirect=True, ids=["short names"])
@pytest.mark.parametrize("at", ["copying", "moving", "the end", "the very end"])
def test_what_is_cut_short_is_finished_and_nothing_is_taken_twice(
    new: Relay, host: Host, dead: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"copying": "_copy", "moving": "os.rename", "the end": "_mark", "the very end": "shutil.rmtree"}[at]
    after = {"copying": 3, "moving": 4, "the end": 1, "the very end": 1}[at]
    with monkeypatch.context() as cut:
        whole = shutil.rmtree if "rmtree" in step else os.rename if "rename" in step else getattr(rescue, step)
        calls: list[Any] = []

        def killed(*arguments: Any, **named: Any) -> Any:
            calls.append(arguments)
            if len(calls) > after:
                raise KeyboardInterrupt
            return whole(*arguments, **named)

        cut.setattr(f"smtpout_core.daemons.postfix.rescue.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            taken(new, host, dead)
    if at == "the very end":
        assert "was rescued already" in not_taken(new, host, dead)
        assert not (new.root / "queue" / rescue.ASIDE).exists()
    else:
        if at == "moving":  # the host came up meanwhile, and some of it has left
            new.act("start")
            new.becomes_empty()
            new.act("stop")
        assert taken(new, host, dead)["messages"] == 5
    all_sent_once(new)


@pytest.mark.parametrize("died", ["no"], indirect=True, ids=["short names"])
def test_where_selinux_is_on_files_get_the_labels_of_their_folders(
    new: Relay, host: Host, dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled: list[str] = []
    monkeypatch.setattr(selinux, "relabel", labelled.extend)
    monkeypatch.setattr(rescue, "AT_ONCE", 2)
    rescue.rescue({**new.settings, "hostname": "new.example", "selinux": {"active": True}}, host, str(dead))
    folders = ("deferred", "hold", "defer")
    assert set(labelled) == {str(path) for path in new.mail(*folders)}
    assert {path.split("/queue/")[1].split("/")[0] for path in labelled} == set(folders)


@pytest.mark.parametrize("died", ["no"], indirect=True, ids=["short names"])
def test_a_queue_is_taken_by_nobody_else_and_into_nothing_but_a_stopped_empty_one(
    new: Relay, host: Host, dead: Path, tmp_path: Path
) -> None:
    assert "is this relay's own queue" in not_taken(new, host, new.root / "queue")
    assert "is no queue folder of Postfix's; right is an absolute path" in not_taken(new, host, tmp_path)
    marker = dead / rescue.MARKER
    marker.write_text(json.dumps({"by": "third.example", "since": "yesterday", "id": "x"}), encoding="utf-8")
    assert "is being rescued by third.example, since yesterday; finish it there" in not_taken(new, host, dead)
    marker.write_text("{", encoding="utf-8")
    assert "nobody knows whether this queue was rescued before" in not_taken(new, host, dead)
    marker.unlink()
    new.act("start")
    assert "Postfix runs; stop it first (systemctl stop postfix)" in not_taken(new, host, dead)
    new.act("stop")
    kept = new.root / "queue/hold/0F1A2B3C4D"
    kept.touch()
    assert "1 messages are in this relay's queue, which has to be empty" in not_taken(new, host, dead)
    kept.unlink()
    aside = new.root / "queue" / rescue.ASIDE
    aside.mkdir()
    (aside / rescue.COMPLETE).write_text(json.dumps({"id": "another", "of": "/mnt/other"}), encoding="utf-8")
    assert "The rescue of /mnt/other was cut short here; finish it first" in not_taken(new, host, dead)
    assert not marker.exists()
    assert new.mail("maildrop", "incoming", "active", "deferred", "hold") == []
