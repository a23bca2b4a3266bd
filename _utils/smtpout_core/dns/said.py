"""What one server says of one set of records, in plain texts: whoever compares needs no library for that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HAS, NONE, BROKEN, UNKNOWN, UNASKED = "has", "none", "broken", "unknown", "unasked"


class Said(NamedTuple):
    """What one server says of one name and type.

    :param server: by name and address.
    :param state: ``has`` records; ``none``, it says itself that there are none; ``broken``, nobody can follow what it
        says; ``unknown``, it didn't answer as a server of this zone does; ``unasked``, there is no way to it from here.
    :param values: the records, sorted. A TXT record is its strings in one piece (RFC 7208, 3.3).
    :param why: of all but ``has``.
    :param via: the names that CNAME records led through, beginning with the one asked for.
    """

    server: str
    state: str
    values: tuple[str, ...] = ()
    why: str = ""
    via: tuple[str, ...] = ()


def servers(said: Iterable[Said]) -> str:
    """Return whom several answers are from."""
    return ", ".join(dict.fromkeys(each.server for each in said))


def reasons(said: Iterable[Said]) -> str:
    """Return who didn't answer, and why."""
    return "; ".join(dict.fromkeys(f"{each.server} {each.why}" for each in said))
