"""A fact of the pillar has one form for every daemon, however it is written."""

from __future__ import annotations

from typing import Any

from minions import Settings


def test_a_network_is_spelled_alike_for_postfix_which_reads_it_and_opendkim_which_compares_it(
    settings: Settings, site: dict[str, Any]
) -> None:
    site["networks"] = ["2001:DB8:0:A::/64", "2001:0db8:0000:0002:0000:0000:0000:0000/64", "172.16.10.7"]
    site["opendkim"] = {"trusted_hosts": ["2001:DB8:0:0B::1", "Mail.Domain01.DOM"]}
    made = settings(site)
    assert made["postfix"]["trusted_networks"] == [
        "127.0.0.0/8", "[::1]/128", "[2001:db8:0:a::]/64", "[2001:db8:0:2::]/64", "172.16.10.7",
    ]  # fmt: skip
    assert made["opendkim"]["hosts"] == [
        "127.0.0.0/8", "::1/128", "2001:db8:0:a::/64", "2001:db8:0:2::/64", "172.16.10.7", "2001:db8:0:b::1",
        "mail.domain01.dom",
    ]  # fmt: skip


def test_a_domain_is_spelled_alike_in_every_table(settings: Settings, site: dict[str, Any]) -> None:
    site["domains"] = ["Domain01.DOM", "xn--espaa-rta.dom"]
    site["delivery"] = {"nexthop": "smtp:[172.16.11.96]", "domains": {"DOMAIN01.dom": "smtp:[172.16.11.97]"}}
    made = settings(site)
    maps = made["postfix"]["maps"]
    assert [*maps["own_domains"]["entries"]] == ["domain01.dom", "xn--espaa-rta.dom", "españa.dom"]
    assert maps["transport_maps"]["entries"] == {
        "domain01.dom": "smtp:[172.16.11.97]",
        "xn--espaa-rta.dom": "smtp:[172.16.11.96]",
        "españa.dom": "smtp:[172.16.11.96]",
    }
    assert [key["domain"] for key in made["opendkim"]["signing_keys"]][:2] == ["domain01.dom", "xn--espaa-rta.dom"]
