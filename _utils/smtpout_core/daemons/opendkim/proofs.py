"""Which files held usable private keys when they were last read, so that an apply need not read ten thousand again.

A file is known again by its inode, its size and its times. Whoever writes, moves or restores one changes its ctime, and
that the kernel alone sets. Where the record is lost, keys are read: 0.06 ms each.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from smtpout_core import files

YOUNG = 2
"""Seconds: what is younger may change once more without a newer ctime, whose clock ticks every few milliseconds."""


class Proofs:
    """The record, as a file has it, and what it becomes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.before: dict[str, Any] = {}
        self.now: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            self.before = dict(json.loads(Path(path).read_bytes()))

    def bits(self, path: str, status: os.stat_result, given: bytes) -> int | None:
        """Return the size of the key in a file; None where that isn't the file that was read.

        :param status: of the file itself, not of what a link leads to.
        :param given: the key that it has to hold, as text; empty for any.
        """
        found = self.before.get(path)
        if not found or found[:-1] != _mark(status, given):
            return None
        self.now[path] = found
        bits: int = found[-1]
        return bits

    def keep(self, path: str, status: os.stat_result, given: bytes, bits: int) -> None:
        """Remember a key that is usable.

        :param status: of the file, from before it was read.
        :param given: as in ``bits``.
        :param bits: its size.
        """
        if time.time() - status.st_ctime > YOUNG:
            self.now[path] = [*_mark(status, given), bits]

    def write(self) -> None:
        """Write the record, where it has changed."""
        if self.now != self.before:
            files.write(self.path, json.dumps(self.now).encode(), 0o600)


def _mark(status: os.stat_result, given: bytes) -> list[Any]:
    asked = hashlib.sha256(given).hexdigest() if given else ""
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, asked]
