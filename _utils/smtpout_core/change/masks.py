"""What of a file may be shown: of a secret one the names of its options, and of its values those that are no secret."""

from __future__ import annotations

import difflib
import io
import re

OPTIONS = "options"
"""A secret file of options: the values of those that are called as secrets are may not be shown."""

VALUES = "values"
"""A secret table: none of its values may be shown."""

ALL = "all"
"""A private key: nothing of it may be shown, nor kept by a generation."""

STRICTEST = (ALL, VALUES, OPTIONS, "")

SHOWN = "(secret)"
SECRET_NAME = re.compile(r"pass|pw|secret|token|credential|key", re.IGNORECASE)
OPTION = re.compile(r"^([A-Za-z_][\w-]*)(\s*[:=]\s*|\s+)(.*)$")
ENTRY = re.compile(r"^([^\s#]\S*\s+)(.*)$")
LOGIN_IN_URL = re.compile(r"//\S+@")
QUERY_OF_URL = re.compile(r"(\w://[^\s?]*\?)\S+")


def masked(text: str, secret: str) -> str:
    """Return a text with what may be secret replaced.

    A line that isn't a name and a value is hidden whole, be it a comment, where an old password may stand, or the rest
    of the line before it. So are logins and questions within URLs.

    :param secret: what of it is: ``OPTIONS``, ``VALUES``, ``ALL``, or an empty text for nothing.
    """
    if not secret:
        return text
    return "".join(_line(line, secret) for line in lines(text))


def unified(old: str, new: str, secret: str, before: str, after: str) -> str:
    """Return the unified diff of two texts, of which nothing is shown that may not be; an empty one of two alike.

    :param secret: as for ``masked``.
    :param before: what the old one is called.
    :param after: likewise, the new one.
    """
    if old == new:
        return ""
    if "\0" in old + new:
        return "another database (not shown)"
    was, now = (lines(masked(text, secret)) for text in (old, new))
    if was == now:
        return "only what is secret changed (not shown)"
    compared = difflib.unified_diff(was, now, before, after)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in compared)


def lines(text: str) -> list[str]:
    """Return the lines of a text with their ends; splitlines() would part a password at a form feed as well."""
    return list(io.StringIO(text))


def _line(line: str, secret: str) -> str:
    bare = line.rstrip("\r\n")
    end = line[len(bare) :]
    if not bare.strip():
        return line
    named = ENTRY.match(bare) if secret == VALUES else OPTION.match(bare) if secret == OPTIONS else None
    if not named:
        return f"{SHOWN}{end}"
    if secret == VALUES:
        return f"{named[1]}{SHOWN}{end}"
    name, between, value = named.groups()
    if SECRET_NAME.search(name):
        value = SHOWN if value else value
    value = QUERY_OF_URL.sub(rf"\1{SHOWN}", LOGIN_IN_URL.sub(f"//{SHOWN}@", value))
    return f"{name}{between}{value}{end}"
