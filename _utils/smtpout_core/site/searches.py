"""What is searched for in a site's directory: who may log in, which recipients there are, who owns a sender's address.

A name that somebody logs in with is worth nothing by itself: it is whose the search for logins finds with it, and
saslauthd refuses a name with which that finds two. So who owns an address is found by nothing that finds more, and is
told by those attributes alone that the search compares a name with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

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

# What a preset finds besides people: in Active Directory groups have an account name, too.
PEOPLE = {"account_name": "(objectClass=user)", "upn": "(objectClass=user)"}

# Of Active Directory: an account that is disabled (ADS_UF_ACCOUNTDISABLE, compared bit by bit), and membership in a
# group, or in one within it ([MS-ADTS] 3.1.1.3.4.4).
DISABLED = "(userAccountControl:1.2.840.113556.1.4.803:=2)"
MEMBERS = "(memberOf:1.2.840.113556.1.4.1941:={})"
HOLDERS = "(member:1.2.840.113556.1.4.1941:={})"

# An account by its name (DN), in Active Directory and elsewhere (RFC 5020). What a server doesn't know of the two is
# neither true nor false (RFC 4511).
NAMED = "(|(distinguishedName={0})(entryDN={0}))"

# How many delegates of one entry are looked at: a Postfix table answers with all of them at once, and each has to be
# asked for by itself.
DELEGATES = 20

# msExchRecipientTypeDetails of the mailboxes whose accounts Exchange disables: linked, shared, room, equipment, and the
# last three where they lie in its cloud.
MAILBOXES = (2, 4, 16, 32, 34359738368, 8589934592, 17179869184)


def presets() -> dict[str, list[str]]:
    """Return the names that stand for a search: of ``logins`` and of ``recipients``."""
    return {"logins": list(LOGINS), "recipients": list(RECIPIENTS)}


def listed(value: str | list[str]) -> list[str]:
    """Return one or several values of a key as a list.

    :param value: as the pillar has it.
    """
    return [value] if isinstance(value, str) else list(value)


def login_filter(login: str | list[str]) -> str:
    """Return what saslauthd searches with.

    :param login: ``directory:login``: a preset, several, or a filter.
    """
    if isinstance(login, str):
        return LOGINS[login][0] if login in LOGINS else login
    forms = "".join(_parenthesised(LOGINS[name][0]) for name in login)
    either = f"(|{forms})" if login[1:] else forms
    people = _people(login)
    return f"(&{people}{either})" if people else either


def compared(ldap_filter: str) -> dict[str, bool]:
    """Return the attributes that a filter compares with what the user typed, and whether with that and nothing else.

    :param ldap_filter: with saslauthd's tokens.
    """
    items = re.findall(
        r"\(\s*([A-Za-z][A-Za-z0-9-]*)(?:[:;][^=()]*)?=([^()]*%[uU][^()]*)\)", _parenthesised(ldap_filter)
    )
    return {attribute: value.strip() == "%u" for attribute, value in items}


def derived(directory: dict[str, Any]) -> dict[str, Any]:
    """Return the searches of a site.

    :param directory: what stands below ``smtpout:directory`` over the schema's defaults.
    """
    login = directory["login"]
    logged_in_by = login_filter(login)
    presets = [LOGINS[name][1] for name in listed(login) if name in LOGINS]
    attributes = listed(directory.get("login_attribute", presets))
    recipient_filter = _served(directory)
    named = "".join(f"({each}=*)" for each in attributes)
    of_a_filter = _anybody(logged_in_by) if isinstance(login, str) else ""
    parts = [of_a_filter, f"(|{named})" if attributes[1:] else named, _people(listed(login))]
    kept_out = list(_kept_out(directory))
    accounts = "".join(dict.fromkeys([*parts, *kept_out]))
    # smtpd parts owners at commas and blanks. No filter finds blanks: OpenLDAP takes "(mail=* *)" for everybody, Samba
    # for nobody; they are left to a table behind this one (postfix/senders.regexp.jinja).
    whole = "".join(f"(!({each}=*,*))" for each in attributes)
    ways = listed(directory["delegates"])
    delegating = [each for each in ways if each not in ("none", "group_members")]
    return {
        # By which an account is known whose user logs in: in any of its forms (site/blocked.py).
        "named_attributes": attributes or list(compared(logged_in_by)),
        "login_filter": "".join(["(&", _parenthesised(logged_in_by), *kept_out, ")"]) if kept_out else logged_in_by,
        "login_attributes": attributes,
        "login_query": _of_a_table("".join(["(&", _parenthesised(logged_in_by), *kept_out, ")"])),
        "recipient_filter": recipient_filter,
        "account_filter": f"(&{accounts})",
        "owner_filter": f"(&{_parenthesised(recipient_filter)}{accounts}{whole})",
        # Of whoever logs in with a name, the addresses that the recipients' search finds them by.
        "sender_filter": f"(&{accounts}{whole}(|{''.join(f'({each}=%s)' for each in attributes)}))",
        "address_attributes": list(addressed(recipient_filter)),
        # Postfix could follow a group's members by itself (special_result_attribute, ldap_table(5)), but then takes
        # them with whatever name they have. Asked for as accounts, they are none but who can log in.
        "group_filter": f"(&{_parenthesised(recipient_filter)}(objectClass=group))",
        "group_attribute": "distinguishedName",
        "member_filter": f"(&{accounts}{whole}{MEMBERS.format('%s')})",
        "members_send": "group_members" in ways,
        # Whoever an entry names, likewise: Postfix would follow those names to the delegates' own delegates.
        "delegating": delegating,
        "delegating_filter": f"(&{_parenthesised(recipient_filter)}{filled(delegating)})",
        "delegate_filter": f"(&{accounts}{whole}{NAMED.format('%s')})",
        "most_delegates": DELEGATES,
    }


def filled(attributes: list[str], value: str = "*") -> str:
    """Return what finds the entries that have a value in one of several attributes.

    :param attributes: their names.
    :param value: as a filter has it; any by itself.
    """
    return f"(|{''.join(f'({each}={value})' for each in attributes)})"


def addressed(recipient_filter: str) -> dict[str, str]:
    """Return what stands before an address in each attribute that a filter compares with one, by the attribute.

    :param recipient_filter: with Postfix's tokens.
    """
    return dict(re.findall(r"\(\s*([A-Za-z][\w;.-]*)=([^()%*]*)%s\)", f"({recipient_filter})"))


def _kept_out(directory: dict[str, Any]) -> Iterator[str]:
    """Yield what keeps accounts from logging in, and so from owning an address."""
    if directory["disabled_accounts"] != "get_mail":
        yield f"(!{DISABLED})"
    if "members_of" in directory:
        escaped = re.sub(r"[\\()*]", lambda found: f"\\{ord(found[0]):02x}", directory["members_of"])
        yield MEMBERS.format(escaped)


def _served(directory: dict[str, Any]) -> str:
    """Return what finds the recipients."""
    recipients = RECIPIENTS.get(directory["recipients"], directory["recipients"])
    if directory["disabled_accounts"] == "get_mail":
        return recipients
    # Groups and contacts have no userAccountControl, and comparing with nothing is neither true nor false (RFC 4511).
    marked = "".join(f"(msExchRecipientTypeDetails={kind})" for kind in MAILBOXES)
    others = marked if directory["disabled_accounts"] == "mailboxes" else ""
    return f"(&{_parenthesised(recipients)}(|(!(userAccountControl=*))(!{DISABLED}){others}))"


def _people(login: list[str]) -> str:
    """Return what keeps groups out, where a preset finds them."""
    return next((PEOPLE[name] for name in login if name in PEOPLE), "")


def _anybody(login_filter: str) -> str:
    """Return a login filter that finds all who can log in, as ldap_table(5) has it; nothing where no wildcard fits.

    An extensible match compares with a whole value (RFC 4515).
    """
    if re.search(r":=[^)]*%[^%]", login_filter):
        return ""
    filled = re.sub(r"%(.)", lambda token: "%%" if token[1] == "%" else "*", login_filter)
    return _parenthesised(re.sub(r"\*+", "*", filled))


def _of_a_table(login_filter: str) -> str:
    """Return a login filter with ldap_table(5)'s tokens instead of saslauthd's (LDAP_SASLAUTHD)."""
    tokens = {"u": "%s", "U": "%u", "d": "%d", "r": "%d", "R": "@%d", "s": "smtp", "%": "%%"}
    return re.sub(
        r"%(.)", lambda token: tokens.get(token[1], f"%{token[1]}" if token[1].isdigit() else ""), login_filter
    )


def _parenthesised(ldap_filter: str) -> str:
    """Return a filter that can stand in another one; libldap takes ``a=b`` too."""
    return ldap_filter if ldap_filter.startswith("(") else f"({ldap_filter})"
