"""Convert the pillars of the formulas `postfix`, `opendkim` and `clamav` (saltstack-formulas) into a site's.

Every key of theirs ends as carried, as the same (smtpout's own templates say so by themselves), or as left, with a
reason: one of ``smtpout/import.yaml``, or what the site's schema and its rules have against it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smtpout_core.errors import RelayError
from smtpout_core.site import blocked, imported, imported_tables, schema
from smtpout_core.site.documents import Documents

FORMULAS = ("postfix", "opendkim", "clamav")

USERS = "587 and 465 take users who logged in, under TLS, and nobody else"

COLUMNS = ("private", "unpriv", "chroot", "wakeup", "maxproc", "command")
# Said for users' ports by smtpout itself; their restrictions would be asked before a user has logged in.
COVERED = re.compile(
    r"smtpd_(client|helo|sender|recipient|relay)_restrictions|smtpd_sasl_auth_enable|smtpd_tls_(security_level|wrappermode)|"
    r"syslog_name"
)

# What a column is where it isn't said (master(5); chroot: smtpout's own).
UNSAID = {"private": "y", "unpriv": "y", "chroot": "n"}

INDEXED = r"\b(?:hash|btree|dbm|sdbm|lmdb|cdb):"


def convert(
    pillar: Mapping[str, Any],
    facts: Mapping[str, Any],
    formula: Documents,
    problems: Callable[[dict[str, Any]], list[dict[str, str | None]]],
) -> dict[str, Any]:
    """Return the site that the three formulas' pillars describe, as far as they do.

    :param pillar: what stands under ``postfix``, ``opendkim`` and ``clamav``; the rest is not looked at.
    :param facts: the platform's facts.
    :param formula: smtpout's own files: what it writes by itself, and what ``import.yaml`` says of those formulas.
    :param problems: tells what is wrong with a site.

    The answer has ``site`` (below ``smtpout``; it holds secrets), ``carried`` (our paths by theirs), ``same`` (their
    paths whose value smtpout has by itself), ``left`` (why, by their path) and ``missing`` (what the site still needs).

    :raises RelayError: where none of the three is there, or what is there can't be theirs.
    """
    made = imported.Import(formula)
    given = {name: pillar.get(name) or {} for name in FORMULAS}
    if not any(given.values()):
        raise RelayError(f"there is nothing to convert: none of {', '.join(FORMULAS)} is in the pillar")
    try:
        domains = _domains(made, given)
        _postfix(made, given["postfix"], facts["postfix"], domains)
        _services(made, given["postfix"], formula["postfix/master.yaml"])
        _opendkim(made, given["opendkim"])
        _clamav(made, given["clamav"], facts["clamav"])
    except (AttributeError, TypeError) as error:
        raise RelayError(f"a key has another form than in those formulas ({error})") from None
    while any(made.take_back(problem) for problem in problems(made.site)):
        pass
    missing = schema.sentences(problems(made.site))
    carried = {theirs: [f"smtpout:{place}" for place in ours] for theirs, ours in made.carried.items()}
    return {"site": made.site, "carried": carried, "same": made.same, "left": made.left, "missing": missing}


def _domains(made: imported.Import, given: Mapping[str, Any]) -> list[str]:
    """Carry the site's domains: those that are relayed, or else those whose mail is signed."""
    places = {
        "postfix:mapping:relay_domains": imported.entries(given["postfix"].get("mapping", {}).get("relay_domains", {})),
        "postfix:config:relay_domains": imported.words(given["postfix"].get("config", {}).get("relay_domains", "")),
        "opendkim:privateKey:key": given["opendkim"].get("privateKey", {}).get("key", {}),
    }
    for theirs, names in places.items():
        if own := [name for name in names if re.fullmatch(r"[A-Za-z0-9.-]+", name)]:
            made.carry(theirs, {"domains": own})
            return own
    return []


def _postfix(made: imported.Import, given: Mapping[str, Any], facts: Mapping[str, Any], domains: list[str]) -> None:
    """Carry main.cf, and the tables that it names."""
    written, ours = given.get("config", {}), _template(made.formula, "postfix/main.cf.jinja", "=")
    made.same += [f"postfix:config:{name}" for name, value in written.items() if value is None]  # wrote nothing
    config = {name: value for name, value in written.items() if value is not None}
    used = _tables(made, given, config, facts, domains)
    for name, value in config.items():
        theirs, text = f"postfix:config:{name}", re.sub(INDEXED, f"{facts['map_type']}:", imported.text(value))
        own_aliases = name in {"alias_maps", "alias_database"} and text == f"{facts['map_type']}:{facts['aliases']}"
        if theirs in made.carried:
            continue
        if own_aliases or (ours.get(name) is not None and imported.words(text) == imported.words(ours[name])):
            made.same.append(theirs)
        elif name in PARAMETERS:
            _parameter(made, theirs, name, text)
        elif made.has_no_place(theirs):
            continue
        elif re.search(r"\b(?!unix:)[a-z]+:/", text):
            made.leave(theirs, "names a table that the pillar doesn't make; smtpout:postfix:maps would make it")
        elif name in imported_tables.ALWAYS:
            made.carry(theirs, {f"postfix:main:{name}": {"append": text}})
        elif ours.get(name, "") is None and name != "smtpd_banner":
            made.leave(theirs, "is made from other keys; smtpout:postfix:main has the last word")
        else:
            own = _kept(value, text)
            beside = name == blocked.PARAMETER and "blocked" in made.site
            made.carry(theirs, {f"postfix:main:{name}": {"append": own} if beside else own})
    made.leave_rest("postfix", given, {"config", "mapping", "master_config", "manage_master_config", *used})


def _tables(
    made: imported.Import,
    given: Mapping[str, Any],
    config: dict[str, Any],
    facts: Mapping[str, Any],
    domains: list[str],
) -> set[str]:
    """Carry all tables, taking their parameters out; return which other parts of the pillar went with them."""
    whole = {name: imported.entries(data) for name, data in given.get("mapping", {}).items()}
    tables = {name: dict(entries) for name, entries in whole.items() if f"postfix:mapping:{name}" not in made.carried}
    used = imported_tables.carry(made, given, config, tables, domains)
    for name, entries in whole.items():
        theirs = f"postfix:mapping:{name}"
        if name not in tables:
            config.pop(name, None)
        elif name not in config:
            made.leave(theirs, f"no postfix:config:{name} says that it is used; misspelt?")
        elif not made.has_no_place(theirs):
            rest = ", others" if tables[name] != entries else ""
            _table(made, name, f"{theirs}{rest}", str(config.pop(name)), tables[name], facts)
    return used


# Parameters that are a key of the site's.
PARAMETERS = ("myhostname", "mynetworks", "smtpd_tls_auth_only", "smtpd_tls_chain_files")


def _parameter(made: imported.Import, theirs: str, name: str, text: str) -> None:
    """Carry one of ``PARAMETERS``."""
    if name == "myhostname":
        made.carry(theirs, {"hostname": text})
    elif name == "smtpd_tls_chain_files":
        made.carry(theirs, {"tls:chain_file": text})
    elif name == "smtpd_tls_auth_only":  # yes is said by the template
        made.carry(theirs, {"authentication:clear_text_on_25": True})
    elif networks := [*_networks(text)]:
        made.carry(theirs, {"networks": networks})
    else:
        made.same.append(theirs)


def _table(
    made: imported.Import, name: str, theirs: str, value: str, entries: dict[str, str], facts: Mapping[str, Any]
) -> None:
    """Carry a table of which no key of the site's is made, or what is left of one, behind smtpout's own."""
    prefix = "proxy:" if value.startswith("proxy:") else ""
    of_type, _, path = value.removeprefix("proxy:").rpartition(":")
    file = re.sub(r"[^A-Za-z0-9_-]+", "_", path.rpartition("/")[2]).strip("_-") or name
    file = "transport" if file == "transport_maps" else file
    own_type = "" if re.match(INDEXED, f"{of_type}:") else of_type
    table: dict[str, Any] = {**({"type": own_type} if own_type else {}), "entries": entries}
    if "password" in name:
        table["secret"] = True
    reference = f"{prefix}{own_type or facts['map_type']}:{facts['directory']}/{file}"
    beside = name in imported_tables.ALWAYS or theirs.endswith(", others")
    made.carry(
        theirs, {f"postfix:maps:{file}": table, f"postfix:main:{name}": {"append": reference} if beside else reference}
    )


def _services(made: imported.Import, given: Mapping[str, Any], stock: Mapping[str, Any]) -> None:
    """Carry master.cf, where it differs from smtpout's."""
    master = given.get("master_config", {}) if given.get("manage_master_config", True) else {}
    wanted = dict(master.get("services", {}))
    if master.get("enable_submission"):
        arguments = [f"-o {name}={imported.text(value)}" for name, value in master.get("submission", {}).items()]
        wanted.setdefault("submission", {"args": arguments})
    for key, service in wanted.items():
        theirs = f"postfix:master_config:services:{key}"
        name = made.known["services"].get(str(key)) or f"{service.get('service', key)}/{service.get('type', 'unix')}"
        if service.get("enable", True):
            _service(made, theirs, name, service, stock.get(name))
        elif name in stock and key not in made.known["alternatives"]:
            made.carry(theirs, {f"postfix:master:{name}": None})
        else:
            made.same.append(theirs)
    made.leave_rest("postfix:master_config", master, {"services", "enable_submission", "submission"})


def _service(
    made: imported.Import, theirs: str, name: str, service: Mapping[str, Any], stock: Mapping[str, Any] | None
) -> None:
    """Carry one service: of a stock one what differs, of another all of it."""
    said = {column: _column(service[column]) for column in COLUMNS if column in service}
    if said.get("command") == "pipe" and "argv" in service:
        words = [f"{key}={service[key]}" for key in ("flags", "user", "argv") if key in service]
        said["command"] = " ".join(["pipe", *words, str(service.get("extras", ""))]).strip()
    if stock is None:
        optional: dict[str, Any] = made.known["optional"].get(name, {})
        changed = {**optional, **said}
    else:
        changed = {column: value for column, value in said.items() if value != stock.get(column, UNSAID.get(column))}
    if stock is None and "command" not in changed:
        made.leave(theirs, "is known to that formula alone; smtpout:postfix:master can name its command")
        return
    for index, argument in enumerate(service.get("args") or []):
        option = re.fullmatch(r"\s*-o\s+\{?\s*(\w+)\s*=\s*(.*?)\s*\}?\s*", argument)
        if option and name in {"submission/inet", "465/inet"} and COVERED.fullmatch(option[1]):
            made.leave(f"{theirs}:args:{index}", f"{option[1]}: {USERS}")
        elif option:
            changed.setdefault("options", {})[option[1]] = option[2]
        elif not argument.lstrip().startswith("#"):
            made.leave(f"{theirs}:args:{index}", "is not -o name=value")
    if changed:
        made.carry(theirs, {f"postfix:master:{name}": changed})
    else:
        made.same.append(theirs)


def _opendkim(made: imported.Import, given: Mapping[str, Any]) -> None:
    """Carry the signer's options and keys; a domain has one key here."""
    conf, ours = given.get("conf", {}), _template(made.formula, "opendkim/opendkim.conf.jinja")
    for name, value in conf.items():
        theirs, text = f"opendkim:conf:{name}", imported.text(value)
        if _same(ours, name, text):
            made.same.append(theirs)
        elif name == "Selector":
            made.carry(theirs, {"opendkim:selector": text})
        elif not made.has_no_place(theirs):
            made.carry(theirs, {f"opendkim:options:{name}": _kept(value, text)})
    for domain, keys in given.get("privateKey", {}).get("key", {}).items():
        chosen = conf["Selector"] if conf.get("Selector") in keys else next(iter(keys), None)
        for selector, pem in keys.items():
            theirs, ours_too = f"opendkim:privateKey:key:{domain}:{selector}", f"opendkim:domains:{domain}"
            if selector == chosen:
                key = f"{str(pem).strip()}\n"
                made.carry(theirs, {f"{ours_too}:selector": selector, f"{ours_too}:private_key": key})
            else:
                made.leave(theirs, f"a domain signs with one selector here, and {chosen} was taken")
    made.leave_rest("opendkim", given, {"conf", "privateKey"})
    made.leave_rest("opendkim:privateKey", given.get("privateKey", {}), {"key"})


def _clamav(made: imported.Import, given: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Carry clamd's and freshclam's options; where signatures come from are keys of the site's."""
    for daemon in ("clamd", "freshclam"):
        ours = _template(made.formula, f"clamav/{daemon}.conf.jinja")
        for name, value in given.get(daemon, {}).get("config", {}).items():
            theirs, items = f"clamav:{daemon}:config:{name}", value if isinstance(value, (list, tuple)) else [value]
            texts = [{"true": "yes"}.get(imported.text(item).lower(), imported.text(item)) for item in items]
            if daemon == "freshclam" and name in made.known["signatures"]:
                made.carry(theirs, {f"clamav:signatures:{made.known['signatures'][name]}": texts})
            elif str(value).lower() == "false":
                made.leave(theirs, "that formula wrote nothing for false, so that the daemon's own default held")
            elif (len(texts) == 1 and _same(ours, name, texts[0])) or name in facts[daemon]["unknown_options"]:
                made.same.append(theirs)
            elif not made.has_no_place(theirs):
                made.carry(theirs, {f"clamav:{daemon}:{name}": texts if len(texts) > 1 else _kept(value, texts[0])})
        made.leave_rest(f"clamav:{daemon}", given.get(daemon, {}), {"config"})
    made.leave_rest("clamav", given, {"clamd", "freshclam"})


def _template(formula: Documents, name: str, separator: str = " ") -> dict[str, str | None]:
    """Return what one of smtpout's own templates says of each option: the value, or None where it is made."""
    text = formula.text(name)
    lines = [
        line.partition(separator) for line in text.splitlines() if re.match(r"[A-Za-z]", line) and separator in line
    ]
    return {option.strip(): None if "{" in value else value.strip() for option, _, value in reversed(lines)}


def _same(ours: Mapping[str, str | None], name: str, text: str) -> bool:
    return text == next((value for option, value in ours.items() if option.lower() == name.lower()), None)


def _kept(value: Any, text: str) -> Any:
    """Return a number as it is, and of anything else the text that it is written as."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text


def _networks(text: str) -> Iterator[str]:
    """Yield the networks of a mynetworks, as the site's pillar has them: loopback is always there."""
    for word in imported.words(text):
        bare = re.sub(r"[\[\]]", "", word)
        try:
            network = ipaddress.ip_network(bare)
        except ValueError:
            yield bare  # a table or a name: the schema says what would be right
            continue
        mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
        if mapped:
            network = ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
        if not network.is_loopback:
            yield str(network)


def _column(value: Any) -> Any:
    return ("y" if value else "n") if isinstance(value, bool) else value
