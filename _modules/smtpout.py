"""The site's settings: pillar, defaults and platform facts made into one object, once a run.

Everything else of the formula gets its facts from :func:`settings`: SLS files through ``smtpout/map.jinja``, states and
templates by calling it. A pillar that isn't right comes back as ``{"valid": False, "errors": [...]}``, so that one
failing state can say all of it while other formulas of a highstate go on.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import salt.utils.files
import salt.utils.yaml
from salt.exceptions import CommandExecutionError

# What a login preset searches with, and the attribute that then holds the login (saslauthd's LDAP_SASLAUTHD: %u is what
# the user typed whole, since saslauthd runs with -r; %U would let user@any.domain in as user).
LOGINS = {
    "account_name": ("sAMAccountName=%u", "sAMAccountName"),
    "upn": ("userPrincipalName=%u", "userPrincipalName"),
    "mail": ("mail=%u", "mail"),
    "uid": ("uid=%u", "uid"),
}

# What a recipient preset searches with (ldap_table(5): %s is the whole address, escaped by Postfix).
RECIPIENTS = {
    "mail": "(mail=%s)",
    "proxy_addresses": "(|(mail=%s)(proxyAddresses=smtp:%s))",
}

LOOPBACK = ["127.0.0.0/8"]

# What a stranger who writes from one of the site's domains is told (access(5)).
STRANGER = "REJECT log in to send from this domain"


def settings() -> dict[str, Any]:
    """Return the site's settings: one plain dictionary, the same object for the whole run.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.settings --out=json

    The result holds secrets. ``valid`` tells whether the pillar is right; where it isn't, ``errors`` holds one sentence
    a problem, each with pillar path, value and what would be right, and nothing else is there.
    """
    given = __pillar__.get("smtpout", {})
    known = __context__.get("smtpout.settings")
    # A minion lives longer than a pillar. To compare ten thousand domains takes as long as to read them: only where
    # the pillar has been fetched anew.
    if known is None or known[0] is not given:
        site = _plain(given)
        made = known[2] if known and known[1] == site else _settings(site)
        known = __context__["smtpout.settings"] = (given, site, made)
    return known[2]


def errors() -> list[str]:
    """Return what is wrong with the pillar, one sentence a problem; an empty list where nothing is.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.errors
    """
    return settings()["errors"]


def platform() -> str:
    """Return this minion's platform as ``platforms.yaml`` names it, such as ``debian-12`` or ``el-9``.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.platform

    :return: for one that isn't listed there, what the grains call it.
    """
    names = [str(__grains__[grain]).lower() for grain in ("os", "osfullname") if grain in __grains__]
    versions = [str(__grains__[grain]) for grain in ("osrelease", "osmajorrelease") if grain in __grains__]
    said = [f"{name}-{version}" for name in names for version in versions]
    listed = {name: platform for platform, facts in _platforms().items() for name in facts["names"]}
    return next((listed[name] for name in said if name in listed), said[0] if said else "unknown")


def verify() -> list[dict[str, str]]:
    """Ask the running relay whether it does what the pillar says; each daemon is asked by its own protocol.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.verify

    :return: one ``{"check": ..., "state": "ok" | "warning" | "failed", "seen": ...}`` a check.
    :raises CommandExecutionError: the pillar isn't right, so that there is nothing to verify against.
    """
    site = settings()
    if not site["valid"]:
        raise CommandExecutionError("the pillar is not right: " + "; ".join(site["errors"]))
    return __salt__["relay_checks.run"](site)


def problems(site: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return what is wrong with a site that need not be this minion's, by pillar path (``pillar_schema.problems``).

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.problems '{domains: [domain01.dom], networks: [0.0.0.0/0]}'

    :param site: what stands below ``smtpout``.
    """
    schema = _document("schema.yaml")
    found = __salt__["pillar_schema.problems"](site, schema, "smtpout")
    merged = _merged(__salt__["pillar_schema.defaults"](schema), site)
    return found + _contradictions(merged, _facts(), [problem["path"] for problem in found])


def import_pillar(path: str, source: str | None = None) -> dict[str, Any]:
    """Write a site pillar made from those of the formulas ``postfix``, ``opendkim`` and ``clamav`` (docs/migration.md).

    CLI Example:

    .. code-block:: bash

        salt-call smtpout.import_pillar /root/site.sls

    :param path: the new file, mode 0600, since it holds what was secret in the old pillars. One that is there stays.
    :param source: a YAML file that holds their pillars. Default, this minion's pillar.
    :return: ``carried``: where each of their keys went; ``same``: those that need no key; ``left``: why, for each other
        one; ``missing``: what the new pillar still needs. No secret is in it.
    :raises CommandExecutionError: there is nothing to convert, or the file can't be written.
    """
    pillar = _plain(__pillar__) if source is None else __salt__["pillar_import.read"](source)
    made = __salt__["pillar_convert.convert"](
        pillar, _facts(), _document("postfix/master.yaml"), _document("import.yaml")
    )
    __salt__["pillar_import.write"](path, made.pop("site"), made["missing"])
    return made


def _settings(site: Any) -> dict[str, Any]:
    """Check ``site`` and make the settings of it, or the list of what is wrong with it."""
    schema = _document("schema.yaml")
    problems = __salt__["pillar_schema.problems"](site, schema, "smtpout")
    merged = _merged(__salt__["pillar_schema.defaults"](schema), site)
    facts = _platforms()
    unknown = []
    if platform() in facts:
        problems += _contradictions(merged, facts[platform()], [problem["path"] for problem in problems])
    else:
        known = ", ".join(facts)
        unknown.append(f"this platform, {platform()}, is none that smtpout knows ({known}); it is refused")
    if errors := __salt__["pillar_schema.sentences"](problems) + unknown:
        return {"valid": False, "errors": errors}
    return {"valid": True, "errors": [], **_derived(_folded(merged), facts[platform()])}


def _platforms() -> dict[str, Any]:
    """Return the facts of every platform that is known."""
    return {name: facts for name, facts in _document("platforms.yaml").items() if not name.startswith("_")}


def _facts() -> dict[str, Any]:
    """Return the facts of this minion's platform."""
    try:
        return _platforms()[platform()]
    except KeyError as unknown:
        raise CommandExecutionError(f"{unknown.args[0]} is no platform that smtpout knows") from None


def _document(name: str) -> dict[str, Any]:
    """Return one of the formula's YAML files, parsed once a run."""
    documents = __context__.setdefault("smtpout.documents", {})
    if name not in documents:
        path = __salt__["cp.cache_file"](f"salt://smtpout/{name}")
        if not path:
            raise CommandExecutionError(f"salt://smtpout/{name} can't be found: is the formula whole in file_roots?")
        with salt.utils.files.fopen(path, encoding="utf-8") as file:
            documents[name] = salt.utils.yaml.safe_load(file)
    return documents[name]


def _plain(value: Any) -> Any:
    """Return ``value`` as plain dictionaries and lists: Salt hands the pillar over wrapped."""
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _merged(base: Any, over: Any) -> Any:
    """Return ``base`` with ``over`` laid over it: dictionaries merge, anything else replaces."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return copy.deepcopy(over)
    return {
        **copy.deepcopy(base),
        **{key: _merged(base.get(key), value) for key, value in over.items()},
    }


def _folded(site: dict[str, Any]) -> dict[str, Any]:
    """Return the site with its domains in lower case, as DNS, Postfix's maps and DKIM compare them (RFC 4343)."""
    site["domains"] = list(dict.fromkeys(domain.lower() for domain in site["domains"]))
    for room in ("delivery", "opendkim"):
        site[room]["domains"] = {domain.lower(): own for domain, own in site[room]["domains"].items()}
    return site


def _contradictions(site: dict[str, Any], facts: dict[str, Any], broken: list[str]) -> list[dict[str, str | None]]:
    """Return what is wrong between keys, apart from those that are wrong by themselves."""
    stock = {"services": _document("postfix/master.yaml"), "logins": list(LOGINS), "recipients": list(RECIPIENTS)}
    return __salt__["pillar_rules.problems"](site, {**facts, **stock}, broken)


def _derived(site: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the site merged with its platform's facts and with what follows from both."""
    made = _merged(facts, site)
    made["platform"] = platform()
    made.setdefault("repositories", [])
    made["hostname"] = site.get("hostname") or __grains__["fqdn"]
    made["packages"] = sorted(
        {name for room in ("postfix", "saslauthd") for name in facts[room]["packages"]}
        | {name for room in ("clamav", "opendkim") if site[room]["enabled"] for name in facts[room]["packages"]}
    )
    made["directory"] |= _searches(site)
    made["opendkim"] |= _signing(site, made["opendkim"])
    made["opendkim"].setdefault("nameservers", __grains__.get("dns", {}).get("nameservers", []))
    made["saslauthd"]["defaults"] = _login_settings(made["saslauthd"])
    made["clamav"] |= _scanning(site, facts["clamav"])
    made["milters"] = _milters(made)
    made["postfix"] |= _relaying(site, made)
    made["firewall"]["services"] = _let_in(facts["firewall"]["services"], made["postfix"]["services"])
    made["selinux"] |= _labelled(made)
    if made["selinux"]["active"]:
        made["packages"] = sorted({*made["packages"], *made["selinux"]["packages"]})
    return made


def _searches(site: dict[str, Any]) -> dict[str, Any]:
    """Return the directory searches: who may log in, which recipients exist, who owns a sender address."""
    directory = site["directory"]
    login_filter, login_attribute = LOGINS.get(directory["login"], (directory["login"], ""))
    recipient_filter = RECIPIENTS.get(directory["recipients"], directory["recipients"])
    return {
        "login_filter": login_filter,
        "login_attribute": directory.get("login_attribute", login_attribute),
        "recipient_filter": recipient_filter,
    }


def _signing(site: dict[str, Any], opendkim: dict[str, Any]) -> dict[str, Any]:
    """Return the signing keys, one a domain, and the hosts whose mail is signed."""
    directory = opendkim["directory"]
    keys = []
    for domain in site["domains"]:
        own = opendkim["domains"].get(domain, {})
        selector = own.get("selector", opendkim["selector"])
        path = own.get("key_file", f"{directory}/keys/{domain}.{selector}.private")
        keys.append({"domain": domain, "selector": selector, "path": path, "from_pillar": "private_key" in own})
    return {
        "signing_keys": keys,
        "private_keys": {d: own["private_key"] for d, own in opendkim["domains"].items() if "private_key" in own},
        "hosts": ["127.0.0.1", "::1", *site["networks"], *opendkim["trusted_hosts"]],
        "key_table": f"{directory}/KeyTable",
        "signing_table": f"{directory}/SigningTable",
        "hosts_file": f"{directory}/TrustedHosts",
    }


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

    ``socket`` is what Postfix connects to (MILTER_README: unix:path or inet:host:port); ``action`` is what Postfix does
    when the milter doesn't answer.
    """
    scan_failure = {"Accept": "accept", "Reject": "reject"}.get(made["clamav"]["on_fail"], "tempfail")
    chain = [
        ("clamav", made["clamav"]["enabled"], made["clamav"]["socket"], scan_failure),
        ("opendkim", made["opendkim"]["enabled"], made["opendkim"]["socket"], made["opendkim"]["on_fail"]),
    ]
    return [
        {"name": name, "socket": _postfix_socket(socket), "action": action}
        for name, enabled, socket, action in chain
        if enabled
    ]


def _let_in(ports: dict[str, int], services: dict[str, Any]) -> dict[str, int]:
    """Return what clients come in by: of the firewall's services, with their ports, those that Postfix serves.

    A service that the site's pillar adds may be for the relay itself, or for a content filter: it isn't let in.
    """
    stock = {"smtp": "smtp/inet", "smtps": "465/inet", "smtp-submission": "submission/inet"}
    return {name: port for name, port in ports.items() if stock[name] in services}


def _labelled(made: dict[str, Any]) -> dict[str, Any]:
    """Return whether SELinux is to be told something, and what: types of files by path, and of TCP ports."""
    selinux, clamav, opendkim = made["selinux"], made["clamav"], made["opendkim"]
    running = __grains__.get("selinux", {}).get("enabled", False)
    if not (running and selinux["managed"] and "packages" in selinux):
        return {"active": False}
    labels = dict.fromkeys(
        __salt__["postmap.files"](made["postfix"]["aliases"], made["postfix"]["map_type"]), selinux["aliases_label"]
    )
    ports = {}
    if opendkim["enabled"]:
        labels |= {key["path"]: selinux["dkim_key_label"] for key in opendkim["signing_keys"]}
        if match := re.match(r"inet:(\d+)@", opendkim["socket"]):
            ports[match[1]] = selinux["opendkim_port_label"]
    if clamav["enabled"] and clamav["clamd_socket"].startswith("tcp:"):
        ports[clamav["clamd_socket"].rpartition(":")[2]] = selinux["clamd_port_label"]
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


def _nexthop(written: str) -> str:
    """Return a nexthop with its transport: what stands before the first colon outside brackets (transport(5))."""
    return f"smtp:{written}" if written.startswith("[") or ":" not in written else written


def _relaying(site: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Return what Postfix alone needs: paths, services and maps."""
    postfix = made["postfix"]
    directory, indexed = postfix["directory"], postfix["map_type"]
    services = copy.deepcopy(_document("postfix/master.yaml"))
    if not site["authentication"]["submission"]:
        services = {name: service for name, service in services.items() if name not in ("submission/inet", "465/inet")}
    services = _merged(services, postfix["master"])
    delivery = site["delivery"]
    routes = {domain: _nexthop(delivery["domains"].get(domain, delivery["nexthop"])) for domain in site["domains"]}
    own = dict.fromkeys(site["domains"], STRANGER)
    maps = [
        {"name": name, "type": indexed, "entries": entries, "secret": False}
        for name, entries in (("own_domains", own), ("transport_maps", routes))
    ]
    for name, table in site["postfix"]["maps"].items():
        maps.append({"name": name, "type": indexed, "secret": False, **table})
    slug = re.sub(r"[^a-z0-9]+", "-", site["organisation"].lower()).strip("-")
    return {
        "maps": {table["name"]: {**table, "path": f"{directory}/{table['name']}"} for table in maps},
        "services": {name: service for name, service in services.items() if service is not None},
        "recipient_map": f"{directory}/people-{slug}.ldap",
        "sender_map": f"{directory}/senders-{slug}.ldap",
        "directory_map": f"{directory}/directory-{slug}.ldap",
        "trusted_networks": LOOPBACK + [_postfix_network(network) for network in site["networks"]],
        "certificate_chain": site["tls"].get("chain_file", postfix["certificate"]),
        "self_made_certificate": "chain_file" not in site["tls"],
        "groups": [made["saslauthd"]["group"]]
        + ([made["clamav"]["milter"]["group"]] if made["clamav"]["enabled"] else [])
        + ([made["opendkim"]["group"]] if made["opendkim"]["enabled"] else []),
    }
