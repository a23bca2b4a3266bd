"""What follows from a site that is right and from its platform: paths, searches, keys, the milter chain, maps.

Here it is derived once, for every template and state; :mod:`smtpout_core.site.settings` is who asks.
"""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from smtpout_core.site import addresses, blocked, clients, limits, map_format, proxy, routes, searches, shown
from smtpout_core.site import services as services_of

# No ::ffff:127.0.0.0/104: an IPv4-mapped client is an IPv4 one to Postfix and OpenDKIM (smtpd_peer.c of Postfix).
LOOPBACK = ["127.0.0.0/8", "::1/128"]

# OpenDKIM's options for scripts; a site that has its own there does without the formula's.
SCRIPTS = {"setuppolicyscript", "finalpolicyscript"}

# What a stranger who writes from one of the site's domains is told (access(5)).
STRANGER = "REJECT log in to send from this domain"


def merged(base: Any, over: Any) -> Any:
    """Return a copy of ``base`` with ``over`` laid over it: dictionaries merge, anything else replaces."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return copy.deepcopy(over)
    return {
        **copy.deepcopy(base),
        **{key: merged(base.get(key), value) for key, value in over.items()},
    }


def derived(
    site: dict[str, Any], facts: dict[str, Any], services: dict[str, Any], grains: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a site merged with its platform's facts and with what follows from both.

    :param site: what stands below ``smtpout`` over the schema's defaults, and is right.
    :param facts: those of the platform, from ``platforms.yaml``, and its name as ``platform``.
    :param services: the stock services of master.cf, from ``postfix/master.yaml``.
    :param grains: the minion's.
    """
    site = _in_one_form(site)
    site["watch"]["enabled"] &= "python" in facts["watch"]
    made = merged(facts, site)
    made.setdefault("repositories", [])
    made["hostname"] = site.get("hostname") or grains["fqdn"]
    made["directory"] |= searches.derived(site["directory"]) | {"authorities": _authorities(made)}
    made["directory"] |= {"named_filter": blocked.named_filter(made["directory"])}
    made["directory"] |= {"blocked_filter": blocked.account_filter(made["directory"], site["blocked"]["logins"])}
    made["haproxy"] |= proxy.derived(site, facts, made["postfix"]["trust_store"])
    made["directory"]["reached"] = proxy.reached(site["directory"], made["haproxy"]["enabled"])
    made["saslauthd"]["socket"] = f"{made['saslauthd']['socket_directory']}/mux"
    made["saslauthd"]["asked_at"] = proxy.LOGINS if made["haproxy"]["enabled"] else made["saslauthd"]["socket"]
    made["opendkim"] |= _signing(site, made["opendkim"], made["hostname"])
    made["opendkim"]["judges_null_sender"] = bool(
        made["opendkim"]["enabled"] and made["opendkim"]["judges_authors"] and made["directory"]["address_attributes"]
    )
    made["opendkim"].setdefault("nameservers", grains.get("dns", {}).get("nameservers", []))
    made["saslauthd"]["defaults"] = _login_settings(made["saslauthd"])
    made["clamav"] |= _scanning(site, facts["clamav"])
    made["milters"] = _milters(made)
    made["limits"] |= limits.derived(site["limits"], site["clients"])
    made["postfix"] |= _relaying(site, made, services, facts["postfix"])
    made["postfix"]["restrictions"] = blocked.restrictions(made["postfix"], made["hostname"])
    made["dns"]["addresses"] = _seen_by_receivers(site)
    made["firewall"]["services"] = _let_in(facts["firewall"]["services"], made["postfix"]["services"])
    made["selinux"] |= _labelled(made, grains)
    made["packages"] = _packages(site, made)
    return made


def _packages(site: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """Return the distribution's packages: of each room that is not switched off, and of the types of map in use."""
    rooms = [room for room in made.values() if isinstance(room, dict) and "packages" in room]
    used = [room for room in rooms if room.get("enabled", True) and room.get("active", True)]
    kinds = [site["postfix"].get("map_type"), *(table.get("type") for table in site["postfix"]["maps"].values())]
    of_maps = made["postfix"]["map_packages"]
    return sorted(
        {name for room in used for name in room["packages"]}
        | {name for kind in kinds for name in of_maps.get(kind, [])}
    )


def _in_one_form(site: dict[str, Any]) -> dict[str, Any]:
    """Return the site with its domains and networks in the one form in which every daemon compares them.

    Domains in lower case (RFC 4343). Networks as RFC 5952 has them: Postfix compares numbers, OpenDKIM texts.
    """
    for key in ("domains", "signed_domains"):
        site[key] = list(dict.fromkeys(domain.lower() for domain in site[key]))
    for room in ("delivery", "opendkim"):
        site[room]["domains"] = {domain.lower(): own for domain, own in site[room]["domains"].items()}
    site["tls"]["names"] = {name.lower(): own for name, own in site["tls"]["names"].items()}
    site["routes"] = {domain.lower(): own for domain, own in site["routes"].items()}
    site["networks"] = list(dict.fromkeys(map(_network, site["networks"])))
    site["clients"] = clients.made(
        [{**each, "networks": list(map(_network, each["networks"]))} for each in site["clients"]]
    )
    site["blocked"]["clients"] = list(dict.fromkeys(map(_network, site["blocked"]["clients"])))
    site["opendkim"]["trusted_hosts"] = [_network(host) for host in site["opendkim"]["trusted_hosts"]]
    return site


def _network(written: str) -> str:
    """Return a network or an address; a host's name in lower case."""
    try:
        return str(ipaddress.ip_network(written) if "/" in written else ipaddress.ip_address(written))
    except ValueError:
        return written.lower()


def _authorities(made: dict[str, Any]) -> list[str]:
    """Return the files of authorities that the directory's certificates are checked with; none without TLS."""
    directory = made["directory"]
    if not (directory["start_tls"] or any(server.startswith("ldaps:") for server in directory["servers"])):
        return []
    return [directory.get("ca_file", made["postfix"]["trust_store"])]


def _signing(site: dict[str, Any], opendkim: dict[str, Any], relay: str) -> dict[str, Any]:
    """Return the signing keys, one a domain, those that a domain may sign with later, and whose mail is signed.

    What the relay itself writes has its own name in From:. The key of a domain above it is aligned with that (RFC 7489,
    3.1.1); where no domain of the site is, the name has a key of its own. Which of a domain's keys signs in truth is
    remembered by the relay (:mod:`smtpout_core.stages`); without that, the first.
    """
    directory = opendkim["directory"]
    above = max((domain for domain in site["domains"] if relay.lower().endswith(f".{domain}")), key=len, default="")
    of_clients = [network for each in site["clients"] for network in each["networks"]]
    keys = []
    for domain in (*site["domains"], *site["signed_domains"], *([] if above else [relay.lower()])):
        own = opendkim["domains"].get(domain, {})
        keys.append(
            [
                {
                    "domain": domain,
                    "selector": each["name"],
                    "path": own.get("key_file", f"{directory}/keys/{domain}.{each['name']}.private"),
                    "from_pillar": "private_key" in own,
                    "signs": [domain, *([relay.lower()] if domain == above else [])],
                    "most": each["stage"],
                    "given": "key_file" in own or "private_key" in own,
                    "by_hand": any(name in own for name in ("selectors", "key_file", "private_key")),
                }
                for each in _selectors(own, opendkim["selector"])
            ]
        )
    first = [of_one[0] for of_one in keys]
    return {
        "signing_keys": first,
        "keys": first,
        "wanted_keys": [key for of_one in keys for key in of_one],
        "keys_directory": f"{directory}/keys",
        "retire_days": max(opendkim["retire_days"], _days(site["postfix"]["main"].get("maximal_queue_lifetime"))),
        "private_keys": {d: own["private_key"] for d, own in opendkim["domains"].items() if "private_key" in own},
        "hosts": list(dict.fromkeys([*LOOPBACK, *site["networks"], *of_clients, *opendkim["trusted_hosts"]])),
        "key_table": f"{directory}/KeyTable",
        "signing_table": f"{directory}/SigningTable",
        "hosts_file": f"{directory}/TrustedHosts",
        "authors": f"{directory}/authors.lua",
        "judges_authors": opendkim["lua"]
        and site["directory"]["senders"] != "any"
        and not SCRIPTS & {name.lower() for name in opendkim["options"]},
    }


def _selectors(own: Mapping[str, Any], of_all: str) -> list[dict[str, str]]:
    """Return a domain's selectors, the one that is to sign first; ``stage`` is how far each may go."""
    given = own.get("selectors") or [own.get("selector", of_all)]
    return [{"stage": "active", **(each if isinstance(each, dict) else {"name": each})} for each in given]


def _days(given: Any) -> int:
    """Return a time of Postfix's whose unit is days where it has none (postconf(5)), rounded up; 0 where it is none."""
    found = re.fullmatch(r"(\d{1,9})([smhdw]?)", str(given).strip())
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2] or "d"] if found else 0
    return -(-int(found[1]) * unit // 86400) if found else 0


def _seen_by_receivers(site: dict[str, Any]) -> list[str]:
    """Return the addresses that the pillar has for receivers to see, be it as what Postfix binds to (postconf(5))."""
    bound = (site["postfix"]["main"].get(name) for name in ("smtp_bind_address", "smtp_bind_address6"))
    found = site["dns"]["addresses"] or [each.strip(" []") for each in bound if isinstance(each, str)]
    return list(dict.fromkeys(str(ipaddress.ip_address(each)) for each in found if proxy.is_address(each)))


def _login_settings(saslauthd: dict[str, Any]) -> dict[str, str]:
    """Return what saslauthd's settings file says, in the platform's variables.

    ``-r`` hands the login over whole, with the part after the @ (LDAP_SASLAUTHD, %u).
    """
    seconds = saslauthd["cache_seconds"]
    known = {
        "directory": saslauthd["socket_directory"],
        "flags": f"-r -c -t {seconds}" if seconds else "-r",
        "processes": saslauthd["processes"],
    }
    return {name: value.format(**known) for name, value in saslauthd["defaults"].items()}


def _scanning(site: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the scanner's daemons, facts kept apart from the site's own options for each."""
    clamav = site["clamav"]
    daemons = {daemon: {**facts[daemon], "options": clamav[daemon]} for daemon in ("clamd", "milter", "freshclam")}
    sockets = [facts["clamd"]["socket_unit"]] if "socket_unit" in facts["clamd"] else []
    daemons["clamd"]["units"] = [*sockets, f"{facts['clamd']['service']}.service"]
    return {
        **daemons,
        "socket": clamav.get("socket", facts["milter"]["socket"]),
        "clamd_socket": clamav.get("clamd_socket", f"unix:{facts['clamd']['socket']}"),
    }


def _milters(made: dict[str, Any]) -> list[dict[str, str]]:
    """Return the milter chain in its order: what a virus scanner would change must not be signed yet.

    ``socket`` is what Postfix connects to (MILTER_README: unix:path or inet:host:port), for which its user has to be in
    ``group``; ``action`` is what Postfix does when the milter doesn't answer, and ``unit`` where to look then.
    """
    scan_failure = {"Accept": "accept", "Reject": "reject"}.get(made["clamav"]["on_fail"], "tempfail")
    chain = [
        ("clamav", made["clamav"], made["clamav"]["milter"], scan_failure),
        ("opendkim", made["opendkim"], made["opendkim"], made["opendkim"]["on_fail"]),
    ]
    return [
        {
            "name": name,
            "socket": _postfix_socket(room["socket"]),
            "action": action,
            "unit": daemon["service"],
            "group": daemon["group"],
        }
        for name, room, daemon, action in chain
        if room["enabled"]
    ]


def _let_in(ports: dict[str, int], services: dict[str, Any]) -> dict[str, int]:
    """Return what clients come in by: of the firewall's services, with their ports, those that Postfix serves.

    A service that the site's pillar adds may be for the relay itself, or for a content filter: it isn't let in.
    Nor is the one for devices with old TLS, which is for their network alone.
    """
    stock = {"smtp": "smtp/inet", "smtps": "465/inet", "smtp-submission": "submission/inet"}
    return {name: port for name, port in ports.items() if stock[name] in services}


def _labelled(made: dict[str, Any], grains: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether SELinux is to be told something, and what: types of files by path, and of TCP ports."""
    selinux, clamav, opendkim = made["selinux"], made["clamav"], made["opendkim"]
    running = grains.get("selinux", {}).get("enabled", False)
    if not (running and selinux["managed"] and "packages" in selinux):
        return {"active": False}
    aliases = map_format.files(made["postfix"]["aliases"], made["postfix"]["map_type"])
    blocks = map_format.files(made["postfix"]["blocked"]["table"], made["postfix"]["blocked"]["type"])
    labels = dict.fromkeys([*aliases, *blocks], selinux["aliases_label"])
    ports = {}
    if opendkim["enabled"]:
        labels |= {key["path"]: selinux["dkim_key_label"] for key in opendkim["signing_keys"]}
        if match := re.match(r"inet:(\d+)@", opendkim["socket"]):
            ports[match[1]] = selinux["opendkim_port_label"]
    if clamav["enabled"] and clamav["clamd_socket"].startswith("tcp:"):
        ports[clamav["clamd_socket"].rpartition(":")[2]] = selinux["clamd_port_label"]
    if "old_devices_port" in made["authentication"]:
        ports[str(made["authentication"]["old_devices_port"])] = selinux["smtp_port_label"]
    return {"active": True, "labels": labels, "ports": ports}


def _postfix_socket(socket: str) -> str:
    """Return a milter's own ``inet:port@host`` as Postfix says it, ``inet:host:port``."""
    if match := re.fullmatch(r"inet:(\d+)@(.+)", socket):
        host = {"localhost": "127.0.0.1"}.get(match[2], match[2])
        return f"inet:{host}:{match[1]}"
    return socket


def _postfix_network(network: str) -> str:
    """Return a network as mynetworks has it: an IPv6 address stands in brackets, or it would be a table's name."""
    address, slash, length = network.partition("/")
    return f"[{address}]{slash}{length}" if ":" in address else network


def _relaying(
    site: dict[str, Any], made: dict[str, Any], stock: dict[str, Any], platform: dict[str, Any]
) -> dict[str, Any]:
    """Return what Postfix alone needs: paths, services and maps."""
    postfix = made["postfix"]
    directory, indexed = postfix["directory"], postfix["map_type"]
    services = merged(services_of.stock(site, stock), postfix["master"])
    of_routes = routes.services(site["routes"], services)
    services |= {name: merged(service, services.get(name, {})) for name, service in of_routes.items()}
    delivery = site["delivery"]
    own = {
        form: routes.with_transport(delivery["domains"].get(domain, delivery["nexthop"]))
        for domain in site["domains"]
        for form in routes.forms(domain)
    }
    elsewhere = routes.made(site["routes"])
    route_tables = routes.tables(elsewhere, site["routes"], (made["hostname"], f"localhost.{site['domains'][0]}"))
    tables: dict[str, dict[str, str]] = {
        "own_domains": dict.fromkeys(own, STRANGER),
        "transport_maps": route_tables.pop("transports") | own,
        "virtual_aliases": addresses.aliases(site),
        "ehlo_keywords": shown.unmentioned(site, postfix, [*LOOPBACK, *site["networks"]]),
        **route_tables,
    }
    if site["signed_domains"]:
        tables["signed_domains"] = {form: "OK" for domain in site["signed_domains"] for form in routes.forms(domain)}
    if site["shared_addresses"]:
        tables["shared_addresses"] = addresses.shared(site)
    maps = [
        {
            "name": name,
            "type": "cidr" if name == "ehlo_keywords" else indexed,
            "entries": entries,
            "secret": name == routes.PASSWORDS,
        }
        for name, entries in tables.items()
    ]
    others = [*clients.tables(site["clients"]), *blocked.tables(site["blocked"])]
    maps += [{"type": indexed, "secret": False, **table} for table in others]
    for name, table in site["postfix"]["maps"].items():
        maps.append({"name": name, "type": indexed, "secret": False, **table})
    given = f"{directory}/tls/given.pem" if "chain" in site["tls"] else postfix["certificate"]
    chain = site["tls"].get("chain_file", given)
    slug = re.sub(r"[^a-z0-9]+", "-", site["organisation"].lower()).strip("-")
    return {
        "maps": {table["name"]: {**table, "path": f"{directory}/{table['name']}"} for table in maps},
        "services": {name: service for name, service in services.items() if service is not None},
        "routes": elsewhere,
        "smart_host": routes.smart_host(elsewhere),
        "route_limits": routes.limits(site["routes"]),
        "recipient_map": f"{directory}/people-{slug}.ldap",
        "sender_map": f"{directory}/senders-{slug}.ldap",
        "group_map": f"{directory}/groups-{slug}.ldap",
        "member_map": f"{directory}/members-{slug}.ldap",
        "delegating_map": f"{directory}/delegating-{slug}.ldap",
        "delegate_map": f"{directory}/delegates-{slug}.ldap",
        "delegate_first": f"{directory}/delegates-first.regexp",
        "delegate_others": f"{directory}/delegates-others.regexp",
        "sender_names": f"{directory}/senders-{slug}.regexp",
        "address_map": f"{directory}/addresses-{slug}.ldap",
        "address_header": f"{directory}/addresses.regexp",
        "directory_map": f"{directory}/directory-{slug}.ldap",
        "users_header_checks": (
            shown.users_header_checks(site, f"{directory}/privacy.regexp", f"{directory}/authors.regexp")
            if services_of.looks_at_users(site)
            else {}
        ),
        "authors": f"{directory}/authors.regexp",
        "scanned": f"{directory}/scanned.regexp",
        "privacy": f"{directory}/privacy.regexp",
        "postmaster_map": f"{directory}/postmasters-{slug}.ldap",
        "postmaster_names": f"{directory}/postmasters.regexp",
        "postmaster_domains": f"{directory}/postmaster-domains.regexp",
        "trusted_networks": [_postfix_network(network) for network in dict.fromkeys([*LOOPBACK, *site["networks"]])],
        "certificate_chain": chain,
        # Of what main.cf and the directory's maps name: processes read these once, when they start.
        "read_files": list(dict.fromkeys([chain, postfix["trust_store"], *made["directory"]["authorities"]])),
        "self_made_certificate": not site["tls"].keys() & {"chain_file", "chain"},
        "names_map": f"{directory}/tls_names",
        "blocked": blocked.facts(site, made["directory"], platform, slug),
        "groups": [made["saslauthd"]["group"], *(milter["group"] for milter in made["milters"])],
    }
