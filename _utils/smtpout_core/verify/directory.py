"""What is asked about the directory: its servers, and whether the relay's daemons find those that answer."""

from __future__ import annotations

from typing import Any

from smtpout_core.daemons import haproxy, saslauthd
from smtpout_core.directory import ask, servers
from smtpout_core.errors import Doubt, RelayError

PATIENCE = 3
"""Seconds for a server that HAProxy passes by: it is asked in the proof of a change, too."""
WRONGLY = " (though it can be reached from here: has its address changed? systemctl restart smtpout-haproxy)"
"""HAProxy looks names up when it starts."""


def answering(settings: dict[str, Any]) -> str:
    """Return the directory servers that serve as the pillar says; one is enough for mail and logins."""
    faults, known = ask.faults(settings), settings["directory"]["servers"]
    if len(faults) == len(known):
        raise RelayError("\n".join(faults.values()))
    if faults:
        raise Doubt("\n".join(faults.values()))
    return ", ".join(known)


def reached(settings: dict[str, Any]) -> str:
    """Return the servers that HAProxy leads to; raise where it doesn't answer, or leads nowhere though one serves.

    :raises Doubt: it passes a server by, and why. That none answers is another check's to say.
    """
    facts = settings["haproxy"]
    uris = {each["name"]: each["uri"] for each in facts["servers"]}
    found = haproxy.servers(facts["status"])
    if {each.name for each in found} != {*uris}:
        raise RelayError(f"HAProxy has other servers than the pillar: {', '.join(each.name for each in found)}")
    up = [each.name for each in found if each.up]
    down = {each.name: each.why for each in found if not each.up}
    here = [name for name in down if _serves(uris[name], settings["directory"])]
    said = [f"{name}: {why}{WRONGLY if name in here else ''}" for name, why in down.items()]
    if here and not up:
        raise RelayError(f"HAProxy leads to no server: {'; '.join(said)}")
    if up:
        saslauthd.ping(settings["saslauthd"]["asked_at"])
    if down:
        raise Doubt(f"passed by until they answer: {'; '.join(said)}")
    return ", ".join(up)


def _serves(server: str, site: dict[str, Any]) -> bool:
    """Tell whether a server takes a connection and shows a right certificate, within a few seconds."""
    try:
        servers.answers(server, site | {"timeout": min(site["timeout"], PATIENCE)})
    except RelayError:
        return False
    return True
