"""Files hold something else for a while, and what they held afterwards: also when whoever wanted that is killed.

It is written down like a change, so what is cut short is undone by the next run, and at boot before the daemon starts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from smtpout_core import files
from smtpout_core.change import units
from smtpout_core.change.journal import UNIT_PATH, Journal
from smtpout_core.change.memory import Memory
from smtpout_core.errors import RelayError, os_errors_told


@contextmanager
def passing(memory: Memory, daemon: str, contents: Mapping[str, bytes], read: Callable[[], None]) -> Iterator[None]:
    """Have files of a daemon hold something else meanwhile. The lock is held by whoever calls this.

    :param memory: of the host.
    :param daemon: its name; it runs.
    :param contents: what its files hold meanwhile, by path; they are there.
    :param read: has it read them: after they are written, and after they are back.
    :raises RelayError: it was never applied; or what was there could not be brought back, which the next run does.
    """
    records = memory.whole()["daemons"]
    if daemon not in records:
        raise RelayError(f"Nothing is known of {daemon} on this host: apply first.")
    journal, record = Journal(str(memory.folder), UNIT_PATH), records[daemon]
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    known = {
        "generation": memory.next_number(),
        "daemons": [
            {
                "name": daemon,
                "units": _units(record),
                "own": record["units"],
                "working": record["working"],
                "served": True,
                "paths": [*contents],
                "probes": record["probes"],
                "patience": record["patience"],
            }
        ],
        "settings": [],
        "new": digests,
        "passing": digests,
    }
    # Of all units: the unit at boot comes before each of them.
    every = list(dict.fromkeys(unit for each in records.values() for unit in _units(each)))
    journal.begin(known, contents, units.each(every))
    try:
        journal.tell(daemon)
        journal.act(daemon)
        with os_errors_told():
            for path, data in contents.items():
                status = os.stat(path)
                files.write(path, data, status.st_mode & 0o7777, status.st_uid, status.st_gid)
        read()
        yield
    finally:
        journal.put_files_back()
        read()
        journal.end()


def _units(record: Mapping[str, list[str]]) -> list[str]:
    working = record.get("working")
    return [*record.get("units", ()), *([str(working)] if working else [])]
