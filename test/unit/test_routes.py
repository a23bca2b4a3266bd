"""Routes to others' domains: what Postfix looks up, and what is refused before it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from minions import Settings

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


def test_a_relayhost_of_the_sites_own_goes_on_without_routes(made: Made) -> None:
    assert made({}, postfix={"main": {"relayhost": "[b.example]"}})["valid"]


def test_a_domain_of_somebody_else_is_pointed_to_routes(settings: Settings, site: dict[str, Any]) -> None:
    site["delivery"]["domains"] = {"bigcustomer.example": "smtp:[mx.partner.example]:587"}
    (error,) = settings(site)["errors"]
    assert "where mail to others' domains goes is said in smtpout:routes" in error
