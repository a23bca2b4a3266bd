"""Swap and put back files as one set, and remember what a daemon was last activated with.

What ``config_set.managed`` acts through. Below ``/var/lib/smtpout`` (the minion option ``smtpout_state_dir`` names
another place), readable by root alone:

    postfix.json        what the running Postfix was last activated with
    postfix.lock        held by the run that is changing the set
    backup/postfix/     what was there before, as long as a new set is being tried
    staging/            the new set, as long as Postfix's own parser reads it

A run may be killed at any moment. So the backup outlives it, as what the next run goes back to if need be, and the
record is written only after the daemon has proved that it serves.
"""

from __future__ import annotations

import fcntl
import glob
import grp
import hashlib
import json
import os
import pwd
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError

smtpout_core.fresh()

from smtpout_core import folder as aside


ORIGINAL = ".ORG"
ASIDE = ".smtpout-"
KEPT = "kept.json"
SETTLED = 3  # seconds


def state_dir() -> str:
    """Return the directory of records, locks, backups and sets being checked.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.state_dir
    """
    return __opts__.get("smtpout_state_dir", "/var/lib/smtpout")


def _record(daemon: str) -> Path:
    return Path(state_dir(), f"{daemon}.json")


def _backup(daemon: str) -> Path:
    return Path(state_dir(), "backup", daemon)


@contextmanager
def _os_errors_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename or "a file"
        raise CommandExecutionError(f"{path}: {error.strerror}") from error


def lock(daemon: str, test: bool = False) -> int | None:
    """Take the lock of a set, so that no other run changes it; closing the returned descriptor gives it back.

    CLI Example: none, since the lock ends with the process.

    :param daemon: the set's name.
    :param test: make no lock where there is none yet, and return None.
    :raises CommandExecutionError: another run holds it.
    """
    path = Path(state_dir(), f"{daemon}.lock")
    if test and not path.exists():
        return None
    with _os_errors_told():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CommandExecutionError(f"Another run is changing {daemon}. Run this again when it is done.") from error
    return descriptor


def back_up(daemon: str, paths: list[str]) -> None:
    """Keep what is at these paths, until ``settle`` or ``restore``, and what was there before smtpout for good.

    What a killed run has already kept stays: what it put in its place never proved itself.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.back_up postfix '[/etc/postfix/main.cf]'

    :param daemon: the set's name.
    :param paths: files that are about to be written or removed. One that smtpout has not written before is copied to
        ``<name>.ORG``, unless that is there.
    """
    folder = _backup(daemon)
    with _os_errors_told():
        kept = _kept(folder)
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)  # of a run killed before it had changed anything
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in paths:
            for each in [path, path + ORIGINAL, *map(str, _missing_parents(path))]:
                if each not in kept:
                    kept[each] = os.path.lexists(each)
                    if kept[each]:
                        _copy(each, f"{folder}{each}")
        _put(folder / KEPT, json.dumps(kept).encode(), 0o600)
        for path in set(paths) - set(recall(daemon).get("paths", ())):
            if kept[path] and not os.path.lexists(path + ORIGINAL):
                _copy(f"{folder}{path}", path + ORIGINAL)


def swap(files: list[dict[str, Any]], orphans: list[str]) -> None:
    """Write files aside and rename them into place, all in a row, then put orphans back.

    A crash leaves each of them whole, the old one or the new one. ``back_up`` comes first; ``restore`` is for the
    caller when this raises.

    CLI Example: none, since only ``config_set.managed`` has rendered files at hand.

    :param files: as ``config_set.render`` returns them.
    :param orphans: paths, as ``orphans`` returns them.
    :raises CommandExecutionError: one can't be written: a full disk, an immutable file, an owner who doesn't exist.
    """
    with _os_errors_told():
        aside = {file["name"]: _aside(file["name"], file["text"].encode(), *_permissions(file)) for file in files}
        for path, temporary in aside.items():
            os.rename(temporary, path)
        for path in orphans:
            _put_back(path)
        for directory in {os.path.dirname(path) for path in [*aside, *orphans]}:
            _sync(directory)


def undo(daemon: str, paths: list[str]) -> None:
    """Put files back as they were before smtpout, and forget the set.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.undo postfix '[/etc/postfix/main.cf]'

    :param daemon: the set's name.
    :param paths: files that smtpout has written, as ``written`` returns them.
    """
    record = recall(daemon)
    with _os_errors_told():
        if record:
            # Once the original is back in its place, nothing may take it for smtpout's own file and delete it.
            record["paths"] = [path for path in record["paths"] if not os.path.lexists(path + ORIGINAL)]
            remember(daemon, record)
        for path in paths:
            _put_back(path)
    settle(daemon)
    remember(daemon, None)


def restore(daemon: str) -> None:
    """Put back all that ``back_up`` has kept, and remove what was not there then.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.restore postfix

    :param daemon: the set's name.
    """
    folder = _backup(daemon)
    kept = _kept(folder)
    with _os_errors_told():
        for path in kept:
            # One that can't be written, an immutable file say, wasn't changed either.
            if kept[path] and not _same(f"{folder}{path}", path):
                _copy(f"{folder}{path}", path)
        for path in sorted(kept.keys() - {path for path in kept if kept[path]}, reverse=True):
            if os.path.isdir(path):
                with suppress(OSError):  # somebody else has put something there
                    os.rmdir(path)
            else:
                Path(path).unlink(missing_ok=True)
    settle(daemon)


def settle(daemon: str) -> None:
    """Forget the backup of a set, and clear away what a killed run has left.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.settle postfix

    :param daemon: the set's name.
    """
    folder = _backup(daemon)
    with _os_errors_told():
        for path in [*_kept(folder), str(_record(daemon))]:
            for leftover in Path(path).parent.glob(f".{glob.escape(os.path.basename(path))}{ASIDE}*"):
                leftover.unlink()
        (folder / KEPT).unlink(missing_ok=True)  # from here on it is no backup, whatever is left of it
        shutil.rmtree(folder, ignore_errors=True)
        aside.sweep(os.path.join(state_dir(), "staging"))


def recall(daemon: str) -> dict[str, Any]:
    """Return what a daemon was last activated with, and served with; an empty dict if it never did.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.recall postfix

    :param daemon: the set's name.
    """
    try:
        return json.loads(_record(daemon).read_bytes())
    except (FileNotFoundError, ValueError):  # one that can't be read costs a restart, and is then written anew
        return {}


def remember(daemon: str, record: dict[str, Any] | None) -> None:
    """Write down what a daemon has been activated with; None forgets it.

    CLI Example: none, since the record is ``config_set.managed``'s own.

    :param daemon: the set's name.
    :param record: as ``recall`` returns it.
    """
    path = _record(daemon)
    with _os_errors_told():
        if record is None:
            path.unlink(missing_ok=True)
        else:
            _put(path, json.dumps(record, indent=1, sort_keys=True).encode(), 0o600)


def orphans(daemon: str, paths: list[str]) -> list[str]:
    """Return the files that a set has written and that no set wants any longer.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.orphans postfix '[/etc/postfix/main.cf]'

    :param daemon: the set's name.
    :param paths: the files that it has now.
    """
    others = [
        recall(record.stem).get("paths", []) for record in Path(state_dir()).glob("*.json") if record.stem != daemon
    ]
    return sorted(set(recall(daemon).get("paths", [])) - set(paths) - {path for other in others for path in other})


def written(daemon: str, paths: list[str]) -> list[str]:
    """Return the files that smtpout has written: all that it remembers of a set, and of these paths those it knows.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.written postfix '[/etc/postfix/main.cf]'

    :param daemon: the set's name.
    :param paths: files that may be smtpout's: those with an ``.ORG`` are.
    """
    ours = recall(daemon).get("paths", [])
    return [path for path in dict.fromkeys([*ours, *paths]) if path in ours or os.path.lexists(path + ORIGINAL)]


def undone(paths: list[str]) -> dict[str, dict[str, str]]:
    """Tell what putting these files back as they were before smtpout would change.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.undone '[/etc/postfix/main.cf]'

    :param paths: files that smtpout has written.
    :return: ``diff``, a note, by path, for those that are there.
    """
    changes = {path: {"diff": "removed"} for path in paths if os.path.lexists(path)}
    back = {path: {"diff": "put back as it was before smtpout"} for path in paths if os.path.lexists(path + ORIGINAL)}
    return changes | back


def digests(paths: list[str]) -> dict[str, str | None]:
    """Return the SHA-256 of each file, None for one that isn't there.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_swap.digests '[/etc/ssl/certs/relay.pem]'

    :param paths: absolute paths.
    """
    with _os_errors_told():
        there = {path: Path(path).read_bytes() if os.path.exists(path) else None for path in paths}
    return {path: None if data is None else hashlib.sha256(data).hexdigest() for path, data in there.items()}


def _kept(folder: Path) -> dict[str, bool]:
    """Return the list of a backup: by path whether something was there. It is empty without a whole backup."""
    return json.loads((folder / KEPT).read_bytes()) if (folder / KEPT).exists() else {}


def _put_back(path: str) -> None:
    if os.path.lexists(path + ORIGINAL):
        os.rename(path + ORIGINAL, path)
    else:
        Path(path).unlink(missing_ok=True)


def _missing_parents(path: str | Path) -> list[Path]:
    return [parent for parent in Path(path).parents if not parent.exists()]


def _permissions(file: dict[str, Any]) -> tuple[int, int, int]:
    try:
        return int(file["mode"], 8), pwd.getpwnam(file["user"]).pw_uid, grp.getgrnam(file["group"]).gr_gid
    except KeyError as error:
        raise CommandExecutionError(f"{file['name']}: {error.args[0]}") from error


def _aside(path: str | Path, data: bytes, mode: int, uid: int = -1, gid: int = -1) -> str:
    """Write a file beside its place, readable by nobody else until it has its owner, and return its name."""
    folder, name = os.path.split(path)
    for parent in reversed(_missing_parents(path)):
        parent.mkdir()
        parent.chmod(0o755)  # whatever the umask
    handle, temporary = tempfile.mkstemp(prefix=f".{name}{ASIDE}", dir=folder)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchown(handle, uid, gid)
        os.fchmod(handle, mode)
        # Each daemon of Postfix rereads a file that is younger than 2 s, 0.3 s later and again (dict_load_file_xt()).
        os.utime(handle, (time.time() - SETTLED,) * 2)
        os.fsync(handle)
    return temporary


def _put(path: str | Path, data: bytes, mode: int, uid: int = -1, gid: int = -1) -> None:
    os.rename(_aside(path, data, mode, uid, gid), path)
    _sync(os.path.dirname(path))


def _copy(source: str, target: str) -> None:
    """Copy a file, or a symbolic link itself, with mode and owner."""
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        temporary = _aside(target, b"", 0o600)
        os.unlink(temporary)
        os.symlink(os.readlink(source), temporary)
        os.rename(temporary, target)
    else:
        _put(target, Path(source).read_bytes(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _same(one: str, other: str) -> bool:
    if not os.path.lexists(other):
        return False
    first, second = os.lstat(one), os.lstat(other)
    if (first.st_mode, first.st_uid, first.st_gid) != (second.st_mode, second.st_uid, second.st_gid):
        return False
    read = os.readlink if stat.S_ISLNK(first.st_mode) else lambda path: Path(path).read_bytes()
    return read(one) == read(other)


def _sync(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
