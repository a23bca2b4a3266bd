"""Who the relay is, and whose mail it takes."""

from __future__ import annotations

import difflib
from typing import Any

from smtpout_core.site import addresses, formats
from smtpout_core.site.rules.finding import Found, Rule, Site

# Strange domains of which the nearest one is looked for: among 10,000 that takes half a second.
HINTS = 3

# What distributions and clouds fill a host's name up with (RFC 6761 has localhost and invalid).
FILLERS = {"localdomain", "localdomain4", "localdomain6", "localhost", "invalid", "novalocal", "openstacklocal"}


def _domains_in_either_case(site: Site, _facts: dict[str, Any]) -> Found:
    """DNS, Postfix's maps and DKIM compare domains without case (RFC 4343)."""
    lists = [(key, list(enumerate(site[key]))) for key in ("domains", "signed_domains")]
    lists += [
        (f"{room}:domains", [(name, name) for name in site[room]["domains"]]) for room in ("delivery", "opendkim")
    ]
    lists.append(("routes", [(name, name) for name in site["routes"]]))
    for path, items in lists:
        first: dict[str, Any] = {}
        for key, domain in items:
            earlier = first.setdefault(domain.lower(), key)
            if earlier != key:
                yield f"{path}:{key}", domain, f"is the same domain as smtpout:{path}:{earlier}; remove one"


def _strange_domains(site: Site, facts: dict[str, Any]) -> Found:
    """What is said of a domain that isn't the site's would never be used."""
    delivered = {domain.lower() for domain in site["domains"]}
    signed = {domain.lower() for domain in site["signed_domains"]}
    relay = (site.get("hostname") or facts["grains"]["fqdn"]).lower()  # it has a key, and is no mail domain
    hints = HINTS
    for room, own in (("delivery", delivered), ("opendkim", delivered | signed)):
        for domain in site[room]["domains"]:
            if domain.lower() not in own and (room, domain.lower()) != ("opendkim", relay):
                near = difflib.get_close_matches(domain.lower(), own, 1) if hints else []
                hints = max(hints - 1, 0)
                hint = f"; did you mean {near[0]}?" if near else ""
                right = {
                    "delivery": "; where mail to others' domains goes is said in smtpout:routes",
                    "opendkim": ", or to smtpout:signed_domains where its mail is delivered elsewhere",
                }[room]
                yield (
                    f"{room}:domains:{domain}",
                    domain,
                    f"is not one of smtpout:domains; add it there or remove it here{right}{hint}",
                )


def _signed_elsewhere(site: Site, _facts: dict[str, Any]) -> Found:
    """The site's own domains are signed for anyway, and delivered here."""
    own = {domain.lower() for domain in site["domains"]}
    for index, domain in enumerate(site["signed_domains"]):
        if domain.lower() in own:
            yield (
                f"signed_domains:{index}",
                domain,
                "is one of smtpout:domains, which are signed for, too; remove one",
            )


def _hostname(site: Site, facts: dict[str, Any]) -> Found:
    """A greeting needs a qualified name (RFC 5321, 4.1.1.1); mail to the relay's own name stays on it."""
    name = site.get("hostname") or facts["grains"]["fqdn"]
    filler = name.lower().rpartition(".")[2] in FILLERS
    if formats.problem("domain", name) is not None:
        yield "hostname", None, f"missing, and this minion's own name, {name}, is not fully qualified"
    elif filler and "hostname" not in site:
        yield "hostname", None, f"missing, and this minion's own name, {name}, is one that any host may have"
    elif filler:
        yield "hostname", name, "is a name that any host may have, and no receiver finds; right is the relay's in DNS"
    elif name.lower() in (domain.lower() for domain in site["domains"]):
        yield (
            "hostname",
            name,
            (
                "is one of smtpout:domains, whose mail would stay on the relay; right is a name below it such as "
                f"relay.{name}"
            ),
        )


def _led_elsewhere(site: Site, facts: dict[str, Any]) -> Found:
    """What others' domains have isn't the relay's to lead elsewhere, and no address leads to itself."""
    relay = (site.get("hostname") or facts["grains"]["fqdn"]).lower()
    own = {*(domain.lower() for domain in site["domains"]), relay}
    taken = {f"{name}@{domain}" for name in addresses.HAVE_TO_BE for domain in own}
    taken |= {f"{name}@{relay}" for name in addresses.OF_THE_RELAY}
    for number, address in enumerate(site["administrators"]):
        if address.lower() in taken:
            yield (
                f"administrators:{number}",
                address,
                "is one of those whose mail they get; right is somebody's mailbox",
            )
    first: dict[str, str] = {}
    for address, to in site["aliases"].items():
        path, earlier = f"aliases:{address}", first.setdefault(address.lower(), address)
        if address.rpartition("@")[2].lower() not in own:
            yield path, address, "is of none of smtpout:domains; mail to it isn't the relay's to lead away"
        elif earlier != address:
            yield path, address, f"is the same address as smtpout:aliases:{earlier}; remove one"
        elif [each.lower() for each in to] == [address.lower()]:
            yield path, address, "leads to itself; remove it"
        elif way := addresses.circle(site, address, taken):
            yield path, address, f"leads back to itself ({' to '.join(way)}); have it end at somebody"


RULES: list[Rule] = [
    (_led_elsewhere, ("hostname", "domains", "administrators", "aliases")),
    (_domains_in_either_case, ("domains", "signed_domains", "delivery:domains", "opendkim:domains", "routes")),
    (_strange_domains, ("hostname", "domains", "signed_domains", "delivery:domains", "opendkim:domains")),
    (_signed_elsewhere, ("domains", "signed_domains")),
    (_hostname, ("hostname", "domains")),
]
