"""Clients that send with addresses of their own alone: who they are has to be clear."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from smtpout_core.site.rules.finding import Found, Rule, Site

HERE = ("127.0.0.0/8", "::1/128")


def _overlaps(site: Site, _facts: dict[str, Any]) -> Found:
    """Who is in smtpout:networks sends with any address, and of two entries for a client the first would count."""
    above: list[tuple[str, Any]] = []
    for network, path in sorted(_networks(site), key=lambda each: (each[0].version, each[0])):
        while above and not (above[-1][1].version == network.version and network.subnet_of(above[-1][1])):
            above.pop()
        for other, outer in above[-1:]:
            own, where = (path, other) if path.startswith("clients") else (other, path)
            if own.startswith("clients"):
                named = where if where in HERE else f"smtpout:{where}"
                inside = str(network if own == path else outer)
                yield own, inside, f"overlaps with {named}, {outer if own == path else network}; leave it out of one"
        above.append((path, network))


def _networks(site: Site) -> Iterator[tuple[Any, str]]:
    yield from ((ipaddress.ip_network(network), network) for network in HERE)
    for index, network in enumerate(site["networks"]):
        yield ipaddress.ip_network(network), f"networks:{index}"
    for number, client in enumerate(site["clients"]):
        for index, network in enumerate(client["networks"]):
            yield ipaddress.ip_network(network), f"clients:{number}:networks:{index}"


def _native(site: Site, _facts: dict[str, Any]) -> Found:
    """What main.cf is told besides must not hide the clients."""
    names = ["smtpd_sender_restrictions"]
    names += ["smtpd_relay_restrictions"] if any(each.get("outside") for each in site["clients"]) else []
    main = site["postfix"]["main"]
    for name in names if site["clients"] else ():
        if name in main and not isinstance(main[name], dict):
            yield f"postfix:main:{name}", main[name], "hides what smtpout:clients says; use prepend or append"


RULES: list[Rule] = [
    (_overlaps, ("networks", "clients")),
    (_native, ("clients", "postfix:main")),
]
