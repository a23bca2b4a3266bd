"""What a measurement is, and how one command of a host is measured."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from lab.host import Host
from lab.process import CommandFailed, LabError

WRAPPERS = 3  # what Host.argv starts before the command: setpriv, nsenter, env
TRACE = ["strace", "--follow-forks", "--seccomp-bpf", "--trace=execve,openat", "--string-limit=4096", "--quiet=all"]
CALL = re.compile(r'^\d+ +(?P<name>execve|openat)\((?:AT_FDCWD, )?"(?P<path>[^"]*)"(?P<rest>.*)= \d+(?:<|$)')
# A process of its own starts what is measured: a child's largest size counts that of what it was forked from.
TIMED = """
import json, os, sys, time
began = time.monotonic()
_, status, used = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
with open(sys.argv[1], "w") as found:
    json.dump([time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], found)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Figure(NamedTuple):
    """What was measured, of whom, in which unit, one value a round."""

    case: str
    subject: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value that half of the rounds stayed below."""
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        """The smallest and the largest value."""
        return f"{shown(min(self.values))}-{shown(max(self.values))}"


class Goal(NamedTuple):
    """What the figures are to show, and what they do."""

    what: str
    wanted: str
    found: str
    met: bool


class Run(NamedTuple):
    """One run of a command: seconds on the clock, seconds of CPU, the largest process's MiB, standard output."""

    wall: float
    cpu: float
    memory: float
    output: str


def shown(value: float) -> str:
    """Return a value with three figures that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def run(host: Host, command: Sequence[str], *, statuses: Sequence[int] = (0,), timeout: float = 1800) -> Run:
    """Measure a command of a host with what it starts and waits for; a daemon that systemd starts for it is not in it.

    :param statuses: the exit statuses that are expected.
    :raises CommandFailed: another status.
    """
    with tempfile.NamedTemporaryFile("r") as found:
        argv = [sys.executable, "-ISc", TIMED, found.name, *host.argv(command)]
        done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode not in statuses:
            said = subprocess.CompletedProcess(list(command), done.returncode, done.stdout, done.stderr)
            raise CommandFailed(host.name, said)
        wall, cpu, memory = json.load(found)
    if wall > timeout:
        raise LabError(f"{host.name}: {command[0]} took {wall:.0f} s")
    return Run(wall, cpu, memory, done.stdout)


def traced(host: Host, command: Sequence[str]) -> tuple[int, int]:
    """Return how many programs a command starts, itself included, and how many files it opens, each counted once.

    In a run of its own: strace makes it slow.
    """
    if not shutil.which("strace"):
        raise LabError("strace is missing: apt-get install strace")
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        argv = [*TRACE, f"--output={log.name}", *host.argv(command)]
        subprocess.run(
            argv, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        calls = [call for line in log if (call := CALL.match(line))]
    programs = sum(call["name"] == "execve" for call in calls)
    files = {call["path"] for call in calls if call["name"] == "openat" and "O_DIRECTORY" not in call["rest"]}
    return programs - WRAPPERS, len(files)
