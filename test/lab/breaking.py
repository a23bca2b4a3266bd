"""How the lab makes something fail in or around a relay, and makes it whole again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import yaml

from lab.lab import EXAMPLE, Lab

POSTFIX = {"bookworm": "postfix@-", "trixie": "postfix"}
MASTER = "POSTFIX"  # in a list of units: the one whose processes are Postfix

# Kills processes of a unit: those of these names, its workers (all but the main one), or all. It looks in the unit's
# own control group, so that no other process can be meant. systemd may have killed the rest when the main one died; a
# unit that is about to start again has none for a moment, and one that was killed as it started for 30 s.
KILLER = """
import contextlib, os, pathlib, signal, subprocess, sys, time
unit, *names = sys.argv[1:]
def shown(which):
    command = ["systemctl", "show", "--value", f"--property={which}", unit]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
def killed():
    main = shown("MainPID")
    for pid in pathlib.Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            if not names or name in names or (names == ["worker"] and pid != main):
                os.kill(int(pid), signal.SIGKILL)
                yield pid
for attempt in range(400):
    if (group := shown("ControlGroup")) and (found := list(killed())):
        print(*found)
        break
    time.sleep(0.1)
"""


def unit(lab: Lab, name: str) -> str:
    """Return the name of a unit on this release."""
    return POSTFIX[lab.images["relay"].name.split("-")[1]] if name == MASTER else name


def systemctl(verb: str, *units: str, host: str = "relay") -> Callable[[Lab], object]:
    """Return what does something with units of a host."""
    return lambda lab: lab.host(host).run(
        ["systemctl", *verb.split(), *(unit(lab, each) for each in units)], timeout=120
    )


def killed(name: str, *processes: str) -> Callable[[Lab], object]:
    """Return what kills processes of a unit of the relay with SIGKILL: those named, or all."""

    def kill(lab: Lab) -> None:
        done = lab.host("relay").run(["python3", "-c", KILLER, unit(lab, name), *processes])
        assert done.stdout, f"{name} has no {processes}"

    return kill


def master_killed(lab: Lab) -> None:
    """Kill Postfix's master alone; its children live on."""
    relay = lab.host("relay")
    relay.run(["kill", "-KILL", relay.read("/var/spool/postfix/pid/master.pid").strip()])


def killed_as_it_starts(lab: Lab) -> None:
    """Kill OpenDKIM, let the next one die between its fork and its PID file (a stand-in does), wait for a third."""
    relay, changed = lab.host("relay"), "/run/systemd/system/opendkim.service.d/dies.conf"
    once = "if rm /run/dies 2>/dev/null; then sleep 0.5 & else exec /usr/sbin/opendkim; fi"
    relay.write("/run/dies", "")
    relay.write(changed, f"[Service]\nExecStart=\nExecStart=/bin/sh -c '{once}'\n")
    relay.run(["systemctl", "daemon-reload"])
    try:
        killed("opendkim")(lab)
        relay.run(
            ["sh", "-c", "while test -e /run/dies || ! systemctl is-active opendkim; do sleep 0.2; done"], timeout=60
        )
    finally:
        relay.run(["rm", changed])
        relay.run(["systemctl", "daemon-reload"])


def each(*faults: Callable[[Lab], object]) -> Callable[[Lab], None]:
    """Return what does several things in order."""

    def do(lab: Lab) -> None:
        for fault in faults:
            fault(lab)

    return do


def samba(*arguments: str) -> Callable[[Lab], object]:
    """Return what runs samba-tool on the directory."""
    return lambda lab: lab.host("directory").run(["samba-tool", *arguments], timeout=60)


def directory_signalled(signal: str) -> Callable[[Lab], object]:
    """Return what stops every process of the directory, or lets them go on."""
    return systemctl(f"kill --kill-whom=all --signal={signal}", "samba-ad-dc", host="directory")


def directory_up(lab: Lab) -> None:
    """Start the directory, and wait until it answers."""
    lab.host("directory").run(["/usr/local/lib/lab/boot.sh", "directory"], timeout=90)


def directory_slow(lab: Lab) -> None:
    """Let the directory work for a tenth of each second only."""
    turn = "systemctl kill --kill-whom=all --signal={} samba-ad-dc; sleep {};".format
    loop = f"while :; do {turn('STOP', 0.9)} {turn('CONT', 0.1)} done"
    lab.host("directory").run(["systemd-run", "--unit=slow", "sh", "-c", loop])


def directory_fast(lab: Lab) -> None:
    """Undo directory_slow."""
    lab.host("directory").run(["systemctl", "stop", "slow"])
    directory_signalled("CONT")(lab)


def queue_filled(lab: Lab) -> None:
    """Fill the file system of the queue to its last block."""
    fill = (
        "dd if=/dev/zero of=/var/spool/postfix/full bs=64k 2>/dev/null; df --output=avail /var/spool/postfix | tail -1"
    )
    assert lab.host("relay").run(["sh", "-c", fill]).stdout.strip() == "0"


def queue_emptied(lab: Lab) -> None:
    """Undo queue_filled."""
    lab.host("relay").run(["rm", "/var/spool/postfix/full"])


def pillar(**changes: Any) -> str:
    """Return pillar.example with short waits, since tests can't wait as long as mail can, and with other changes."""
    site = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["smtpout"]
    site["postfix"] = {"main": {"queue_run_delay": "3s", "minimal_backoff_time": "3s", "maximal_backoff_time": "5s"}}
    site["directory"]["timeout"] = 3
    site["limits"] = {"messages": {"day": 1_000_000}}  # nobody meets it; that it is counted is to keep no mail back
    for room, options in changes.items():
        site[room] = {**site.get(room, {}), **options}
    return yaml.safe_dump({"smtpout": site})


def applied(lab: Lab, site: str) -> None:
    """Give the relay a pillar and apply it."""
    lab.set_pillar(site)
    command = ["salt-call", "--local", "--retcode-passthrough", "state.apply", "smtpout"]
    lab.host("relay").run(command, timeout=300)


def configuration_changed(lab: Lab) -> None:
    """Apply a change of every daemon's configuration, and take it back."""
    site = pillar(
        saslauthd={"processes": 6},
        clamav={"add_header": "No"},
        opendkim={"options": {"LogWhy": False}},
        authentication={"clear_text_on_25": True},
    )
    applied(lab, site)
    applied(lab, pillar())


def wait(seconds: float) -> Callable[[Lab], None]:
    """Return what lets time pass between two faults."""
    return lambda _lab: time.sleep(seconds)
