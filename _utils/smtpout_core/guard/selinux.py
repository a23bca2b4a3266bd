"""Ask SELinux's policy what it says of files, TCP ports and booleans, and have it say something else.

A thing that the policy speaks of is written ``label /etc/aliases.lmdb``, ``port 8892`` (TCP) or ``boolean NAME``; what
it says is a type, or ``on`` and ``off``. Changes are local ones, which outlive an update of the policy.

Salt's own ``selinux`` functions are there only where ``semanage`` was installed before Salt looked, and don't tell what
was there before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from smtpout_core import command
from smtpout_core.errors import RelayError


def current(things: Sequence[str]) -> dict[str, str]:
    """Return what the policy says of each thing; an empty string for a port of which it says nothing.

    :param things: as above.
    :raises RelayError: the tools' own words; a boolean that the policy doesn't have.
    """
    by_kind: dict[str, list[str]] = {}
    for thing in things:
        kind, _, subject = thing.partition(" ")
        by_kind.setdefault(kind, []).append(subject)
    return {
        f"{kind} {subject}": value
        for kind, subjects in by_kind.items()
        for subject, value in _KINDS[kind](subjects).items()
    }


def change(thing: str, new: str) -> None:
    """Have the policy say something else, for good.

    :param thing: as above.
    :param new: what it is to say.
    :raises RelayError: the tool's own words.
    """
    kind, _, subject = thing.partition(" ")
    if kind == "boolean":
        _semanage("boolean", "--modify", f"--{new}", subject)
    elif kind == "port":
        _semanage("port", "--add", "--type", new, "--proto", "tcp", subject)
    else:
        _semanage("fcontext", "--add", "--type", new, re.escape(subject))


def take_back(thing: str, old: str) -> None:
    """Have the policy say again what it did before a change.

    :param thing: as above.
    :param old: what a boolean was; files and ports go back to the policy's own word.
    :raises RelayError: the tool's own words.
    """
    kind, _, subject = thing.partition(" ")
    if kind == "boolean":
        _semanage("boolean", "--modify", f"--{old}", subject)
    elif kind == "port":
        _semanage("port", "--delete", "--proto", "tcp", subject)
    else:
        _semanage("fcontext", "--delete", re.escape(subject))


def mislabelled(paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the files whose label isn't the policy's, with the label that they have and the one that is right.

    :param paths: files and directories, without what is in them; one that isn't there is left out.
    :raises RelayError: restorecon's own words.
    """
    there = [path for path in paths if os.path.lexists(path)]
    said = _run("restorecon", "-n", "-v", *there) if there else ""
    found = re.findall(r"^Would relabel (.+) from (\S+) to (\S+)$", said, re.MULTILINE)
    return {path: {"old": old, "new": new} for path, old, new in found}


def relabel(paths: Sequence[str]) -> None:
    """Give files the label that the policy has for them.

    :param paths: as ``mislabelled`` returns them.
    :raises RelayError: restorecon's own words.
    """
    _run("restorecon", *paths)


def _labels(paths: list[str]) -> dict[str, str]:
    """matchpathcon(8) answers with a line a path, user:role:type:level."""
    contexts = _run("matchpathcon", "-n", *paths).splitlines()
    return {path: context.split(":")[2] for path, context in zip(paths, contexts, strict=True)}


def _ports(ports: list[str]) -> dict[str, str]:
    """Only what stands alone is taken: the ranges are for all ports that nobody has named (unreserved_port_t)."""
    types = {}
    for line in _semanage("port", "--list", "--noheading").splitlines():
        label, protocol, numbers = line.split(maxsplit=2)
        if protocol == "tcp":
            types.update(dict.fromkeys(numbers.split(", "), label))
    return {port: types.get(port, "") for port in ports}


def _booleans(names: list[str]) -> dict[str, str]:
    """A boolean has a value now and one for the next start; where they differ, it is neither on nor off."""
    said = _semanage("boolean", "--list", "--noheading")
    found = re.findall(r"^(\S+)\s+\((\w+)\s*,\s*(\w+)\)", said, re.MULTILINE)
    values = {name: (now, later) for name, now, later in found}
    if unknown := [name for name in names if name not in values]:
        raise RelayError(f"SELinux's policy has no boolean {', '.join(unknown)}.")
    return {name: now if now == later else f"{now}, then {later}" for name in names for now, later in [values[name]]}


_KINDS = {"label": _labels, "port": _ports, "boolean": _booleans}


def _semanage(*arguments: str) -> str:
    return _run("semanage", *arguments)


def _run(*arguments: str) -> str:
    """Run one of SELinux's own commands, and return what it prints."""
    return command.run(arguments, timeout=300, check=True).output.strip("\n")
