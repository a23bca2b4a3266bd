"""Who relays, or has mail signed, without logging in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any

from smtpout_core.site.rules.finding import Found, Rule, Site
from smtpout_core.site.written import words

_STRANGERS = "strangers could send as the site; name the site's own networks"


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _wide_networks(site: Site, _facts: dict[str, Any]) -> Found:
    """Who is in these networks relays, or has mail signed, without logging in."""
    named = [(f"networks:{index}", network) for index, network in enumerate(site["networks"])]
    named += [(f"opendkim:trusted_hosts:{index}", host) for index, host in enumerate(site["opendkim"]["trusted_hosts"])]
    for number, client in enumerate(site["clients"]):
        named += [(f"clients:{number}:networks:{index}", each) for index, each in enumerate(client["networks"])]
    named += [("postfix:main:mynetworks", word) for word in words(site["postfix"]["main"].get("mynetworks"))]
    alone = False
    for path, text in named:
        network = _network(text)
        if network and _is_wide(network):
            alone = True
            yield path, text, f"holds {network.num_addresses:.1e} addresses: {_STRANGERS}"
    if not alone:
        for wide in _wide_together(filter(None, map(_network, site["networks"]))):
            yield "networks", None, f"together they hold {wide}: {_STRANGERS}"


def _network(text: object) -> _Network | None:
    try:
        return ipaddress.ip_network(re.sub(r"[\[\]]", "", str(text)), strict=False)
    except ValueError:
        return None


def _is_wide(network: _Network) -> bool:
    """The widest private networks are 10.0.0.0/8 (RFC 1918), fc00::/7 (RFC 4193) and fe80::/10 (RFC 4291)."""
    if isinstance(network, ipaddress.IPv4Network):
        return network.prefixlen < 8
    private = any(network.subnet_of(ipaddress.IPv6Network(own)) for own in ("fc00::/7", "fe80::/10"))
    return network.prefixlen < 19 and not private


def _wide_together(networks: Iterable[_Network]) -> Iterator[_Network]:
    by_version: dict[int, list[Any]] = {4: [], 6: []}
    for network in networks:
        by_version[network.version].append(network)
    for one_version in by_version.values():
        yield from filter(_is_wide, ipaddress.collapse_addresses(one_version))


RULES: list[Rule] = [
    (_wide_networks, ("networks:", "clients", "opendkim:trusted_hosts:", "postfix:main:mynetworks")),
]
