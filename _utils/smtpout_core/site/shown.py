"""What the relay shows of itself to strangers, and of its users to receivers."""

from __future__ import annotations

from collections.abc import Iterable
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


def users_header_checks(site: dict[str, Any], privacy: str) -> dict[str, str]:
    """Return what cleanup(8) looks for in users' headers: the site's own tables, behind that of their privacy.

    :param site: the site's, in one form.
    :param privacy: path of that table.
    """
    main = site["postfix"]["main"]
    own = str(main.get("header_checks") or "")
    nested = str(main.get("nested_header_checks", own) or "")
    return {"header_checks": ", ".join(filter(None, [f"regexp:{privacy}", own])), "nested_header_checks": nested}
