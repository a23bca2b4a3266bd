"""What is asked about the directory: its servers, and whether the relay's daemons find those that answer."""

from __future__ import annotations

from typing import Any

from smtpout_core.daemons import haproxy, saslauthd
from smtpout_core.directory import ask, servers
from smtpout_core.errors import Doubt, RelayError


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
    facts, site = settings["haproxy"], settings["directory"]
    found = haproxy.servers(facts["status"])
    if {each.name for each in found} != {each["name"] for each in facts["servers"]}:
        raise RelayError(f"HAProxy has other servers than the pillar: {', '.join(each.name for each in found)}")
    down = [f"{each.name}: {each.why}" for each in found if not each.up]
    up = [each.name for each in found if each.up]
    if not up and (serving := _serving(site)):
        said = "; ".join(down)
        raise RelayError(f"HAProxy leads to no server, though {', '.join(serving)} can be reached from here: {said}")
    if up:
        saslauthd.ping(settings["saslauthd"]["asked_at"])
    if down:
        raise Doubt(f"passed by until they answer: {'; '.join(down)}")
    return ", ".join(up)


def _serving(site: dict[str, Any]) -> list[str]:
    """Return the servers that take a connection and show a right certificate."""
    found = []
    for server in site["servers"]:
        try:
            servers.answers(server, site)
        except RelayError:
            continue
        found.append(server)
    return found
