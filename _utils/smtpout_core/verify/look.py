"""What the watch runs, with the distribution's own Python: one look at the relay, for the journal and for others."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from smtpout_core import verify
from smtpout_core.change.memory import Memory
from smtpout_core.daemons.watch import daemon, record
from smtpout_core.dns import kept
from smtpout_core.host import Host

# What stands before a line of the journal (sd-daemon(3)).
PRIORITY = {"failed": "<3>", "warning": "<4>", "ok": "<6>"}


CUT_SHORT = "no change of the mail system is half done"


def main() -> int:
    """Ask the relay what ``smtpout.verify`` asks; leave the answers in /run/smtpout, and tell the journal what is new.

    :return: 1 where a check has failed, so that the unit has, too; what is only to be known fails nothing.
    """
    known = json.loads(Path(daemon.SITE).read_text(encoding="utf-8"))
    state_dir = known["state_dir"]
    memory, began = Memory(state_dir), _changed(state_dir)
    checks = [] if memory.busy() else verify.run(known["site"], Host(state_dir=state_dir))
    if memory.busy() or _changed(state_dir) != began:  # who asks then hears of daemons that are away
        _say("the relay is being changed: nothing is said of it now")
        return 0
    if Path(state_dir, "change").exists():
        checks.append({"check": CUT_SHORT, "state": "failed", "seen": "an apply was cut short; apply again"})
    before, look = record.read(record.PATH), record.Look(time.time(), checks)
    record.write(look, record.PATH)
    _tell(before, look)
    kept.renew(known["site"], kept.PATH, _say)
    return 1 if look.in_state("failed") else 0


def _changed(state_dir: str) -> int:
    """Return when what the daemons run with was last written down."""
    path = Path(state_dir, "whole.json")
    return path.stat().st_mtime_ns if path.exists() else 0


def _tell(before: record.Look | None, look: record.Look) -> None:
    """Say what is other than it was, and a sum."""
    was = {check["check"]: check for check in before.checks} if before else {}
    for check in look.checks:
        known = was.pop(check["check"], None)
        # A warning's words hold ages and sizes, which are never the same.
        other = check["state"] == "failed" and known and known["seen"] != check["seen"]
        if other or check["state"] != (known["state"] if known else "ok"):
            _say(f"{check['state']}: {check['check']}: {' '.join(check['seen'].split())}", check["state"])
    for check in was.values():
        if check["state"] != "ok":
            _say(f"ok: {check['check']}: no longer")
    failed, warnings = len(look.in_state("failed")), len(look.in_state("warning"))
    _say(f"{len(look.checks)} checks, {failed} failed, {warnings} with a warning")


def _say(line: str, state: str = "ok") -> None:
    """Write a line for the journal."""
    sys.stdout.write(f"{PRIORITY[state]}{line}\n")
