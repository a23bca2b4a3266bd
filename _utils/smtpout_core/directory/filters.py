"""The filters that Postfix and saslauthd make of the site's patterns.

Needs ldap3, as :mod:`smtpout_core.directory.ask` does, which asks with them.
"""

from __future__ import annotations

import re

from smtpout_core import packages


def postfix(pattern: str, address: str) -> str | None:
    """Return ``query_filter`` for an address; None where ldap_table(5) makes no query.

    :param pattern: The filter with Postfix's tokens.
    :param address: The whole address.
    """
    local, domain = address.rsplit("@", 1) if "@" in address else (address, "")
    tokens = {"s": address, "u": local, "d": domain} | _labels(domain)
    used = {token.lower() for token in re.findall(r"%([^%])", pattern.replace("%%", ""))}
    if any(not tokens.get(token) for token in used):
        return None
    return re.sub(r"%(.)", lambda token: "%" if token[1] == "%" else _escaped(tokens[token[1].lower()]), pattern)


def saslauthd(pattern: str, user: str) -> str:
    """Return ``ldap_filter`` for a user, as lak_expand_tokens() of saslauthd/lak.c does under ``-r``.

    :param pattern: The filter with saslauthd's tokens.
    :param user: Name as typed into the mail program.
    """
    local, _, domain = user.partition("@")
    realm = user.rsplit("@", 1)[1] if "@" in user else ""
    tokens = {"u": user, "U": local, "d": domain, "r": realm, "s": "smtp"} | _labels(domain)
    tokens["R"] = f"@{realm}" if realm else ""
    return re.sub(r"%(.)", lambda token: "%" if token[1] == "%" else _escaped(tokens.get(token[1], "")), pattern)


def _labels(domain: str) -> dict[str, str]:
    """Return a domain's labels as the tokens 1 to 9, from the top."""
    return {str(number): label for number, label in enumerate(reversed(domain.split(".")), start=1) if number < 10}


def _escaped(value: str) -> str:
    """Return a value as RFC 4515 wants it in a filter."""
    return packages.imported("ldap3.utils.conv", "ldap3").escape_filter_chars(value)
