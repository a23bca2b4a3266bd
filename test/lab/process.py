"""Processes, errors and progress lines of the lab, and the one place on the machine that outlives it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CACHE = Path("/var/cache/smtpout-lab")


class LabError(Exception):
    """What went wrong, in a sentence for the person at the terminal."""


class CommandFailed(LabError):
    """A command ended with a status other than 0; ``result`` holds its output."""

    def __init__(self, where: str, result: subprocess.CompletedProcess[str]):
        self.result = result
        said = ((result.stderr or "") + (result.stdout or "")).strip()[-4000:]
        super().__init__(f"{where}: {' '.join(map(str, result.args))} ended with {result.returncode}: {said}")


def run(
    argv: Sequence[str],
    *,
    shown: Sequence[str] | None = None,
    where: str = "lab",
    input: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """
    Run a command to its end and return what it printed.

    argv
        The command and its arguments.
    shown
        The command as error messages and the result name it (default: argv), without what only the lab adds.
    where
        Who ran it, for error messages.
    input
        Text for its standard input (default: nothing).
    check
        Raise CommandFailed on a status other than 0.
    timeout
        Seconds; then the command and its children are killed and subprocess.TimeoutExpired is raised.
    """
    shown = list(shown or argv)
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException as stopped:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(stopped, subprocess.TimeoutExpired):
                stopped.cmd = shown
            raise
    result = subprocess.CompletedProcess(shown, process.returncode, out, err)
    if check and result.returncode != 0:
        raise CommandFailed(where, result)
    return result


class Progress:
    """Lines on standard error with the seconds since the start."""

    def __init__(self, quiet: bool = False):
        self.start = time.monotonic()
        self.quiet = quiet

    def __call__(self, line: str) -> None:
        if not self.quiet:
            with contextlib.suppress(BrokenPipeError):  # that nobody reads on is no reason to leave a host half booted
                print(f"{time.monotonic() - self.start:7.1f} s  {line}", file=sys.stderr, flush=True)
