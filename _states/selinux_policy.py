"""Have SELinux know a daemon's files and ports, where the host runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core import host as minions
from smtpout_core.change.memory import Memory
from smtpout_core.guard import records, selinux

RECORD = "selinux"


def known(
    name: str,
    labels: Mapping[str, str] | None = None,
    ports: Mapping[str, str] | None = None,
    booleans: Mapping[str, bool] | None = None,
) -> dict[str, Any]:
    """Have the policy say what is wanted of files, ports and booleans, and take back what isn't wanted any longer.

    What the policy says already is left as it is. A port that it has another type for is somebody else's, and an error.

    .. code-block:: yaml

        SELinux lets OpenDKIM listen:
          selinux_policy.known:
            - ports: {'8892': milter_port_t}

    :param name: the state's sentence.
    :param labels: types by the paths of files.
    :param ports: types by TCP ports.
    :param booleans: whether each is on.
    """
    wanted = {f"label {path}": label for path, label in (labels or {}).items()}
    wanted |= {f"port {port}": label for port, label in (ports or {}).items()}
    wanted |= {f"boolean {each}": "on" if value else "off" for each, value in (booleans or {}).items()}
    return _brought(name, wanted)


def forgotten(name: str) -> dict[str, Any]:
    """Take back all that ``known`` has changed; what was changed since by somebody else stays.

    :param name: the state's sentence.
    """
    return _brought(name, {})


def labelled(name: str, paths: Sequence[str]) -> dict[str, Any]:
    """Give files the labels that the policy has for them.

    :param name: the state's sentence.
    :param paths: files and directories, without what is in them. A dry run leaves out those that aren't there yet.
    """
    try:
        changes = selinux.mislabelled(paths)
        if not changes:
            return _result(name, "Each file has its label.")
        if __opts__["test"]:
            return _result(name, f"Would relabel {', '.join(changes)}.", changes, result=None)
        selinux.relabel(list(changes))
        if left := list(selinux.mislabelled(list(changes))):
            raise errors.RelayError(f"restorecon left {', '.join(left)} as they were")
        return _result(name, f"Relabelled {', '.join(changes)}.", changes)
    except errors.NotInstalledError as error:
        return _not_checked(name, error)
    except errors.RelayError as error:
        return _result(name, str(error), result=False)


def _brought(name: str, wanted: dict[str, str]) -> dict[str, Any]:
    """Bring the policy to what is wanted, and back where that was wanted before; no other run does meanwhile."""
    try:
        with Memory(_place()).locked(__opts__["test"]):
            return _alone_brought(name, wanted)
    except errors.NotInstalledError as error:
        return _not_checked(name, error)
    except errors.RelayError as error:
        return _result(name, str(error), result=False)


def _alone_brought(name: str, wanted: dict[str, str]) -> dict[str, Any]:
    record: dict[str, dict[str, str]] = records.recall(_place(), RECORD)
    now = selinux.current(list(dict.fromkeys([*wanted, *record])))
    goal = {thing: wanted.get(thing) or _before(record[thing], now[thing]) for thing in now}
    changes = {thing: {"old": now[thing], "new": goal[thing]} for thing in now if goal[thing] != now[thing]}
    if taken := [thing for thing in changes if thing.startswith("port ") and now[thing] and goal[thing]]:
        said = ", ".join(f"{thing} is {now[thing]}, not {goal[thing]}" for thing in taken)
        raise errors.RelayError(f"To SELinux, {said}: somebody else's; choose another.")
    if changes and __opts__["test"]:
        return _result(name, f"Would change what SELinux says of {', '.join(changes)}.", changes, result=None)
    for thing, step in changes.items():
        if thing not in wanted:
            selinux.take_back(thing, step["new"])
            continue
        record[thing] = {"old": record.get(thing, step)["old"], "new": step["new"]}
        records.remember(_place(), RECORD, record)  # first: clean takes it back although this is killed here
        selinux.change(thing, step["new"])
    if not __opts__["test"] and (kept := {thing: record[thing] for thing in record if thing in wanted}) != record:
        records.remember(_place(), RECORD, kept or None)
    if not changes:
        return _result(name, "SELinux's policy says what it should.")
    return _result(name, f"Changed what SELinux says of {', '.join(changes)}.", changes)


def _before(step: dict[str, str], now: str) -> str:
    """Return what a thing has to be again; what it is now where somebody else has changed it since."""
    return step["old"] if now == step["new"] else now


def _not_checked(name: str, error: errors.NotInstalledError) -> dict[str, Any]:
    """Return what is said where the tools are missing; in test mode a state before this one brings them."""
    if not __opts__["test"]:
        return _result(name, str(error), result=False)
    ret = _result(name, "What is to be changed is seen once SELinux's tools are there.", result=None)
    return {**ret, "warnings": [f"Not checked: what SELinux's policy says: {error}."]}


def _place() -> str:
    """Return where smtpout keeps what it remembers of the host."""
    place: str = __opts__.get("smtpout_state_dir", minions.STATE_DIR)
    return place


def _result(
    name: str, comment: str, changes: dict[str, Any] | None = None, result: bool | None = True
) -> dict[str, Any]:
    """Return a state's answer."""
    return {"name": name, "result": result, "changes": changes or {}, "comment": comment}
