"""What the relay shows of itself to strangers, and of its users to receivers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smtpout_core.site import written


def unmentioned(site: dict[str, Any], postfix: dict[str, Any], trusted: Iterable[str]) -> dict[str, str]:
    """Return what EHLO doesn't mention, by network, as a cidr table: to strangers no reports of success (RFC 3461).

    What the site itself leaves out stays out: smtpd(8) asks its own parameter only where this table has nothing.

    :param site: the site's, in one form.
    :param postfix: the settings' of Postfix.
    :param trusted: networks that are no strangers'.
    """
    chunking = {"append": "chunking"} if "smtpd_forbid_bare_newline" in postfix["unknown_options"] else None
    own = written.words(site["postfix"]["main"].get("smtpd_discard_ehlo_keywords", chunking))
    to_all, to_strangers = (", ".join(dict.fromkeys([*own, *more, "silent-discard"])) for more in ((), ("dsn",)))
    return dict.fromkeys(trusted, to_all) | {"0.0.0.0/0": to_strangers, "::/0": to_strangers}


def users_header_checks(site: dict[str, Any], privacy: str, authors: str) -> dict[str, str]:
    """Return what cleanup(8) looks for in users' headers: the site's own tables, behind the formula's.

    :param site: the site's, in one form.
    :param privacy: path of the table that hides where they write from.
    :param authors: of that by which a ``From:`` without an address is refused.
    """
    main = site["postfix"]["main"]
    own = _tables(main.get("header_checks"))
    nested = _tables(main.get("nested_header_checks", own))
    made = [privacy] if site["privacy"]["hide_client"] else []
    made += [authors] if site["directory"]["senders"] != "any" else []
    tables = [*(f"regexp:{path}" for path in made), own]
    return {"header_checks": ", ".join(filter(None, tables)), "nested_header_checks": nested}


def _tables(given: Any) -> str:
    """Return the tables that a site names, beside the formula's (``prepend``, ``append``) or instead."""
    return ", ".join(str(each) for each in (given.values() if isinstance(given, Mapping) else [given]) if each)
