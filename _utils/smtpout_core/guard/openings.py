"""What the host's firewall lets in for the relay, as the transaction brings it and takes it back."""

from __future__ import annotations

from typing import Any

from smtpout_core.change.parts import Daemon, Setting
from smtpout_core.guard import firewall, records
from smtpout_core.host import Host

RECORD = "firewall"


class Openings(Setting):
    """Services are let in through the firewall that is active, and those that were let in before and are gone are not.

    Where neither firewalld nor ufw is active there is nothing to do. A port that the site has a rule of its own on is
    left alone.
    """

    kind = "firewall"

    def __init__(self, services: dict[str, int], zones: list[str], state_dir: str) -> None:
        self.services, self.zones, self.state_dir = services, zones, state_dir

    def differences(self) -> dict[str, dict[str, str]]:
        """Return what is to be let in, and what no longer, by opening.

        :raises RelayError: the firewall's own words.
        """
        active = firewall.active()
        if active is None:
            return {}
        ours = let_in(self.state_dir, active)
        wanted = firewall.openings(active, self.services, self.zones)
        settled = firewall.settled(active, wanted, self.services)
        missing = [opening for opening in wanted if opening not in settled]
        return changes(missing, [opening for opening in ours if opening not in wanted])

    def undoing(self) -> dict[str, Any]:
        """Return where records are, the firewall, and what smtpout has let in so far."""
        active = firewall.active()
        ours = let_in(self.state_dir, active) if active else []
        return {"state_dir": self.state_dir, "firewall": active, "openings": ours}

    def bring(self) -> None:
        """Let in what is missing, and shut out what is no longer wanted.

        :raises RelayError: the firewall's own words.
        """
        active, differences = firewall.active(), self.differences()
        if active:
            ours = let_in(self.state_dir, active)
            gone = [opening for opening, change in differences.items() if change["old"]]
            new = [opening for opening in differences if opening not in gone]
            _bring(self.state_dir, active, [*(each for each in ours if each not in gone), *new])


def described(settings: dict[str, Any], host: Host) -> list[Daemon]:
    """Return the firewall, where the site has smtpout see to it: what is wanted of it.

    :param settings: the site's.
    :param host: whose firewall it is.
    """
    facts = settings["firewall"]
    if not facts["managed"]:
        return []
    return [Daemon("firewall", settings=(Openings(facts["services"], facts["zones"], host.state_dir),))]


def undo(data: dict[str, Any]) -> None:
    """Let in what was let in before, and nothing else of smtpout's.

    :param data: as ``Openings.undoing`` returns it.
    :raises RelayError: the firewall's own words.
    """
    if data["firewall"] and firewall.active() == data["firewall"]:
        _bring(data["state_dir"], data["firewall"], data["openings"])


def let_in(state_dir: str, active: str) -> list[str]:
    """Return what was let in through a firewall before.

    :param state_dir: where records are.
    :param active: the firewall.
    """
    record = records.recall(state_dir, RECORD)
    return list(record["openings"]) if record.get("firewall") == active else []


def shut_out(state_dir: str) -> None:
    """Shut out all that was let in.

    :param state_dir: where records are.
    :raises RelayError: the firewall's own words.
    """
    if record := records.recall(state_dir, RECORD):
        _bring(state_dir, record["firewall"], [])


def changes(missing: list[str], surplus: list[str]) -> dict[str, dict[str, str]]:
    """Return openings as a report shows them.

    :param missing: to be let in.
    :param surplus: no longer.
    """
    return {
        **{opening: {"old": "", "new": "let in"} for opening in missing},
        **{opening: {"old": "let in", "new": ""} for opening in surplus},
    }


def _bring(state_dir: str, active: str, wanted: list[str]) -> None:
    """Have exactly these openings as smtpout's."""
    ours = let_in(state_dir, active)
    for opening in [opening for opening in wanted if opening not in ours]:
        ours.append(opening)  # written down first: a run that is killed here has it taken back
        _remember(state_dir, active, ours)
        firewall.allow(active, opening)
    for opening in [opening for opening in ours if opening not in wanted]:
        firewall.withdraw(active, opening)
        ours.remove(opening)
        _remember(state_dir, active, ours)


def _remember(state_dir: str, active: str, ours: list[str]) -> None:
    records.remember(state_dir, RECORD, {"firewall": active, "openings": ours} if ours else None)
