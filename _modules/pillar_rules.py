"""Rules between keys of the site pillar: what is wrong with a site although each of its values is right by itself.

Each rule keeps an outage, an open relay or a silent hole from being applied. What a single key takes is said in
``smtpout/schema.yaml``; the rules on what Postfix alone knows are in ``pillar_rules_postfix``.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# Below smtpout: the path, the value (None: nothing to show), what is wrong with it and what would be right.
Found = Iterator[tuple[str, Any, str]]
Site = dict[str, Any]

MASKED = "(secret)"

# saslauthd's lak.c cuts the list of servers there.
SERVER_BYTES = 1023

# An option that would part a daemon from those that are configured to reach it, and the key that tells them all.
ELSEWHERE: dict[str, dict[str, str | None]] = {
    "opendkim:options": {
        "socket": "smtpout:opendkim:socket",
        "keytable": "smtpout:opendkim:domains",
        "signingtable": "smtpout:opendkim:domains",
        "userid": None,
    },
    "clamav:milter": {"miltersocket": "smtpout:clamav:socket", "clamdsocket": "smtpout:clamav:clamd_socket"},
    "clamav:clamd": {
        "localsocket": None,
        "tcpsocket": "smtpout:clamav:clamd_socket",
        "tcpaddr": "smtpout:clamav:clamd_socket",
        "user": None,
        "databasedirectory": None,
    },
    "clamav:freshclam": {"databasedirectory": None},
    "postfix:main": {"myhostname": "smtpout:hostname"},
}


def problems(site: Site, facts: dict[str, Any], broken: list[str]) -> list[dict[str, str | None]]:
    """Return what is wrong between keys of a site, in the form of ``pillar_schema.problems``.

    CLI Example: none, since only ``smtpout.settings`` has the facts at hand.

    site
        The pillar's ``smtpout``, laid over the schema's defaults.
    facts
        The platform's facts, and as ``services`` those of the stock master.cf.
    broken
        Paths at which the schema has found something: a rule that reads what is there, above or below, is left out,
        since it can't judge it. Of a key that ends in a colon it takes the items as they come, right or wrong.
    """
    found = []
    for rule, reads in [*RULES, *__salt__["pillar_rules_postfix.known"]()]:
        if not any(_touches(f"smtpout:{key}", path) for key in reads for path in broken):
            for path, value, message in rule(site, facts):
                shown = value if value is None or value == MASKED else __salt__["pillar_schema.shown"](value)
                found.append({"path": f"smtpout:{path}", "value": shown, "message": message})
    return found


def _touches(one: str, other: str) -> bool:
    return f"{one}:".startswith(f"{other}:") or f"{other}:".startswith(f"{one}:")


def _domains_in_either_case(site: Site, _facts: dict[str, Any]) -> Found:
    """DNS, Postfix's maps and DKIM compare domains without case (RFC 4343)."""
    lists = [("domains", list(enumerate(site["domains"])))]
    lists += [
        (f"{room}:domains", [(name, name) for name in site[room]["domains"]]) for room in ("delivery", "opendkim")
    ]
    for path, items in lists:
        first: dict[str, Any] = {}
        for key, domain in items:
            earlier = first.setdefault(domain.lower(), key)
            if earlier != key:
                yield f"{path}:{key}", domain, f"is the same domain as smtpout:{path}:{earlier}; remove one"


def _strange_domains(site: Site, _facts: dict[str, Any]) -> Found:
    """What is said of a domain that isn't the site's would never be used."""
    own = {domain.lower() for domain in site["domains"]}
    for room in ("delivery", "opendkim"):
        for domain in site[room]["domains"]:
            if domain.lower() not in own:
                near = difflib.get_close_matches(domain.lower(), own, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield (
                    f"{room}:domains:{domain}",
                    domain,
                    f"is not one of smtpout:domains; add it there or remove it here{hint}",
                )


def _wide_networks(site: Site, _facts: dict[str, Any]) -> Found:
    """Who is in these networks relays, or has mail signed, without logging in."""
    named = [(f"networks:{index}", network) for index, network in enumerate(site["networks"])]
    named += [(f"opendkim:trusted_hosts:{index}", host) for index, host in enumerate(site["opendkim"]["trusted_hosts"])]
    written = site["postfix"]["main"].get("mynetworks")
    named += [("postfix:main:mynetworks", word) for word in re.split(r"[\s,]+", str(written))]
    alone = False
    for path, text in named:
        network = _network(text)
        if network and _is_wide(network):
            alone = True
            yield path, text, f"holds {network.num_addresses:.1e} addresses: {_STRANGERS}"
    if not alone:
        for wide in _wide_together(filter(None, map(_network, site["networks"]))):
            yield "networks", None, f"together they hold {wide}: {_STRANGERS}"


_STRANGERS = "strangers could send as the site; name the site's own networks"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: object) -> _Network | None:
    try:
        return ipaddress.ip_network(re.sub(r"[\[\]]", "", str(text)), strict=False)
    except ValueError:
        return None


def _is_wide(network: _Network) -> bool:
    """The widest private networks are 10.0.0.0/8 (RFC 1918), fc00::/7 (RFC 4193) and fe80::/10 (RFC 4291)."""
    if isinstance(network, ipaddress.IPv4Network):
        return network.prefixlen < 8
    private = any(network.subnet_of(ipaddress.IPv6Network(own)) for own in ("fc00::/7", "fe80::/10"))
    return network.prefixlen < 19 and not private


def _wide_together(networks: Iterable[_Network]) -> Iterator[_Network]:
    by_version: dict[int, list[Any]] = {4: [], 6: []}
    for network in networks:
        by_version[network.version].append(network)
    for one_version in by_version.values():
        yield from filter(_is_wide, ipaddress.collapse_addresses(one_version))


def _hostname(site: Site, _facts: dict[str, Any]) -> Found:
    """A greeting needs a qualified name (RFC 5321, 4.1.1.1); mail to the relay's own name stays on it."""
    name = site.get("hostname") or __grains__["fqdn"]
    if __salt__["pillar_formats.problem"]("domain", name) is not None:
        yield "hostname", None, f"missing, and this minion's own name, {name}, is not fully qualified"
    elif name.lower() in (domain.lower() for domain in site["domains"]):
        yield (
            "hostname",
            name,
            (
                "is one of smtpout:domains, whose mail would stay on the relay; right is a name below it such as "
                f"relay.{name}"
            ),
        )


def _encryption(site: Site, _facts: dict[str, Any]) -> Found:
    """What the site believes to be encrypted has to be."""
    directory = site["directory"]
    schemes = [server.partition(":")[0].lower() for server in directory["servers"]]
    for index, scheme in enumerate(schemes):
        if directory["start_tls"] and scheme != "ldap":
            yield (
                f"directory:servers:{index}",
                directory["servers"][index],
                (
                    "and smtpout:directory:start_tls don't go together: STARTTLS is for ldap://; set that to false "
                    "or write ldap://"
                ),
            )
        elif "ca_file" in directory and scheme == "ldap" and not directory["start_tls"]:
            yield (
                f"directory:servers:{index}",
                directory["servers"][index],
                (
                    "is not encrypted, although smtpout:directory:ca_file is there; write ldaps:// or set "
                    "smtpout:directory:start_tls"
                ),
            )


def _servers(site: Site, _facts: dict[str, Any]) -> Found:
    folded = [server.lower().rstrip("/") for server in site["directory"]["servers"]]
    for index, server in enumerate(folded):
        if folded.index(server) != index:
            yield f"directory:servers:{index}", server, f"repeats smtpout:directory:servers:{folded.index(server)}"
    if len(" ".join(site["directory"]["servers"])) > SERVER_BYTES:
        yield "directory:servers", None, f"together they have more than {SERVER_BYTES} bytes, and saslauthd cuts them"


def _searches(site: Site, facts: dict[str, Any]) -> Found:
    """Without what the user typed, a search finds the same entry whoever asks."""
    directory = site["directory"]
    login, recipients = directory["login"], directory["recipients"]
    if login not in facts["logins"]:
        if not re.search(r"%[uU]", login.replace("%%", "")):
            yield "directory:login", login, "has neither %u nor %U, what the user typed: it would find the same for all"
        if directory["senders"] == "own" and "login_attribute" not in directory:
            yield (
                "directory:login_attribute",
                None,
                (
                    "missing; with a filter as login and senders: own, it must name the attribute that holds what "
                    "users log in with (or set smtpout:directory:senders to any)"
                ),
            )
    if recipients not in facts["recipients"]:
        if not re.search(r"%[suSU]", recipients.replace("%%", "")):
            yield "directory:recipients", recipients, "has neither %s nor %u, the address: every one would be found"
        if unknown := re.search(r"%[rR]", recipients.replace("%%", "")):
            yield "directory:recipients", recipients, f"has {unknown[0]}, which only saslauthd knows; right is %s"


def _verify(site: Site, _facts: dict[str, Any]) -> Found:
    verify, login = site["verify"], site["directory"]["login"]
    for one, other in (("user", "password"), ("password", "user")):
        if one in verify and other not in verify:
            yield f"verify:{other}", None, "missing: user and password go together"
    if "user" in verify and login in {"mail", "upn"} and "@" not in verify["user"]:
        yield "verify:user", verify["user"], f"has no @, and users log in with {login}: the login would be refused"
    if "user" in verify and login == "account_name" and "@" in verify["user"]:
        yield "verify:user", verify["user"], "has an @, and users log in with account_name: the login would be refused"


def _keys(site: Site, _facts: dict[str, Any]) -> Found:
    """Each domain has one key, its record a name that DNS can hold (RFC 1035, 2.3.4)."""
    signing = site["opendkim"]
    own = {domain.lower(): key for domain, key in signing["domains"].items()}
    written = {domain.lower(): domain for domain in signing["domains"]}
    for domain in site["domains"]:
        selector = own.get(domain.lower(), {}).get("selector", signing["selector"])
        if len(f"{selector}._domainkey.{domain}") > 253:
            path = f"domains:{written[domain.lower()]}:" if "selector" in own.get(domain.lower(), {}) else ""
            yield f"opendkim:{path}selector", selector, f"is too long: a name with {domain} would be over 253 bytes"
    files: dict[str, str] = {}
    for domain, key in signing["domains"].items():
        if "private_key" in key and (wrong := _unusable(key["private_key"])):
            yield f"opendkim:domains:{domain}:private_key", MASKED, wrong
        if "key_file" in key:
            other = files.setdefault(key["key_file"], domain)
            if signing["domains"][other].get("private_key", "").strip() != key.get("private_key", "").strip():
                where = f"smtpout:opendkim:domains:{other}"
                yield f"opendkim:domains:{domain}:key_file", key["key_file"], f"is that of {where}, with another key"


def _unusable(pem: str) -> str | None:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return "can't be read; right is an RSA private key in PEM form, whole and without a passphrase"
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 1024:
        return "is not an RSA key of 1024 bits or more (RFC 8301)"
    return None


def _options(site: Site, _facts: dict[str, Any]) -> Found:
    for path, options in ELSEWHERE.items():
        room, section = path.split(":")
        for name, value in site[room][section].items():
            if (folded := str(name).lower()) in options:
                instead = options[folded]
                right = f"{instead} says it for all daemons" if instead else "other daemons rely on the platform's"
                yield f"{path}:{name}", MASKED if section == "freshclam" else value, f"can't be set here: {right}"


def _confined(site: Site, facts: dict[str, Any]) -> Found:
    """What a daemon's AppArmor profile refuses keeps it from starting, or from scanning."""
    for daemon, allowed in facts.get("apparmor", {}).items() if site["apparmor"]["checked"] else ():
        patterns = {name.lower(): globs for name, globs in allowed.items()}
        for name, value in site["clamav"][daemon].items():
            globs = patterns.get(str(name).lower())
            if globs is not None and value is not None and not any(_matches(str(value), each) for each in globs):
                right = f"right is {' or '.join(globs)}" if globs else "right is to leave it out"
                yield (
                    f"clamav:{daemon}:{name}",
                    MASKED if daemon == "freshclam" else value,
                    (
                        f"is not allowed by the package's AppArmor profile; {right}. Where the host has no AppArmor, "
                        "or rules of the site's own allow it, set smtpout:apparmor:checked to false"
                    ),
                )


def _matches(path: str, glob: str) -> bool:
    """Tell whether a path is one that AppArmor's form means: ``*`` stops at a slash, ``**`` doesn't (apparmor.d(5))."""
    pattern = re.escape(glob).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, path) is not None


def _sockets(site: Site, facts: dict[str, Any]) -> Found:
    """Nothing can listen where something else does."""
    taken = {f"unix:{facts['clamav']['clamd']['socket']}": "clamd's own socket"}
    if "clamd_socket" in site["clamav"]:
        taken[site["clamav"]["clamd_socket"].rpartition(":")[2]] = "smtpout:clamav:clamd_socket"
    for room, default in (("clamav", facts["clamav"]["milter"]["socket"]), ("opendkim", facts["opendkim"]["socket"])):
        if site[room]["enabled"]:
            socket = site[room].get("socket", default)
            place = socket if socket.startswith("unix:") else re.split("[:@]", socket)[1]
            if place in taken:
                yield f"{room}:socket", socket, f"is taken by {taken[place]}; choose another"
            taken[place] = f"smtpout:{room}:socket"


def _signatures(site: Site, _facts: dict[str, Any]) -> Found:
    """A scanner without signatures doesn't start, and a site without a mirror gets none."""
    sources, options = site["clamav"]["signatures"], site["clamav"]["freshclam"]
    if not site["clamav"]["enabled"]:
        return
    if not {"DatabaseMirror", "PrivateMirror"} & options.keys() and not sources["mirrors"] + sources["private_mirrors"]:
        yield (
            "clamav:signatures:mirrors",
            None,
            "empty; right is a mirror here or in smtpout:clamav:signatures:private_mirrors",
        )
    more = options.keys() & {"DatabaseCustomURL", "ExtraDatabase", "ExcludeDatabase"}
    if {"main", "daily", "bytecode"} <= {*sources["exclude"]} and not sources["urls"] and not more:
        yield (
            "clamav:signatures:exclude",
            None,
            "leaves no database; keep one or name others in smtpout:clamav:signatures:urls",
        )


def _sizes(site: Site, _facts: dict[str, Any]) -> Found:
    """clamav-milter lets pass unscanned what is over MaxFileSize, and clamd refuses what is over StreamMaxLength."""
    if not site["clamav"]["enabled"]:
        return
    message = _bytes(site["postfix"]["main"].get("message_size_limit"), 26214400)
    scanned = _bytes(site["clamav"]["milter"].get("MaxFileSize"), 26214400)
    streamed = _bytes(site["clamav"]["clamd"].get("StreamMaxLength"), 104857600)
    if message is None or scanned is None or streamed is None:
        return  # the daemon's own parser says it
    if not 0 < message <= scanned:
        yield (
            "postfix:main:message_size_limit",
            message,
            (
                f"lets messages in that pass unscanned: the milter looks at {scanned} bytes; raise "
                "smtpout:clamav:milter:MaxFileSize or lower this"
            ),
        )
    if scanned > streamed:
        yield "clamav:clamd:StreamMaxLength", streamed, f"is below what the milter sends, {scanned} bytes; raise it"


def _bytes(written: object, default: int) -> int | None:
    """Return a size of ClamAV's, or a number of Postfix's; None for what isn't one."""
    if written is None:
        return default
    parts = re.fullmatch(r"(\d{1,15})([KkMm]?)", str(written))
    return int(parts[1]) * {"": 1, "k": 1024, "m": 1048576}[parts[2].lower()] if parts else None


# Each rule with the keys that it reads.
RULES: list[tuple[Callable[[Site, dict[str, Any]], Found], tuple[str, ...]]] = [
    (_domains_in_either_case, ("domains", "delivery:domains", "opendkim:domains")),
    (_strange_domains, ("domains", "delivery:domains", "opendkim:domains")),
    (_wide_networks, ("networks:", "opendkim:trusted_hosts:", "postfix:main:mynetworks")),
    (_hostname, ("hostname", "domains")),
    (_encryption, ("directory:servers", "directory:start_tls", "directory:ca_file")),
    (_servers, ("directory:servers",)),
    (_searches, ("directory:login", "directory:recipients", "directory:senders", "directory:login_attribute")),
    (_verify, ("verify:user", "directory:login")),
    (_keys, ("domains", "opendkim:selector", "opendkim:domains")),
    (_options, tuple(f"{path}:" for path in ELSEWHERE)),
    (_confined, ("apparmor:checked", "clamav:clamd:", "clamav:milter:", "clamav:freshclam:")),
    (_sockets, ("clamav:enabled", "clamav:socket", "clamav:clamd_socket", "opendkim:enabled", "opendkim:socket")),
    (_signatures, ("clamav:enabled", "clamav:signatures", "clamav:freshclam:")),
    (
        _sizes,
        (
            *("clamav:enabled", "clamav:milter:MaxFileSize", "clamav:clamd:StreamMaxLength"),
            "postfix:main:message_size_limit",
        ),
    ),
]
