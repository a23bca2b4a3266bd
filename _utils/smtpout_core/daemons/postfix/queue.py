"""What waits in Postfix's queue."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter

from smtpout_core import command
from smtpout_core.daemons.postfix import conf

QUEUES = ("maildrop", "hold", "incoming", "active", "deferred")


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
    return sum(len(files) for queue in QUEUES for _, _, files in os.walk(os.path.join(spool, queue)))


def stuck(directory: str = conf.LIVE) -> int:
    """Return how many messages won't leave within seconds: a try has failed, or somebody holds them.

    :param directory: the configuration directory.
    """
    spool = conf.values(directory, "queue_directory")["queue_directory"]
    return sum(len(files) for queue in ("hold", "deferred") for _, _, files in os.walk(os.path.join(spool, queue)))


def deferred(directory: str = conf.LIVE) -> dict[str, int]:
    """Return why recipients wait for another try, and how many for each reason.

    :param directory: the configuration directory.
    :raises NotInstalledError: there is no Postfix.
    """
    # One JSON object a message (postqueue(1)). With Postfix stopped it reads the queue itself.
    listing = command.run([command.which("postqueue"), "-c", directory, "-j"]).output.splitlines()
    messages = [json.loads(line) for line in listing if line.startswith("{")]
    waiting = [recipient for message in messages for recipient in message["recipients"]]
    return dict(Counter(each["delay_reason"] for each in waiting if "delay_reason" in each))


def delete(directory: str = conf.LIVE) -> None:
    """Delete every message of the queue, the local mail too that nobody has picked up yet.

    :param directory: the configuration directory.
    :raises RelayError: postsuper refused.
    """
    command.run([command.which("postsuper"), "-c", directory, "-d", "ALL", *QUEUES], check=True)
