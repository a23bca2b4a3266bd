"""A site changes as one, or not at all: what is wrong is found before anything is touched, or all of it is taken back.

Each case changes two daemons or more, under a steady stream of mail, on both releases. ``--soak`` kills 60 applies
instead of 10. At the end pytest prints what became of the applies and of the mail.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import breaking, checks, mail
from lab.conftest import SUMMARY, Applied
from lab.host import Host
from lab.lab import Lab
from lab.load import Load
from lab.stream import COLUMNS, Span, Stream, row
from lab.whole import SITE, Whole, changed, left, merged, seen

PILLAR = "The site's pillar is right"
RECOVERED = "No change of the mail system is half done"
KEYS = "Every domain has its signing key"
UNTOUCHED, BACK = "was changed", "All of it was taken back: files and daemons are as they were before."
RATE, ENOUGH = 4, 1800  # messages a second, and for how many seconds there are some; a user may come once a second


@pytest.fixture(scope="module")
def stream(borrowed: Applied) -> Iterator[Stream]:
    """Return the mail that two servers of the site, two users and a stranger send, a message a connection."""
    load = Load(borrowed.lab, "stream", RATE * ENOUGH, 2 * ENOUGH, ENOUGH, 210, reuse=1)
    load.until(lambda: len(load.replies) > RATE)
    yield Stream(borrowed, load)
    load.stop()


# --- what can't go live ----------------------------------------------------------------------------------------------


def run(*argv: str) -> Callable[[Host], object]:
    """Return what runs a command on the relay."""
    return lambda relay: relay.run(list(argv))


def shell(script: str) -> Callable[[Host], object]:
    """Return what runs a shell script on the relay."""
    return run("sh", "-euc", script)


def nothing(_relay: Host) -> None:
    """Leave the host as it is."""


class Case(NamedTuple):
    """A change that can't go live."""

    name: str
    change: dict[str, Any]  # to the pillar
    says: tuple[str, ...]  # regular expressions over the comment of the state that fails
    state: str = SITE
    begin: Callable[[Host], object] = nothing
    end: Callable[[Host], object] = nothing
    restarted: frozenset[str] = frozenset()  # daemons; none where the mail system is left alone
    foreseen: bool = True  # a dry run tells
    right: bool = False  # the pillar is right: once the host is mended, it goes live


# What takes a port; systemd-run(1) keeps it running.
LISTENER = "import socket, time; s = socket.create_server(('127.0.0.1', 7357)); time.sleep(900)"
TAKEN = run("systemd-run", "--collect", "--unit=taker", "python3", "-c", LISTENER)
FREED = run("systemctl", "stop", "taker")
CLEARED = run("rm", "-rf", "/etc/site", "/etc/ssl/private/dkim")
SASL: dict[str, Any] = {"saslauthd": {"processes": 7}}
TRUSTED: dict[str, Any] = {"trusted_hosts": ["172.16.11.95", "192.0.2.7"]}
SERVICE = {"command": "smtpd", "private": "n"}
# A file system of 64 kB over OpenDKIM's tables, filled to the last block.
FILL = """
cp -a /etc/opendkim /tmp/opendkim
mount -t tmpfs -o size=64k,mode=755 tables /etc/opendkim
cp -a /tmp/opendkim/. /etc/opendkim/
rm -r /tmp/opendkim
dd if=/dev/zero of=/etc/opendkim/full bs=1k 2>/dev/null || true
"""

# One dry run finds all of these at once.
AT_ONCE = [
    Case("what Postfix's parser finds",
         SASL | {"postfix": {
             "main": {"smtpd_recipient_limitt": 100},
             "master": {"2525/inet": {**SERVICE, "options": {"smtpd_banana": "yes"}}}}},
         (r"unused parameter: smtpd_recipient_limitt=100", r"unused parameter: smtpd_banana=yes")),
    Case("what the filters' parsers find, and a port that another process has",
         {"clamav": {"clamd": {"MaxScansize": "10M"}, "milter": {"AddHeadr": "No"}, "freshclam": {"Cheks": 2},
                     "socket": "inet:7357@127.0.0.1"},
          "opendkim": {"options": {"Banana": True}}},
         (r"clamd: .*Unknown option MaxScansize", r"clamav-milter: .*Unknown option AddHeadr",
          r"freshclam: .*Unknown option Cheks", r"opendkim: .*/etc/opendkim.conf: .*unrecognized parameter",
          r"MilterSocket inet:7357@127.0.0.1: the port is taken by python3 \(process \d+\)"),
         begin=TAKEN, end=FREED),
    Case("a directory that is newly named and doesn't answer, and a base that the other one doesn't have",
         {"directory": {
             "servers": ["ldap://172.16.11.63:389/", "ldap://172.16.11.63:390/"], "base": "dc=nowhere",
             "proxy": False}},  # HAProxy's package would stay: packages are only ever added
         (r"ldap://172.16.11.63:390/ answers: port 390 can't be reached",
          r"the directory has what the site asks for: .*smtpout:directory:base: dc=nowhere does not exist")),
]  # fmt: skip
REFUSED = [
    *AT_ONCE,
    Case("what no daemon has to read",
         SASL | {"postfix": {"master": {"2525/inet": {**SERVICE, "wakeup": "often"}}}},
         (r"smtpout:postfix:master:2525/inet:wakeup: \"often\"",), PILLAR),
    Case("a table with a line that can't be read",
         SASL | {"postfix": {
             "main": {"header_checks": "regexp:/etc/postfix/rules"},
             "maps": {"rules": {"type": "regexp", "entries": {"/^Subject: (/": "REJECT"}}}}},
         (r"regexp map /etc/postfix/rules, line 2: Unmatched \(",)),
    Case("what Postfix and the host don't have",
         {"opendkim": TRUSTED, "postfix": {
             "main": {"smtpd_recipient_restrictions": "reject_unauth_destinaton"},
             "master": {"2525/inet": {"command": "smtpdd"}, "7357/inet": SERVICE, "192.0.2.1:2626/inet": SERVICE}}},
         (r"smtpd_recipient_restrictions: smtpd has no restriction reject_unauth_destinaton",
          r"2525/inet: /usr/lib/postfix/sbin has no program smtpdd", r"7357/inet: port 7357 is taken by python3",
          r"192.0.2.1:2626/inet: this host has no address 192.0.2.1"),
         begin=TAKEN, end=FREED),
    Case("what Postfix's daemons find when they are tried aside",
         SASL | {"postfix": {"main": {"smtpd_recipient_limit": "many", "lmtp_connect_timeout": "3x"}}},
         (r"smtpd: fatal: bad numerical configuration: smtpd_recipient_limit = many",
          r"lmtp: fatal: parameter lmtp_connect_timeout: bad time value or unit: 3x")),
    Case("a port for users that passes the scanner by",
         SASL | {"postfix": {"master": {"submission/inet": {"options": {
             "smtpd_milters": "unix:/run/opendkim/opendkim.sock"}}}}},
         (r"No virus passes the relay, whoever sends it: that would be broken\.",
          r"at submission/inet, logged in as \S+, from \S+ to \S+ with the EICAR test virus: it is taken, and leaves",
          r"Look at smtpout:postfix:master:submission/inet:options:smtpd_milters; or take it back")),
    Case("a key in a folder that the signer may not enter",
         {"postfix": {"main": {"smtpd_recipient_limit": 150}},
          "opendkim": {"gate": "none", "domains": {"domain02.dom": {
              "selector": "theirs", "key_file": "/etc/ssl/private/dkim/domain02.dom.key"}}}},
         (r"domains:domain02.dom:key_file: opendkim can't read .*: the folder /etc/ssl/private is closed to it",),
         begin=shell("cd /etc/ssl/private; mkdir -m 750 dkim; chgrp opendkim dkim; "
                     "openssl genrsa -out dkim/domain02.dom.key 2048; chown opendkim: dkim/domain02.dom.key"),
         end=CLEARED),
    Case("a key file that holds no key",
         SASL | {"opendkim": {"domains": {"domain02.dom": {"selector": "theirs", "key_file": "/etc/site/no.key"}}}},
         (r"/etc/site/no.key: not a usable RSA private key",), KEYS,
         begin=shell("mkdir -p /etc/site; echo nothing >/etc/site/no.key"), end=CLEARED),
    Case("a certificate that is none",
         SASL | {"tls": {"chain_file": "/etc/site/relay.pem"}}, (r"/etc/site/relay.pem: no certificate",),
         begin=shell("mkdir -p /etc/site; echo nothing >/etc/site/relay.pem"), end=CLEARED),
    Case("a certificate that isn't there",
         SASL | {"tls": {"chain_file": "/etc/site/relay.pem"}},
         (r"error opening chain file: /etc/site/relay.pem: No such file",)),
    Case("a certificate without its key",
         {"opendkim": TRUSTED, "tls": {"chain_file": "/etc/site/relay.pem"}},
         (r"smtpd: warning: .*/etc/site/relay.pem",),
         begin=shell("mkdir -p /etc/site; openssl x509 -in /etc/postfix/tls/self-made.pem -out /etc/site/relay.pem"),
         end=CLEARED),
    Case("a file that is a mount point of its own",
         SASL | {"opendkim": TRUSTED}, (r"/etc/opendkim/TrustedHosts: Device or resource busy",),
         begin=run("mount", "--bind", "/etc/opendkim/TrustedHosts", "/etc/opendkim/TrustedHosts"),
         end=run("umount", "/etc/opendkim/TrustedHosts"), foreseen=False, right=True),
    Case("a full disk", SASL | {"opendkim": TRUSTED}, (r"No space left on device",),
         begin=shell(FILL), end=run("umount", "/etc/opendkim"), foreseen=False, right=True),
]  # fmt: skip


# --- what nobody can foresee -----------------------------------------------------------------------------------------

RESTARTING: dict[str, Any] = {"smtpd_recipient_limit": 150, "inet_interfaces": "127.0.0.1, 172.16.11.95"}
FAILED = "/run/fails"
DROP_IN = """[Service]
ExecStartPre=/bin/sh -c 'if grep -qx "smtpd_recipient_limit = {}" /etc/postfix/main.cf; then touch {}; exit 1; fi'
"""


def drop_in(lab: Lab) -> str:
    """Return the path of a file that an administrator has put beside Postfix's unit."""
    return f"/etc/systemd/system/{breaking.unit(lab, breaking.MASTER)}.service.d/site.conf"


def postfix_fails(lab: Lab, limit: int = 150) -> None:
    """Keep Postfix from starting with the new configuration, by what only a start shows.

    :param limit: what the new one has for smtpd_recipient_limit.
    """
    lab.host("relay").write(drop_in(lab), DROP_IN.format(limit, FAILED), mode="0644")
    lab.host("relay").run(["systemctl", "daemon-reload"])


def postfix_mended(lab: Lab) -> None:
    """Undo postfix_fails."""
    lab.host("relay").run(["rm", "-f", drop_in(lab), FAILED])
    lab.host("relay").run(["systemctl", "daemon-reload"])


TAKEN_BACK = [
    Case("a daemon whose start fails",
         SASL | {"clamav": {"clamd": {"LogFile": "/tmp/nowhere/clamd.log"}}},
         (r"(?s)^clamd does not serve .*Its log:.*Failed to open log file /tmp/nowhere/clamd.log",),
         restarted=frozenset({"saslauthd", "clamav-daemon"})),
    Case("a unit file of the administrator's own",
         SASL | {"postfix": {"main": RESTARTING}}, (r"^postfix does not serve with its new configuration: ",),
         restarted=frozenset({"saslauthd", "postfix"})),
    Case("a proof that fails at the end",
         SASL | {"postfix": {"master": {"smtp/inet": {"options": {"smtpd_tls_auth_only": False}}}},
                 "promises": {"passwords_are_encrypted": False}},
         (r"^The new whole does not do what it should:", r"^  Postfix greets .*: without TLS it offers AUTH"),
         restarted=frozenset({"saslauthd", "postfix"})),
    Case("a disk that is full once all of it serves",
         SASL | {"opendkim": TRUSTED, "postfix": {"main": {"smtpd_recipient_limit": 150}}},
         (r"^/var/lib/smtpout/generations/\S+: No space left on device",),
         begin=shell("mount -t tmpfs -o size=8k,mode=700 full /var/lib/smtpout/generations"),
         end=run("umount", "/var/lib/smtpout/generations"),
         restarted=frozenset({"saslauthd", "opendkim", "postfix"})),
]  # fmt: skip


@contextlib.contextmanager
def prepared(stream: Stream, case: Case) -> Iterator[None]:
    """Have the host as a case wants it, and afterwards as it was."""
    case.begin(stream.relay)
    if "administrator" in case.name:
        postfix_fails(stream.lab)
    try:
        yield
    finally:
        case.end(stream.relay)
        postfix_mended(stream.lab)


def look_for(case: Case, failed: dict[str, str], also: str) -> None:
    """See that the state that has to fail says why, and what became of the host."""
    assert case.state in failed, failed
    missing = [words for words in case.says if not re.search(words, failed[case.state], re.MULTILINE)]
    assert missing == [], failed[case.state]
    assert case.state == KEYS or also in failed[case.state], failed[case.state]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_can_be_foreseen_is_refused_and_no_session_feels_it(stream: Stream, case: Case, release: str) -> None:
    with prepared(stream, case):
        before, began, sent = seen(stream.lab), time.time(), len(stream.load.replies)
        if case.foreseen and release == "bookworm":  # what is foreseen is so by parsers, which both releases have
            stream.lab.set_pillar(changed(case.change))
            stream.applied.apply("dry", test=True)
            look_for(case, stream.applied.failed("dry"), UNTOUCHED)
            assert seen(stream.lab) == before
        look_for(case, stream.apply(changed(case.change), "refused"), UNTOUCHED)
        assert seen(stream.lab) == before
        assert stream.met(began) == (set(), [])
        # A refusal may take no more than a second.
        assert len(stream.load.replies) - sent >= RATE // 2, "somebody sent meanwhile"
    if case.right:
        assert SITE in stream.green(changed(case.change))
        assert SITE in stream.green(changed({}))


def test_a_dry_run_names_all_that_is_wrong_and_touches_nothing(stream: Stream) -> None:
    TAKEN(stream.relay)
    before = seen(stream.lab)
    stream.lab.set_pillar(changed(functools.reduce(merged, [case.change for case in AT_ONCE])))
    stream.applied.apply("dry", test=True)
    FREED(stream.relay)
    said = stream.applied.failed("dry")[SITE]
    assert [words for case in AT_ONCE for words in case.says if not re.search(words, said)] == [], said
    assert [path for path in stream.applied.touched["dry"] if not path.startswith("/var/spool/postfix/")] == []
    assert seen(stream.lab) == before


@pytest.mark.parametrize("case", TAKEN_BACK, ids=lambda case: case.name)
def test_what_nobody_can_foresee_is_taken_back_and_only_its_daemons_pause(stream: Stream, case: Case) -> None:
    with prepared(stream, case):
        before, began = seen(stream.lab), time.time()
        look_for(case, stream.apply(changed(case.change), "taken back"), BACK)
        after = seen(stream.lab)
        assert after.files == before.files
        assert after.standing() == before.standing()
        assert after.restarted(before) == case.restarted
        serves(stream.lab)
        met, unexplained = stream.met(began)
        assert unexplained == []
        assert met == case.restarted
        assert stream.green(changed({})) == []


def serves(lab: Lab) -> None:
    """See that a user can log in, that their mail leaves signed, and that a virus is refused."""
    checks.signature_verifies(lab, mail.USERS)
    checks.virus_is_refused(lab, mail.USERS)


# --- kills -----------------------------------------------------------------------------------------------------------

APPLY, UNDO = "smtpout", "smtpout.clean"
LIMITS = {"a": 140, "b": 150}
MAP, SIZE = "/etc/postfix/big", 300
WHOLES = {
    "a": changed({"postfix": {
        "main": {"smtpd_recipient_limit": LIMITS["a"]},
        "maps": {"big": {"entries": {f"key{number}": f"a{number}" for number in range(SIZE)}}}}}),
    "b": changed(SASL | {"clamav": {"freshclam": {"Checks": 2}}, "postfix": {
        "main": {"smtpd_recipient_limit": LIMITS["b"], "inet_interfaces": "127.0.0.1, 172.16.11.95"},
        "master": {"2525/inet": SERVICE},
        "maps": {"big": {"entries": {f"key{number}": f"b{number}" for number in range(SIZE)}}}}}),
}  # fmt: skip
WRONG = [changed({"postfix": {"main": {"smtpd_recipient_limitt": 100}}}), changed({"postfixx": {}})]

# Asks for every key, again and again, and prints each answer that is new: the letters that the values begin with.
LOOKUPS = f"""
import pathlib, subprocess, sys, time
known, keys = set(), "".join(f"key{{n}}\\n" for n in range({SIZE}))
while True:
    argv = ["postmap", "-q", "-", "lmdb:{MAP}"]
    done = subprocess.run(argv, input=keys, capture_output=True, text=True)
    lines = [line.split("\\t")[1][0] for line in done.stdout.splitlines()]
    answer = "".join(sorted(set(lines))) + ("" if len(lines) == {SIZE} else f" {{len(lines)}} {{done.stderr.strip()}}")
    if answer not in known:
        known.add(answer)
        print(answer, flush=True)
    time.sleep(0.1)
"""


class Blow(NamedTuple):
    """A kill: of what, and what comes after it."""

    number: int
    what: str  # change; way back, of a change that fails when Postfix starts; undoing
    then: str  # next: the right pillar; refused: first a wrong one; reboot; power cut, which is the kill itself

    def share(self, release: str) -> float:
        """Return where in the time that it may take it dies: two kills are never close, whatever their count."""
        golden, offset = 0.618034, 0.31 if release == "trixie" else 0
        return (self.number * golden + offset) % 1


PLAN = [
    ("change", "next"), ("way back", "refused"), ("undoing", "next"), ("change", "power cut"), ("way back", "next"),
    ("change", "refused"), ("way back", "reboot"), ("change", "next"), ("undoing", "reboot"), ("way back", "refused"),
]  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Strike all of the plan on each release three times, or half of it on each."""
    if "blow" in metafunc.fixturenames:
        count = 3 * len(PLAN) if metafunc.config.getoption("soak") else len(PLAN) // 2
        metafunc.parametrize("blow", range(count), indirect=True, ids=lambda number: f"kill {number + 1}")


@pytest.fixture
def blow(request: pytest.FixtureRequest, release: str) -> Blow:
    """Return a kill of the plan."""
    number = request.param if request.config.getoption("soak") else 2 * request.param + (release == "trixie")
    return Blow(number + 1, *PLAN[number % len(PLAN)])


@dataclass
class Turn:
    """Which of the two wholes the relay has, and how many seconds what is killed lasts."""

    now: str
    lasts: dict[str, float]
    whole: dict[str, dict[str, str]]
    """The configuration of each, by its name."""
    known: bool = True

    @property
    def new(self) -> str:
        """Return the other whole."""
        return {"a": "b", "b": "a"}[self.now]


@pytest.fixture(scope="module")
def turned(stream: Stream) -> Turn:
    """Return a relay that has the first of two wholes, after a turn that nobody disturbed."""
    whole = {}
    for name in "aba":
        assert stream.green(WHOLES[name]) != []
        whole[name] = configured(seen(stream.lab))
    seconds = stream.applied.seconds["case"]
    return Turn("a", {"change": seconds, "way back": 0.3 * seconds, "undoing": seconds}, whole)


def configured(whole: Whole) -> dict[str, str]:
    """Return the configuration but for databases, whose pages may lie otherwise."""
    return {path: held for path, held in whole.configuration().items() if not path.endswith(".lmdb")}


@pytest.fixture
def turn(stream: Stream, turned: Turn) -> Turn:
    """Return the relay for a kill, whatever has become of it in the one before."""
    if not turned.known:
        postfix_mended(stream.lab)
        stream.green(WHOLES[turned.now])
    turned.known = False
    return turned


def memory(relay: Host) -> Path:
    """Return the formula's memory as this machine sees it, while the host is up."""
    return Path(f"/proc/{relay.leader()}/root/var/lib/smtpout")


def generation(relay: Host) -> int:
    """Return the number of the whole that counts; 0 for none."""
    try:
        return json.loads((memory(relay) / "whole.json").read_bytes())["generation"]
    except FileNotFoundError:
        return 0


def is_begun(relay: Host) -> bool:
    """Tell whether a change is under way, or was cut short."""
    return (memory(relay) / "change/begun").exists()


def moment(relay: Host, blow: Blow, share: float, lasts: float) -> Callable[[], bool]:
    """Return what tells that it is time to kill.

    :param lasts: how many seconds that takes which is to be killed.
    """
    if blow.what != "way back":
        at = time.time() + (0.15 + 0.75 * share) * lasts
        return lambda: time.time() >= at
    mark = Path(f"/proc/{relay.leader()}/root{FAILED}")
    return lambda: mark.exists() and time.time() >= mark.stat().st_mtime + share * lasts


def until(reached: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends
        time.sleep(0.1)


def struck(relay: Host, sls: str, reached: Callable[[], bool], alone: bool, power: bool) -> bool:
    """Start an apply and kill it when it is time; return whether it still ran.

    :param alone: the main process dies, its children live on; else all of them die.
    :param power: the whole host does, and boots again.
    """
    argv = relay.argv(["salt-call", "--local", "--out=quiet", "--retcode-passthrough", "state.apply", sls])
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not reached():
        time.sleep(0.01)
    ran = process.poll() is None
    if ran and power:
        relay.reboot(power_cut=True)
    elif ran:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGKILL) if alone else os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return ran


@contextlib.contextmanager
def looked_up(relay: Host) -> Iterator[list[str]]:
    """Look a map up all the while, but for reboots; at the end the list holds the answers, each once."""
    answers: list[str] = []
    told = "--property=StandardOutput=append:/root/answers"
    relay.run(["systemd-run", "--collect", "--unit=asker", told, "python3", "-c", LOOKUPS])
    try:
        yield answers
    finally:
        relay.run(["systemctl", "stop", "asker"], check=False)
        answers += relay.read("/root/answers").splitlines()
        relay.run(["rm", "/root/answers"])


class Killed(NamedTuple):
    """The relay before a kill, and right after it."""

    before: Whole
    counted: int
    """The number of the whole that counted."""
    after: Whole
    begun: bool


def killed(stream: Stream, turn: Turn, blow: Blow, share: float) -> Killed:
    """Kill an apply of the other whole when it is time; if it ended before that, the next one comes to it earlier."""
    lab, relay = stream.lab, stream.relay
    for _ in range(6):
        lab.set_pillar(WHOLES[turn.new])
        if blow.what == "way back":
            postfix_fails(lab, LIMITS[turn.new])
        before, counted, began = seen(lab), generation(relay), time.time()
        reached = moment(relay, blow, share, turn.lasts[blow.what])
        sls = UNDO if blow.what == "undoing" else APPLY
        if struck(relay, sls, reached, alone=blow.number // 2 % 2 == 0, power=blow.then == "power cut"):
            stream.spans.append(Span(blow.what, began, time.time()))
            return Killed(before, counted, seen(lab), is_begun(relay))
        turn.lasts[blow.what] *= 0.75
        postfix_mended(lab)
        stream.green(WHOLES[turn.new])
        turn.now = turn.new
    raise AssertionError(f"no {blow.what} lasted as long as {turn.lasts}")


@pytest.mark.timeout(180)
def test_what_a_kill_has_left_is_undone_by_whatever_comes_next(
    stream: Stream, turn: Turn, blow: Blow, release: str
) -> None:
    lab, relay = stream.lab, stream.relay
    closed = stream.away(blow.what) if blow.what == "undoing" or "power" in blow.then else contextlib.nullcontext()
    with looked_up(relay) as answers, closed:
        before, counted, after, begun = killed(stream, turn, blow, blow.share(release))
        if blow.what == "change":
            until(lambda: seen(lab).standing() == before.standing())  # systemd goes on with what it was asked for
        if blow.then == "reboot":
            with stream.away("reboot"):
                relay.reboot()
        elif blow.then == "refused":
            assert stream.apply(WRONG[blow.number // 2 % 2]).keys() & {PILLAR, SITE}
            assert (RECOVERED in stream.applied.changed("case")) == begun
        if blow.then != "next" and generation(relay) == counted:
            whole = seen(lab)
            assert whole.configuration() == before.configuration()
            assert whole.standing() == before.standing()
        if blow.then in ("reboot", "power cut"):
            serves(lab)
        postfix_mended(lab)
        finished = not begun and generation(relay) not in (counted, 0)
        changes = stream.green(WHOLES[turn.new])
    assert (RECOVERED in changes) == (begun and blow.then != "refused")
    assert (changes == []) == finished
    assert stream.green(WHOLES[turn.new]) == []
    assert left(relay) == ""
    last = seen(lab)
    assert configured(last) == turn.whole[turn.new]
    # What is written aside, under a name of its own, is taken away by whatever comes next (``left``).
    torn = [path for path in configured(after) if ".smtpout-" not in path
            and after.files[path] not in (before.files.get(path), last.files.get(path))]  # fmt: skip
    assert torn == [] or blow.what == "undoing"
    assert set(answers) <= {"a", "b"} or blow.what == "undoing", answers
    assert not begun or generation(relay) == counted + 1
    turn.now, turn.known = turn.new, True


# --- the count -------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_no_message_is_lost_or_doubled(stream: Stream, request: pytest.FixtureRequest, release: str) -> None:
    load = stream.load
    load.enough()
    stream.relay.run(["postqueue", "-f"])
    figures, wrong = load.counted()
    whole = Span("all the time", load.replies[0].began, time.time())
    lines: list[list[object]] = [[f"{release}: an apply is", *COLUMNS]]
    arrived = load.arrived()
    lines += [
        [what, *row(stream, [span for span in stream.spans if span.what == what], arrived)]
        for what in dict.fromkeys(span.what for span in stream.spans)
    ]
    lines.append(["all the time", len(stream.spans), *row(stream, [whole], arrived)[1:]])
    table = ["".join(f"{cell:{'<30' if not at else '>9'}}" for at, cell in enumerate(line)) for line in lines]
    request.config.stash.setdefault(SUMMARY, []).extend(table)
    print(*table, figures, wrong, sep="\n")
    # A Postfix that stops while the other side's answer is on its way sends again (RFC 5321, 4.5.3.2.6).
    cuts = [pause for pause in stream.pauses(whole.began) if pause.what == "postfix" or pause in stream.known]
    at = {reply.id: reply.at for reply in load.replies}
    doubled = wrong.pop("doubled though the sender got its answer", [])
    assert [name for name in doubled if not any(cut.covers(at[name], at[name] + 1) for cut in cuts)] == []
    assert wrong == {}
    assert stream.met(whole.began)[1] == []
