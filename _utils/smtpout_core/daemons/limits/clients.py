"""Clients that the site counts by where they are (``smtpout:clients``): all networks of an entry are one."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

CONTEXT = "clients"
"""The ``policy_context`` of a question that smtpd(8) asks of a client, and not of a login."""
WHO = "this client, with all that share its limit,"


class Client(NamedTuple):
    """An entry: its networks, and how many messages they may send in an hour."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    messages: int

    @property
    def name(self) -> str:
        """What it is counted by: another place in the pillar begins no new count."""
        return ",".join(sorted(map(str, self.networks)))


def read(given: Sequence[Mapping[str, Any]]) -> list[Client]:
    """Return the entries of a site.

    :param given: of each ``networks`` and ``messages``.
    :raises ValueError: what is given is no network.
    :raises KeyError: one lacks either.
    """
    return [Client(tuple(map(ipaddress.ip_network, each["networks"])), each["messages"]) for each in given]


def found(clients: Sequence[Client], address: str) -> Client | None:
    """Return whose address it is; None of anybody else's.

    :param address: as smtpd has it, which may be ``unknown``.
    """
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return None
    return next((each for each in clients if any(client in network for network in each.networks)), None)
