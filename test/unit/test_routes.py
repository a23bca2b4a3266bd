"""Routes to others' domains: what Postfix looks up, and what is refused before it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from minions import Settings
from smtpout_core.daemons.postfix import sources
from smtpout_core.errors import RelayError

LOGIN = {"user": "mycompany", "password": "pass word:1"}
Made = Callable[..., dict[str, Any]]


@pytest.fixture
def made(settings: Settings, site: dict[str, Any]) -> Made:
    """Return a function that makes the settings of the example with these routes."""

    def of(routes: dict[str, Any], **more: Any) -> dict[str, Any]:
        return settings({**site, "routes": routes, **more})

    return of


def entries(made: dict[str, Any], table: str) -> dict[str, str]:
    """Return what a table of Postfix's holds; nothing where there is none."""
    assert made["valid"], made["errors"]
    return made["postfix"]["maps"].get(table, {}).get("entries", {})


def test_a_site_without_routes_has_no_tables_for_them(made: Made) -> None:
    maps = made({})["postfix"]["maps"]
    assert not {"route_tls", "route_passwords"} & maps.keys()


def test_tls_and_login_are_looked_up_by_the_nexthop_as_it_is_written(made: Made) -> None:
    found = made({"Partner.example": {"nexthop": "smtp:[MX.partner.example]:587", **LOGIN}})
    assert entries(found, "transport_maps")["partner.example"] == "smtp:[MX.partner.example]:587"
    assert entries(found, "route_tls") == {"[mx.partner.example]:587": "encrypt"}
    assert entries(found, "route_passwords") == {"[mx.partner.example]:587": "mycompany:pass word:1"}
    assert found["postfix"]["maps"]["route_passwords"]["secret"] is True


def test_without_a_nexthop_tls_is_the_domains_own(made: Made) -> None:
    match = {"tls": "verified", "match": ["mx1.partner.example", ".partner.example"]}
    found = made({"partner.example": match, ".other.example": {"tls": "encrypt"}})
    assert not {"partner.example", ".other.example"} & entries(found, "transport_maps").keys()
    assert entries(found, "route_tls") == {
        "partner.example": "secure match=mx1.partner.example:.partner.example",
        ".other.example": "encrypt",
    }


def test_a_smart_host_takes_what_has_no_other_route(made: Made) -> None:
    found = made({"default": {"nexthop": "[smart.example]:587", **LOGIN, "tls": "verified"}})
    assert found["postfix"]["smart_host"] == ("smtp", "[smart.example]:587")
    assert entries(found, "route_tls") == {"[smart.example]:587": "secure"}
    assert "default" not in entries(found, "transport_maps")


def test_the_relays_own_mail_stays_whatever_domain_it_is_below_of(made: Made) -> None:
    found = made({".corp.example": {"nexthop": "smtp:[192.0.2.1]"}}, hostname="relay.site.corp.example")
    assert entries(found, "transport_maps")["relay.site.corp.example"] == ":"
    assert "relay.site.corp.example" not in entries(made({}, hostname="relay.corp.example"), "transport_maps")


OWN = {"addresses": ["192.0.2.7"], "helo": "bulk.domain01.dom", "connections": 2}


def test_a_route_with_limits_or_an_address_has_a_transport_of_its_own(made: Made) -> None:
    partner = {"nexthop": "smtp:[mx.partner.example]:587", **LOGIN, **OWN}
    postfix = made({"Partner.example": partner, ".other.example": {"delay": 5}})["postfix"]
    assert postfix["services"]["route-partner.example/unix"] == {
        "command": "smtp",
        "options": {
            "syslog_name": "postfix/$service_name",
            "smtp_bind_address": "192.0.2.7",
            "smtp_bind_address6": "",
            "inet_protocols": "ipv4",
            "smtp_helo_name": "bulk.domain01.dom",
        },
    }
    assert postfix["services"]["routes-other.example/unix"] == {
        "command": "smtp",
        "options": {"syslog_name": "postfix/$service_name"},
    }
    assert postfix["route_limits"] == {
        "route-partner.example_destination_concurrency_limit": "2",
        "routes-other.example_destination_rate_delay": "5s",
    }
    transports = postfix["maps"]["transport_maps"]["entries"]
    assert transports["partner.example"] == "route-partner.example:[mx.partner.example]:587"
    assert transports[".other.example"] == "routes-other.example:"
    assert set(postfix["maps"]["route_passwords"]["entries"]) == {"[mx.partner.example]:587"}


def test_mail_that_has_no_other_route_leaves_from_an_address_by_mx_or_by_a_smart_host(made: Made) -> None:
    both = {"addresses": ["192.0.2.7", "2001:db8::7"]}
    postfix = made({"default": both})["postfix"]
    options = postfix["services"]["route-default/unix"]["options"]
    assert (options["smtp_bind_address"], options["smtp_bind_address6"]) == ("192.0.2.7", "2001:db8::7")
    assert "inet_protocols" not in options
    assert postfix["smart_host"] == ("route-default", "")
    smart = made({"default": {**both, "nexthop": "[smart.example]:587"}})["postfix"]
    assert smart["smart_host"] == ("route-default", "[smart.example]:587")
    assert smart["routes"][0]["servers"] == ["route-default:[smart.example]:587"]


def test_a_transport_is_what_the_sites_own_is_but_for_what_the_route_says(made: Made) -> None:
    smtps = {"command": "smtp", "options": {"smtp_tls_wrappermode": True, "syslog_name": "postfix/smtps"}}
    own = {"smtps/unix": smtps, "route-a.example/unix": {"maxproc": 5}}
    postfix = made({"a.example": {"nexthop": "smtps:[mx.example]:465", **OWN}}, postfix={"master": own})["postfix"]
    service = postfix["services"]["route-a.example/unix"]
    assert service["maxproc"] == 5
    assert service["options"]["smtp_tls_wrappermode"] is True


def test_the_names_of_transports_are_short_and_differ(made: Made) -> None:
    labels = ["a" * 60] * 3
    names = {f"{'.'.join([*labels, last])}.example": {"delay": 1} for last in ("b", "c")}
    services = made({**names, "x.example": {"delay": 1}, ".x.example": {"delay": 1}})["postfix"]["services"]
    own = [name for name in services if name.startswith("route")]
    assert len(own) == 4
    assert max(map(len, own)) < 60


NEXTHOP = {"nexthop": "smtp:[mx.partner.example]:587"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no domain": ({"partner": NEXTHOP}, "default, a domain, or a dot and a domain for what is below it"),
    "the site's own": ({"DOMAIN01.dom": NEXTHOP}, "smtpout:delivery:domains:DOMAIN01.dom"),
    "in two cases": ({"a.example": NEXTHOP, "A.example": NEXTHOP}, "is the same domain as smtpout:routes:a.example"),
    "nothing": ({"a.example": {}}, "smtpout:routes:a.example: says nothing"),
    "no smart host": ({"default": {"tls": "encrypt"}}, "smtpout:routes:default:nexthop: names no server"),
    "mail that is to go nowhere": (
        {"default": {"nexthop": "error:no mail"}}, 'smtpout:routes:default:nexthop: "error:no mail" names no server',
    ),
    "no password": ({"a.example": {**NEXTHOP, "user": "me"}}, "smtpout:routes:a.example:password: missing beside user"),
    "no user": ({"a.example": {**NEXTHOP, "password": "x"}}, "smtpout:routes:a.example:user: missing beside password"),
    "a login at no server": ({"a.example": LOGIN}, "and the login is for one; add it"),
    "a password in clear text": (
        {"a.example": {**NEXTHOP, **LOGIN, "tls": "may"}},
        'smtpout:routes:a.example:tls: "may" lets the password cross the network in clear text; right is encrypt or ',
    ),
    "names of no certificate": ({"a.example": {**NEXTHOP, "match": ["b.example"]}}, "no effect without tls: verified"),
    "a certificate for an address": (
        {"a.example": {"nexthop": "smtp:[192.0.2.1]", "tls": "verified"}},
        "smtpout:routes:a.example:match: missing: a certificate is for names, and 192.0.2.1 is an address",
    ),
    "a port that begins with TLS": (
        {"a.example": {"nexthop": "smtp:[mx.example]:465", **LOGIN}},
        "port 465 begins with TLS, and smtp without; right is [mx.example]:587",
    ),
    "two logins at one server": (
        {"a.example": {**NEXTHOP, **LOGIN}, "b.example": {**NEXTHOP, **LOGIN, "user": "other"}},
        "smtpout:routes:b.example: goes to [mx.partner.example]:587 as smtpout:routes:a.example, with another",
    ),
    "a transport that isn't there": ({"a.example": {"nexthop": "fax:[192.0.2.1]"}}, "smtpout:routes:a.example:nexthop"),
    "TLS by LMTP": (
        {"a.example": {"nexthop": "lmtp:inet:b.example", "tls": "encrypt"}}, "for the transport smtp, and lmtp is lmtp",
    ),
    "two addresses of one IP": (
        {"a.example": {"addresses": ["192.0.2.1", "192.0.2.2"]}},
        'smtpout:routes:a.example:addresses:1: "192.0.2.2" is the second of IPv4; remove one',
    ),
    "no address of a host's": (
        {"a.example": {"addresses": ["127.0.0.1"]}},
        'smtpout:routes:a.example:addresses:0: "127.0.0.1" is none that mail leaves from; right is one of this host',
    ),
    "a name for an address": ({"a.example": {"addresses": ["a.example"]}}, "smtpout:routes:a.example:addresses:0"),
    "several connections with a delay": (
        {"a.example": {"delay": 5, "connections": 2}}, "smtpout:routes:a.example:connections: 2 doesn't go with a de",
    ),
    "limits of what goes nowhere": (
        {"a.example": {"nexthop": "error:no", "delay": 5}}, "smtpout:routes:a.example:delay: 5 is for the transport",
    ),
    "an address by LMTP": (
        {"a.example": {"nexthop": "lmtp:inet:b.dom", "helo": "a.b.dom"}}, "for the transport smtp, and lmtp is lmtp",
    ),
    "all mail by MX and TLS": (
        {"default": {"tls": "may", "delay": 1}}, "smtpout:routes:default:nexthop: names no server",
    ),
    "the relay itself": ({"a.example": {"nexthop": "smtp:[127.0.0.1]"}}, "is this relay itself"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_no_mail_could_take_is_refused(made: Made, case: str) -> None:
    routes, said = WRONG[case]
    errors = "\n".join(made(routes)["errors"])
    assert said in errors
    assert LOGIN["password"] not in errors


@pytest.mark.parametrize(
    ("name", "value"),
    [("relayhost", "[b.example]"), ("smtp_sasl_password_maps", "hash:/etc/postfix/mine"),
     ("smtp_sasl_auth_enable", False), ("transport_maps", None)],
)  # fmt: skip
def test_a_parameter_that_hides_a_route_is_refused(made: Made, name: str, value: Any) -> None:
    routes = {"default": {**NEXTHOP, **LOGIN}, "a.example": {**NEXTHOP, **LOGIN}}
    errors = made(routes, postfix={"main": {name: value}})["errors"]
    assert len(errors) == 1
    assert f"smtpout:postfix:main:{name}: (secret) hides what smtpout:routes says" in errors[0]


def test_a_transport_of_the_sites_own_for_all_mail_is_refused_beside_that_of_the_default_route(made: Made) -> None:
    (error,) = made({"default": OWN}, postfix={"main": {"default_transport": "relay"}})["errors"]
    assert error.startswith("smtpout:postfix:main:default_transport: (secret) hides what smtpout:routes says")


def test_an_address_that_the_host_has_not_is_told_with_its_key(made: Made) -> None:
    routes = {"a.example": {"addresses": ["192.0.2.7"]}}
    (trial,) = sources.trials(made(routes))
    with pytest.raises(RelayError, match=r"^smtpout:routes:a.example:addresses:0: 192.0.2.7 is none of this host's"):
        trial.ask()
    with pytest.raises(RelayError, match=r"addresses:0"):
        sources.seen(made(routes))
    sources.bound("127.0.0.1", "key")


def test_a_relayhost_of_the_sites_own_goes_on_without_routes(made: Made) -> None:
    assert made({}, postfix={"main": {"relayhost": "[b.example]"}})["valid"]


def test_a_domain_of_somebody_else_is_pointed_to_routes(settings: Settings, site: dict[str, Any]) -> None:
    site["delivery"]["domains"] = {"bigcustomer.example": "smtp:[mx.partner.example]:587"}
    (error,) = settings(site)["errors"]
    assert "where mail to others' domains goes is said in smtpout:routes" in error
