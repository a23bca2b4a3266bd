"""What waits in Postfix's queue."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from typing import NamedTuple

from smtpout_core import command
from smtpout_core.daemons.postfix import conf

QUEUES = ("maildrop", "hold", "deferred", "incoming", "active")  # the way that a message goes (qmgr(8))


def length(directory: str = conf.LIVE) -> int:
    """Return how many messages wait in the queue; 0 where Postfix isn't installed.

    :param directory: the configuration directory.
    """
    if not shutil.which("postconf"):
        return 0
    return count(conf.values(directory, "queue_directory")["queue_directory"])


def count(spool: str) -> int:
    """Return how many messages are below a queue directory.

    :param spool: the directory.
    """
    # qmgr(8) moves messages meanwhile. Looked at in the order of their way, none that goes on is missed; the last look
    # finds those that were tried and came back. A message keeps its name (its queue ID) wherever it is.
    looks = (*QUEUES, "deferred")
    return len({name for queue in looks for _, _, names in os.walk(os.path.join(spool, queue)) for name in names})


def stuck(directory: str = conf.LIVE) -> int:
    """Return how many messages won't leave within seconds: a try has failed, or somebody holds them.

    :param directory: the configuration directory.
    """
    spool = conf.values(directory, "queue_directory")["queue_directory"]
    return sum(len(files) for queue in ("hold", "deferred") for _, _, files in os.walk(os.path.join(spool, queue)))


class Waiting(NamedTuple):
    """What is in the queue.

    :param messages: how many.
    :param held: how many of them somebody, or a rule, holds.
    :param oldest: when the first of those that aren't held came, in seconds since 1970; 0 where there is none.
    :param reasons: why recipients wait for another try, and how many for each reason.
    """

    messages: int
    held: int
    oldest: int
    reasons: dict[str, int]


def waiting(directory: str = conf.LIVE) -> Waiting:
    """Return what is in the queue.

    :param directory: the configuration directory.
    :raises NotInstalledError: there is no Postfix.
    """
    # One JSON object a message (postqueue(1)). With Postfix stopped it reads the queue itself.
    listing = command.run([command.which("postqueue"), "-c", directory, "-j"]).output.splitlines()
    messages = [json.loads(line) for line in listing if line.startswith("{")]
    moving = [message for message in messages if message["queue_name"] != "hold"]
    delayed = [recipient for message in moving for recipient in message["recipients"] if "delay_reason" in recipient]
    return Waiting(
        len(messages),
        len(messages) - len(moving),
        min((message["arrival_time"] for message in moving), default=0),
        dict(Counter(recipient["delay_reason"] for recipient in delayed)),
    )


def delete(directory: str = conf.LIVE) -> None:
    """Delete every message of the queue, the local mail too that nobody has picked up yet.

    :param directory: the configuration directory.
    :raises RelayError: postsuper refused.
    """
    command.run([command.which("postsuper"), "-c", directory, "-d", "ALL", *QUEUES], check=True)
