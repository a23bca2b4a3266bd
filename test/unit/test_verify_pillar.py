"""What a pillar says and hardly means is told by verify."""

from __future__ import annotations

from typing import Any

import pytest
from minions import Settings
from smtpout_core.verify import pillar

ENTRIES = {"entries": {"root": "postmaster@domain01.dom"}}


@pytest.mark.parametrize(
    ("postfix", "unnamed"),
    [
        ({}, ["/etc/postfix/mine"]),
        ({"main": {"virtual_alias_maps": "hash:/etc/postfix/mine-too"}}, ["/etc/postfix/mine"]),
        ({"main": {"virtual_alias_maps": "lmdb:/etc/postfix/mine"}}, []),
        ({"main": {"virtual_alias_maps": {"append": ["lmdb:${config_directory}/mine"]}}}, []),
        ({"main": {"virtual_alias_maps": "pipemap:{lmdb:/etc/postfix/mine,inline:{a=b}}"}}, []),
        ({"master": {"smtp/inet": {"options": {"virtual_alias_maps": "lmdb:/etc/postfix/mine"}}}}, []),
        ({"main": {"virtual_alias_maps": None}}, ["/etc/postfix/mine"]),
    ],
)
def test_a_map_that_nothing_names_is_told(
    settings: Settings, site: dict[str, Any], postfix: dict[str, Any], unnamed: list[str]
) -> None:
    made = settings({**site, "postfix": {"maps": {"mine": ENTRIES}, **postfix}})
    assert made["valid"], made["errors"]
    assert pillar.unnamed_maps(made) == unnamed
    assert [check for check, _ in pillar.risks(made)] == ["every map of the site's is looked up"] * len(unnamed)


def test_the_formulas_own_maps_need_no_name(settings: Settings, site: dict[str, Any]) -> None:
    site["routes"] = {"a.example": {"nexthop": "smtp:[b.example]", "user": "me", "password": "x"}}
    assert [*pillar.risks(settings(site))] == []


@pytest.mark.parametrize(
    ("network", "seen"),
    [
        ("172.16.0.0/12", ""), ("192.168.7.0/24", ""), ("100.64.0.0/24", ""), ("127.0.0.9/32", ""),
        ("198.51.100.0/24", ""), ("2001:db8::/48", ""), ("2a00:1450::/64", ""), ("fd00::/48", ""),
        ("172.160.10.0/24", "is of public addresses"), ("8.8.8.8/32", "is of public addresses"),
        ("10.0.0.0/8", "holds 1.7e+07 addresses"), ("fd00::/47", "holds 2.4e+24 addresses"),
    ],
)  # fmt: skip
def test_a_network_that_is_hardly_the_sites_servers_is_told(network: str, seen: str) -> None:
    assert [*pillar.strange_networks([network])] == ([f"{network} {seen}"] if seen else [])
