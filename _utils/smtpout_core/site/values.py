"""The kinds of text that each daemon's configuration file can hold, as formats of the pillar's schema.

A value that would be read back as another, or open a second option, has no form that could be written: it is refused
with its pillar path before anything is rendered. ``test/unit/test_writers.py`` holds each rule against the daemon.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from smtpout_core.site import formats, written

# A line can have 1016 bytes for OpenDKIM (config.c) and 1023 for ClamAV (optparser.c); an option's name is short.
_LONGEST = 900
LINES = ("main-value", "master-value")
"""Formats of values that may stand on several lines."""


def known() -> dict[str, tuple[str, Callable[[object], str | None]]]:
    """Return every format as ``formats.known`` does: what it takes, in words, and the function that checks it."""
    return {name: (right, functools.partial(problem, name)) for name, (right, _) in _FORMATS.items()}


def problem(format: str, value: object) -> str | None:
    """Return what is wrong with ``value``; None for nothing, and for what isn't text.

    :param format: one of ``known``.
    :param value: what to check.

    Raises KeyError for an unknown format.
    """
    if not isinstance(value, str):
        return None
    if format in LINES:
        value = written.folded(value)
    if wrong := formats.problem("single-line", value):
        return wrong
    if value != value.strip():
        return "it begins or ends with a blank, which gets lost"
    return _FORMATS[format][1](value)


def _main(_text: str) -> str | None:
    """postconf(5): whatever stands in a line is the value; what is missing in ``${name`` Postfix says itself."""
    return None


def _master(text: str) -> str | None:
    """master(5), ``-o { name = value }``: the closing brace is found by counting."""
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            break
    return "its braces are not in pairs, and it stands between braces itself" if depth else None


def _opendkim(text: str) -> str | None:
    """OpenDKIM's config.c: a # begins a comment, wherever it stands."""
    return "OpenDKIM takes a # and what follows it for a comment" if "#" in text else _short(text)


def _clamav(text: str) -> str | None:
    """ClamAV's optparser.c: a quotation mark in front wants another one behind."""
    return "ClamAV drops a quotation mark in front" if text.startswith('"') else _short(text)


def _saslauthd(text: str) -> str | None:
    """The file lak.c of saslauthd: an option without a value is an error, which it keeps to itself."""
    return None if text else "it is empty; null leaves the option out"


def _short(text: str) -> str | None:
    if not text:
        return "it is empty; null leaves the option out"
    return f"it has more than {_LONGEST} bytes, and the line would be cut" if len(text.encode()) > _LONGEST else None


_FORMATS: dict[str, tuple[str, Callable[[str], str | None]]] = {
    "clamav-value": ("a value that ClamAV reads back as it is", _clamav),
    "main-value": ("a value that main.cf can hold", _main),
    "master-value": ("a value that master.cf can hold", _master),
    "opendkim-value": ("a value that OpenDKIM reads back as it is", _opendkim),
    "saslauthd-value": ("a value that saslauthd reads back as it is", _saslauthd),
}
