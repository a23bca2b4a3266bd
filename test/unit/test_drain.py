"""A relay is drained: clients are sent away, an apply leaves it so, mail leaves, and it serves again.

On a real Postfix, at an address of this machine's; its systemd is pretended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from postfixes import ADDRESS, MASTER, Relay, comes, entered, needs_postfix, pretended
from smtpout_core import files
from smtpout_core.change import filters
from smtpout_core.change.journal import Journal
from smtpout_core.change.memory import Memory
from smtpout_core.change.parts import Daemon, File
from smtpout_core.change.plan import step
from smtpout_core.change.templates import Rendered
from smtpout_core.daemons.postfix import aside, conf, drained, draining, listen, smtp
from smtpout_core.daemons.postfix.blocks import Blocks
from smtpout_core.errors import Doubt, RelayError
from smtpout_core.host import Host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host that remembers nothing yet."""
    monkeypatch.setattr(drained, "PATH", str(tmp_path / "state/drain/drained.json"))
    return Host(state_dir=str(tmp_path / "state"))


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """Return a relay that runs, whose mail waits: what it leads to isn't there."""
    made = Relay(entered(tmp_path), "relay", ADDRESS, "transport_maps = static:smtp:[127.0.0.9]:9")
    pretended(made, monkeypatch)
    made.act("start")
    yield made
    made.act("abort")


# --- what master.cf says ---------------------------------------------------------------------------------------------


def test_each_service_that_takes_sessions_sends_clients_away_and_nothing_else_changes(
    settings: Settings, site: dict[str, Any]
) -> None:
    own = {"10025/inet": {"command": "smtpd -v", "options": {"smtpd_client_restrictions": "$mine"}}}
    own |= {"smtpd/pass": {"command": "smtpd"}, "628/inet": {"command": "qmqpd"}}
    text = filters.master_cf(settings({**site, "postfix": {"master": own}})["postfix"]["services"])
    made = drained.added(text)
    assert drained.without(made) == text
    assert drained.added(made) == made
    services = {(each.name, each.kind): each for each in aside.entries(made)}
    away = {key for key, each in services.items() if drained.RESTRICTIONS in each.command}
    assert away == {(name, "inet") for name in ("smtp", "submission", "465", "10025")} | {("smtpd", "pass")}
    # What it named before is still named: postconf(1) complains of a parameter that nothing does.
    assert services["10025", "inet"].command.rstrip().endswith("$mine }\n  -o { smtpd_delay_reject = no }")


def test_a_text_without_a_service_that_takes_sessions_stays() -> None:
    text = "# smtp inet n - n - - smtpd\nqmgr unix n - n 300 1 qmgr\n"
    assert drained.added(text) == text


@pytest.mark.usefixtures("host")
def test_an_apply_writes_it_while_the_relay_is_drained_and_remembers_the_sites_own(tmp_path: Path) -> None:
    text, path = "smtp inet n - n - - smtpd\n", tmp_path / "master.cf"
    file = File(
        str(path), "salt://master.cf", user=files.owner(os.getuid(), 0).split(":")[0], operated=drained.operated
    )
    plain = Rendered(file, text)
    drained.write(drained.Drained(int(time.time()), "somebody", "a new kernel"))
    made = Rendered(file, text)
    assert made.wanted == plain.wanted
    assert made.contents("")[str(path)].data.decode() == drained.added(text)
    assert "by somebody (a new kernel): new sessions get 421. It stays so until smtpout_drain.ready" in made.warnings[0]
    path.write_text(text, encoding="utf-8")
    assert made.difference({})
    path.write_text(drained.added(text), encoding="utf-8")
    assert step(Daemon("postfix"), [made], {"read": {str(path): plain.wanted}}, []).changes == {}
    drained.write(None)
    assert Rendered(file, text).warnings == ()
    assert Rendered(file, text).text == text


@pytest.mark.usefixtures("host")
def test_what_cannot_be_read_counts_as_a_drain_and_is_told() -> None:
    Path(drained.PATH).parent.mkdir(parents=True)
    Path(drained.PATH).write_text("{", encoding="utf-8")
    operated = drained.operated()
    assert operated
    assert operated.text("smtp inet n - n - - smtpd\n").count("421 4.3.2") == 1
    assert "can't be read" in operated.told
    with pytest.raises(RelayError, match=r"smtpout_drain\.start writes it anew, smtpout_drain\.ready ends it"):
        drained.read()


def test_postfix_has_nothing_against_it_and_a_trial_has_it_without(tmp_path: Path) -> None:
    (tmp_path / "etc/postfix").mkdir(parents=True)
    text = drained.added("smtp inet n - n - - smtpd\n")
    for name, said in (("main.cf", "compatibility_level = 3.6\n"), ("master.cf", text)):
        (tmp_path / "etc/postfix" / name).write_text(said, encoding="utf-8")
    seen: list[aside.Entry] = []

    def change(_config: str, main: str, master: list[aside.Entry]) -> tuple[str, str]:
        seen.extend(master)
        return main, ""

    if not shutil.which("postconf") or os.geteuid() != 0:
        pytest.skip("as root, with Postfix")
    said = conf.postconf(str(tmp_path / "etc/postfix"), "-P")
    assert (said.status, said.said) == (0, "")
    (tmp_path / "config").mkdir()
    staged = {f"/etc/postfix/{name}": f"{tmp_path}/etc/postfix/{name}" for name in ("main.cf", "master.cf")}
    with aside.furnished(staged, aside.Places(), change):
        assert [str(each) for each in seen] == ["smtp inet n - n - - smtpd"]


# --- a relay that runs -----------------------------------------------------------------------------------------------


@needs_postfix
def test_a_drained_relay_sends_new_clients_away_and_open_sessions_go_on(relay: Relay, host: Host) -> None:
    assert relay.greeting()[0] == 220
    assert draining.status(relay.settings, host)["drained"] is None
    with relay.client() as before:
        seen = draining.start(relay.settings, host, "somebody", "a new kernel")
        assert seen["drained"].keys() == {"since", "by", "reason"}
        assert seen["sessions"] >= 1
        code, text = relay.greeting()
        assert (code, text.startswith(b"4.3.2 ")) == (421, True)
        assert text.decode().endswith(drained.TOLD)
        before.sendmail("a@domain01.dom", ["u@gone.example"], "Subject: x\n\nhello\n")
        with pytest.raises(Doubt, match=r"by somebody \(a new kernel\): new sessions get 421"):
            draining.seen(relay.settings)
    # sendmail(1) goes on.
    subprocess.run(["sendmail", "-C", relay.config, "u@gone.example"], input=b"Subject: y\n\n", check=True)
    comes(lambda: len(relay.mail("deferred")) == 2)
    again = draining.start(relay.settings, host, "another")
    assert again["drained"]["by"] == "somebody"
    assert draining.ready(relay.settings, host)["drained"] is None
    assert relay.greeting()[0] == 220
    assert draining.seen(relay.settings) == f"{relay.address}:{relay.port}"
    assert (relay.config / "master.cf").read_text(encoding="utf-8") == MASTER.format(port=relay.port)
    assert "restart" not in relay.calls


@needs_postfix
def test_what_was_cut_short_shows_and_is_finished_by_the_same_call(relay: Relay, host: Host) -> None:
    master = relay.config / "master.cf"
    plain = master.read_text(encoding="utf-8")
    drained.write(drained.Drained(0))
    with pytest.raises(RelayError, match=r"but .*master\.cf doesn't; smtpout_drain\.start again"):
        draining.seen(relay.settings)
    master.write_text(drained.added(plain), encoding="utf-8")
    with pytest.raises(RelayError, match=rf"but {relay.address}:{relay.port} takes them: smtpout_drain\.start again"):
        draining.seen(relay.settings)
    draining.start(relay.settings, host, "somebody")
    assert relay.greeting()[0] == 421
    drained.write(None)
    for text in (drained.added(plain), plain):  # not written, and written but not read
        master.write_text(text, encoding="utf-8")
        with pytest.raises(RelayError, match=r"new sessions get 421 although .*: smtpout_drain\.ready"):
            draining.seen(relay.settings)
    draining.ready(relay.settings, host)
    assert relay.greeting()[0] == 220


@needs_postfix
def test_what_is_left_is_told_and_nothing_is_waited_for_for_ever(relay: Relay, host: Host) -> None:
    with pytest.raises(RelayError, match=r"isn't drained, so mail goes on coming in: smtpout_drain\.start first"):
        draining.finish(relay.settings, host, 1)
    relay.send(2)
    comes(lambda: len(relay.mail("deferred")) == 2)
    relay.send(3, "held.example")
    comes(lambda: len(relay.mail("deferred")) == 5)
    held = relay.hold(3)
    state = Blocks.of(relay.settings)
    block = {"login": "a", "names": ["a"], "since": 0, "held": held[:1]}
    state.record.parent.mkdir(parents=True)
    state.record.write_text(json.dumps([block]), encoding="utf-8")
    draining.start(relay.settings, host, "somebody")
    with relay_session(relay, host):
        found = draining.finish(relay.settings, host, 0.2)
    assert found["empty"] is False
    assert found["sessions"] == 1
    assert sum(found["queue"].values()) == 2
    assert found["held"] == {"block": 1, "quarantine": 0, "others": 2}
    assert sum(found["reasons"].values()) == 2
    assert "Connection refused" in str(found["reasons"])


def relay_session(relay: Relay, host: Host) -> smtplib.SMTP:
    """Return a session that was opened before a drain that goes on."""
    draining.ready(relay.settings, host)
    client = relay.client()
    draining.start(relay.settings, host, "somebody")
    return client


@needs_postfix
def test_a_stopped_postfix_is_drained_when_it_starts(relay: Relay, host: Host) -> None:
    relay.act("stop")
    draining.start(relay.settings, host, "somebody")
    relay.act("start")
    comes(relay.runs)
    assert relay.greeting()[0] == 421
    relay.act("stop")
    draining.ready(relay.settings, host)
    assert relay.greeting()[0] == 220


def test_no_apply_is_at_work_meanwhile_and_none_half_done(host: Host, tmp_path: Path) -> None:
    with Memory(host.state_dir).locked(), pytest.raises(RelayError, match="Another run is changing this relay"):
        draining.start({}, host, "somebody")
    journal = Journal(host.state_dir, str(tmp_path / "restore.service"))
    journal.begin({"new": {}}, [], {})
    with pytest.raises(RelayError, match="was cut short; apply first, which undoes it"):
        draining.start({}, host, "somebody")
    assert not Path(drained.PATH).exists()


def test_what_a_drain_rewrites_is_nobodys_edit(host: Host) -> None:
    memory = Memory(host.state_dir)
    whole = memory.whole() | {"daemons": {"postfix": {"disk": {"/etc/postfix/master.cf": "old"}}}}
    memory.remember(whole)
    memory.rewritten("/etc/postfix/master.cf", "another", "new")
    assert memory.whole()["daemons"]["postfix"]["disk"] == {"/etc/postfix/master.cf": "old"}
    memory.rewritten("/etc/postfix/master.cf", "old", "new")
    assert memory.whole()["daemons"]["postfix"]["disk"] == {"/etc/postfix/master.cf": "new"}


def test_clean_forgets_it(host: Host) -> None:
    drained.write(drained.Drained(0))
    assert drained.read()
    Memory(host.state_dir).forget()
    assert drained.read() is None


def test_a_greeting_of_a_drained_relay_is_no_fault_and_another_421_is() -> None:
    endpoint = listen.Endpoint("192.0.2.1", 25, "smtpd", "smtp/inet")
    smtp.refuse(endpoint, smtp.Greeting(421, f"4.3.2 <x[192.0.2.9]>: Client host rejected: {drained.TOLD}", {}))
    with pytest.raises(RelayError, match="greets with 421"):
        smtp.refuse(endpoint, smtp.Greeting(421, "4.7.0 Error: too many connections", {}))
    assert not re.search(r"[;{}$]\s*$", drained.TOLD)
