"""Values as people write them in a pillar, in the one form that files and rules know.

Text on several lines and lists of Postfix's parameters are one line each; what a site adds to a parameter that the
formula writes stays apart, for the formula's value to be put beside it. Tables may be lists, whose order counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smtpout_core.site.map_format import is_flow


def one_form(site: Any) -> Any:
    """Return a site with each of Postfix's values in one form; what the schema has refused stays as it is.

    :param site: what stands below ``smtpout``, over the schema's defaults.
    """
    postfix = site.get("postfix") if isinstance(site, dict) else None
    if not isinstance(postfix, dict):
        return site
    made = dict(postfix)
    if isinstance(postfix.get("main"), dict):
        made["main"] = {name: value(each) for name, each in postfix["main"].items()}
    if isinstance(postfix.get("master"), dict):
        made["master"] = {name: _service(each) for name, each in postfix["master"].items()}
    if isinstance(postfix.get("maps"), dict):
        made["maps"] = {name: _table(each) for name, each in postfix["maps"].items()}
    return {**site, "postfix": made}


def value(given: Any) -> Any:
    """Return a parameter's value: a scalar, or what is added by ``prepend`` and ``append``."""
    if isinstance(given, Mapping):
        return {name: value(each) for name, each in given.items()}
    if isinstance(given, (list, tuple)) and not any(isinstance(each, (list, tuple, Mapping)) for each in given):
        return ", ".join(_text(each) for each in given)
    return folded(given) if isinstance(given, str) else given


def folded(text: str) -> str:
    """Return text of several lines as Postfix reads it, where each but the first begins with a blank (postconf(5))."""
    return re.sub(r"[ \t]*\r?\n\s*", " ", text.strip()) if "\n" in text else text


def words(given: Any) -> list[str]:
    """Return the words of a value of ``one_form``, with what is added to the formula's own."""
    parts = given.values() if isinstance(given, Mapping) else [given]
    return [word for part in parts if part is not None for word in re.split(r"[\s,]+", str(part)) if word]


def _text(given: Any) -> str:
    if isinstance(given, bool):
        return "yes" if given else "no"
    return folded(str(given)).rstrip(", ")


def _service(given: Any) -> Any:
    if not (isinstance(given, dict) and isinstance(given.get("options"), dict)):
        return given
    return {**given, "options": {name: value(each) for name, each in given["options"].items()}}


def _table(given: Any) -> Any:
    """Return a table whose entries are a mapping, or a list of pairs where its order counts."""
    if not isinstance(given, dict):
        return given
    entries = given.get("entries")
    if isinstance(entries, dict):
        return {**given, "entries": {key: value(each) for key, each in entries.items()}}
    if isinstance(entries, (list, tuple)):
        return {**given, "entries": [_entry(each) for each in entries]}
    return given


def _entry(given: Any) -> Any:
    """Return an item of a table's list as a pair: ``if``, ``endif`` and the like have no value."""
    if isinstance(given, str) and is_flow(given):
        return [given, ""]
    if isinstance(given, (list, tuple)) and len(given) == 2:
        return [given[0], value(given[1])]
    return given
