"""Where mail to others' domains goes, and how much of a password may be seen on the way."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from smtpout_core.site import formats, routes
from smtpout_core.site.rules.finding import MASKED, Found, Rule, Site
from smtpout_core.site.written import words

# By what a site's routes have: the parameters that then are the formula's own, with the tables that they have to name.
OWN = {
    "nexthop": {"transport_maps": "transport_maps"},
    "policy": {"smtp_tls_policy_maps": routes.POLICIES},
    "login": {"smtp_sasl_password_maps": routes.PASSWORDS, "smtp_sasl_auth_enable": ""},
}


def _domains(site: Site, facts: dict[str, Any]) -> Found:
    """The site's own mail goes to the delivery layer, and the relay's own stays."""
    own = {domain.lower() for domain in site["domains"]}
    here = str(site.get("hostname") or facts["grains"]["fqdn"]).lower()
    for domain in site["routes"]:
        if domain.lower() in own:
            yield (
                f"routes:{domain}",
                domain,
                f"is one of smtpout:domains; right is smtpout:delivery:domains:{domain}, or to remove it there",
            )
        elif domain.lower() == here:
            yield f"routes:{domain}", domain, "is this relay's own name, whose mail stays on it; remove it"


def _whole(site: Site, _facts: dict[str, Any]) -> Found:
    """A route says where to, or how well, and of a login all or nothing."""
    for domain, route in site["routes"].items():
        path = f"routes:{domain}"
        transport, _, target = routes.with_transport(route.get("nexthop", "")).partition(":")
        own = route.keys() & set(routes.OWN)
        to_mx = own and not route.keys() & {"nexthop", "tls", "user"}
        if domain == routes.DEFAULT and not to_mx and (not target or transport in routes.NOWHERE):
            yield (
                f"{path}:nexthop",
                route.get("nexthop"),
                "names no server; right is one such as smtp:[mx.example.com]:587",
            )
        elif not (own or route.keys() & {"nexthop", "tls"}):
            yield path, None, "says nothing; name a nexthop, or tls"
        for one, other in (("user", "password"), ("password", "user")):
            if one in route and other not in route:
                yield f"{path}:{other}", None, f"missing beside {one}"
        if "user" in route and not target:
            yield f"{path}:nexthop", route.get("nexthop"), "names no server, and the login is for one; add it"
        if "user" in route and routes.level(route) in ("none", "may"):
            yield (
                f"{path}:tls",
                route["tls"],
                "lets the password cross the network in clear text; right is encrypt or verified",
            )
        if "match" in route and routes.level(route) != "verified":
            yield f"{path}:match", None, "has no effect without tls: verified; add that, or remove it"
        elif routes.level(route) == "verified" and "match" not in route:
            for host, _ in _hosts(domain, route):
                if formats.problem("address", host.lower().removeprefix("ipv6:")) is None:
                    yield f"{path}:match", None, f"missing: a certificate is for names, and {host} is an address"


def _leaving(site: Site, _facts: dict[str, Any]) -> Found:
    """Mail leaves from an address of each IP at most, and waits between messages on one connection."""
    for domain, route in site["routes"].items():
        path, known = f"routes:{domain}", set[int]()
        for index, written in enumerate(route.get("addresses", [])):
            address = ipaddress.ip_address(written)
            if address.is_unspecified or address.is_multicast or address.is_loopback:
                yield f"{path}:addresses:{index}", written, "is none that mail leaves from; right is one of this host's"
            elif address.version in known:
                yield f"{path}:addresses:{index}", written, f"is the second of IPv{address.version}; remove one"
            known.add(address.version)
        if "delay" in route and route.get("connections", 1) > 1:
            yield (
                f"{path}:connections",
                route["connections"],
                "doesn't go with a delay, where there is one (postconf(5), default_destination_rate_delay); remove it",
            )


def _programs(site: Site, facts: dict[str, Any]) -> Found:
    """TLS and logins are looked up by smtp(8), which begins in clear text."""
    services = {**facts["services"], **site["postfix"]["master"]}
    for domain, route in site["routes"].items():
        if "nexthop" not in route:
            continue
        path, written = f"routes:{domain}", route["nexthop"]
        transport = routes.with_transport(written).partition(":")[0] or "smtp"
        service = services.get(f"{transport}/unix") or {}
        program = (service.get("command") or "smtp").split()[0]
        if program != "smtp" and (said := route.keys() & {"tls", "user", *routes.OWN}):
            yield f"{path}:{min(said)}", route[min(said)], f"is for the transport smtp, and {transport} is {program}"
        elif program == "smtp" and "smtp_tls_wrappermode" not in (service.get("options") or {}):
            for host, port in _hosts(domain, route):
                if port in ("465", "smtps", "submissions"):
                    yield (
                        f"{path}:nexthop",
                        written,
                        f"port {port} begins with TLS, and {transport} without; right is [{host}]:587",
                    )


def _contradictions(site: Site, _facts: dict[str, Any]) -> Found:
    """Postfix looks up TLS and login by the server; two routes to it are one there."""
    known: dict[str, tuple[str, Any]] = {}
    for route in routes.made(site["routes"]):
        own = site["routes"][route["domain"]]
        says = (route["policy"], own.get("user"), own.get("password"))
        for destination in route["destinations"]:
            other, said = known.setdefault(destination.lower(), (route["domain"], says))
            if said != says:
                yield (
                    f"routes:{route['domain']}",
                    None,
                    (
                        f"goes to {destination} as smtpout:routes:{other}, with another tls, match, user or password: "
                        "Postfix knows one of each for a server; write the same"
                    ),
                )


def _native(site: Site, _facts: dict[str, Any]) -> Found:
    """What main.cf is told besides must not hide the routes."""
    made, main = routes.made(site["routes"]), site["postfix"]["main"]
    wanted = {
        name: table for key, names in OWN.items() if any(each[key] for each in made) for name, table in names.items()
    }
    if routes.DEFAULT in site["routes"]:
        wanted["relayhost"] = ""
        if routes.smart_host(made)[0] not in ("", "smtp"):
            wanted["default_transport"] = ""
    for name, table in wanted.items():
        named = table and any(word.endswith(f"/{table}") for word in words(main.get(name)))
        if name in main and not named and not isinstance(main[name], dict) and main[name] not in (True, "yes"):
            right = (
                "remove one of the two"
                if name in ("relayhost", "default_transport")
                else "remove it, or use prepend or append"
            )
            yield f"postfix:main:{name}", MASKED, f"hides what smtpout:routes says; {right}"


def _hosts(domain: str, route: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for destination in routes.destinations(domain, route):
        if parts := re.fullmatch(r"\[?((?:ipv6:)?[^\[\]]*?)\]?(?::([A-Za-z0-9-]+))?", destination, re.IGNORECASE):
            yield parts[1], (parts[2] or "").lower()


RULES: list[Rule] = [
    (_domains, ("domains", "hostname", "routes")),
    (_whole, ("routes",)),
    (_leaving, ("routes",)),
    (_programs, ("routes", "postfix:master")),
    (_contradictions, ("routes",)),
    (_native, ("routes", "postfix:main")),
]
