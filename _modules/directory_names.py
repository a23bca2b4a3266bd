"""Names of the directory that don't fit where the site's settings put them.

Needs ldap3, as the module ``directory`` does, by which it asks.
"""

from __future__ import annotations

import re


def divided(most: int = 1000) -> list[str]:
    """
    Return the names that users log in with and can't send with, as Postfix would part them at a blank or a comma.

    CLI Example:

    .. code-block:: bash

        salt-call directory_names.divided

    most
        How many entries are looked at, twice: those that the server finds by the character, and, since no server finds
        each blank, all that can log in.

    raises
        CommandExecutionError when no server serves.
    """
    directory = __salt__["smtpout.settings"]()["directory"]
    attribute = directory["login_attribute"]
    accounts = directory["account_filter"].replace("%%", "%")
    by_character = f"(&{accounts}(|({attribute}=* *)({attribute}=*,*)))"
    entries = [
        entry for each in (by_character, accounts) for entry in __salt__["directory.values"](each, attribute, most)
    ]
    return sorted({name for names in entries for name in names if re.search(r"[\s,]", name, re.ASCII)})
