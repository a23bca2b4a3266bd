"""What is asked about logins: whether saslauthd answers, and who can log in and not send."""

from __future__ import annotations

from typing import Any

from smtpout_core.daemons import saslauthd
from smtpout_core.directory import names


def daemon(settings: dict[str, Any]) -> str:
    """Return where saslauthd answers."""
    path: str = settings["saslauthd"]["socket"]
    saslauthd.ping(path)
    return path


def who_cannot_send(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Return that users log in with names that Postfix can't compare, if any do."""
    if not (found := names.divided(settings)):
        return []
    other = ", or log in with another of the forms" if settings["directory"]["login_attributes"][1:] else ""
    why = "for a blank, a comma or a letter beyond ASCII in the name that they log in with"
    seen = f"{len(found)} can't, {why}: {_some(found)}; rename them{other}"
    return [("users can send with their own addresses", seen)]


def who_cannot_log_in(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Return that two accounts have the same name, where users log in with one of several, if any do."""
    if not settings["directory"]["login_attributes"][1:] or not (found := names.shared(settings)):
        return []
    seen = f"{len(found)} of them are two accounts', and log nobody in: {_some(found)}; change one account's"
    return [("users can log in with each of their names", seen)]


def who_is_no_delegate(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Return that entries of the directory name more delegates than the relay looks at, if any do."""
    if not (found := names.crowded(settings)):
        return []
    most = settings["directory"]["most_delegates"]
    seen = f"{_some(found)} has more than {most} delegates, and the others can't; name fewer, or have a group send"
    return [("delegates can send with the addresses of others", seen)]


def _some(found: list[str]) -> str:
    return ", ".join(map(repr, found[:3])) + (", ..." if len(found) > 3 else "")
