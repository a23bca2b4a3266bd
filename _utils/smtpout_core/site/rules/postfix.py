"""Rules between keys of the site pillar that Postfix alone knows; the package says what rules are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from smtpout_core.site import map_format, routes, services
from smtpout_core.site.rules.finding import Found, Rule, Site

# Services that can be left out; without any other of the stock ones, mail stands still while port 25 still greets.
SPARE = {"submission/inet", "465/inet", "flush/unix", "virtual/unix", "lmtp/unix", "verify/unix", "discard/unix"}

PORTS = {"smtp": "25", "submission": "587", "submissions": "465", "smtps": "465"}

# Files and directories of Postfix's own beside the maps.
TAKEN = {"postfix-files", "postfix-script", "post-install", "sasl", "tls"}
# Maps that the formula makes, and of which keys.
MADE = {
    "own_domains": "smtpout:domains",
    "transport_maps": "smtpout:delivery",
    "virtual_aliases": "smtpout:aliases",
    "ehlo_keywords": "smtpout:networks",
    "shared_addresses": "smtpout:shared_addresses",
    "tls_names": "smtpout:tls:names",
    "signed_domains": "smtpout:signed_domains",
    "route_tls": "smtpout:routes",
    "route_passwords": "smtpout:routes",
    "clients_senders": "smtpout:clients",
    "clients_outside": "smtpout:clients",
    "blocked_logins": "smtpout:blocked",
    "blocked_senders": "smtpout:blocked",
    "blocked_recipients": "smtpout:blocked",
    "blocked_clients": "smtpout:blocked",
}

# Parameters that Postfix doesn't look at beside another that main.cf has (postconf(5)), and what is to be set instead.
UNHEARD = {
    "smtpd_tls_chain_files": (
        ("cert_file", "key_file", "dcert_file", "dkey_file", "eccert_file", "eckey_file"),
        "smtpd_tls_",
        "set smtpout:tls:chain_file, a file with key and certificates",
    ),
    "smtpd_tls_security_level": (("use_tls", "enforce_tls"), "smtpd_", "set smtpd_tls_security_level"),
    "smtp_tls_security_level": (("use_tls", "enforce_tls"), "smtp_", "set smtp_tls_security_level"),
    "mynetworks": (("style",), "mynetworks_", "set smtpout:networks"),
}


def made_by(name: str) -> str:
    """Return the key that the formula makes a map of that name from; an empty text for a map of the site's own."""
    return "smtpout:clients" if re.fullmatch(r"clients_\d+", name) else MADE.get(name, "")


def port(service: str) -> str:
    """Return the port of a service of type inet, as master.cf has it: ``submission/inet``, ``192.0.2.1:25/inet``."""
    name = service.removesuffix("/inet").rpartition(":")[2]
    return PORTS.get(name, name)


def _main(*parameters: str) -> tuple[str, ...]:
    return tuple(f"postfix:main:{name}" for name in parameters)


def _greeting(site: Site, facts: dict[str, Any]) -> Found:
    """The greeting begins with the host's name (RFC 5321, 4.2)."""
    main = site["postfix"]["main"]
    names = ("$myhostname", "${myhostname}", "$(myhostname)", site.get("hostname") or facts["grains"]["fqdn"])
    banner = main.get("smtpd_banner")
    if banner is not None and not (isinstance(banner, str) and banner.startswith(names)):
        yield "postfix:main:smtpd_banner", banner, "does not begin with $myhostname (RFC 5321, 4.2)"


def _mailboxes(site: Site, _facts: dict[str, Any]) -> Found:
    """local(8) refuses to run with a mailbox smaller than a message."""
    main = site["postfix"]["main"]
    mailbox, message = (str(main.get(name)) for name in ("mailbox_size_limit", "message_size_limit"))
    limit = int(message) if message.isascii() and message.isdigit() else 26214400
    if mailbox.isascii() and mailbox.isdigit() and 0 < int(mailbox) < limit:
        yield "postfix:main:mailbox_size_limit", int(mailbox), f"is below message_size_limit, {limit}: local(8) stops"


def _unheard(site: Site, _facts: dict[str, Any]) -> Found:
    """What has no effect is not taken for what has."""
    main = site["postfix"]["main"]
    places: dict[str, Any] = {
        f"master:{name}:options": _options(own) for name, own in site["postfix"]["master"].items()
    }
    for place, given in {"main": main, **places}.items():
        for stronger, (weaker, before, right) in UNHEARD.items():
            if given.get(stronger, main.get(stronger, True)) in (None, ""):
                continue
            for name in weaker:
                if given.get(before + name) not in (None, ""):
                    yield (
                        f"postfix:{place}:{before}{name}",
                        given[before + name],
                        f"has no effect beside {stronger}; {right}",
                    )


def _options(service: Any) -> dict[str, Any]:
    return (service or {}).get("options") or {}


def _names(site: Site, facts: dict[str, Any]) -> set[str]:
    """Return the services that master.cf has."""
    own = site["postfix"]["master"]
    stock = services.stock(site, facts["services"]).keys()
    return (stock | own.keys()) - {name for name, service in own.items() if service is None}


def _services(site: Site, facts: dict[str, Any]) -> Found:
    old = services.of_old_devices(site)
    of_routes = {f"{routes.service(domain, route)}/unix" for domain, route in site["routes"].items()}
    known = {*facts["services"], *filter(None, [old]), *of_routes} - {services.OLD_DEVICES}
    for name, service in site["postfix"]["master"].items():
        if service is None:
            if name in known and name not in {*SPARE, old}:
                yield f"postfix:master:{name}", None, "removed, and Postfix needs it"
        elif name not in known and "command" not in service:
            yield f"postfix:master:{name}:command", None, "missing; name the daemon, such as smtpd"


def _ports(site: Site, facts: dict[str, Any]) -> Found:
    """One service a port."""
    taken: dict[str, str] = {}
    for room in ("clamav", "opendkim"):
        if site[room]["enabled"] and (inet := re.fullmatch(r"inet:(\d+)@.*", site[room].get("socket", ""))):
            taken[inet[1]] = f"smtpout:{room}:socket"
    if "clamd_socket" in site["clamav"]:
        taken[site["clamav"]["clamd_socket"].rpartition(":")[2]] = "smtpout:clamav:clamd_socket"
    everywhere: dict[str, str] = {}
    old = services.of_old_devices(site)
    for name in sorted(_names(site, facts), key=lambda name: (name not in facts["services"], name != old)):
        if not name.endswith("/inet"):
            continue
        host, number = name.removesuffix("/inet").rpartition(":")[0], port(name)
        if number in taken:
            yield _own(site, name), None, f"port {number} is taken by {taken[number]}; choose another"
        elif number in everywhere or f"{host}:{number}" in everywhere:
            other = everywhere.get(number) or everywhere[f"{host}:{number}"]
            yield _own(site, name), None, f"port {number} is taken by the service {other}; choose another"
        everywhere[f"{host}:{number}" if host else number] = name


def _own(site: Site, name: str) -> str:
    """Return the key that a service comes from."""
    if name in site["postfix"]["master"]:
        return f"postfix:master:{name}"
    return f"authentication:{'old_devices_port' if name == services.of_old_devices(site) else 'submission'}"


def _old_devices(site: Site, _facts: dict[str, Any]) -> Found:
    """What they get beside users is old TLS, and nothing else."""
    given = site["authentication"].get("old_devices_port")
    if given and not site["authentication"]["submission"]:
        yield "authentication:old_devices_port", given, "needs smtpout:authentication:submission, which is false"


def _nexthops(site: Site, facts: dict[str, Any]) -> Found:
    """Mail has to leave: by a transport that is there, to another host."""
    names = _names(site, facts)
    grains = facts["grains"]
    own = {"localhost", "127.0.0.1", "::1", str(site.get("hostname", "")).lower(), str(grains.get("fqdn")).lower()}
    own |= {address.lower() for family in ("ipv4", "ipv6") for address in grains.get(family, [])}
    ports = {port(name) for name in names if name.endswith("/inet")}
    written = {"delivery:nexthop": site["delivery"]["nexthop"]}
    written |= {f"delivery:domains:{domain}": hop for domain, hop in site["delivery"]["domains"].items()}
    elsewhere = site["routes"].items()
    written |= {f"routes:{domain}:nexthop": route["nexthop"] for domain, route in elsewhere if "nexthop" in route}
    for path, nexthop in written.items():
        bare = nexthop.startswith("[") or ":" not in nexthop
        transport, _, destinations = ("smtp", "", nexthop) if bare else nexthop.partition(":")
        if transport and f"{transport}/unix" not in names:
            yield (
                path,
                nexthop,
                (
                    f"wants the transport {transport}, which master.cf doesn't have; right is smtp:, or a service "
                    f"{transport}/unix in smtpout:postfix:master"
                ),
            )
        elif transport in {"", "smtp", "relay"}:
            for host, number in _hosts(destinations):
                if host in own and PORTS.get(number, number) in ports:
                    yield path, nexthop, "is this relay itself: mail would go in circles; name the server that takes it"


def _hosts(destinations: str) -> Iterator[tuple[str, str]]:
    for destination in re.split(r"[,\s]+", destinations):
        if parts := re.fullmatch(r"\[?(?:ipv6:)?([^\[\]]*?)\]?(?::([A-Za-z0-9-]+))?", destination.lower()):
            yield parts[1], parts[2] or "25"


def _maps(site: Site, facts: dict[str, Any]) -> Found:
    """What postmap would refuse is told with its path; values may be secret and are not shown."""
    stock, missing = facts["postfix"]["map_type"], facts["postfix"]["missing_map_types"]
    indexed = site["postfix"].get("map_type", stock)
    if indexed in missing:
        yield "postfix:map_type", indexed, f"this platform's Postfix has no such maps; right is {stock}"
    for name, table in site["postfix"]["maps"].items():
        if name in TAKEN or (maker := made_by(name)):
            right = "Postfix has something of that name" if name in TAKEN else f"{maker} makes it"
            yield f"postfix:maps:{name}", None, f"can't be a map of the site's: {right}"
        if table.get("type") in missing:
            yield f"postfix:maps:{name}:type", table["type"], f"this platform's Postfix has none; right is {stock}"
        told = map_format.render(table["entries"], table.get("type", indexed))["complaints"]
        for complaint in told:
            yield f"postfix:maps:{name}:entries", None, complaint


_SOCKETS = ("clamav:enabled", "clamav:socket", "clamav:clamd_socket", "opendkim:enabled", "opendkim:socket")

RULES: list[Rule] = [
    (_greeting, ("hostname", *_main("smtpd_banner"))),
    (_mailboxes, _main("mailbox_size_limit", "message_size_limit")),
    (_unheard, ("postfix:main", "postfix:master")),
    (_services, ("authentication", "routes", "postfix:master")),
    (_ports, ("authentication", "privacy", "directory:senders", "postfix:master", *_SOCKETS)),
    (_old_devices, ("authentication",)),
    (
        _nexthops,
        ("hostname", "delivery", "routes", "authentication", "privacy", "directory:senders", "postfix:master"),
    ),
    (_maps, ("postfix:maps", "postfix:map_type")),
]
