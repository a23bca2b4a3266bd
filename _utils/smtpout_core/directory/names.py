"""Names of the directory that don't fit where the site's settings put them."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from smtpout_core.directory import ask
from smtpout_core.site import searches


def divided(settings: dict[str, Any], most: int = 1000) -> list[str]:
    """Return the names that users log in with and can't send with: Postfix would part them at a blank or a comma.

    And of one beyond ASCII smtpd(8) makes question marks, unless the site has it speak SMTPUTF8.

    :param settings: the site's.
    :param most: how many entries are looked at, twice: those that the server finds by the character, and, since no
        server finds each blank, all that can log in.
    :raises RelayError: no server serves.
    """
    directory = settings["directory"]
    attributes = directory["login_attributes"]
    accounts = directory["account_filter"].replace("%%", "%")
    by_character = f"(&{accounts}(|{''.join(f'({each}=* *)({each}=*,*)' for each in attributes)}))"
    entries = [entry for each in (by_character, accounts) for entry in ask.entries(settings, each, attributes, most)]
    names = {name for entry in entries for values in entry.values() for name in values}
    spoken = settings["postfix"]["main"].get("smtputf8_enable") in (True, "yes")
    return sorted(name for name in names if re.search(r"[\s,]", name, re.ASCII) or not (spoken or name.isascii()))


def shared(settings: dict[str, Any], most: int = 1000) -> list[str]:
    """Return the names that two accounts have, in whichever attributes: saslauthd refuses them.

    :param settings: the site's.
    :param most: how many accounts are looked at.
    :raises RelayError: no server serves.
    """
    directory = settings["directory"]
    accounts = directory["account_filter"].replace("%%", "%")
    entries = ask.entries(settings, accounts, directory["login_attributes"], most)
    own = ({name.lower() for names in entry.values() for name in names} for entry in entries)
    return sorted(name for name, holders in Counter(name for names in own for name in names).items() if holders > 1)


def crowded(settings: dict[str, Any], most: int = 1000) -> list[str]:
    """Return the entries (DNs) that name more delegates than the relay looks at.

    :param settings: the site's.
    :param most: how many entries that name any are looked at.
    :raises RelayError: no server serves.
    """
    delegating = settings["directory"]["delegating"]
    entries = ask.found(settings, searches.filled(delegating), delegating, most) if delegating else []
    most_of_one = settings["directory"]["most_delegates"]
    return sorted(each.name for each in entries if sum(map(len, each.values.values())) > most_of_one)
