"""Files that the site's own parameters name, and that Postfix's daemons read once, when they start.

Not tables with an index (hash, lmdb ...): Postfix looks whether they are others (DATABASE_README).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Tables that are text, and those whose configuration is (DATABASE_README), wherever they stand: in pipemap:{...}, too.
TABLE = re.compile(r"\b(?:cidr|pcre|regexp|texthash|ldap|mysql|pgsql|sqlite|memcache|mongodb):(/[^\s,{}]+)")

WRITTEN_TABLE = re.compile(r"\b(?:cidr|pcre|regexp|texthash|hash|btree|lmdb|cdb|dbm|sdbm):(/[^\s,{}]+)")

# Parameters whose value is a file, such as smtp_tls_CAfile, or a list that a file may stand in, such as mynetworks
# (postconf(5), "/file/name"). A log is written.
FILES = re.compile(
    r".*(?:file|files|networks|destinations?|clients|interfaces|domains|hosts|exceptions|exclusions|users|list)"
)
WRITTEN = ("maillog_file",)
BARE = re.compile(r"(?:^|[\s,!])(/[^\s,{}]+)")

VARIABLE = re.compile(r"\$(?:\{(\w+)\}|\((\w+)\)|(\w+))")
DEPTH = 5
"""How often a parameter's value may name another one's."""


def by_the_site(facts: Mapping[str, Any]) -> list[str]:
    """Return the files that parameters of main.cf and options of services name.

    :param facts: those of Postfix, with what the pillar says of it as ``main`` and ``services``.
    """
    return list(dict.fromkeys(path for name, text in _said(facts) for path in _named(name, text)))


def tables(facts: Mapping[str, Any]) -> list[str]:
    """Return the texts of the tables that they name, of those with an index as well: it lies beside its text.

    :param facts: as of :func:`by_the_site`.
    """
    return list(dict.fromkeys(path for _, text in _said(facts) for path in WRITTEN_TABLE.findall(text)))


def _said(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each value with its parameter's name, those that it names in their places."""
    main = {name: _text(value) for name, value in facts["main"].items()}
    known = {"config_directory": facts["directory"], **main}
    commands = [("command", _text(service.get("command"))) for service in facts["services"].values()]
    options = [
        (name, _text(value)) for each in facts["services"].values() for name, value in each.get("options", {}).items()
    ]
    for name, text in (*main.items(), *options, *commands):
        yield name, _expanded(text, known)


def _named(parameter: str, text: str) -> Iterator[str]:
    yield from TABLE.findall(text)
    if FILES.fullmatch(parameter) and parameter not in WRITTEN:
        yield from BARE.findall(text)


def _text(value: Any) -> str:
    """Return a value of the pillar as one text: of a list all items, of what is added to a parameter both ends."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return "" if value is None else str(value)


def _expanded(text: str, known: Mapping[str, str]) -> str:
    """Return a value with those it names in their places, as far as they are known."""
    for _ in range(DEPTH):
        text = VARIABLE.sub(lambda found: known.get(found[1] or found[2] or found[3], found[0]), text)
    return text
