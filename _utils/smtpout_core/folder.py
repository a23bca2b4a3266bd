"""Private folders for what is tried aside; those of a killed run are cleared away by the next.

A folder is locked as long as its run lives, and a lock ends with its process: what can be locked was left. (The same
lock keeps systemd-tmpfiles away.)
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PREFIX = ".smtpout-aside."


@contextmanager
def private(parent: str | None = None) -> Iterator[str]:
    """Give the path of a new folder that only this user may enter, and remove it afterwards.

    :param parent: where to make it; the system's temporary directory by default.
    """
    parent = parent or tempfile.gettempdir()
    sweep(parent)
    path, lock = _locked(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def sweep(parent: str) -> None:
    """Remove the folders that killed runs have left.

    :param parent: where they were made.
    """
    for path in glob.glob(os.path.join(glob.escape(parent), f"{PREFIX}*")):
        with suppress(OSError):  # it is no folder, it is locked, or another run has removed it
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(lock)
                # In /tmp anybody may make one of this name.
                if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700:
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _locked(parent: str) -> tuple[str, int]:
    """Make a folder and lock it; another, where a sweep comes between the two."""
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(path):
                return path, lock
            os.close(lock)
