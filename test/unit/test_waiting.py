"""Mail that waits on the host before smtpout takes over is found, whoever's it is, and nothing else is taken for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from smtpout_core.daemons import waiting
from smtpout_core.daemons.postfix import queue

SETTINGS: dict[str, Any] = {"postfix": {"directory": "/etc/postfix", "queue_directory": "/var/spool/postfix"}}

# Spools as the programs leave them: files by mail system, and how many messages they are.
SPOOLS = {
    "exim": (
        "/var/spool/exim4/input",
        ["1v-000-H", "1v-000-D", "x/1w-000-H", "x/1w-000-D", "x/1w-000-J", "hdr.1"],
        2,
        "exim4 -qff",
    ),
    "sendmail": ("/var/spool/mqueue", ["qfABC", "dfABC", "xfABC", "q1/qfDEF", "q1/dfDEF"], 2, "sendmail -q"),
    "nullmailer": ("/var/spool/nullmailer/queue", ["1732500000.123"], 1, "systemctl start nullmailer"),
    "OpenSMTPD": (
        "/var/spool/smtpd/queue",
        ["a1/a1b2c3d4/message", "a1/a1b2c3d4/a1b2c3d4e5f60718", "a1/a1b2c3d4/a1b2c3d4e5f60719"],
        1,
        "smtpctl schedule all",
    ),
    "courier": ("/var/lib/courier/msgs", ["12/C345", "12/C345.1", "12/D345"], 1, "courier flush"),
}


def touch(root: Path, folder: str, *names: str) -> None:
    for name in names:
        path = root / folder.lstrip("/") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def main_cf(root: Path, directory: str, text: str) -> None:
    path = root / directory.lstrip("/") / "main.cf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def found(root: Path, **postfix: Any) -> list[waiting.Waiting]:
    settings = {"postfix": {**SETTINGS["postfix"], **postfix}}
    return waiting.elsewhere(settings, str(root))


@pytest.mark.parametrize("program", SPOOLS)
def test_each_mail_systems_messages_are_counted(tmp_path: Path, program: str) -> None:
    folder, names, count, deliver = SPOOLS[program]
    touch(tmp_path, folder, *names)
    assert found(tmp_path) == [waiting.Waiting(program, folder, count, deliver)]


@pytest.mark.parametrize("nth", range(6))
@pytest.mark.parametrize(
    ("before", "after"),
    [("maildrop", "incoming"), ("deferred", "incoming"), ("incoming", "active"), ("active", "deferred")],
)
def test_a_message_that_moves_between_two_looks_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, nth: int
) -> None:
    # Seen in the lab: sixteen messages on their way to another try, and a queue that was called empty.
    touch(tmp_path, before, "ID1")
    (tmp_path / after).mkdir(exist_ok=True)
    real, looks = os.walk, itertools.count()

    def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
        if next(looks) == nth:
            (tmp_path / before / "ID1").rename(tmp_path / after / "ID1")
        return real(folder)

    monkeypatch.setattr(queue.os, "walk", walk)
    assert queue.count(str(tmp_path)) == 1


def test_it_is_said_with_the_command_that_delivers_it(tmp_path: Path) -> None:
    touch(tmp_path, "/var/spool/exim4/input", "1v-000-H", "1w-000-H")
    (one,) = found(tmp_path)
    assert str(one) == "2 messages wait in /var/spool/exim4/input (exim); `exim4 -qff` has them delivered"
    assert str(replace(one, count=1)).startswith("1 message waits in ")


def test_an_empty_host_has_none(tmp_path: Path) -> None:
    for folder, *_ in SPOOLS.values():
        (tmp_path / folder.lstrip("/")).mkdir(parents=True)
    touch(tmp_path, "/var/spool/exim4/input", "1v-000-D")
    assert found(tmp_path) == []


def test_the_queue_that_smtpout_goes_on_with_is_not_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "/var/spool/postfix/deferred/A", "A1")
    assert found(tmp_path) == []
    main_cf(tmp_path, "/etc/postfix", "queue_directory = /var/spool/postfix/\n")
    assert found(tmp_path) == []


def test_a_postfix_with_another_queue_is_found_by_its_main_cf(tmp_path: Path) -> None:
    main_cf(tmp_path, "/etc/postfix", "# old\nbase = /data\nqueue_directory =\n  ${base}/spool  \nmyhostname = x\n")
    touch(tmp_path, "/data/spool/deferred/A", "A1", "A2")
    touch(tmp_path, "/data/spool/maildrop", "B1")
    touch(tmp_path, "/data/spool/pid", "master.pid")
    assert found(tmp_path) == [waiting.Waiting("Postfix", "/data/spool", 3, "postqueue -c /etc/postfix -f")]


def test_a_queue_that_the_pillar_names_is_smtpouts_own_and_the_stock_one_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "/srv/mailq/hold", "A1")
    touch(tmp_path, "/var/spool/postfix/active", "B1")
    main_cf(tmp_path, "/etc/postfix", "queue_directory = /srv/mailq\n")
    assert found(tmp_path, main={"queue_directory": "/srv/mailq"}) == []
    assert [each.folder for each in found(tmp_path)] == ["/srv/mailq"]
    main_cf(tmp_path, "/etc/postfix", "myhostname = x\n")
    assert [each.folder for each in found(tmp_path, main={"queue_directory": "/srv/mailq"})] == ["/var/spool/postfix"]


def test_each_instance_has_a_queue_of_its_own(tmp_path: Path) -> None:
    main_cf(tmp_path, "/etc/postfix", "multi_instance_directories = /etc/postfix-out, /etc/postfix-gone\n")
    main_cf(tmp_path, "/etc/postfix-out", "queue_directory = /var/spool/postfix-out\n")
    touch(tmp_path, "/var/spool/postfix-out/deferred", "A1")
    assert found(tmp_path) == [
        waiting.Waiting("Postfix", "/var/spool/postfix-out", 1, "postqueue -c /etc/postfix-out -f")
    ]


def test_a_parameter_that_names_itself_ends(tmp_path: Path) -> None:
    main_cf(tmp_path, "/etc/postfix", "queue_directory = $other\nother = $queue_directory\n")
    assert found(tmp_path) == []
