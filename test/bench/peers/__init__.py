"""Whom the formula's state run is measured beside: other people's formulas and roles, and Salt doing nothing.

A peer is given a relay to be, booted and bare, and the site as pillar.example says it (the mapping below ``smtpout``).
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.host import Host
from lab.process import CommandFailed

FOLDER = "/srv/bench"  # of the host: what a peer brings with it
Site = dict[str, Any]


class Tally(NamedTuple):
    """What an apply said of itself: how many steps it took and how many of them changed something, and what failed."""

    steps: int
    changed: int
    failed: tuple[str, ...]


class Peer(NamedTuple):
    """
    One whose apply is measured.

    prepare
        Brings into a bare host what the apply needs; it isn't timed.
    apply
        The command of the host that applies: the first time to a bare host, again to one without a change.
    test
        The one that only says what would change, where there is such a thing.
    tally
        Reads what an apply printed on its standard output.
    """

    name: str
    prepare: Callable[[Host], None]
    apply: tuple[str, ...]
    test: tuple[str, ...] | None
    tally: Callable[[str], Tally]


def send(folder: Path, host: Host, path: str, members: Sequence[str] = (".",)) -> None:
    """Copy what a folder of this machine holds, or some of it, into a folder of the host; the copy is root's."""
    host.run(["mkdir", "--parents", path])
    unpack = host.argv(["tar", "--extract", "--no-same-owner", f"--directory={path}"])
    pack = ["tar", "--create", "--exclude-vcs", f"--directory={folder}", *members]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
        done = subprocess.run(unpack, check=False, stdin=packing.stdout, capture_output=True, text=True)
    if done.returncode or packing.returncode:
        raise CommandFailed(host.name, done)


def salt_tally(said: str) -> Tally:
    """Read what salt-call printed with --out=json."""
    result = next(iter(json.loads(said).values()))
    if not isinstance(result, dict):  # test.ping's answer, or a list of what is wrong with the SLS files
        return Tally(0, 0, tuple(result) if isinstance(result, list) else ())
    failed = (f"{state['name']}: {state['comment']}" for state in result.values() if state["result"] is False)
    return Tally(len(result), sum(bool(state["changes"]) for state in result.values()), tuple(failed))
