"""What a site's pillar says and hardly means: nothing is wrong with it, and nothing on the relay would show it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from smtpout_core.site.rules.postfix import made_by

# Of IPv4 what isn't somebody's on the Internet: private (RFC 1918), shared (RFC 6598), loopback, link-local (RFC 3927),
# for documentation (RFC 5737) and for benchmarks (RFC 2544). IPv6 networks of a site's own are as public as any.
OWN = [
    ipaddress.IPv4Network(each)
    for each in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15",
    )
]  # fmt: skip
LARGEST = {4: 12, 6: 48}
"""The shortest prefix, by version of IP, of a network that is one site's servers and not a whole company's."""


def risks(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was hoped for of the pillar, and why it isn't so."""
    if unnamed := unnamed_maps(settings):
        seen = f"no parameter of smtpout:postfix names {', '.join(unnamed)}: what it holds has no effect"
        yield "every map of the site's is looked up", seen
    if strange := [*strange_networks(settings["networks"])]:
        seen = f"smtpout:networks: {', '.join(strange)}: whoever is there sends with any address and without a login"
        yield "only the site's own servers send without a login", seen


def unnamed_maps(settings: dict[str, Any]) -> list[str]:
    """Return the maps of the site's own that nothing of it names; one is named by its file, wherever that stands."""
    postfix = settings["postfix"]
    own = {name: table for name, table in postfix["maps"].items() if not made_by(name)}
    said = [postfix["main"], postfix["services"], settings["opendkim"]["options"], settings["clamav"]["milter"]]
    by_others = {name: str(table["entries"]) for name, table in own.items()}
    unnamed = []
    for name, table in own.items():
        texts = [str(said), *(text for other, text in by_others.items() if other != name)]
        if not any(re.search(rf"/{re.escape(name)}(?![\w-])", text) for text in texts):
            unnamed.append(table["path"])
    return unnamed


def strange_networks(networks: list[str]) -> Iterator[str]:
    """Yield networks that are no site's own servers, in words: of others' addresses, or of very many."""
    for written in networks:
        network = ipaddress.ip_network(written)
        if isinstance(network, ipaddress.IPv4Network) and not any(network.subnet_of(own) for own in OWN):
            yield f"{network} is of public addresses"
        elif network.prefixlen < LARGEST[network.version]:
            yield f"{network} holds {network.num_addresses:.1e} addresses"
