"""Postfix lookup tables with the entries they should have.

Compared is what is *in* a table, never a hash or a time of a file, so that a table that went stale, truncated or
readable for too many is repaired by the next run, whatever happened to the one before.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
from collections.abc import Mapping, Sequence
from typing import Any

import salt.utils.files
import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import maps
from smtpout_core.site import map_format

log = logging.getLogger(__name__)

SHOWN = 50  # keys of a kind in the changes: more than that nobody reads
MASK = "*" * 10


def built(
    name: str,
    type: str,
    entries: Mapping[str, Any] | Sequence[Sequence[Any]] | None = None,
    mode: str = "0644",
    user: str = "root",
    group: str = "root",
    mask: bool = False,
    program: str = "postmap",
    config_directory: str | None = None,
) -> dict[str, Any]:
    """
    A table holds these entries and no others, and its files have this owner and mode.

    .. code-block:: yaml

        Postfix knows the way to each domain:
          postmap.built:
            - name: /etc/postfix/transport
            - type: lmdb
            - entries:
                example.org: smtp:[192.0.2.1]:25

    The changes are ``added`` and ``removed`` (key: value), ``changed`` (key: {old, new}), at most 50 keys each,
    ``more`` (how many there are above the 50), and ``files`` (path: {old, new}: owner and mode, or what is wrong with
    the file). Test mode reports the same ones; before Postfix is installed it compares with the text.

    name
        the text of the table, absolute, without the suffix of the database

    type
        ``hash``, ``btree``, ``lmdb``, ``cdb`` (a text and a database), ``cidr``, ``pcre``, ``regexp``, ``texthash``
        (a text)

    entries
        a dict, or a list of [key, value] pairs, written to the text in this order. Without it the text that is
        there is the source, and stays as it is.

    mode
        of the text and the database, an octal string

    user, group
        names, the owners of the text and the database

    mask
        show asterisks for the values

    program
        ``postmap``, or ``postalias`` for aliases

    config_directory
        the folder of main.cf where it isn't Postfix's default
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": f"{type}:{name} is as it should be"}
    table: dict[str, Any] = {"type": type, "program": program, "config_directory": config_directory}
    access = f"{user}:{group} {salt.utils.files.normalize_mode(mode)}"
    try:
        wanted, held, notes = _compared(name, entries, table)
        difference = _difference(wanted, held, notes, access)
        if not difference:
            return ret
        ret["changes"] = _presentable(difference, mask)
        counts = [f"{len(items)} {kind}" for kind, items in difference.items() if kind != "files"]
        what = ", ".join(counts) or "only its files"
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = f"{type}:{name} would be built: {what}"
            return ret
        maps.build(name, entries=entries, mode=mode, user=user, group=group, **table)
        if maps.dump(name, **table) != wanted:
            raise errors.RelayError(f"{type}:{name} was built, but doesn't hold what it should")
        ret["comment"] = f"{type}:{name} was built: {what}"
    except (errors.RelayError, OSError) as error:
        ret.update(result=False, changes={}, comment=str(error))
    return ret


def _difference(
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


def _compared(name: str, entries: Any, table: dict[str, Any]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return what should be in the table, what is in it, and what is wrong with its files."""
    files = maps.files(name, table["type"], program=table["program"])
    notes = dict.fromkeys(files, "")
    looked_up = files[-1]
    if __opts__["test"] and entries is None and not os.path.exists(name):
        return {}, {}, notes  # a state before this one makes the text
    try:
        plan = maps.preview(name, entries=entries, **table)
        held: dict[str, str] = {}
        if os.path.exists(looked_up):
            try:
                held = maps.dump(name, **table)
            except errors.NotInstalledError:
                raise
            except errors.RelayError as error:
                log.info("%s gets rebuilt: %s", looked_up, error)
                notes[looked_up] = ", unreadable"
        if held == plan["contents"] and os.path.exists(name) and _text(name) != plan["text"]:
            notes[name] = ", other text"
        return plan["contents"], held, notes
    except errors.NotInstalledError:
        if not __opts__["test"]:
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


def _presentable(difference: dict[str, dict[str, Any]], mask: bool) -> dict[str, Any]:
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
