"""Whom the relay refuses at once: logins, senders, recipients and clients, before anything lets their mail pass.

The pillar's are tables of the site's configuration. Logins are blocked by command, too, in a table that Postfix reads
anew for each recipient (:mod:`smtpout_core.daemons.postfix.blocks`). A login has several forms where users may type
any of them; whose account a name is the directory knows. So who is blocked by the pillar is part of a search
(:func:`account_filter`), and who is blocked by command is looked up by what a search finds of the account.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from smtpout_core.host import STATE_DIR
from smtpout_core.site import clients, searches
from smtpout_core.site.addresses import HAVE_TO_BE

KINDS = ("logins", "senders", "recipients", "clients")
TABLE = f"{STATE_DIR}/blocked/logins"
"""Who is blocked by command: state of the relay's, of no generation."""
ANYBODY = "*"
"""What that table has as long as it has anybody: the class of restrictions that looks for whom. No login is that."""
CLASS = "blocked_accounts"
"""A class of restrictions (postconf(5), smtpd_restriction_classes)."""
PARAMETER = "smtpd_recipient_restrictions"
"""Where all of them are refused: it is evaluated for each recipient, whatever smtpd_delay_reject says (postconf(5))."""

# What each is told (access(5)).
ACCOUNT = "REJECT this account is blocked; ask your administrator"
TOLD = {
    "senders": "REJECT this sender is blocked here; write to the postmaster",
    "recipients": "REJECT mail to this address is blocked here; ask your administrator",
    "clients": "REJECT this address is blocked here; write to the postmaster",
}


class Blocked:
    """Who is blocked, by the pillar and by command, as a question is asked of one of them.

    :param site: the settings.
    :param by_command: logins.
    """

    def __init__(self, site: Mapping[str, Any], by_command: Iterable[str] = ()) -> None:
        given = site["blocked"]
        self.by_command = tuple(by_command)
        self.logins = tuple(dict.fromkeys([*given["logins"], *self.by_command]))
        self.senders, self.recipients = tuple(given["senders"]), tuple(given["recipients"])
        self.clients = tuple(ipaddress.ip_network(each) for each in given["clients"])
        self._logins = set(map(str.lower, self.logins))

    def __bool__(self) -> bool:
        return bool(self.logins or self.senders or self.recipients or self.clients)

    def login(self, names: Iterable[str]) -> bool:
        """Tell whether somebody of these names is blocked."""
        return not self._logins.isdisjoint(map(str.lower, names))

    def sender(self, address: str) -> bool:
        """Tell whether an address is, as a sender's."""
        return _meets(address, self.senders)

    def recipient(self, address: str) -> bool:
        """Tell whether an address is, as a recipient's."""
        return _meets(address, self.recipients)

    def client(self, address: str) -> bool:
        """Tell whether a client is."""
        return any(ipaddress.ip_address(address) in network for network in self.clients)


def _meets(address: str, entries: Iterable[str]) -> bool:
    local, _, domain = address.lower().rpartition("@")
    forms = {f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}", f"@{domain}"}
    return not forms.isdisjoint(map(str.lower, entries))


def key(login: str) -> str:
    """Return what a login is looked up by in a table: quoted where it has a blank, as postmap(1) has such keys.

    smtpd(8) has it without quotes, and a table of expressions puts them around it (postfix/logins.regexp.jinja).
    """
    return f'"{login.lower()}"' if re.search(r"\s", login) else login.lower()


def tables(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of what the pillar blocks: name, entries and, for clients, the type; none of what it doesn't.

    :param given: the pillar's ``blocked``, in one form.
    """
    entries: dict[str, Any] = {"logins": {key(login): "blocked" for login in given["logins"]}}
    for kind in ("senders", "recipients"):
        entries[kind] = {form: TOLD[kind] for each in given[kind] for form in clients.keys(each.lower())}
    entries["clients"] = [[network, TOLD["clients"]] for network in given["clients"]]
    return [
        {"name": f"blocked_{kind}", "entries": own, **({"type": "cidr"} if kind == "clients" else {})}
        for kind, own in entries.items()
        if own
    ]


def account_filter(directory: Mapping[str, Any], logins: Iterable[str]) -> str:
    """Return the search that finds an account by a name (ldap_table(5), %s), if it is one of those with these names.

    :param directory: the site's, with what follows from it.
    :param logins: any form of each, in any case of letters.
    """
    names = "".join(f"({each}={_escaped(login)})" for login in logins for each in directory["named_attributes"])
    return f"(&{directory['named_filter']}(|{names}))"


def _escaped(value: str) -> str:
    """Return a value as RFC 4515 has it; ldap_table(5)'s own percent sign is escaped, too."""
    return "".join(
        character
        if re.fullmatch(r"[A-Za-z0-9@._-]", character)
        else "".join(f"\\{byte:02x}" for byte in character.encode())
        for character in value
    )


def facts(
    site: Mapping[str, Any], directory: Mapping[str, Any], postfix: Mapping[str, str], slug: str
) -> dict[str, Any]:
    """Return what Postfix needs besides the pillar's tables: files, and the command's table with its type.

    :param site: in one form.
    :param directory: with what follows from it.
    :param postfix: the platform's facts: the site may have its maps of another type, which can't be written in place.
    :param slug: of the organisation.
    """
    names = directory["named_attributes"]
    return {
        "table": TABLE,
        "type": postfix["map_type"],
        "quoted": f"{postfix['directory']}/logins.regexp",
        "names": {each: f"{postfix['directory']}/accounts-{slug}-{each.lower()}.ldap" for each in names},
        "accounts": f"{postfix['directory']}/blocked-{slug}.ldap" if site["blocked"]["logins"] and names else "",
    }


def restrictions(postfix: Mapping[str, Any], hostname: str) -> dict[str, list[str]]:
    """Return the restrictions by which they are refused, by the parameter of main.cf.

    :param postfix: the settings' room.
    :param hostname: the relay's.
    """
    own, maps = postfix["blocked"], postfix["maps"]
    table, quoted = f"{own['type']}:{own['table']}", f"regexp:{own['quoted']}"
    told = f"static:{{{ACCOUNT}}}"
    ways = [f"{quoted},{table}", *(f"ldap:{path},{quoted},{table}" for path in own["names"].values())]
    of_an_account = [f"check_sasl_access pipemap:{{{way},{told}}}" for way in ways]
    logins = [f"check_sasl_access pipemap:{{static:{ANYBODY},{table}}}"]
    if "blocked_logins" in maps:
        logins.append(f"check_sasl_access pipemap:{{{quoted},{_named(maps['blocked_logins'])},{told}}}")
    if own["accounts"]:
        logins.append(f"check_sasl_access pipemap:{{ldap:{own['accounts']},{told}}}")
    others = []
    if "blocked_recipients" in maps:
        others.append(f"check_recipient_access {_named(maps['blocked_recipients'])}")
    if "blocked_clients" in maps or "blocked_senders" in maps:
        here = ",".join(f"{name}@{hostname}=OK" for name in HAVE_TO_BE)
        domains = f"regexp:{postfix['postmaster_domains']},{_named(maps['own_domains'])}"
        others += [
            f"check_recipient_access inline:{{{here}}}",
            f"check_recipient_access pipemap:{{{domains},static:OK}}",
        ]
    if "blocked_clients" in maps:
        others.append(f"check_client_access {_named(maps['blocked_clients'])}")
    if "blocked_senders" in maps:
        others.append(f"check_sender_access {_named(maps['blocked_senders'])}")
    return {CLASS: of_an_account, PARAMETER: [*logins, *others], "smtpd_end_of_data_restrictions": logins}


def _named(table: Mapping[str, Any]) -> str:
    return f"{table['type']}:{table['path']}"


def named_filter(directory: Mapping[str, Any]) -> str:
    """Return the search that finds an account by whichever name its user types (ldap_table(5)).

    It is that of logins, and finds who can't log in any more, as well: a session may have been open before. Of a filter
    that compares a part of the name behind the @, Postfix would ask nothing for a name without one; there the account
    is found by its attributes alone.

    :param directory: the site's, its attributes of names among it.
    """
    login = searches.login_filter(directory["login"])
    tokens = set(re.findall(r"%(.)", login))
    own = re.sub(r"%(.)", lambda token: {"u": "%s", "U": "%u"}.get(token[1], token[0]), login)
    if tokens <= {"u", "U", "%"}:
        return own if own.startswith("(") else f"({own})"
    names = "".join(f"({each}=%s)" for each in directory["named_attributes"])
    return f"(|{names})"
