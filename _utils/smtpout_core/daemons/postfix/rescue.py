"""Take over the queue of a dead relay, from its disk, into a Postfix that doesn't run and has no mail.

Nothing is lost and nothing is taken twice, wherever this is cut short. Messages are copied aside first, all of them,
beside the queue; then each is moved into it, by one step of the file system: what is aside is still to be moved. A
marker in the old queue says who takes it, and that it is taken. Short names of messages are inode numbers: postsuper(1)
gives those new ones, before Postfix starts.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smtpout_core import command, files
from smtpout_core.daemons.postfix import conf, draining, queue
from smtpout_core.errors import RelayError, os_errors_told
from smtpout_core.guard import selinux
from smtpout_core.host import Host

MARKER = "smtpout-rescue.json"
"""In the old queue: ``by`` which relay and ``since`` when it is taken; when it was, how many ``messages``."""
ASIDE = "smtpout-rescue"
"""In the new queue's folder: what is to be moved into it, in folders of the same names."""
COMPLETE = "complete"
"""In there, when all of it is: of which queue, by the ``id`` of its marker, and how many messages."""
MESSAGES = {"active": "deferred", "incoming": "deferred", "deferred": "deferred", "hold": "hold"}
"""Where the messages of each folder go: what was under way is tried anew, what was held stays so."""
LOGS = ("bounce", "defer", "trace")
"""What is known of recipients that have failed or got it, and whom to tell; named as the message (bounce(8))."""
AT_ONCE = 1000
"""Files that are given their label at once: they are a command's arguments."""
LEFT = ("maildrop", "corrupt", "saved")
NAME = re.compile(r"[0-9A-Za-z]{6,30}")


def rescue(settings: dict[str, Any], host: Host, spool: str) -> dict[str, Any]:
    """Take over the queue of a dead relay.

    :param settings: the site's.
    :param spool: its queue folder: its disk's, mounted, or a copy with owners and modes. A marker is left there.
    :return: how many ``messages`` were taken over, ``held`` of them, ``unfinished`` ones that were not (nobody was told
        that they are taken), and what was ``left`` there, by folder.
    :raises RelayError: it isn't one, somebody has it, or this relay's Postfix runs or has mail; or files can't be
        written. What was begun is finished by the same call.
    """
    with draining.alone(host), os_errors_told(spool):
        own = Path(conf.values(settings["postfix"]["directory"], "queue_directory")["queue_directory"])
        old, aside = _right(Path(str(spool)), own), own / ASIDE
        marker, complete = _read(old / MARKER), _read(aside / COMPLETE)
        begun = bool(marker) and complete.get("id") == marker["id"]
        _may(settings, old, marker, complete)
        if not begun:
            if mail := queue.count(str(own)):
                raise RelayError(f"{mail} messages are in this relay's queue, which has to be empty; let them leave")
            marker = {"by": settings["hostname"], "since": _now(), "id": secrets.token_hex(8)}
            _mark(old, marker)
            complete = _copied(old, aside, marker["id"])
        _moved(aside, own)
        command.run([command.which("postsuper"), "-c", settings["postfix"]["directory"], "-s"], timeout=600, check=True)
        if settings["selinux"]["active"]:
            _relabelled(own)
        count, found = complete["messages"], queue.count(str(own))
        if found != count and not begun:  # what was cut short may have been tried since
            raise RelayError(f"{count} messages were moved into the queue, and {found} are there; look into {own}")
        _mark(old, {**marker, "messages": count})
        shutil.rmtree(aside)
        return {
            "messages": count,
            "held": complete["held"],
            "unfinished": complete["unfinished"],
            "left": {name: number for name in LEFT if (number := sum(1 for _ in _files(old / name)))},
        }


def _may(settings: dict[str, Any], old: Path, marker: Mapping[str, Any], complete: Mapping[str, Any]) -> None:
    """Raise where a queue isn't to be taken, or not by this relay as it is.

    :param marker: of the old queue.
    :param complete: what lies aside.
    """
    aside = complete.get("id")
    if "messages" in marker:
        if aside == marker["id"]:  # all of it is moved
            shutil.rmtree(Path(complete["aside"]))
        raise RelayError(
            f"{old} was rescued already: {marker['messages']} messages, by {marker['by']}, {marker['since']}; taken "
            "again, each would be sent twice"
        )
    if marker and marker["by"] != settings["hostname"]:
        raise RelayError(f"{old} is being rescued by {marker['by']}, since {marker['since']}; finish it there")
    if complete and aside != marker.get("id"):
        raise RelayError(f"The rescue of {complete['of']} was cut short here; finish it first, by the same call")
    if not draining.stopped(settings):
        raise RelayError(f"Postfix runs; stop it first (systemctl stop {settings['postfix']['service']})")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _right(old: Path, own: Path) -> Path:
    if not old.is_absolute() or not all((old / name).is_dir() for name in MESSAGES):
        raise RelayError(
            f"{str(old)!r} is no queue folder of Postfix's; right is an absolute path of one that has "
            f"{', '.join(sorted(MESSAGES))}, such as /mnt/var/spool/postfix"
        )
    if own.exists() and old.samefile(own):
        raise RelayError(f"{old} is this relay's own queue")
    return old


def _read(path: Path) -> dict[str, Any]:
    """Return what was written down; nothing where nothing was."""
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RelayError(f"{path}: {error}; nobody knows whether this queue was rescued before") from error


def _mark(old: Path, said: Mapping[str, Any]) -> None:
    try:
        files.write(old / MARKER, json.dumps(said).encode() + b"\n", 0o644)
    except OSError as error:
        raise RelayError(
            f"{old} can't be marked as taken: {error.strerror}; mount it so that it can be written, or copy it with "
            "owners and modes (cp -a), and nobody else may take it from there"
        ) from error


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in sorted(names))


def _found(old: Path) -> Iterator[tuple[str, Path]]:
    """Yield the messages, each once, with the folder that they go to."""
    seen = set()
    for name, target in MESSAGES.items():
        for path in _files(old / name):
            if NAME.fullmatch(path.name) and path.name not in seen and stat.S_ISREG(path.lstat().st_mode):
                seen.add(path.name)
                yield target, path


def _finished(path: Path) -> bool:
    """Tell whether a message was taken whole: cleanup(8) makes it executable then."""
    return bool(path.stat().st_mode & stat.S_IXUSR)


def _copied(old: Path, aside: Path, number: str) -> dict[str, Any]:
    """Copy all messages aside, whole, and what is known of their recipients; return what is written down of it."""
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was cut short before
    aside.mkdir(mode=0o700)
    owner = (aside.parent / "deferred").stat().st_uid
    logs = {name: {path.name: path for path in _files(old / name)} for name in LOGS}
    said: dict[str, Any] = {
        "id": number,
        "of": str(old),
        "aside": str(aside),
        "messages": 0,
        "held": 0,
        "unfinished": 0,
    }
    for target, path in _found(old):
        if not _finished(path):
            said["unfinished"] += 1
        else:
            said["messages"] += 1
            said["held"] += target == "hold"
            for name, known in logs.items():
                if path.name in known:
                    _copy(known[path.name], aside / name / path.name, 0o600, owner)
            _copy(path, aside / target / path.name, 0o700, owner)
    for folder, _, _ in os.walk(aside):
        files.sync(folder)
    files.write(aside / COMPLETE, json.dumps(said).encode(), 0o600)
    return said


def _copy(path: Path, target: Path, mode: int, owner: int) -> None:
    """Copy a file with its time, by which Postfix knows when it is to be tried again; it is on the disk afterwards."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(path, target)
    os.chown(target, owner, -1)
    os.chmod(target, mode)
    with open(target, "rb") as copied:
        os.fsync(copied.fileno())
    now = time.time()
    os.utime(target, (now, min(now, path.stat().st_mtime)))


def _moved(aside: Path, own: Path) -> None:
    """Move into the queue what is still aside: what is known of recipients before the messages themselves."""
    for name in (*LOGS, *sorted(set(MESSAGES.values()))):
        for path in _files(aside / name):
            target = own / name / path.name
            if target.exists():
                raise RelayError(f"{target} is there already, and {path} is to go there: move the other message away")
            os.rename(path, target)
        files.sync(str(own / name))


def _relabelled(own: Path) -> None:
    """Give what was moved the labels of its folders: what is known of recipients has another one than messages."""
    paths = [str(path) for name in {*LOGS, *MESSAGES.values()} for path in _files(own / name)]
    for at in range(0, len(paths), AT_ONCE):
        selinux.relabel(paths[at : at + AT_ONCE])
