"""What the watch saw when it last looked, as it leaves that for others."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from smtpout_core import command, files
from smtpout_core.errors import Doubt, RelayError, os_errors_told

PATH = "/run/smtpout/watch.json"
TIMER = "smtpout-watch.timer"
LOOKS_MISSED = 3
"""After so many a look is too old."""


class Look(NamedTuple):
    """A look at the relay.

    :param at: when it ended, in seconds since 1970.
    :param checks: as ``smtpout.verify`` returns them.
    """

    at: float
    checks: list[dict[str, str]]

    def in_state(self, state: str) -> list[dict[str, str]]:
        """Return the checks that are ``ok``, ``warning`` or ``failed``."""
        return [check for check in self.checks if check["state"] == state]


def read(path: str) -> Look | None:
    """Return the last look; None where there was none since the host has booted, or it can't be read."""
    try:
        with open(path, encoding="utf-8") as record:
            said = json.load(record)
        return Look(float(said["at"]), list(said["checks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(look: Look, path: str) -> None:
    """Leave a look for others, whole or not at all; root alone may read it, as it names users."""
    with os_errors_told(path):
        files.write(path, json.dumps(look._asdict(), indent=1).encode() + b"\n", 0o600)


def seen(minutes: float, path: str) -> str:
    """Return what the last look has seen.

    :param minutes: between two looks.
    :raises Doubt: something had failed then.
    :raises RelayError: the timer doesn't run, or the last look is too old.
    """
    began = _timer_began()
    look = read(path)
    # One from before the timer was started anew may tell of another configuration.
    since = began if look is None or look.at < began else look.at
    age = max(0.0, time.time() - since) / 60
    if age > LOOKS_MISSED * minutes + 1:
        raise RelayError(f"the last look ended {age:.0f} minutes ago, and there is one every {minutes}")
    if look is None or since != look.at:
        return "the first look comes two minutes after the timer's start"
    failed = look.in_state("failed")
    if failed:
        lines = [f"{age:.0f} minutes ago it saw: {check['check']}: {check['seen']}" for check in failed]
        raise Doubt("\n".join(lines))
    warnings = len(look.in_state("warning"))
    return f"{age:.0f} minutes ago {len(look.checks)} checks, none failed, {warnings} with a warning"


def _timer_began() -> float:
    """Return when the timer was started, in seconds since 1970."""
    names = ["ActiveState", "ActiveEnterTimestampMonotonic"]
    done = command.run(["systemctl", "show", f"--property={','.join(names)}", TIMER])
    shown = dict(line.split("=", 1) for line in done.output.splitlines() if "=" in line)
    if done.status != 0 or shown.get("ActiveState") != "active":
        raise RelayError(f"{TIMER} is {shown.get('ActiveState', 'unknown')}: nothing looks at the relay")
    ago = time.clock_gettime(time.CLOCK_MONOTONIC) - int(shown[names[1]]) / 1e6
    return time.time() - ago
