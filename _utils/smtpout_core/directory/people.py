"""Users of the site as its searches find them: who logs in how, and with which addresses they may send."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from smtpout_core.directory import ask
from smtpout_core.site import searches

ENOUGH = 5
"""Entries that are looked at in a domain."""


class Person(NamedTuple):
    """A user: the names that they log in with, their addresses in the site's domains, whether they name delegates."""

    logins: tuple[str, ...]
    addresses: tuple[str, ...]
    delegates: bool = False

    @property
    def login(self) -> str:
        """The name that is as good as any other."""
        return self.logins[0]


def found(settings: dict[str, Any], domains: Iterable[str], named: Sequence[str] = ()) -> list[Person]:
    """Return some users of each domain who can log in, send and be written to, and those who have certain addresses.

    Of those alone whose login Postfix can compare, and whose addresses the recipients' search names by an attribute; of
    both what is ASCII, for SMTPUTF8 isn't spoken.
    A name that two of them have is nobody's: with it nobody can log in.

    :param settings: the site's.
    :param domains: of the site.
    :param named: addresses in them.
    :raises RelayError: no server serves.
    :raises NotInstalledError: ldap3 is missing.
    """
    directory = settings["directory"]
    names_in, addressed = directory["login_attributes"], searches.addressed(directory["recipient_filter"])
    delegating = directory["delegating"]
    each_domain = [[f"{name}={before}*@{domain}" for name, before in addressed.items()] for domain in domains]
    people: dict[Person, None] = {}
    for wanted in [[f"{name}={before}{each}" for each in named for name, before in addressed.items()], *each_domain]:
        most = len(named) if wanted not in each_domain else ENOUGH
        there = "".join(f"({each})" for each in wanted)
        filter_ = f"(&{directory['account_filter'].replace('%%', '%')}(|{there}))"
        for entry in ask.entries(settings, filter_, list({*names_in, *addressed, *delegating}), most) if wanted else ():
            of_entry = _addresses(entry, addressed, settings["domains"])
            addresses = tuple(each for each in dict.fromkeys(of_entry) if each.isascii())
            names = _names(entry, names_in)
            if names and addresses:
                people[Person(names, addresses, any(entry[each] for each in delegating))] = None
    return list(distinct(list(people)))


def _names(entry: dict[str, list[str]], attributes: list[str]) -> tuple[str, ...]:
    """Return what somebody logs in with; nothing where a comma keeps them from owning an address."""
    names = [name for attribute in attributes for name in entry[attribute]]
    if any("," in name for name in names):
        return ()
    first: dict[str, str] = {}
    for name in names:
        if name.isascii() and not re.search(r"\s", name):
            first.setdefault(name.lower(), name)
    return tuple(first.values())


def distinct(people: list[Person]) -> Iterator[Person]:
    """Yield people without the names that another of them has as well.

    :param people: users.
    """
    holders = Counter(name.lower() for person in people for name in person.logins)
    for person in people:
        if own := tuple(name for name in person.logins if holders[name.lower()] == 1):
            yield person._replace(logins=own)


def addresses(settings: dict[str, Any], ldap_filter: str) -> list[str]:
    """Return the addresses in the site's domains of all entries that a filter finds.

    :param settings: the site's.
    :param ldap_filter: the filter.
    :raises RelayError: no server serves or the filter is malformed.
    """
    addressed = searches.addressed(settings["directory"]["recipient_filter"])
    found = ask.entries(settings, ldap_filter, list(addressed)) if addressed else []
    return [address for entry in found for address in _addresses(entry, addressed, settings["domains"])]


def _addresses(entry: dict[str, list[str]], addressed: dict[str, str], domains: list[str]) -> list[str]:
    found = []
    for name, before in addressed.items():
        for value in entry[name]:
            address = value[len(before) :].lower()
            if value.lower().startswith(before.lower()) and address.rpartition("@")[2] in domains:
                found.append(address)
    return [address for address in found if re.fullmatch(r"[^\s@<>,\"]+@[^\s@]+", address)]
