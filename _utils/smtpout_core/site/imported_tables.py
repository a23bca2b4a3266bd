"""Tables of Postfix's in the formula `postfix` that are keys of a site's: its other ways out, aliases, names, blocks.

What is carried means the same here. Any other entry stays in its table, which then stands behind smtpout's own; of a
table that smtpout makes otherwise it is left, with a reason.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from smtpout_core.site import addresses, formats, imported, routes

ALWAYS = ("transport_maps", "virtual_alias_maps")
"""Parameters for which smtpout has a table on every site."""

Tables = dict[str, dict[str, str]]

# One table that is looked up by what stands in it, not by rules.
_PLAIN = re.compile(r"(?:proxy:)?(?:(?:hash|btree|dbm|sdbm|lmdb|cdb|texthash):)?[^\s,:]+")
_POLICY = re.compile(r"(none|may|encrypt|verify|secure)(?: match=(\S+))?")
_NAME = re.compile(r"\.?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
# Of a match: whatever DNS has the host be called, or what is no name but stands for one (postconf(5)).
_STRATEGIES = {"hostname", "nexthop", "dot-nexthop"}
_REFUSED = re.compile(r"(?i:reject|5\d\d)(?:\s.*)?")
_CHECKS = {"client": "clients", "sender": "senders", "recipient": "recipients"}


def carry(
    made: imported.Import, given: Mapping[str, Any], config: dict[str, Any], tables: Tables, domains: list[str]
) -> set[str]:
    """Carry what tables say that a key of ours says, too, and return which other parts of the pillar went with it.

    :param given: the formula's pillar.
    :param config: main.cf's parameters; of a table that is used up, its parameter is taken out.
    :param tables: entries by parameter; what is carried is taken out.
    :param domains: the site's own.
    """
    own = {domain.lower() for domain in domains}
    if "transport_maps" in tables and "transport_maps" in config:
        _transports(made, tables["transport_maps"], domains)
    _smart_host(made, config)
    plain = {name for name in tables if _PLAIN.fullmatch(imported.text(config.get(name, "")))}
    if "smtp_tls_policy_maps" in plain:
        _policies(made, tables["smtp_tls_policy_maps"], config, own)
    if "smtp_sasl_password_maps" in plain and imported.text(config.get("smtp_sasl_auth_enable", "")) == "yes":
        _logins(made, tables["smtp_sasl_password_maps"], config)
    named = tables["virtual_alias_maps"] if "virtual_alias_maps" in plain else {}
    _administrators(made, given.get("aliases", {}), named)
    _aliases(made, named, own)
    if "smtpd_sender_login_maps" in plain:
        _owners(made, tables["smtpd_sender_login_maps"], own)
    used = _certificates(made, given, config, tables["tls_server_sni_maps"] if "tls_server_sni_maps" in plain else {})
    _blocked(made, config, tables)
    for name in [name for name, entries in tables.items() if not entries]:
        del tables[name]
        config.pop(name, None)
    return used


def _transports(made: imported.Import, entries: dict[str, str], domains: list[str]) -> None:
    """What is said of the site's own domains is where its mail is delivered."""
    theirs = "postfix:mapping:transport_maps"
    hops = {domain: entries.pop(domain) for domain in domains if domain in entries}
    if hops:
        usual = Counter(hops.values()).most_common(1)[0][0]
        unusual = {domain: hop for domain, hop in hops.items() if hop != usual}
        made.carry(theirs, {"delivery:nexthop": usual, **({"delivery:domains": unusual} if unusual else {})})
    for domain in domains:
        if domain not in hops:
            made.leave(f"{theirs}, {domain}", "had no transport there; smtpout:delivery:nexthop has its mail now")
    for domain in [domain for domain, hop in entries.items() if _is_route(domain, hop)]:
        made.carry(f"{theirs}, {domain}", {f"routes:{domain}:nexthop": entries.pop(domain)})


def _is_route(domain: str, hop: str) -> bool:
    """Tell whether an entry of transport_maps is of a domain, or of what is below one, and leads to a server."""
    named = domain != routes.DEFAULT and not formats.problem("route", domain) and not formats.problem("nexthop", hop)
    return named and hop.partition(":")[0] not in routes.NOWHERE


def _smart_host(made: imported.Import, config: dict[str, Any]) -> None:
    hop = f"smtp:{imported.text(config.get('relayhost', ''))}"
    usual = imported.text(config.get("default_transport", "smtp")).rstrip(":") == "smtp"
    if usual and hop != "smtp:" and formats.problem("nexthop", hop) is None:
        del config["relayhost"]
        made.carry("postfix:config:relayhost", {f"routes:{routes.DEFAULT}:nexthop": hop})


def _led_to(made: imported.Import, key: str, by_host: bool = False) -> list[str]:
    """Return the routes that lead to one server alone, which is that, as it stands there or by its host's name."""
    found = []
    for domain, route in made.site.get("routes", {}).items():
        to = [each.lower() for each in routes.destinations(domain, route)]
        host = re.fullmatch(r"\[([^\]]+)\](?::\w+)?", to[0])
        if "nexthop" in route and len(to) == 1 and key in (to[0], host[1] if host and by_host else to[0]):
            found.append(domain)
    return found


def _policies(made: imported.Import, entries: dict[str, str], config: Mapping[str, Any], own: set[str]) -> None:
    """TLS is looked up by the server as a transport has it, or where MX records say it, by the domain."""
    by_mx = not (routes.DEFAULT in made.site.get("routes", {}) or imported.text(config.get("relayhost", "")))
    for destination in list(entries):
        said, key = _policy(entries[destination]), destination.lower()
        to = _led_to(made, key)
        free = by_mx and key not in own and key not in map(str.lower, made.site.get("routes", {}))
        if not to and free and key != routes.DEFAULT and formats.problem("route", key) is None:
            to = [destination]
        if said and to:
            values = {f"routes:{domain}:{name}": value for domain in to for name, value in said.items()}
            made.carry(f"postfix:mapping:smtp_tls_policy_maps, {destination}", values)
            del entries[destination]


def _policy(written: str) -> dict[str, Any] | None:
    """Return a policy as a route has it (postconf(5), smtp_tls_policy_maps); None for what a route can't say."""
    parts = _POLICY.fullmatch(written)
    if not parts:
        return None
    level, names = parts[1], parts[2].split(":") if parts[2] else []
    if level not in ("verify", "secure"):
        return {"tls": level} if not names else None
    if level == "secure" and names in ([], ["nexthop", "dot-nexthop"]):
        return {"tls": "verified"}
    fit = names and not _STRATEGIES & {*names} and all(map(_NAME.fullmatch, names))
    return {"tls": "verified", "match": list(dict.fromkeys(names))} if fit else None


def _logins(made: imported.Import, entries: dict[str, str], config: dict[str, Any]) -> None:
    """A login is looked up by the server's name, or as a transport has it; here TLS is asked for with it."""
    theirs, found = "postfix:mapping:smtp_sasl_password_maps", set[str]()
    for key in list(entries):
        user, _, password = entries[key].partition(":")
        to = _led_to(made, key.lower(), by_host=True)
        if to and user and password and found.isdisjoint(to):
            found.update(to)
            own = {"user": user, "password": password}
            values = {f"routes:{domain}:{name}": value for domain in to for name, value in own.items()}
            made.carry(f"{theirs}, {key}", values)
            del entries[key]
    if found and not entries:
        for name in ("smtp_sasl_auth_enable", "smtp_sasl_security_options", "smtp_sasl_tls_security_options"):
            if config.pop(name, None) is not None:
                made.leave(f"postfix:config:{name}", "smtpout:routes logs in by TLS alone, and says that by itself")


def _administrators(made: imported.Import, aliases: Mapping[str, Any], named: dict[str, str]) -> None:
    """Mail to root, and that of the other names of the relay, is for one list here."""
    known = {name.lower(): to for name, to in _of_file(aliases).items()}
    known |= {name.lower(): to for name, to in named.items() if "@" not in name}
    reached = {name: _reached(name, known) for name in addresses.OF_THE_RELAY if name in known}
    if not (to := reached.get("root")):
        return
    if all({*each} == {*to} for each in reached.values()):
        theirs = "postfix:aliases" if aliases else "postfix:mapping:virtual_alias_maps"
        made.carry(f"{theirs}, root", {"administrators": to})
        for name in [name for name in named if name.lower() in addresses.OF_THE_RELAY]:
            del named[name]
    else:
        others = ", ".join(name for name, each in reached.items() if {*each} != {*to})
        made.leave("postfix:aliases, root", f"smtpout:administrators has root's mail and that of {others} as well")


def _of_file(aliases: Mapping[str, Any]) -> dict[str, str]:
    """Return the entries of /etc/aliases: the text of one (aliases(5)), or single ones."""
    if not aliases.get("use_file", True):
        return imported.entries(aliases.get("present") or {})
    lines = [line for line in str(aliases.get("content", "")).splitlines() if line.strip() and line[0] != "#"]
    pairs = (line.partition(":") for line in re.sub(r"\n[ \t]+", " ", "\n".join(lines)).splitlines())
    return {name.strip(): to for name, _, to in pairs}


def _reached(name: str, known: Mapping[str, str], above: tuple[str, ...] = ()) -> list[str]:
    """Return the addresses that an alias ends at; none where it ends at a mailbox, a file or a program, too."""
    found: list[str] = []
    for word in imported.words(known.get(name, "")):
        ends = "@" in word
        here = [word] if ends else [] if word.lower() in above else _reached(word.lower(), known, (*above, name))
        if not here or formats.problem("mail-address", here[0]) is not None:
            return []
        found += here
    return list(dict.fromkeys(found))


def _aliases(made: imported.Import, entries: dict[str, str], own: set[str]) -> None:
    """Single addresses of the site's that lead to addresses, not to themselves alone."""
    for address in list(entries):
        to = list(dict.fromkeys(imported.words(entries[address])))
        single = address.rpartition("@")[2].lower() in own and formats.problem("mail-address", address) is None
        whole = to and all(formats.problem("mail-address", each) is None for each in to)
        if single and whole and [each.lower() for each in to] != [address.lower()]:
            made.carry(f"postfix:mapping:virtual_alias_maps, {address}", {f"aliases:{address}": to})
            del entries[address]


def _owners(made: imported.Import, entries: dict[str, str], own: set[str]) -> None:
    """Who sends with an address besides those who have it in the directory."""
    for address in list(entries):
        theirs, logins = f"postfix:mapping:smtpd_sender_login_maps, {address}", imported.words(entries.pop(address))
        single = address.rpartition("@")[2].lower() in own and formats.problem("mail-address", address) is None
        if single and logins:
            made.carry(theirs, {f"shared_addresses:{address}": list(dict.fromkeys(logins))})
        else:
            made.leave(theirs, "smtpout:shared_addresses is of single addresses of smtpout:domains")


def _certificates(
    made: imported.Import, given: Mapping[str, Any], config: dict[str, Any], names: dict[str, str]
) -> set[str]:
    """Files with a key and its certificates, and texts of the pillar that make one."""
    texts = {
        f"/etc/postfix/ssl/{name}.{end}": (name, str(pair.get(part, "")).strip())
        for name, pair in (given.get("certificates") or {}).items()
        for end, part in (("key", "private_key"), ("crt", "public_cert"))
    }
    used: dict[str, list[str]] = {}

    def chain(theirs: str, ours: str, *files: str) -> None:
        made.carry(theirs, {ours: "".join(f"{texts[file][1]}\n" for file in files)})
        for name in {texts[file][0] for file in files}:
            used.setdefault(name, []).append(ours)

    files = [imported.text(config.get(f"smtpd_tls_{part}_file", "")) for part in ("key", "cert")]
    if all(file in texts for file in files):
        chain("postfix:config:smtpd_tls_cert_file", "tls:chain", *files)
        made.carried["postfix:config:smtpd_tls_key_file"] = ["tls:chain"]
    for name in list(names):
        theirs, paths = f"postfix:mapping:tls_server_sni_maps, {name}", imported.words(names.pop(name))
        if formats.problem("domain", name) is None and len(paths) == 1:
            made.carry(theirs, {f"tls:names:{name}:chain_file": paths[0]})
        elif formats.problem("domain", name) is None and len(paths) == 2 and all(path in texts for path in paths):
            chain(theirs, f"tls:names:{name}:chain", *paths)
        else:
            made.leave(theirs, "smtpout:tls:names has one file for a host's name: key, certificate and chain")
    made.carried |= {f"postfix:certificates:{name}": places for name, places in used.items()}
    return {"certificates"} if used and used.keys() == given["certificates"].keys() else set()


def _blocked(made: imported.Import, config: dict[str, Any], tables: Tables) -> None:
    """Tables of access(5) that refuse single addresses or clients, before anything else lets them pass."""
    for parameter in [name for name in config if re.fullmatch(r"smtpd_(client|sender|recipient)_restrictions", name)]:
        words, kept, places = imported.words(config[parameter]), list[str](), list[str]()
        while words:
            kind = re.fullmatch(r"check_(client|sender|recipient)_access", words[0])
            table = _named(words[1], config, tables) if kind and len(words) > 1 else ""
            found = _refused(kind[1], config[table], tables[table]) if kind and table else []
            if kind and found:
                places.append(f"blocked:{_CHECKS[kind[1]]}")
                made.add(f"postfix:mapping:{table}", places[-1], found)
                tables[table].clear()
                del words[:2]
            elif words[0].startswith("reject_"):
                kept.append(words.pop(0))
            else:
                break  # it may let somebody pass, whom a table behind it then doesn't refuse
        if places and not (kept or words):
            del config[parameter]
            made.carried[f"postfix:config:{parameter}"] = places
        elif places:
            config[parameter] = ", ".join([*kept, *words])


def _named(reference: str, config: Mapping[str, Any], tables: Tables) -> str:
    """Return the parameter that has a table which restrictions name, by it or as it stands there."""
    for name in tables:
        if tables[name] and name in config and reference in (f"${name}", f"${{{name}}}", imported.text(config[name])):
            return name
    return ""


def _refused(kind: str, value: Any, entries: Mapping[str, str]) -> list[str]:
    """Return whom a table refuses; none where it says more than that, or of more than single ones."""
    written = imported.text(value)
    if not all(map(_REFUSED.fullmatch, entries.values())):
        return []
    if kind != "client":
        fit = _PLAIN.fullmatch(written) and all(formats.problem("sender", each) is None for each in entries)
        return list(entries) if fit and not any(each.startswith("@") for each in entries) else []
    if not (_PLAIN.fullmatch(written) or written.startswith("cidr:")):
        return []
    try:
        return [str(ipaddress.ip_network(each) if "/" in each else ipaddress.ip_address(each)) for each in entries]
    except ValueError:
        return []
