"""What waits in Postfix's queue."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
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


def moving(directory: str = conf.LIVE) -> dict[str, int]:
    """Return how many messages of each kind are on their way out; one that goes on meanwhile may count twice.

    :param directory: the configuration directory.
    """
    return {name: len(names) for name, names in _names(directory).items()}


def names(directory: str = conf.LIVE) -> set[str]:
    """Return the names of the messages that are on their way out.

    :param directory: the configuration directory.
    """
    return {name for names in _names(directory).values() for name in names}


def _names(directory: str) -> dict[str, set[str]]:
    spool = conf.values(directory, "queue_directory")["queue_directory"]
    kinds = [name for name in QUEUES if name != "hold"]
    return {kind: {name for _, _, names in os.walk(os.path.join(spool, kind)) for name in names} for kind in kinds}


def flush(directory: str = conf.LIVE) -> None:
    """Have Postfix try all that waits now, what it couldn't reach a moment ago as well.

    :param directory: the configuration directory.
    :raises RelayError: it doesn't run.
    """
    command.run([command.which("postqueue"), "-c", directory, "-f"], check=True)


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


AT_ONCE = 100
"""Messages that postcat(1) is asked for at once."""
LOGGED_IN = re.compile(r"named_attribute: sasl_username=(.*)")
"""What a message's envelope says of a client that had logged in, as postcat(1) prints it."""
BEGINS = re.compile(r"\*\*\* (?:ENVELOPE RECORDS|MESSAGE CONTENTS) (?:.*/)?(\w+) \*\*\*")
"""What postcat(1) prints before what it has of a message."""
INFECTED = "X-Virus-Status: Infected"
"""What clamav-milter(8) writes into the header of a message that it has put on hold (clamav-milter.conf, AddHeader)."""


def logins(directory: str = conf.LIVE) -> dict[str, str]:
    """Return by whose login each message came that nobody holds, by its name; without those that came without one.

    :param directory: the configuration directory.
    """
    listing = command.run([command.which("postqueue"), "-c", directory, "-j"], timeout=600).output.splitlines()
    messages = [json.loads(line) for line in listing if line.startswith("{")]
    left = [message["queue_id"] for message in messages if message["queue_name"] not in ("hold", "maildrop")]
    lines = ((name, LOGGED_IN.fullmatch(line)) for name, line in _printed("-e", left, directory))
    return {name: match[1] for name, match in lines if match}


def held(directory: str = conf.LIVE) -> set[str]:
    """Return the names of the messages that are on hold, whoever has put them there.

    :param directory: the configuration directory.
    """
    spool = conf.values(directory, "queue_directory")["queue_directory"]
    return {name for _, _, files in os.walk(os.path.join(spool, "hold")) for name in files}


def quarantined(names: Collection[str], directory: str = conf.LIVE) -> set[str]:
    """Return those of some messages that the scanner has found infected, as its header says (``clamav:add_header``).

    :param names: of the queue's.
    :param directory: the configuration directory.
    """
    return {name for name, line in _printed("-h", sorted(names), directory) if line.startswith(INFECTED)}


def _printed(what: str, names: list[str], directory: str) -> Iterator[tuple[str, str]]:
    """Yield what postcat(1) prints of messages, a line each, by the message's name.

    :param what: ``-e`` for the envelope, ``-h`` for the header.
    """
    while names:
        asked, name, seen = names[:AT_ONCE], "", 0
        done = command.run([command.which("postcat"), "-c", directory, what, "-q", *asked], timeout=600)
        for line in done.output.splitlines():
            if begins := BEGINS.fullmatch(line):
                name, seen = begins[1], seen + 1
            elif name:
                yield name, line
        # It ends at the first that has left meanwhile; the others are still to be asked.
        names = names[len(asked) if done.status == 0 else seen + 1 :]


def hold(names: Sequence[str], directory: str = conf.LIVE) -> None:
    """Put messages on hold; those that have left meanwhile are left out.

    :param names: of the queue's.
    :param directory: the configuration directory.
    """
    _super("-h", names, directory)


def release(names: Collection[str], directory: str = conf.LIVE) -> int:
    """Let these messages go, and no others, and return how many of them were on hold.

    :param names: of the queue's.
    :param directory: the configuration directory.
    """
    there = sorted(held(directory).intersection(names))
    _super("-H", there, directory)
    return len(there)


def _super(how: str, names: Sequence[str], directory: str) -> None:
    if names:  # one a line, on standard input (postsuper(1)); it knows "ALL", which is the name of no message
        lines = "".join(f"{name}\n" for name in names if name != "ALL")
        command.run([command.which("postsuper"), "-c", directory, how, "-"], input=lines, timeout=600, check=True)
