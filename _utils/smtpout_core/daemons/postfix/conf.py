"""What postconf(1) says of a configuration, live or not: parameters and services as Postfix itself reads them."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import NamedTuple

from smtpout_core import command
from smtpout_core.errors import RelayError

LIVE = "/etc/postfix"


class Service(NamedTuple):
    """A service of master.cf (master(5)), and the parameters that it alone has, expanded."""

    name: str
    type: str
    program: str
    options: dict[str, str]

    def __str__(self) -> str:
        return f"{self.name}/{self.type}"


def postconf(directory: str, *arguments: str) -> command.Done:
    """Run postconf on a configuration directory.

    :raises NotInstalledError: there is no Postfix.
    """
    return command.run([command.which("postconf"), "-c", directory, *arguments])


def values(directory: str, *names: str) -> dict[str, str]:
    """Return parameters, expanded; one that Postfix doesn't know is an empty text.

    :param directory: the configuration directory.
    :param names: the parameters.
    :raises RelayError: postconf can't read the configuration, as where `inet_interfaces` has no address of this host.
    :raises NotInstalledError: there is no Postfix.
    """
    pairs = (line.partition(" =") for line in _said(directory, "-x", *names))
    return dict.fromkeys(names, "") | {name: value.strip() for name, _, value in pairs}


def services(directory: str) -> list[Service]:
    """Return the services of master.cf with the parameters that their ``-o`` options set.

    :param directory: the configuration directory.
    :raises RelayError: postconf can't read the configuration.
    :raises NotInstalledError: there is no Postfix.
    """
    found: dict[str, Service] = {}
    for line in _said(directory, "-F", "*/*/command"):
        if match := re.match(r"(.+)/([a-z-]+)/command = (\S+)", line):
            found[f"{match[1]}/{match[2]}"] = Service(match[1], match[2], match[3], {})
    for line in _said(directory, "-x", "-P"):
        if (match := re.match(r"(.+/[a-z-]+)/(\S+) =(?: (.*))?$", line)) and match[1] in found:
            found[match[1]].options[match[2]] = match[3] or ""
    return list(found.values())


def _said(directory: str, *arguments: str) -> list[str]:
    """Return postconf's answer, asked anew where what it says may have changed: a proof wants the same time and again.

    It warns of what it doesn't know, and fails where Postfix wouldn't start either.
    """
    program = command.which("postconf")
    states = tuple(_state(path) for path in (program, f"{directory}/main.cf", f"{directory}/master.cf"))
    return list(_answer(directory, arguments, (program, os.uname().nodename, *states)))


@functools.lru_cache(maxsize=64)
def _answer(directory: str, arguments: tuple[str, ...], _of: tuple[object, ...]) -> tuple[str, ...]:
    """Run postconf; what it answers is of these files, and of the host's name, which `myhostname` comes from."""
    answer = postconf(directory, *arguments)
    if answer.status != 0:
        raise RelayError(answer.said.strip() or f"postconf {arguments[0]} exits with {answer.status}")
    return tuple(answer.output.splitlines())


def _state(path: str) -> tuple[int, ...] | None:
    """Return what tells a file from the one that was there before; None where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
