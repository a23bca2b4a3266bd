"""Loads: what is sent, by how many sessions, and what a relay makes of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from lab import images
from lab.lab import CLIENT, Lab
from lab.mail import PASSWORD
from lab.process import LabError

from bench.sinks import Sinks
from bench.subjects import Subject

GENERATOR = Path(__file__).with_name("generator.py")
USER, SENDER = "usuario01", "usuario01@domain01.dom"
INSIDE, OUTSIDE = "usuario01@domain01.dom", "somebody@outside.example"
KILOBYTE = 1024
# What people send: mostly text, some documents, now and then a large one; one recipient in three is elsewhere.
MIXED_SIZES = (4, 4, 64, 4, 4, 4, 64, 4, 4, 64, 4, 4, 64, 4, 4, 1024, 4, 64, 4, 64)
PATIENCE = 180  # seconds for the queue to be empty


class Load(NamedTuple):
    """A load: sizes in KB and recipients are used in turn; reuse is messages a connection (0, as long as it lasts)."""

    name: str
    sizes: tuple[int, ...] = (4,)
    sessions: int = 10
    reuse: int = 0
    recipients: tuple[str, ...] = (INSIDE,)
    login: bool = False


BASE = Load("base")
LOGINS = (Load("TLS and AUTH, 1 a connection", reuse=1, login=True),
          Load("TLS and AUTH, 10 a connection", reuse=10, login=True))  # fmt: skip
AXES = (
    Load("64 KB", sizes=(64,)),
    Load("1 MB", sizes=(1024,)),
    Load("1 a connection", reuse=1),
    Load("10 a connection", reuse=10),
    Load("50 sessions", sessions=50),
    Load("200 sessions", sessions=200),
    Load("outside", recipients=(OUTSIDE,)),
    Load("mix", sizes=MIXED_SIZES, reuse=3, recipients=(INSIDE, OUTSIDE, INSIDE), login=True),
)


class Result(NamedTuple):
    """What came of a load: messages a second until delivered, and seconds of CPU by daemon for each message."""

    rate: float
    answer: dict[str, Any]
    cpu: dict[str, float]


def run(lab: Lab, both: Sinks, subject: Subject, load: Load, count: int, pace: float = 0) -> Result:
    """Send a load's messages, wait until the last is delivered, and make sure that none is missing.

    :param pace: messages a second, from when they are due; 0, as fast as the sessions are.
    """
    before, cpu, started = both.messages(), subject.cpu(), time.monotonic()
    plain = not load.login and load.reuse in (0, 1) and len(load.sizes) == 1 and not pace
    answer = _source(lab, subject, load, count) if plain else _generator(lab, subject, load, count, pace)
    accepted = answer["accepted"]
    ends = time.monotonic() + PATIENCE
    while (both.messages() - before < accepted or subject.waiting()) and time.monotonic() < ends:
        time.sleep(0.1)
    arrived = both.messages() - before
    if arrived != accepted:
        raise LabError(f"{subject.name}, {load.name}: {accepted} messages accepted, {arrived} arrived")
    after, seconds = subject.cpu(), both.last() - answer.get("started", started)
    return Result(accepted / seconds, answer, {name: (after[name] - cpu.get(name, 0)) / accepted for name in after})


def _source(lab: Lab, subject: Subject, load: Load, count: int) -> dict[str, Any]:
    """Send with smtp-source, which takes a fraction of the generator's CPU; it ends at the first refusal."""
    command = [
        *("chroot", str(images.services().path), "smtp-source", "-s", str(load.sessions), "-m", str(count)),
        *("-l", str(load.sizes[0] * KILOBYTE), "-f", SENDER, "-t", load.recipients[0]),
        *([] if load.reuse else ["-d"]), f"inet:{subject.address}:25",
    ]  # fmt: skip
    lab.client(CLIENT).run(command, timeout=600)
    return {"accepted": count, "refused": {}, "lost": 0}


def _generator(lab: Lab, subject: Subject, load: Load, count: int, pace: float) -> dict[str, Any]:
    given = {
        "host": subject.address, "port": subject.port if load.login else 25, "tls": load.login and subject.tls,
        "user": USER if load.login else "", "password": PASSWORD, "sender": SENDER, "recipients": load.recipients,
        "sizes": [size * KILOBYTE for size in load.sizes], "sessions": load.sessions, "count": count,
        "reuse": load.reuse or count, "pace": pace,
    }  # fmt: skip
    command = [sys.executable, str(GENERATOR)]
    answer = json.loads(lab.client(CLIENT).run(command, input=json.dumps(given), timeout=900).stdout)
    told = answer["accepted"] + answer["lost"] + sum(answer["refused"].values())
    if told != count:
        raise LabError(f"{subject.name}, {load.name}: {count} messages sent, {told} answered")
    return answer
