"""Users of the site as its searches find them: who logs in how, and with which addresses they may send."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from smtpout_core.directory import ask

ENOUGH = 5
"""Entries that are looked at in a domain."""


class Person(NamedTuple):
    """A user: the name that they log in with, and their addresses in the site's domains."""

    login: str
    addresses: tuple[str, ...]


def found(settings: dict[str, Any], domains: Iterable[str]) -> list[Person]:
    """Return some users of each domain who can log in, send and be written to.

    Of those alone whose login Postfix can compare, and whose addresses the recipients' search names by an attribute.

    :param settings: the site's.
    :param domains: of the site.
    :raises RelayError: no server serves.
    :raises NotInstalledError: ldap3 is missing.
    """
    directory = settings["directory"]
    login, addressed = directory["login_attribute"], _attributes(directory["recipient_filter"])
    people: dict[str, Person] = {}
    for domain in domains if addressed else ():
        there = "".join(f"({name}={before}*@{domain})" for name, before in addressed.items())
        filter_ = f"(&{directory['account_filter'].replace('%%', '%')}(|{there}))"
        for entry in ask.entries(settings, filter_, [login, *addressed], ENOUGH):
            addresses = tuple(dict.fromkeys(_addresses(entry, addressed, settings["domains"])))
            names = [name for name in entry[login] if not re.search(r"[\s,]", name)]
            if names and addresses:
                people.setdefault(names[0], Person(names[0], addresses))
    return list(people.values())


def _attributes(recipient_filter: str) -> dict[str, str]:
    """Return what stands before an address in each attribute that a filter compares with one, by the attribute."""
    return dict(re.findall(r"\(\s*([A-Za-z][\w;.-]*)=([^()%*]*)%s\)", f"({recipient_filter})"))


def _addresses(entry: dict[str, list[str]], addressed: dict[str, str], domains: list[str]) -> list[str]:
    found = []
    for name, before in addressed.items():
        for value in entry[name]:
            address = value[len(before) :].lower()
            if value.lower().startswith(before.lower()) and address.rpartition("@")[2] in domains:
                found.append(address)
    return [address for address in found if re.fullmatch(r"[^\s@<>,\"]+@[^\s@]+", address)]
