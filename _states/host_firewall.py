"""Let a daemon's clients through the host's firewall, where one is active."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.guard import firewall as host

RECORD = "firewall"


def opened(name: str, services: dict[str, int], zones: Sequence[str] = ()) -> dict[str, Any]:
    """Let services in through the firewall that is active, and no longer those that were let in before and are gone.

    Where neither firewalld nor ufw is active, nothing is done, and the comment says so. A port that the site has a rule
    of its own on is left alone.

    .. code-block:: yaml

        The firewall lets mail in:
          host_firewall.opened:
            - services: {smtp: 25, smtps: 465, smtp-submission: 587}

    :param name: the state's sentence.
    :param services: TCP ports by the names that firewalld has for them.
    :param zones: firewalld's zones; none for its default zone.
    """
    try:
        firewall = host.active()
        if firewall is None:
            ports = ", ".join(map(str, services.values()))
            return _result(
                name, f"Neither firewalld nor ufw is active: nothing to open. Another firewall must let in TCP {ports}."
            )
        ours = _record(firewall)
        wanted = host.openings(firewall, services, zones)
        settled = host.settled(firewall, wanted, services)
        missing = [opening for opening in wanted if opening not in settled]
        surplus = [opening for opening in ours if opening not in wanted]
        changes = _changes(missing, surplus)
        if not changes:
            return _result(name, f"{firewall} has a rule on each: {', '.join(wanted)}.")
        if __opts__["test"]:
            return _result(name, f"Would change what {firewall} lets in.", changes, result=None)
        for opening in missing:
            ours.append(opening)  # written down first: a run that is killed here has it taken back by clean
            _remember(firewall, ours)
            host.allow(firewall, opening)
        _close(firewall, ours, surplus)
        return _result(name, f"Changed what {firewall} lets in.", changes)
    except errors.RelayError as error:
        return _result(name, str(error), result=False)


def closed(name: str) -> dict[str, Any]:
    """Shut out again what ``opened`` has let in, and nothing else.

    :param name: the state's sentence.
    """
    try:
        record = __salt__["config_swap.recall"](RECORD)
        if not record.get("openings"):
            return _result(name, "Nothing was let in.")
        firewall, ours = record["firewall"], list(record["openings"])
        if host.active() != firewall:
            return _result(name, f"{firewall} is not active; it still has {', '.join(ours)}, which smtpout let in.")
        changes = _changes([], ours)
        if __opts__["test"]:
            return _result(name, f"Would change what {firewall} lets in.", changes, result=None)
        _close(firewall, ours, list(ours))
        return _result(name, f"Changed what {firewall} lets in.", changes)
    except errors.RelayError as error:
        return _result(name, str(error), result=False)


def _record(firewall: str) -> list[str]:
    """Return what was let in through this firewall before."""
    record = __salt__["config_swap.recall"](RECORD)
    return list(record["openings"]) if record.get("firewall") == firewall else []


def _remember(firewall: str, ours: list[str]) -> None:
    __salt__["config_swap.remember"](RECORD, {"firewall": firewall, "openings": ours} if ours else None)


def _close(firewall: str, ours: list[str], surplus: list[str]) -> None:
    """Shut out what isn't wanted any longer, and forget it."""
    for opening in surplus:
        host.withdraw(firewall, opening)
        ours.remove(opening)
        _remember(firewall, ours)


def _changes(missing: Sequence[str], surplus: Sequence[str]) -> dict[str, dict[str, str]]:
    return {
        **{opening: {"old": "", "new": "let in"} for opening in missing},
        **{opening: {"old": "let in", "new": ""} for opening in surplus},
    }


def _result(
    name: str, comment: str, changes: dict[str, Any] | None = None, result: bool | None = True
) -> dict[str, Any]:
    """Return a state's answer."""
    return {"name": name, "result": result, "changes": changes or {}, "comment": comment}
