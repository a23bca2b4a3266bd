"""The last comparison that the watch made, as it leaves that for ``smtpout.verify``, and when it makes the next."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from smtpout_core import files
from smtpout_core.dns import comparison
from smtpout_core.dns.found import MISSING, WRONG
from smtpout_core.dns.wanted import wanted
from smtpout_core.errors import Doubt, RelayError, os_errors_told

PATH = "/run/smtpout/dns.json"
SECONDS = 180
"""That a comparison of the watch's takes at most: its unit has five minutes for all."""
MISSED = 3
"""After so many a comparison is too old to tell of."""
SHOWN = 3


def renew(settings: dict[str, Any], path: str, say: Callable[[str], None]) -> None:
    """Compare, where the last comparison is older than the site wants, and leave what was found.

    :param settings: the site's; without ``hours`` nothing is compared.
    :param path: where it is left.
    :param say: is told that it was done, or why not: that is no fault of the relay's.
    """
    hours = settings.get("dns", {}).get("hours")
    last = read(path) if hours else None
    if not hours or (last and time.time() - last["at"] < hours * 3600):
        return
    try:
        way = comparison.Way(servers=settings["dns"]["servers"], seconds=SECONDS)
        told = comparison.told(comparison.compared(wanted(settings), way))
        with os_errors_told(path):
            files.write(path, json.dumps({"at": time.time(), **told}, indent=1).encode() + b"\n", 0o600)
    except RelayError as error:
        say(f"DNS was not compared: {error}")
    else:
        say(f"DNS was compared: {told['questions']} questions in {told['seconds']} s, {len(told['found'])} findings")


def read(path: str) -> dict[str, Any] | None:
    """Return the last comparison as ``comparison.told`` has it, and when it was made as ``at``; None where none was."""
    try:
        with open(path, encoding="utf-8") as record:
            said = json.load(record)
        return said if isinstance(said["at"], (int, float)) and isinstance(said["found"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def seen(hours: float, path: str) -> str:
    """Return what the last comparison has found, with its age.

    :param hours: between two.
    :param path: where it was left.
    :raises Doubt: it has found something, it is too old, or none was made since the host has booted.
    """
    last = read(path)
    if last is None:
        raise Doubt("none was made since the host has booted; the watch makes one after its next look")
    age = max(0.0, time.time() - last["at"]) / 3600
    if age > MISSED * hours + 1:
        raise Doubt(f"the last comparison is {age:.0f} hours old, and there is one every {hours}")
    when = f"{age:.1f} hours ago"
    found = last["found"]
    if not found:
        counts = sum(sum(states.values()) for states in last["counts"].values())
        return f"{when} {counts} records were as they should be"
    lines = [f"{_names(each['names'])} {each['kind']} {each['state']}: {each['seen']}" for each in found[:SHOWN]]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    bad = sum(len(each["names"]) for each in found if each["state"] in (WRONG, MISSING))
    head = f"{when}, {bad} records were wrong or missing:"
    raise Doubt("\n".join([head, *lines, *more, "`smtpout_dns.check` compares now"]))


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
