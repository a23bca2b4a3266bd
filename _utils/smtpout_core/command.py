"""Run another program: never through a shell, never with a secret among its arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from smtpout_core.errors import NotInstalledError, RelayError


class Done(NamedTuple):
    """What a program left: its exit status, and what it wrote to standard output and standard error."""

    status: int
    output: str
    said: str


def which(name: str) -> str:
    """Return a program's path.

    :raises NotInstalledError: there is none of that name.
    """
    path = shutil.which(name)
    if not path:
        raise NotInstalledError(f"{name} is not installed")
    return path


def run(argv: Sequence[str], *, input: str = "", timeout: float = 60, check: bool = False) -> Done:
    """Run a program to its end and return what it left; its words are C's, whatever the locale.

    :param argv: the program and its arguments.
    :param input: what it reads on standard input.
    :param timeout: seconds.
    :param check: raise where the exit status isn't 0.
    :raises RelayError: its own words, or that it didn't end in time.
    :raises NotInstalledError: there is no such program.
    """
    shown = " ".join(argv[:4])
    try:
        done = subprocess.run(
            argv,
            input=input.encode(),
            capture_output=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": ""},
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise NotInstalledError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise RelayError(f"{shown}: no end within {timeout} s") from None
    output, said = (text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr))
    if check and done.returncode != 0:
        raise RelayError(f"{shown}: {(said or output).strip() or f'exit status {done.returncode}'}")
    return Done(done.returncode, output, said)
