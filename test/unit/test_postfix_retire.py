"""Postfix takes no mail any more before its queue is looked at; where mail is left, that is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from smtpout_core import command, listener
from smtpout_core.change import units
from smtpout_core.daemons.postfix import retire
from smtpout_core.errors import RelayError

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix isn't installed")

MAIN = "compatibility_level = 3.6\nqueue_directory = {root}/queue\n"


class Relay:
    """A Postfix whose systemd and whose reload are pretended; main.cf and queue are files."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.done = root, []  # type: Path, list[str]
        self.running = True
        self.comes: dict[str, tuple[str, ...]] = {}
        (root / "master.cf").touch()
        (root / "main.cf").write_text(MAIN.format(root=root), encoding="utf-8")
        self.settings = {"postfix": {"directory": str(root), "service": "postfix", "unit": "postfix@-"}}
        run = command.run

        def pretended(argv: list[str], **options: Any) -> command.Done:
            if "reload" in argv:
                self.act("closed" if "= inet" in self.main() else "opened", [])
                return command.Done(0, "", "")
            if "postsuper" in argv[0]:
                for path in self.mail():
                    path.unlink()
                return command.Done(0, "", "")
            return run(argv, **options)

        monkeypatch.setattr(command, "run", pretended)
        monkeypatch.setattr(listener, "held", lambda *_: set())
        monkeypatch.setattr(units, "act", self.act)
        monkeypatch.setattr(units, "status", lambda *_: SimpleNamespace(running=self.running))
        monkeypatch.setattr(retire, "PATIENCE", 0.3)

    def main(self) -> str:
        return (self.root / "main.cf").read_text(encoding="utf-8")

    def mail(self) -> list[Path]:
        return [path for path in (self.root / "queue").rglob("*") if path.is_file()]

    def put(self, queue: str) -> None:
        path = self.root / "queue" / queue / str(len(self.mail()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def act(self, verb: str, _services: list[str]) -> None:
        """Note what happens, and have mail come while it does."""
        self.done.append(verb)
        for queue in self.comes.get(verb, ()):
            self.put(queue)


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Relay:
    return Relay(tmp_path, monkeypatch)


def test_an_empty_queue_is_looked_at_after_the_door_is_shut_and_after_the_stop(relay: Relay) -> None:
    shut = retire.shut(relay.settings)
    assert retire.stopped(relay.settings, False) == 0
    assert relay.done == ["closed", "stop"]
    assert {str(relay.root / "main.cf"): relay.main().encode()} == shut


def test_mail_that_wont_leave_is_known_before_anybody_is_disturbed(relay: Relay) -> None:
    relay.put("deferred")
    relay.put("incoming")
    with pytest.raises(RelayError, match=r"^2 messages wait in the queue. Let them leave"):
        retire.waiting(relay.settings, False)
    assert retire.waiting(relay.settings, True) == 2
    assert relay.done == []


def test_mail_that_is_on_its_way_forbids_nothing_yet(relay: Relay) -> None:
    relay.put("incoming")
    assert retire.waiting(relay.settings, False) == 1
    relay.running = False
    with pytest.raises(RelayError, match=r"^1 message waits in the queue"):
        retire.waiting(relay.settings, False)


@pytest.mark.parametrize(("when", "then"), [("closed", ["closed"]), ("stop", ["closed", "stop"])])
def test_mail_that_came_meanwhile_and_stays_is_said(relay: Relay, when: str, then: list[str]) -> None:
    relay.comes[when] = ("incoming",)
    with pytest.raises(RelayError, match=r"^1 message waits in the queue; Postfix takes mail again"):
        retire.stopped(relay.settings, False)
    assert relay.done == then
    assert len(relay.mail()) == 1


def test_what_is_to_be_deleted_is_deleted_whenever_it_came(relay: Relay) -> None:
    relay.put("deferred")
    relay.comes = {"closed": ("active", "maildrop"), "stop": ("incoming",)}
    assert retire.stopped(relay.settings, True) == 4
    assert relay.done == ["closed", "stop"]
    assert relay.mail() == []


def test_the_queue_of_a_postfix_that_is_stopped_is_looked_at_as_well(relay: Relay) -> None:
    relay.running = False
    assert retire.stopped(relay.settings, False) == 0
    relay.put("deferred")
    with pytest.raises(RelayError, match=r"^1 message waits"):
        retire.stopped(relay.settings, False)
    assert retire.stopped(relay.settings, True) == 1
    assert relay.done == []
