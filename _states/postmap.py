"""Postfix lookup tables with the entries they should have.

Compared is what is *in* a table, never a hash or a time of a file, so that a table that went stale, truncated or
readable for too many is repaired by the next run, whatever happened to the one before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import salt.utils.files
import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import holding, maps


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

    Of aliases without entries, which are the host's own, a line that newaliases only warns of is a warning here, too.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": f"{type}:{name} is as it should be"}
    table: dict[str, Any] = {"type": type, "program": program, "config_directory": config_directory}
    access = f"{user}:{group} {salt.utils.files.normalize_mode(mode)}"
    try:
        if program == "postalias" and entries is None and (said := _faults(name, table)):
            ret["warnings"] = [f"{name}: {'; '.join(said)}"]
        wanted, held, notes = holding.compared(name, entries, table, bare=__opts__["test"])
        difference = holding.difference(wanted, held, notes, access)
        if not difference:
            return ret
        ret["changes"] = holding.presentable(difference, mask)
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


def _faults(name: str, table: dict[str, Any]) -> list[str]:
    """Return what is wrong with lines of a text that somebody wrote by hand."""
    try:
        return maps.check(name, **table) if os.path.exists(name) else []
    except errors.NotInstalledError:
        return []
