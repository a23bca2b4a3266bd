"""Let a daemon's clients through the host's firewall, where one is active, and shut them out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core import host as minions
from smtpout_core.change.memory import Memory
from smtpout_core.guard import firewall as guard
from smtpout_core.guard import openings, records


def opened(name: str, services: dict[str, int], zones: Sequence[str] = ()) -> dict[str, Any]:
    """Let services in through the firewall that is active, and no longer those that were let in before and are gone.

    Where neither firewalld nor ufw is active, nothing is done, and the comment says so. A port that the site has a rule
    of its own on is left alone. A site's change does the same for the relay, and can take it back.

    .. code-block:: yaml

        The firewall lets mail in:
          host_firewall.opened:
            - services: {smtp: 25, smtps: 465, smtp-submission: 587}

    :param name: the state's sentence.
    :param services: TCP ports by the names that firewalld has for them.
    :param zones: firewalld's zones; none for its default zone.
    """
    wanted = openings.Openings(services, list(zones), _place())
    try:
        with Memory(_place()).locked(__opts__["test"]):
            return _opened(name, wanted)
    except errors.RelayError as error:
        return _result(name, str(error), result=False)


def _opened(name: str, wanted: openings.Openings) -> dict[str, Any]:
    firewall, changes = guard.active(), wanted.differences()
    if firewall is None:
        ports = ", ".join(map(str, wanted.services.values()))
        said = f"Neither firewalld nor ufw is active: nothing to open. Another firewall must let in TCP {ports}."
        return _result(name, said)
    if not changes:
        return _result(name, f"{firewall} lets in what it should.")
    if __opts__["test"]:
        return _result(name, f"Would change what {firewall} lets in.", changes, result=None)
    wanted.bring()
    return _result(name, f"Changed what {firewall} lets in.", changes)


def closed(name: str) -> dict[str, Any]:
    """Shut out again what was let in for the relay, and nothing else.

    .. code-block:: yaml

        The firewall lets in what it did before:
          host_firewall.closed

    :param name: the state's sentence.
    """
    try:
        with Memory(_place()).locked(__opts__["test"]):
            return _closed(name)
    except errors.RelayError as error:
        return _result(name, str(error), result=False)


def _closed(name: str) -> dict[str, Any]:
    record = records.recall(_place(), openings.RECORD)
    if not record.get("openings"):
        return _result(name, "Nothing was let in.")
    firewall, ours = record["firewall"], list(record["openings"])
    if guard.active() != firewall:
        return _result(name, f"{firewall} is not active; it still has {', '.join(ours)}, which smtpout let in.")
    changes = openings.changes([], ours)
    if __opts__["test"]:
        return _result(name, f"Would change what {firewall} lets in.", changes, result=None)
    openings.shut_out(_place())
    return _result(name, f"Changed what {firewall} lets in.", changes)


def _place() -> str:
    """Return where smtpout keeps what it remembers of the host."""
    place: str = __opts__.get("smtpout_state_dir", minions.STATE_DIR)
    return place


def _result(
    name: str, comment: str, changes: dict[str, Any] | None = None, result: bool | None = True
) -> dict[str, Any]:
    """Return a state's answer."""
    return {"name": name, "result": result, "changes": changes or {}, "comment": comment}
