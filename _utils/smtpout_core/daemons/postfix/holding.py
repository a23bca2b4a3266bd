"""What a lookup table holds against what it should hold.

Compared is what is *in* a table, never a hash or a time of a file, so that a table that went stale, truncated or
readable for too many is repaired by the next run, whatever happened to the one before.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
from typing import Any

from smtpout_core.daemons.postfix import maps
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.site import map_format

log = logging.getLogger(__name__)

SHOWN = 50  # keys of a kind in the changes: more than that nobody reads
MASK = "*" * 10


def difference(
    wanted: dict[str, str], held: dict[str, str], notes: dict[str, str], access: str
) -> dict[str, dict[str, Any]]:
    """Return what a build would change, whole and by kind, without the kinds that are empty."""
    kinds: dict[str, dict[str, Any]] = {
        "added": {key: wanted[key] for key in wanted.keys() - held.keys()},
        "removed": {key: held[key] for key in held.keys() - wanted.keys()},
        "changed": {
            key: {"old": held[key], "new": wanted[key]}
            for key in wanted.keys() & held.keys()
            if held[key] != wanted[key]
        },
    }
    found = {file: _access(file) + note for file, note in notes.items()}
    kinds["files"] = {file: {"old": old, "new": access} for file, old in found.items() if old != access}
    return {kind: items for kind, items in kinds.items() if items}


def compared(
    name: str, entries: maps.Entries, table: dict[str, Any], bare: bool
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return what should be in the table, what is in it, and what is wrong with its files.

    :param name: its text.
    :param entries: what it should hold; None where its text says so.
    :param table: ``type``, ``program`` and ``config_directory``.
    :param bare: Postfix, or the text, need not be there yet: states before this one bring them.
    """
    files = maps.files(name, table["type"], program=table["program"])
    notes = dict.fromkeys(files, "")
    looked_up = files[-1]
    if bare and entries is None and not os.path.exists(name):
        return {}, {}, notes  # a state before this one makes the text
    try:
        plan = maps.preview(name, entries=entries, **table)
        held: dict[str, str] = {}
        if os.path.exists(looked_up):
            try:
                held = maps.dump(name, **table)
            except NotInstalledError:
                raise
            except RelayError as error:
                log.info("%s gets rebuilt: %s", looked_up, error)
                notes[looked_up] = ", unreadable"
        if held == plan["contents"] and os.path.exists(name) and _text(name) != plan["text"]:
            notes[name] = ", other text"
        return plan["contents"], held, notes
    except NotInstalledError:
        if not bare:
            raise
    # Postfix is not installed yet: the texts tell what can be known.
    kind = {"type": table["type"], "program": table["program"]}
    new = _text(name) if entries is None else map_format.render(entries, **kind)["text"]
    old = _text(name) if os.path.exists(looked_up) and os.path.exists(name) else ""
    fold = str.lower if looked_up != name else str
    wanted, held = (
        {fold(key): value for key, value in map_format.parse(text, **kind)["entries"]} for text in (new, old)
    )
    return wanted, held, notes


def _text(name: str) -> str:
    with open(name, "rb") as file:
        return file.read().decode(errors="backslashreplace")


def _access(path: str) -> str:
    """Return owner and mode of a file the way they are asked for."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "missing"
    owner = []
    for lookup, number in ((pwd.getpwuid, status.st_uid), (grp.getgrgid, status.st_gid)):
        try:
            owner.append(lookup(number)[0])
        except KeyError:
            owner.append(str(number))
    return f"{':'.join(owner)} {stat.S_IMODE(status.st_mode):04o}"


def presentable(difference: dict[str, dict[str, Any]], mask: bool) -> dict[str, Any]:
    """Return a difference in the order of the keys, no longer than gets read, the values masked on request."""
    shown: dict[str, Any] = {}
    more = {}
    for kind, items in difference.items():
        shown[kind] = {key: items[key] for key in sorted(items)[:SHOWN]}
        if len(items) > SHOWN:
            more[kind] = len(items) - SHOWN
        if mask and kind != "files":
            shown[kind] = dict.fromkeys(shown[kind], {"old": MASK, "new": MASK} if kind == "changed" else MASK)
    return {**shown, "more": more} if more else shown
