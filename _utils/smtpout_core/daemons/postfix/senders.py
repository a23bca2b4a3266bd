"""Who may send with an address, as smtpd takes it from its tables; and why, by the directory and the pillar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from smtpout_core.daemons.postfix import conf, maps
from smtpout_core.directory import ask, filters, people
from smtpout_core.errors import RelayError
from smtpout_core.site import searches


def owners(settings: dict[str, Any], address: str) -> dict[str, list[str]]:
    """Return who may send with an address: by the name that they log in with, where that is said.

    The tables are those of ``smtpd_sender_login_maps`` on this host, asked as smtpd asks: for the address, then for it
    without its extension, and the first that answers counts.

    :param settings: the site's.
    :param address: the whole address.
    :raises RelayError: it is no address, users send with any, or a table can't be asked.
    """
    if not re.fullmatch(r"[^\s@<>]+@[^\s@<>]+", address):
        raise RelayError(f"{address!r} is no address; right would be user@{settings['domains'][0]}")
    directory = settings["postfix"]["directory"]
    said = conf.values(directory, "smtpd_sender_login_maps", "recipient_delimiter")
    if not said["smtpd_sender_login_maps"]:
        raise RelayError("smtpd_sender_login_maps is empty: whoever logs in sends with every address")
    tables = list(maps.named(said["smtpd_sender_login_maps"]))
    for key in _keys(address.lower(), said["recipient_delimiter"]):
        for table in tables:
            if answer := maps.answer(directory, table, key):
                names = [name for name in re.split(r"[,\s]+", answer) if name]
                why = _reasons(settings, key)
                return {name: why.get(name.lower(), [f"{table} has {key}"]) for name in dict.fromkeys(names)}
    return {}


def addresses(settings: dict[str, Any], login: str) -> dict[str, list[str]]:
    """Return the addresses that somebody may send with, and where that is said of each.

    Looked at are those that the directory has of the account, in the attributes that the recipients' search compares,
    and those of the pillar; counted, those that smtpd's tables have for this name.

    :param settings: the site's.
    :param login: the name as it is typed.
    :raises RelayError: as of :func:`owners`, or two accounts have the name, with which nobody can log in.
    """
    known = _of_the_account(settings, login)
    known += [each for each, names in settings["shared_addresses"].items() if login.lower() in map(str.lower, names)]
    found = {}
    for address in dict.fromkeys(each.lower() for each in known):
        allowed = {name.lower(): why for name, why in owners(settings, address).items()}
        if login.lower() in allowed:
            found[address] = allowed[login.lower()]
    return found


def _of_the_account(settings: dict[str, Any], login: str) -> list[str]:
    """Return the addresses that the directory has of whoever logs in with a name."""
    entry = ask.login(settings, login)
    if entry is None:
        return []
    filled = filters.saslauthd(settings["directory"]["login_filter"], login)
    own = people.addresses(settings, filled)
    others = []
    if settings["directory"]["members_send"]:
        others.append(f"(&(objectClass=group){searches.HOLDERS.format('%s')})")
    if delegating := settings["directory"]["delegating"]:
        others.append(searches.filled(delegating, "%s"))
    asked = [filters.postfix(each, entry) or "" for each in others]
    return [*own, *(address for each in asked for address in people.addresses(settings, each))]


def _reasons(settings: dict[str, Any], address: str) -> dict[str, list[str]]:
    """Return what site and directory say of an address, by the names that it gives it to."""
    found: dict[str, list[str]] = {}
    for each, names in settings["shared_addresses"].items():
        for name in names if each.lower() == address else ():
            found.setdefault(name.lower(), []).append(f"smtpout:shared_addresses:{each} names it")
    directory = settings["directory"]
    filled = filters.postfix(directory["owner_filter"], address)
    for entry in ask.found(settings, filled, directory["login_attributes"]) if filled else ():
        for name in {value.lower() for values in entry.values.values() for value in values}:
            found.setdefault(name, []).append(f"{entry.name} has {address}")
    for why, names in _delegates(settings, address):
        for name in names:
            found.setdefault(name, []).append(why)
    return found


def _delegates(settings: dict[str, Any], address: str) -> Iterator[tuple[str, set[str]]]:
    """Yield why somebody else than who has an address may send with it, and their names."""
    directory = settings["directory"]
    if directory["members_send"] and (filled := filters.postfix(directory["group_filter"], address)):
        for group in ask.found(settings, filled, [directory["group_attribute"]]):
            for member in _named(settings, "member_filter", group.name):
                yield f"{member.name} is in {group.name}, which has {address}", _logins(member)
    if directory["delegating"] and (filled := filters.postfix(directory["delegating_filter"], address)):
        for holder in ask.found(settings, filled, directory["delegating"]):
            for attribute, named in holder.values.items():
                for each in named:
                    for delegate in _named(settings, "delegate_filter", each):
                        why = f"{holder.name}, which has {address}, has {delegate.name} in {attribute}"
                        yield why, _logins(delegate)


def _named(settings: dict[str, Any], pattern: str, name: str) -> list[ask.Entry]:
    """Return the accounts that one of the directory's filters finds for an entry's name, with what they log in by."""
    directory = settings["directory"]
    filled = filters.postfix(directory[pattern], name)
    return ask.found(settings, filled, directory["login_attributes"]) if filled else []


def _logins(account: ask.Entry) -> set[str]:
    return {name.lower() for names in account.values.values() for name in names}


def _keys(address: str, delimiters: str) -> Iterator[str]:
    """Yield what smtpd asks for an address: it, and it without its extension (recipient_delimiter)."""
    yield address
    local, _, domain = address.rpartition("@")
    cut = min((place for place in map(local.find, delimiters) if place > 0), default=0)
    if cut:
        yield f"{local[:cut]}@{domain}"
    yield f"@{domain}"
