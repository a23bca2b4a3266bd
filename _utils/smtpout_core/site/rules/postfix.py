"""Rules between keys of the site pillar that Postfix alone knows; the package says what rules are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from smtpout_core.site import map_format
from smtpout_core.site.rules.finding import Found, Rule, Site

# What Postfix takes for "no such file" or "no", in main.cf's words and in YAML's.
NOTHING = (None, "", "none")
YES = (True, "yes")

# Services that can be left out; without any other of the stock ones, mail stands still while port 25 still greets.
SPARE = {"submission/inet", "465/inet", "flush/unix", "virtual/unix", "lmtp/unix", "verify/unix", "discard/unix"}

PORTS = {"smtp": "25", "submission": "587", "submissions": "465", "smtps": "465"}

# One of these ends smtpd_relay_restrictions, or smtpd refuses to serve (postconf(5)).
REFUSING = {"reject", "reject_unauth_destination", "defer", "defer_if_permit", "defer_unauth_destination"}

# A domain in one of these is delivered here, instead of to the delivery layer.
LOCAL = ("mydestination", "virtual_alias_domains", "virtual_mailbox_domains")

# Certificates that aren't in smtpd_tls_chain_files.
CERTIFICATES = ("smtpd_tls_cert_file", "smtpd_tls_eccert_file", "smtpd_tls_dcert_file")

# Files and directories of Postfix's own beside the maps.
TAKEN = {"postfix-files", "postfix-script", "post-install", "sasl", "tls"}
# Maps that the formula makes, and of which keys.
MADE = {"own_domains": "smtpout:domains", "transport_maps": "smtpout:delivery"}


def _main(*parameters: str) -> tuple[str, ...]:
    return tuple(f"postfix:main:{name}" for name in parameters)


def _certificate(site: Site, _facts: dict[str, Any]) -> Found:
    """Where TLS is required, there has to be a certificate: the site's own, or the one that is made."""
    main = site["postfix"]["main"]
    required = [
        *(["smtpout:authentication:submission"] if site["authentication"]["submission"] else []),
        *(["smtpd_tls_security_level"] if main.get("smtpd_tls_security_level") == "encrypt" else []),
    ]
    if required and not _has_certificate(main):
        yield (
            "postfix:main:smtpd_tls_chain_files",
            None,
            (
                f"removed, and {' and '.join(required)} wants TLS; leave this key out, and smtpout:tls:chain_file or a "
                "self-made certificate is used"
            ),
        )


def _has_certificate(main: dict[str, Any]) -> bool:
    chain = main.get("smtpd_tls_chain_files", True)
    return chain not in NOTHING or any(main.get(other) not in NOTHING for other in CERTIFICATES)


def _logins(site: Site, _facts: dict[str, Any]) -> Found:
    """Users need one way to log in, and one key says whether it may be in clear text."""
    main, clear = site["postfix"]["main"], site["authentication"]["clear_text_on_25"]
    level = main.get("smtpd_tls_security_level", "may")
    if level not in (*NOTHING, "may", "encrypt"):
        yield "postfix:main:smtpd_tls_security_level", level, "is not one of none, may, encrypt"
    if "smtpd_tls_auth_only" in main and (main["smtpd_tls_auth_only"] in YES) == clear:
        yield (
            "postfix:main:smtpd_tls_auth_only",
            main["smtpd_tls_auth_only"],
            f"and smtpout:authentication:clear_text_on_25: {str(clear).lower()} don't go together; remove this key",
        )
    if not site["authentication"]["submission"] and not clear and (level in NOTHING or not _has_certificate(main)):
        yield (
            "authentication:submission",
            False,
            (
                "leaves port 25 only, on which passwords are asked for under TLS and smtpout:postfix:main turns TLS "
                "off: nobody could log in"
            ),
        )


def _greeting(site: Site, facts: dict[str, Any]) -> Found:
    """The greeting begins with the host's name (RFC 5321, 4.2)."""
    main = site["postfix"]["main"]
    names = ("$myhostname", "${myhostname}", "$(myhostname)", site.get("hostname") or facts["grains"]["fqdn"])
    banner = main.get("smtpd_banner")
    if banner is not None and not str(banner).startswith(names):
        yield "postfix:main:smtpd_banner", banner, "does not begin with $myhostname (RFC 5321, 4.2)"


def _relaying(site: Site, _facts: dict[str, Any]) -> Found:
    """What is neither for the site nor from it has to be refused."""
    written = site["postfix"]["main"].get("smtpd_relay_restrictions")
    words = re.split(r"[\s,]+", str(written)) if written is not None else ["reject"]
    end = next((index for index, word in enumerate(words) if word in REFUSING), len(words))
    if end == len(words) or "permit" in words[:end]:
        yield (
            "postfix:main:smtpd_relay_restrictions",
            written,
            "lets anyone relay, or nobody connect; right is reject_unauth_destination at its end",
        )


def _local_domains(site: Site, _facts: dict[str, Any]) -> Found:
    own = {domain.lower() for domain in site["domains"]}
    for parameter in LOCAL:
        words = re.split(r"[\s,]+", str(site["postfix"]["main"].get(parameter)).lower())
        for domain in sorted(own.intersection(words)):
            yield (
                f"postfix:main:{parameter}",
                domain,
                "is one of smtpout:domains, whose mail would stay here instead of going to smtpout:delivery",
            )


def _filters(site: Site, _facts: dict[str, Any]) -> Found:
    """Mail passes each milter that is on; what turns one off is its own key."""
    main = site["postfix"]["main"]
    on = [room for room in ("clamav", "opendkim") if site[room]["enabled"]]
    if on and main.get("smtpd_milters", True) in NOTHING:
        keys = " and ".join(f"smtpout:{room}:enabled" for room in on)
        yield "postfix:main:smtpd_milters", None, f"empty, and {keys} is true: mail would pass by; set that to false"


def _mailboxes(site: Site, _facts: dict[str, Any]) -> Found:
    """local(8) refuses to run with a mailbox smaller than a message."""
    main = site["postfix"]["main"]
    mailbox, message = (str(main.get(name)) for name in ("mailbox_size_limit", "message_size_limit"))
    limit = int(message) if message.isascii() and message.isdigit() else 26214400
    if mailbox.isascii() and mailbox.isdigit() and 0 < int(mailbox) < limit:
        yield "postfix:main:mailbox_size_limit", int(mailbox), f"is below message_size_limit, {limit}: local(8) stops"


def _names(site: Site, facts: dict[str, Any]) -> set[str]:
    """Return the services that master.cf has."""
    own = site["postfix"]["master"]
    stock = set(facts["services"])
    if not site["authentication"]["submission"]:
        stock -= {"submission/inet", "465/inet"}
    return (stock | own.keys()) - {name for name, service in own.items() if service is None}


def _services(site: Site, facts: dict[str, Any]) -> Found:
    for name, service in site["postfix"]["master"].items():
        if service is None:
            if name in facts["services"] and name not in SPARE:
                yield f"postfix:master:{name}", None, "removed, and Postfix needs it"
        elif name not in facts["services"] and "command" not in service:
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
    for name in sorted(_names(site, facts), key=lambda name: name not in facts["services"]):
        if not name.endswith("/inet"):
            continue
        host, _, service = name.removesuffix("/inet").rpartition(":")
        port = PORTS.get(service, service)
        if port in taken:
            yield _own(site, name), None, f"port {port} is taken by {taken[port]}; choose another"
        elif port in everywhere or f"{host}:{port}" in everywhere:
            other = everywhere.get(port) or everywhere[f"{host}:{port}"]
            yield _own(site, name), None, f"port {port} is taken by the service {other}; choose another"
        everywhere[f"{host}:{port}" if host else port] = name


def _own(site: Site, name: str) -> str:
    """Return the key that a service comes from."""
    return f"postfix:master:{name}" if name in site["postfix"]["master"] else "authentication:submission"


def _nexthops(site: Site, facts: dict[str, Any]) -> Found:
    """Mail has to leave: by a transport that is there, to another host."""
    names = _names(site, facts)
    grains = facts["grains"]
    own = {"localhost", "127.0.0.1", "::1", str(site.get("hostname", "")).lower(), str(grains.get("fqdn")).lower()}
    own |= {address.lower() for family in ("ipv4", "ipv6") for address in grains.get(family, [])}
    ports = {PORTS.get(name[:-5].rpartition(":")[2], name[:-5].rpartition(":")[2]) for name in names if "/inet" in name}
    written = {"delivery:nexthop": site["delivery"]["nexthop"]}
    written |= {f"delivery:domains:{domain}": hop for domain, hop in site["delivery"]["domains"].items()}
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
            for host, port in _hosts(destinations):
                if host in own and PORTS.get(port, port) in ports:
                    yield path, nexthop, "is this relay itself: mail would go in circles; name the delivery layer"


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
        if name in TAKEN or name in MADE:
            right = f"{MADE[name]} makes it" if name in MADE else "Postfix has something of that name"
            yield f"postfix:maps:{name}", None, f"can't be a map of the site's: {right}"
        if table.get("type") in missing:
            yield f"postfix:maps:{name}:type", table["type"], f"this platform's Postfix has none; right is {stock}"
        told = map_format.render(table["entries"], table.get("type", indexed))["complaints"]
        for complaint in told:
            yield f"postfix:maps:{name}:entries", None, complaint


_TLS = ("authentication:submission", *_main("smtpd_tls_security_level", "smtpd_tls_chain_files", *CERTIFICATES))
_SOCKETS = ("clamav:enabled", "clamav:socket", "clamav:clamd_socket", "opendkim:enabled", "opendkim:socket")

RULES: list[Rule] = [
    (_certificate, _TLS),
    (_logins, (*_TLS, "authentication:clear_text_on_25", *_main("smtpd_tls_auth_only"))),
    (_greeting, ("hostname", *_main("smtpd_banner"))),
    (_relaying, _main("smtpd_relay_restrictions")),
    (_local_domains, ("domains", *_main(*LOCAL))),
    (_filters, ("clamav:enabled", "opendkim:enabled", *_main("smtpd_milters"))),
    (_mailboxes, _main("mailbox_size_limit", "message_size_limit")),
    (_services, ("postfix:master",)),
    (_ports, ("authentication:submission", "postfix:master", *_SOCKETS)),
    (_nexthops, ("hostname", "delivery", "authentication:submission", "postfix:master")),
    (_maps, ("postfix:maps", "postfix:map_type")),
]
