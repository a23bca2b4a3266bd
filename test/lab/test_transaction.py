"""A change is all or nothing: what is wrong with it is found before anything is touched, or it is taken back.

Under a steady stream of mail. On Debian 12 only: each case takes some ten seconds.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import yaml
from support import PILLARS

from lab.checks import verify
from lab.conftest import Applied
from lab.host import Host
from lab.load import Figures, Load

EXAMPLE = PILLARS["default"].read_text(encoding="utf-8")
UNITS = ["postfix@-", "saslauthd", "clamav-daemon", "clamav-milter", "opendkim"]
PILLAR = "The site's pillar is right"
POSTFIX = "Postfix runs the site's configuration"
OPENDKIM = "OpenDKIM signs what the site sends"
CLAMD = "clamd scans for viruses"
MILTER = "clamav-milter hands mail to clamd"
MESSAGES, SPAN, PATIENCE = 24, 4, 120  # how many messages, over how many seconds, and how long their senders try

# Everything that a change could leave: contents, modes and owners, links; without times, and without locks.
LISTING = """
for top in /etc /var/lib/smtpout; do
    find "$top" -type f ! -name '*.lock' -printf '%p %m %U:%G ' -exec sha256sum {} \\;
    find "$top" ! -type f -printf '%p %y %m %U:%G %l\\n'
done
"""
LISTENER = "import socket, time; s = socket.create_server(('127.0.0.1', 7357)); time.sleep(900)"
# A file system of 64 kB over OpenDKIM's tables, filled to the last block.
FILL = """
cp -a /etc/opendkim /tmp/opendkim
mount -t tmpfs -o size=64k,mode=755 tables /etc/opendkim
cp -a /tmp/opendkim/. /etc/opendkim/
rm -r /tmp/opendkim
dd if=/dev/zero of=/etc/opendkim/full bs=1k 2>/dev/null || true
"""


def run(*argv: str) -> Callable[[Host], object]:
    """Return what runs a command on the relay."""
    return lambda relay: relay.run(list(argv))


def shell(script: str) -> Callable[[Host], object]:
    """Return what runs a shell script on the relay."""
    return run("sh", "-euc", script)


def files(**texts: str) -> Callable[[Host], object]:
    """Return what writes files below /etc/site."""

    def write(relay: Host) -> None:
        for name, text in texts.items():
            relay.write(f"/etc/site/{name}", text, mode="0644")

    return write


def nothing(_relay: Host) -> None:
    """Leave the host as it is."""


class Case(NamedTuple):
    """A change that can't go live."""

    name: str
    change: dict[str, Any]  # to the pillar
    state: str  # that fails
    says: str  # regular expression over its comment
    begin: Callable[[Host], object] = nothing
    end: Callable[[Host], object] = nothing
    foreseen: bool = True  # a dry run tells
    activated: tuple[str, ...] = ()  # units that were restarted with it, and then with the old configuration
    right: bool = False  # the pillar is right: once the host is mended, it goes live


TAKEN = run("systemd-run", "--collect", "--unit=taker", "python3", "-c", LISTENER)
FREED = run("systemctl", "stop", "taker")

CASES = [
    Case("a misspelt main.cf parameter", {"postfix": {"main": {"smtpd_recipient_limitt": 100}}}, POSTFIX,
         r"nothing was changed:\n.*unused parameter: smtpd_recipient_limitt=100"),
    Case("a number that is none", {"postfix": {"main": {"smtpd_recipient_limit": "many"}}}, POSTFIX,
         r"smtpd: fatal: bad numerical configuration: smtpd_recipient_limit = many"),
    Case("a unit of time that is none", {"postfix": {"main": {"lmtp_connect_timeout": "3x"}}}, POSTFIX,
         r"lmtp: fatal: parameter lmtp_connect_timeout: bad time value or unit: 3x"),
    Case("a misspelt restriction", {"postfix": {"main": {"smtpd_recipient_restrictions": "reject_unauth_destinaton"}}},
         POSTFIX, r"smtpd_recipient_restrictions: smtpd has no restriction reject_unauth_destinaton"),
    Case("a map of a type that Postfix hasn't", {"postfix": {"main": {"virtual_alias_maps": "nosql:/etc/postfix/v"}}},
         POSTFIX, r"unsupported dictionary type: nosql"),
    Case("a master.cf syntax error", {"postfix": {"master": {"2525/inet": {"command": "smtpd", "wakeup": "often"}}}},
         PILLAR, r"smtpout:postfix:master:2525/inet:wakeup: \"often\""),
    Case("a master.cf option that nobody knows",
         {"postfix": {"master": {"2525/inet": {"command": "smtpd", "options": {"smtpd_banana": "yes"}}}}},
         POSTFIX, r"unused parameter: smtpd_banana=yes"),
    Case("a master.cf program that isn't there", {"postfix": {"master": {"2525/inet": {"command": "smtpdd"}}}},
         POSTFIX, r"master.cf: 2525/inet: /usr/lib/postfix/sbin has no program smtpdd"),
    Case("a bad regular expression in a map",
         {"postfix": {"maps": {"rules": {"type": "regexp", "entries": {"/^Subject: (/": "REJECT"}}},
                      "main": {"header_checks": "regexp:/etc/postfix/rules"}}},
         POSTFIX, r"regexp map /etc/postfix/rules, line 2: Unmatched \("),
    Case("an unknown clamd option", {"clamav": {"clamd": {"MaxScansize": "10M"}}}, CLAMD,
         r"/etc/clamav/clamd.conf: .*Unknown option MaxScansize"),
    Case("a key file that holds no key", {"opendkim": {"domains": {"domain02.dom": {"key_file": "/etc/site/no.key"}}}},
         "Every domain has its signing key", r"/etc/site/no.key: not a usable RSA private key",
         begin=files(**{"no.key": "nothing\n"})),
    Case("a missing key in KeyTable, which can't be made",
         {"opendkim": {"domains": {"domain02.dom": {"key_file": "/proc/site/domain02.private"}}}},
         "Every domain has its signing key", r"/proc/site", foreseen=False),
    Case("a certificate that is none", {"tls": {"chain_file": "/etc/site/relay.pem"}}, POSTFIX,
         r"/etc/site/relay.pem: no certificate", begin=files(**{"relay.pem": "nothing\n"})),
    Case("a certificate that isn't there", {"tls": {"chain_file": "/etc/site/relay.pem"}}, POSTFIX,
         r"error opening chain file: /etc/site/relay.pem: No such file"),
    Case("a certificate without its key", {"tls": {"chain_file": "/etc/site/relay.pem"}}, POSTFIX,
         r"smtpd: warning: .*/etc/site/relay.pem",
         begin=shell("mkdir -p /etc/site; openssl x509 -in /etc/postfix/tls/self-made.pem -out /etc/site/relay.pem")),
    Case("a milter's port taken by another process", {"clamav": {"socket": "inet:7357@127.0.0.1"}}, MILTER,
         r"MilterSocket inet:7357@127.0.0.1: the port is taken by python3 \(process \d+\)", begin=TAKEN, end=FREED),
    Case("a service's port taken by another process", {"postfix": {"master": {"7357/inet": {"command": "smtpd"}}}},
         POSTFIX, r"7357/inet: port 7357 is taken by python3", begin=TAKEN, end=FREED),
    Case("a full disk", {"opendkim": {"trusted_hosts": ["192.0.2.7"]}}, OPENDKIM, r"No space left on device",
         begin=shell(FILL), end=run("rm", "/etc/opendkim/full"), foreseen=False, right=True),
    # chattr +i isn't to be had on the lab's overlay; a file that is a mount point of its own can't be replaced either.
    Case("an immutable file",
         {"opendkim": {"trusted_hosts": ["192.0.2.7"], "options": {"SoftwareHeader": True}}}, OPENDKIM,
         r"/etc/opendkim/TrustedHosts: Device or resource busy",
         begin=shell("cd /etc/opendkim; mount --bind TrustedHosts TrustedHosts; mount -o remount,bind,ro TrustedHosts"),
         end=run("umount", "/etc/opendkim/TrustedHosts"), foreseen=False, right=True),
    Case("what only shows when the daemon starts", {"clamav": {"clamd": {"LogFile": "/tmp/nowhere/clamd.log"}}}, CLAMD,
         r"(?s)Its log:.*Failed to open log file /tmp/nowhere/clamd.log.*The old configuration serves again",
         foreseen=False, activated=("clamav-daemon",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Figures]]:
    """Return the figures of each case, to be filled in; at the end their sums are printed."""
    found: dict[str, Figures] = {}
    yield found
    if found:
        sums = [sum(column) for column in zip(*found.values(), strict=True)]
        print(f"{len(found)} transactions: {dict(zip(Figures._fields, sums, strict=True))}")


def changed(change: dict[str, Any]) -> str:
    """Return pillar.example with a change."""

    def merged(base: Any, over: Any) -> Any:
        if not (isinstance(base, dict) and isinstance(over, dict)):
            return over
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}

    return yaml.safe_dump(merged(copy.deepcopy(yaml.safe_load(EXAMPLE)), {"smtpout": change}))


def put_right(applied: Applied, pillar: str) -> list[str]:
    """Apply a pillar that is right, and return what changed."""
    applied.lab.set_pillar(pillar)
    applied.apply("put right")
    assert applied.failed("put right") == {}
    return applied.changed("put right")


def on_disk(relay: Host) -> dict[str, str]:
    """Return every file of the configuration and of the formula's memory, with what it holds."""
    listing = relay.run(["sh", "-c", LISTING], timeout=60).stdout
    return dict(line.split(" ", 1) for line in listing.splitlines())


def runs(relay: Host) -> dict[str, str]:
    """Return since when each daemon runs, and its process."""
    shown = {}
    for unit in UNITS:
        properties = "--property=ActiveState,MainPID,ExecMainStartTimestampMonotonic"
        shown[unit] = relay.run(["systemctl", "show", properties, unit]).stdout
    return shown


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_change_that_cannot_go_live_leaves_everything_as_it_was(
    on_bookworm: Applied, figures: dict[str, Figures], case: Case
) -> None:
    lab, relay, number = on_bookworm.lab, on_bookworm.lab.host("relay"), CASES.index(case)
    relay.run(["rm", "-rf", "/etc/site"])
    at_first = on_disk(relay)
    case.begin(relay)
    try:
        files_before, running_before = on_disk(relay), runs(relay)
        load = Load(lab, f"transaction{number}", MESSAGES, PATIENCE, SPAN, 70 + number * 5)
        try:
            lab.set_pillar(changed(case.change))
            for step in ["dry", "real"] if case.foreseen else ["real"]:
                on_bookworm.apply(step, test=step == "dry")
                assert case.state in on_bookworm.failed(step), on_bookworm.failed(step)
                assert re.search(case.says, on_bookworm.failed(step)[case.state]), on_bookworm.failed(step)
                assert on_disk(relay) == files_before
            running = runs(relay)
            assert {unit for unit in UNITS if running[unit] != running_before[unit]} == set(case.activated)
            assert all("ActiveState=active" in shown for shown in running.values()), running
            load.finished()
            figures[case.name], wrong = load.counted()
        finally:
            load.stop()
        assert wrong == {}
        if not case.activated:
            assert load.temporary() == [], "senders felt it"
    finally:
        case.end(relay)
    if case.right:
        assert put_right(on_bookworm, changed(case.change)) == [case.state]
        relay.run(["sh", "-c", "umount /etc/opendkim 2>/dev/null; true"])
        put_right(on_bookworm, EXAMPLE)
    assert put_right(on_bookworm, EXAMPLE) == []
    if not case.foreseen:
        assert verify(lab, "failed") == []
    relay.run(["rm", "-rf", "/etc/site"])
    assert on_disk(relay).keys() == at_first.keys()
