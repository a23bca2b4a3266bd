"""Postfix taken out of service without losing what it has answered with 250."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smtpout_core import command, files, listener
from smtpout_core.change import units
from smtpout_core.daemons.postfix import queue
from smtpout_core.errors import RelayError

SHUT = b"""
# Put here by smtpout.clean while it looks at the queue: no mail comes in (postconf(5)); local mail waits in maildrop.
master_service_disable = inet
"""
"""What main.cf ends with while Postfix takes no mail."""

PATIENCE = 10
"""Seconds: for the sockets to close, and for what was just taken to leave."""


def refuse(count: int, again: str = "") -> None:
    """Raise where mail is left.

    :param count: how many messages.
    :param again: what was done since.
    """
    if count:
        messages = "1 message waits" if count == 1 else f"{count} messages wait"
        raise RelayError(
            f"{messages} in the queue{again}. Let them leave (postqueue -f) and try again, or give them up with "
            "smtpout:clean:delete_queued_mail: true"
        )


def waiting(settings: dict[str, Any], delete: bool) -> int:
    """Return how many messages wait.

    :param settings: the site's.
    :param delete: they may be lost.
    :raises RelayError: they may not, and won't leave within seconds.
    """
    directory, found = settings["postfix"]["directory"], queue.length(settings["postfix"]["directory"])
    if found and not delete and (not _runs(settings) or queue.stuck(directory)):
        refuse(found)
    return found


def shut(settings: dict[str, Any]) -> dict[str, bytes]:
    """Return main.cf as it is while Postfix takes no mail, by its path; nothing where there is none.

    :param settings: the site's.
    """
    main = _main(settings)
    return {str(main): main.read_bytes() + SHUT} if main.exists() else {}


def stopped(settings: dict[str, Any], delete: bool) -> int:
    """Stop Postfix with nothing in its queue, and return how many messages were deleted.

    It stops taking mail first: what came between a look at the queue and the stop would lie in it for ever. Its main.cf
    is left as :func:`shut` returns it; whoever calls puts it back, and Postfix with it where this fails.

    :param settings: the site's.
    :param delete: delete what is in the queue.
    :raises RelayError: mail is left; how many messages.
    """
    directory, service = settings["postfix"]["directory"], settings["postfix"]["service"]
    deleted = 0
    if _runs(settings):
        for path, text in shut(settings).items():
            status = os.stat(path)
            files.write(path, text, status.st_mode & 0o7777, status.st_uid, status.st_gid)
        _stop_taking(directory, settings["postfix"]["unit"])
        deleted = _emptied(directory, delete)
        units.act("stop", [service])
    return deleted + _emptied(directory, delete)


def _main(settings: dict[str, Any]) -> Path:
    return Path(settings["postfix"]["directory"], "main.cf")


def _runs(settings: dict[str, Any]) -> bool:
    return units.status([settings["postfix"]["service"]], settings["postfix"]["unit"]).running


def _stop_taking(directory: str, unit: str) -> None:
    """Have Postfix close what listens for mail."""
    command.run([command.which("postfix"), "-c", directory, "reload"], check=True)
    if not _comes(lambda: not listener.held(unit, "master")):
        raise RelayError(f"Postfix still takes mail {PATIENCE} s after it was told not to")


def _emptied(directory: str, delete: bool) -> int:
    """Empty the queue, or wait for what can leave by itself; return how many messages were deleted."""
    found = queue.length(directory)
    if delete and found:
        queue.delete(directory)
        refuse(queue.length(directory), " though they were deleted")
        return found
    if not _comes(lambda: queue.stuck(directory) or not queue.length(directory)) or queue.stuck(directory):
        refuse(queue.length(directory), "; Postfix takes mail again")
    return 0


def _comes(what: Callable[[], object]) -> bool:
    """Wait for something to come true."""
    ends = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True
