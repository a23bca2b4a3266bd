"""What the watch runs, with the distribution's own Python: one look at the relay, for the journal and for others."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from smtpout_core import verify
from smtpout_core.daemons.watch import daemon, record
from smtpout_core.host import Host

# What stands before a line of the journal (sd-daemon(3)).
PRIORITY = {"failed": "<3>", "warning": "<4>", "ok": "<6>"}


def main() -> int:
    """Ask the relay what ``smtpout.verify`` asks; leave the answers in /run/smtpout, and tell the journal what is new.

    :return: 1 where a check has failed, so that the unit has, too; what is only to be known fails nothing.
    """
    known = json.loads(Path(daemon.SITE).read_text(encoding="utf-8"))
    state_dir = known["state_dir"]
    checks = [] if _changes(state_dir) else verify.run(known["site"], Host(state_dir=state_dir))
    if _changes(state_dir):
        _say("the relay is being changed: nothing is said of it now")
        return 0
    before, look = record.read(record.PATH), record.Look(time.time(), checks)
    record.write(look, record.PATH)
    _tell(before, look)
    return 1 if look.in_state("failed") else 0


def _changes(state_dir: str) -> bool:
    """Tell whether a change is under way, or half of one is left; who asks then hears of daemons that are away."""
    return Path(state_dir, "change").exists()


def _tell(before: record.Look | None, look: record.Look) -> None:
    """Say what is other than it was, and a sum."""
    was = {check["check"]: check["state"] for check in before.checks} if before else {}
    for check in look.checks:
        if check["state"] != was.get(check["check"], "ok"):
            seen = " ".join(check["seen"].split())
            _say(f"{check['state']}: {check['check']}: {seen}", check["state"])
    failed, warnings = len(look.in_state("failed")), len(look.in_state("warning"))
    _say(f"{len(look.checks)} checks, {failed} failed, {warnings} with a warning")


def _say(line: str, state: str = "ok") -> None:
    """Write a line for the journal."""
    sys.stdout.write(f"{PRIORITY[state]}{line}\n")
