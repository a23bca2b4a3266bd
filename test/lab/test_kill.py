"""An apply that is killed at any moment leaves a relay that serves, and the next apply finishes its work.

Under a steady stream of mail. On Debian 12 only: fifty kills take minutes.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml
from support import PILLARS

from lab.checks import verify
from lab.conftest import Applied
from lab.host import Host
from lab.load import Load
from lab.test_transaction import LISTING

SEED, KILLS, MAP_KILLS = 20161, 50, 12
MESSAGES, SPAN, PATIENCE = 900, 900, 2300  # how many messages, over how many seconds, and how long their senders try
EVERY = 5  # after so many kills one more apply has to find nothing to do
UNITS = ["postfix@-", "saslauthd", "clamav-daemon", "clamav-milter", "opendkim"]
EXAMPLE = PILLARS["default"].read_text(encoding="utf-8")
APPLY = ["salt-call", "--local", "--out=quiet", "--retcode-passthrough", "state.apply", "smtpout"]
# Another content for files of each set; those of the scanner apart, whose milter takes 5 s to stop.
OTHER = """
  postfix:
    main: {smtpd_recipient_limit: 150}
    master: {2525/inet: {private: n, command: smtpd}}
    maps: {canonical: {entries: {root: usuario01@domain01.dom}}}
  saslauthd: {processes: 7}
"""
SCANNER = """
  clamav:
    reject_message: '%v was found'
    clamd: {MaxThreads: 11}
    freshclam: {Checks: 2}
"""
TRUSTED = ("trusted_hosts: [172.16.11.95]", "trusted_hosts: [172.16.11.95, 172.16.11.94]")
PILLARS_IN_TURN = {
    "example": EXAMPLE,
    "other": EXAMPLE.replace(*TRUSTED) + OTHER,
    "all": EXAMPLE.replace(*TRUSTED) + OTHER + SCANNER,
}
# What is applied one after the other, again and again.
TURNS = ["other", "example", "other", "example", "other", "example", "other", "all", "other", "example"]
LEFT = r"""
find /etc /var/lib/smtpout /tmp /var/tmp \( -name '*.smtpout-*' -o -name '*.building' -o -path '*/staging/*' \
    -o -path '*/backup/*' -o -name 'kept.json' \) -print
pgrep -af '[m]aster -d' || true
"""
SIZE = 10_000
# Asks for every key in turn, as fast as postmap goes, and counts the answers by the letter that they begin with.
LOOKUPS = """
import collections, itertools, pathlib, subprocess, sys
answers = collections.Counter()
keys = "".join(f"key{n}\\n" for n in range(0, 10000, 97))
while not pathlib.Path("/run/enough").exists():
    done = subprocess.run(["postmap", "-q", "-", "lmdb:/etc/postfix/big"], input=keys, capture_output=True, text=True)
    lines = [line.split("\\t")[1][0] for line in done.stdout.splitlines()]
    answers["".join(sorted(set(lines)))] += 1
    answers["missing"] += keys.count("\\n") - len(lines)
    answers["warnings"] += bool(done.stderr)
print(dict(answers))
"""


@pytest.fixture
def load(on_bookworm: Applied) -> Iterator[Load]:
    """Return a message a second on its way to the relay."""
    load = Load(on_bookworm.lab, "kill", MESSAGES, PATIENCE, SPAN, 210)
    yield load
    load.stop()


def configuration(relay: Host) -> dict[str, str]:
    """Return every file below /etc with what it holds; databases by their place, since no two builds are alike."""
    listing = relay.run(["sh", "-c", LISTING], timeout=60).stdout
    found = dict(line.split(" ", 1) for line in listing.splitlines() if line.startswith("/etc/"))
    return {path: "" if path.endswith(".lmdb") else content for path, content in found.items()}


def kill_after(relay: Host, argv: list[str], seconds: float) -> bool:
    """Start a command of the relay, kill its whole process group after some seconds; return whether it still ran."""
    process = subprocess.Popen(
        relay.argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def all_run(relay: Host, seconds: float = 30) -> bool:
    """Wait until each daemon is active: systemd goes on with what it was asked for."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        states = relay.run(["systemctl", "is-active", *UNITS], check=False).stdout.split()
        if set(states) == {"active"}:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.timeout(2400)
def test_an_apply_killed_at_any_moment_is_finished_by_the_next(on_bookworm: Applied, load: Load) -> None:
    lab, relay, chance = on_bookworm.lab, on_bookworm.lab.host("relay"), random.Random(SEED)  # noqa: S311 - no secret
    contents: dict[str, dict[str, str]] = {}
    lasts: dict[bool, float] = {}
    for name in ("example", "other", "all", "example"):
        lab.set_pillar(PILLARS_IN_TURN[name])
        on_bookworm.apply("to be known")
        assert on_bookworm.failed("to be known") == {}
        found = configuration(relay)
        assert contents.setdefault(name, found) == found, "an apply brings back exactly what was there"
        lasts["all" in contents] = on_bookworm.seconds["to be known"]
    assert len(on_bookworm.changed("to be known")) >= 6, on_bookworm.changed("to be known")
    whole = {path: {content.get(path) for content in contents.values()} for path in set().union(*contents.values())}
    began, dead, number, sent = time.monotonic(), 0, 0, len(load.replies)
    while dead < KILLS:
        number += 1
        before, wanted = TURNS[(number - 2) % len(TURNS)], TURNS[(number - 1) % len(TURNS)]
        lab.set_pillar(PILLARS_IN_TURN[wanted])
        # The first half second is Python's start.
        moment = chance.uniform(0.5, 0.9 * lasts["all" in (before, wanted)])
        dead += kill_after(relay, APPLY, moment)
        where = f"apply {number}, killed {moment:.2f} s after its start"
        seen = configuration(relay)
        torn = [path for path, found in whole.items() if seen.get(path) not in found]
        assert torn == [], where
        assert all_run(relay), where
        on_bookworm.apply("next")
        assert on_bookworm.failed("next") == {}, where
        assert configuration(relay) == contents[wanted], where
        assert relay.run(["sh", "-c", LEFT]).stdout == "", where
        if number % EVERY == 0:
            on_bookworm.apply("one more")
            assert on_bookworm.failed("one more") == {}, where
            assert on_bookworm.changed("one more") == [], where
            assert not verify(lab, "failed"), where
    seconds, meanwhile = time.monotonic() - began, len(load.replies) - sent
    load.hurry()
    load.finished()
    relay.run(["postqueue", "-f"])
    counted, wrong = load.counted()
    print(
        f"{dead} of {number} applies killed before their end, in {seconds:.0f} s; none did harm. Mail: {meanwhile} "
        f"replies meanwhile; in all {counted._asdict()}, {len(load.temporary())} tries again"
    )
    # A Postfix that restarts sends again what was on its way without an answer.
    wrong.pop("doubled though the sender got its answer", None)
    assert wrong == {}
    assert meanwhile >= KILLS


@pytest.mark.timeout(300)
def test_a_lookup_never_meets_an_empty_or_partial_map(on_bookworm: Applied) -> None:
    relay, chance = on_bookworm.lab.host("relay"), random.Random(SEED)  # noqa: S311 - no secret
    texts = ["".join(f"key{number} {letter}{number}\n" for number in range(SIZE)) for letter in "ab"]
    build = ["salt-call", "--local", "--out=quiet", "postmap.build", "/etc/postfix/big", "lmdb"]
    relay.write("/etc/postfix/big", texts[0], mode="0644")
    began = time.monotonic()
    relay.run(build)
    lasted = time.monotonic() - began
    asking = subprocess.Popen(relay.argv(["python3", "-c", LOOKUPS]), stdout=subprocess.PIPE, text=True)
    died = 0
    try:
        for number in range(1, MAP_KILLS + 1):
            relay.write("/etc/postfix/big", texts[number % 2], mode="0644")
            died += kill_after(relay, build, chance.uniform(lasted * 0.5, lasted * 1.1))
        relay.run(build)
    finally:
        relay.write("/run/enough", "")
        answers = asking.communicate(timeout=60)[0]
    whole = relay.run(["postmap", "-s", "lmdb:/etc/postfix/big"]).stdout
    left = relay.run(["sh", "-c", LEFT]).stdout
    relay.run(["sh", "-c", "rm -r /run/enough /etc/postfix/big*"])
    print(f"{MAP_KILLS} builds, {died} killed before their end; answers by content: {answers.strip()}")
    assert yaml.safe_load(answers).keys() <= {"a", "b", "missing", "warnings"}, "old and new entries in one map"
    assert {name: yaml.safe_load(answers)[name] for name in ("missing", "warnings")} == {"missing": 0, "warnings": 0}
    assert len(whole.splitlines()) == SIZE
    assert left == ""
