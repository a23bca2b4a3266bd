"""Clients that send with addresses of their own alone: printers, appliances.

Who comes from which network meets which class of restrictions is a cidr map's (cidr_table(5)); with whose addresses it
may send then is looked up by the address (access(5)). A class is a parameter that the map's result names (postconf(5),
smtpd_restriction_classes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smtpout_core.site.routes import forms

SENDERS, OUTSIDE, LIMITED = "clients_senders", "clients_outside", "clients_limited"
"""Tables of which client meets which class: for its sender, where it wants to send to outside, and who is counted."""
SHOWN = 3
"""Addresses that a client is told of with whom it may send."""


def made(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a site's clients, each with the name of its class and of its table of senders.

    :param given: the site's, in the order of the pillar.
    """
    return [
        {
            "name": f"clients_{number}",
            "networks": list(client["networks"]),
            "senders": [sender.lower() for sender in client["senders"]],
            "outside": client.get("outside", False),
            "tls": client.get("tls", False),
            "limit": client.get("limit", 0),
            "whom": whom(client["senders"]),
        }
        for number, client in enumerate(given, start=1)
    ]


def tables(clients: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the tables that they need: name, entries and, where their order would count, the type.

    :param clients: of :func:`made`.
    """
    if not clients:
        return []
    found = [
        {"name": each["name"], "entries": {key: "OK" for sender in each["senders"] for key in keys(sender)}}
        for each in clients
    ]
    for name, those in ((SENDERS, clients), (OUTSIDE, [each for each in clients if each["outside"]])):
        entries = [[network, each["name"]] for each in those for network in each["networks"]]
        found += [{"name": name, "type": "cidr", "entries": entries}] if entries else []
    # One class for all of them: whose limit it is the service knows (site/limits.py).
    entries = [[network, LIMITED] for each in clients if each["limit"] for network in each["networks"]]
    found += [{"name": LIMITED, "type": "cidr", "entries": entries}] if entries else []
    return found


def keys(sender: str) -> list[str]:
    """Return what a sender, or all of a domain, is looked up by (access(5), EMAIL ADDRESS PATTERNS)."""
    local, _, domain = sender.rpartition("@")
    return [f"{local}@{form}" if local else form for form in forms(domain)]


def whom(senders: Sequence[str]) -> str:
    """Return with whose addresses a client may send, as it is told."""
    shown = ", ".join(senders[:SHOWN])
    return f"{shown} and {len(senders) - SHOWN} more" if len(senders) > SHOWN else shown
