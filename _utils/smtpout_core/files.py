"""The one way in which files are written: whole or not at all, readable by nobody else on the way, through no link.

A file is written beside its place, gets owner and mode there, and is moved into it by ``rename(2)``; or, where nothing
may be replaced, by ``link(2)``.
"""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from smtpout_core.errors import NotInstalledError, RelayError, os_errors_told

ASIDE = ".smtpout-"
"""What stands in the name of a file that isn't in its place yet, between a dot and its own name and some letters."""

SETTLED = 3
"""Seconds: Postfix's daemons reread a file that is younger than 2 s, 0.3 s later and again (dict_load_file_xt())."""


def write(path: str | Path, data: bytes, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Write a file, in the place of whatever is there."""
    os.rename(aside(path, data, mode, uid, gid), path)
    sync(os.path.dirname(path))


def create(path: str | Path, data: bytes, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Write a new file.

    :raises FileExistsError: something is there; it stays.
    """
    temporary = aside(path, data, mode, uid, gid)
    try:
        os.link(temporary, path)  # unlike rename(), it refuses to replace
    finally:
        os.unlink(temporary)
    sync(os.path.dirname(path))


def aside(path: str | Path, data: bytes, mode: int, uid: int = -1, gid: int = -1) -> str:
    """Write a file beside its place, in a folder that is made where it is missing, and return its name there."""
    folder, name = os.path.split(path)
    for parent in reversed(missing_parents(path)):
        parent.mkdir()
        parent.chmod(0o755)  # whatever the umask
    handle, temporary = tempfile.mkstemp(prefix=f".{name}{ASIDE}", dir=folder)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchown(handle, uid, gid)
        os.fchmod(handle, mode)
        os.utime(handle, (time.time() - SETTLED,) * 2)
        os.fsync(handle)
    return temporary


def replaceable(path: str) -> None:
    """Tell in time that a file couldn't be replaced: a mount point, or one that chattr(1) has made immutable.

    :raises OSError: why it can't.
    """
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    if os.path.realpath(path) in (line.split()[4] for line in mounts):  # proc(5)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    if os.path.isfile(path) and not os.path.islink(path):
        os.close(os.open(path, os.O_WRONLY))


def sweep(paths: Iterable[str | Path]) -> None:
    """Remove what killed runs have left beside these files."""
    beside: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        beside.setdefault(folder, set()).add(name)
    for folder, names in beside.items():
        for entry in os.listdir(folder) if os.path.isdir(folder) else ():
            if entry.startswith(".") and ASIDE in entry and entry[1 : entry.rindex(ASIDE)] in names:
                Path(folder, entry).unlink(missing_ok=True)


def copy(source: str, target: str) -> None:
    """Copy a file, or a symbolic link itself, with mode and owner."""
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        temporary = aside(target, b"", 0o600)
        os.unlink(temporary)
        os.symlink(os.readlink(source), temporary)
        os.rename(temporary, target)
    else:
        write(target, Path(source).read_bytes(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def missing_parents(path: str | Path) -> list[Path]:
    """Return the folders above a file that aren't there, the nearest first."""
    return [parent for parent in Path(path).parents if not parent.exists()]


def sync(directory: str) -> None:
    """Have the disk know what a folder holds."""
    handle = os.open(directory or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: str) -> str | None:
    """Return the SHA-256 of a file, None for one that isn't there.

    :raises RelayError: it can't be read.
    """
    with os_errors_told():
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.exists(path) else None


def plain(paths: Iterable[str]) -> list[str]:
    """Return those of some paths, each once, that are files or aren't there: no folders, sockets or devices."""
    return [path for path in dict.fromkeys(paths) if os.path.isfile(path) or not os.path.exists(path)]


def ids(user: str, group: str) -> tuple[int, int]:
    """Return the numbers of a user and a group.

    :raises RelayError: there is no such one.
    """
    try:
        return pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise RelayError(f"no such user or group: {error.args[0]}") from None


def unreadable(paths: Sequence[str], user: str, question: str = "-r") -> list[str]:
    """Return those of some files that a user can't read, folders above them and all; asked as that user, by access(2).

    :param paths: the files.
    :param user: whose access is asked for.
    :param question: of test(1); ``-x`` asks which folders the user can't enter.
    :raises NotInstalledError: there is no such user; the package that brings it isn't there.
    """
    if not paths:
        return []
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise NotInstalledError(f"there is no user {user}") from None
    groups = os.getgrouplist(user, account.pw_gid)
    script = rf'for path; do [ {question} "$path" ] || printf "%s\0" "$path"; done'
    refused: list[str] = []
    for start in range(0, len(paths), 500):  # an argument list has an end (ARG_MAX)
        done = subprocess.run(
            ["sh", "-c", script, "sh", *paths[start : start + 500]],
            user=account.pw_uid, group=account.pw_gid, extra_groups=groups, cwd="/", capture_output=True, check=False,
        )  # fmt: skip
        refused += [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]
    return refused


def closed_folder(folder: str, user: str) -> str | None:
    """Return the uppermost one, of a folder and those above it, that a user can't enter; None where that is none.

    :param folder: the folder.
    :param user: whose access is asked for.
    :raises RelayError: there is no such user.
    """
    places = [Path(folder), *Path(folder).parents]
    return next(iter(unreadable([str(place) for place in reversed(places) if place.exists()], user, "-x")), None)


def owner(uid: int, gid: int) -> str:
    """Return user and group as a file lists them, ``user:group``; one that has no name keeps its number."""
    names = [str(uid), str(gid)]
    with suppress(KeyError):
        names[0] = pwd.getpwuid(uid).pw_name
    with suppress(KeyError):
        names[1] = grp.getgrgid(gid).gr_name
    return ":".join(names)
