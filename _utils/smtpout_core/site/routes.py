"""Where mail goes: the tables that Postfix looks nexthops, TLS and logins up in.

A domain's transport is found by the domain (transport(5)); TLS and login then by the nexthop as that has it, brackets
and port included, or, where its MX records say who it is, by the domain (postconf(5), smtp_tls_policy_maps and
smtp_sasl_password_maps).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DEFAULT = "default"
"""The route of mail that has no other."""
PASSWORDS, POLICIES = "route_passwords", "route_tls"
"""Tables of Postfix's."""
LEVELS = {"none": "none", "may": "may", "encrypt": "encrypt", "verified": "secure"}
"""Of smtp_tls_policy_maps (postconf(5))."""
NOWHERE = ("error", "retry", "discard")
"""Transports that lead to no server (transport(5))."""
UNCHANGED = ":"
"""A transport without a name and a nexthop leaves things as they are without it (transport(5))."""

OWN = ("addresses", "helo", "connections", "delay")
"""What of a route Postfix knows by the service that mail leaves by: such a route has one of its own."""
NAMED = 32
"""Characters of a domain that a service is called by; the path of its socket has an end (unix(7))."""
Route = dict[str, Any]


def with_transport(written: str) -> str:
    """Return a nexthop with its transport: what stands before the first colon outside brackets (transport(5))."""
    return f"smtp:{written}" if written.startswith("[") or ":" not in written else written


def forms(domain: str) -> list[str]:
    """Return the forms in which an envelope may name a domain: of A-labels, the UTF-8 one as well (RFC 5890, RFC 6531).

    Not for OpenDKIM, which looks nothing up beyond ASCII. Postfix turns neither form into the other. It folds case, and
    that would make another domain of straße.dom, strasse.dom: such a name stays in its A-label form alone, and so does
    one that no domain can have.
    """
    labels = [
        label[4:].encode().decode("punycode") if label.startswith("xn--") else label for label in domain.split(".")
    ]
    written = ".".join(labels)
    shown = re.sub("[\u200c\u200d]", "", written)  # joiners, which are part of some scripts' words
    return list(dict.fromkeys([domain, written if shown.isprintable() and shown.casefold() == shown else domain]))


def level(route: Mapping[str, Any]) -> str:
    """Return the level of TLS that a route has in the pillar, or by default."""
    return str(route.get("tls", "encrypt" if "user" in route else "may"))


def destinations(domain: str, route: Mapping[str, Any]) -> list[str]:
    """Return what a route's TLS and its login are looked up by: its nexthops without their transport, or the domain."""
    _, _, written = with_transport(route.get("nexthop", "")).partition(":")
    return [each for each in re.split(r"[,\s]+", written) if each] or [domain]


def transport(route: Mapping[str, Any]) -> str:
    """Return the transport that a route has in the pillar, or by default."""
    return with_transport(route.get("nexthop", "")).partition(":")[0] or "smtp"


def service(domain: str, route: Mapping[str, Any]) -> str:
    """Return the transport that mail of a route leaves by: one of its own where it says something of that."""
    if not any(key in route for key in OWN):
        return transport(route)
    bare = domain.lower().removeprefix(".")
    short = bare if len(bare) <= NAMED else f"{bare[:NAMED]}-{hashlib.sha256(bare.encode()).hexdigest()[:8]}"
    return f"{'routes' if domain.startswith('.') else 'route'}-{short}"


def servers(domain: str, route: Mapping[str, Any]) -> list[str]:
    """Return the servers that a route leads to, as nexthops of one each; none for whatever is below a domain."""
    if transport(route) in NOWHERE or ("nexthop" not in route and domain == DEFAULT):
        return []
    return [f"{service(domain, route)}:{each}" for each in destinations(domain, route) if not each.startswith(".")]


def made(given: Mapping[str, Mapping[str, Any]]) -> list[Route]:
    """Return routes with what follows from each: its ``nexthop``, what it is looked up by, and its TLS.

    Where ``mx`` records say where mail goes, the nexthop is empty, or no more than a transport of its own. ``servers``
    are what can be asked there, each with its transport; none where it leads to none that is known.

    :param given: the site's, by domain; the password stays there.
    """
    return [
        {
            "domain": domain,
            "nexthop": nexthop(domain, route),
            "mx": "nexthop" not in route,
            "destinations": destinations(domain, route),
            "addresses": list(route.get("addresses", [])),
            "servers": servers(domain, route),
            "tls": level(route),
            "policy": policy(route) if "tls" in route or "user" in route else "",
            "login": "user" in route,
        }
        for domain, route in given.items()
    ]


def nexthop(domain: str, route: Mapping[str, Any]) -> str:
    """Return transport and nexthop of a route; an empty text where MX records say all of it."""
    own = service(domain, route)
    if "nexthop" in route:
        return f"{own}:{with_transport(route['nexthop']).partition(':')[2]}"
    return f"{own}:" if own != transport(route) else ""


def services(given: Mapping[str, Mapping[str, Any]], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the services that routes have of their own, by their names in master.cf.

    :param given: the site's routes.
    :param known: the services of master.cf, of which theirs are made.
    """
    made: dict[str, Any] = {}
    for domain, route in given.items():
        name, base = service(domain, route), known.get(f"{transport(route)}/unix")
        if base and name != transport(route):
            options = {**base.get("options", {}), "syslog_name": "postfix/$service_name"}
            versions = {ipaddress.ip_address(each).version: each for each in route.get("addresses", [])}
            if versions:
                options |= {"smtp_bind_address": versions.get(4, ""), "smtp_bind_address6": versions.get(6, "")}
                options |= {"inet_protocols": f"ipv{min(versions)}"} if len(versions) == 1 else {}
            options |= {"smtp_helo_name": route["helo"]} if "helo" in route else {}
            made[f"{name}/unix"] = {**base, "options": options}
    return made


def limits(given: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what main.cf has of routes' own limits (postconf(5)), by parameter.

    :param given: the site's routes.
    """
    found = {}
    for domain, route in given.items():
        name = service(domain, route)
        if "connections" in route:
            found[f"{name}_destination_concurrency_limit"] = str(route["connections"])
        if "delay" in route:
            found[f"{name}_destination_rate_delay"] = f"{route['delay']}s"
    return found


def policy(route: Mapping[str, Any]) -> str:
    """Return what stands in the table of TLS: without ``match``, a certificate is for the nexthop or below it."""
    names = f" match={':'.join(route['match'])}" if "match" in route else ""
    return LEVELS[level(route)] + names


def smart_host(routes: Iterable[Route]) -> tuple[str, str]:
    """Return transport and destination of mail that has no other route; empty texts where MX records say it."""
    for route in routes:
        if route["domain"] == DEFAULT:
            own, _, destination = route["nexthop"].partition(":")
            return own, destination
    return "", ""


def tables(
    routes: Sequence[Route], given: Mapping[str, Mapping[str, Any]], here: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Return the entries of ``transports``, and of what else there is: TLS and logins.

    :param routes: of :func:`made`.
    :param given: the site's, with its passwords.
    :param here: names whose mail stays on the relay, though it be below a domain that has a route.
    """
    transports = {
        form: route["nexthop"]
        for route in routes
        if route["nexthop"] and route["domain"] != DEFAULT
        for form in forms(route["domain"])
    }
    transports |= {name: UNCHANGED for name in here if any(parent in transports for parent in parents(name))}
    policies, logins = {}, {}
    for route in routes:
        for destination in route["destinations"]:
            for key in forms(destination) if route["mx"] else [destination]:
                if route["policy"]:
                    policies[key.lower()] = route["policy"]
            if route["login"]:
                own = given[route["domain"]]
                logins[destination.lower()] = f"{own['user']}:{own['password']}"
    found = {POLICIES: policies, PASSWORDS: logins}
    return {"transports": transports, **{name: entries for name, entries in found.items() if entries}}


def parents(domain: str) -> list[str]:
    """Return what a domain is below of, the nearest first: of a.b.dom, .b.dom and .dom."""
    labels = domain.lower().split(".")
    return [f".{'.'.join(labels[number:])}" for number in range(1, len(labels))]


def way(routes: Iterable[Route], domain: str) -> str:
    """Return the nexthop by which mail to a domain elsewhere leaves; an empty text where MX records say it.

    :param routes: of :func:`made`.
    """
    ways = {route["domain"]: route["nexthop"] for route in routes if route["nexthop"]}
    found = next((ways[name] for name in (domain.lower(), *parents(domain), DEFAULT) if name in ways), "")
    return f"{found}{domain}" if found.endswith(":") else found
