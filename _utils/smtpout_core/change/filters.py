"""How a value is written into a daemon's configuration: the filters of the formula's templates.

Each function is pure. What can't be written as one value is refused with a ``RelayError`` that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smtpout_core.errors import RelayError


def native(value: Any) -> str:
    """Return a pillar value as a daemon writes it: ``yes`` and ``no`` for booleans, anything else as text.

    :raises RelayError: the value holds a line break or a NUL, which would begin another option.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if re.search(r"[\r\n\0]", text):
        raise RelayError("a value of more than one line can't be written into a configuration file")
    return text


def lua(value: str) -> str:
    """Return a text as Lua writes it."""
    return '"' + re.sub(r'[\\"\x00-\x1f]', lambda found: f"\\{ord(found[0]):03d}", value) + '"'


def overridden(text: str, options: Mapping[str, Any], separator: str = " ", unknown: tuple[str, ...] = ()) -> str:
    """Return a configuration text with the site's own options merged in.

    :param text: lines of ``name<separator>value``; comments and blank lines stay as they are.
    :param options: by name: a value replaces the line's, a list makes one line of each item, ``None`` removes the line,
        and a mapping adds to it (``prepend``, ``append``). An option that ``text`` doesn't have is added at its end.
    :param separator: what stands between name and value.
    :param unknown: options that the installed version doesn't know: their lines are left out.
    """
    remaining = dict(options)
    lines = []
    for line in text.removesuffix("\n").split("\n"):  # splitlines() would part a password at a form feed as well
        name = _name(line, separator)
        if name in unknown:
            continue
        if name in options:
            if name in remaining:
                lines += _lines(name, _with(line, remaining.pop(name), separator), separator)
        else:
            lines.append(line)
    if alone := [name for name, value in remaining.items() if isinstance(value, Mapping)]:
        raise RelayError(
            f"smtpout:postfix:main:{alone[0]}: smtpout writes none that could be added to; write all of it"
        )
    added = [line for name, value in remaining.items() for line in _lines(name, value, separator)]
    if added:
        lines += ["", "# From the site's pillar.", *added]
    return "\n".join(lines).strip("\n") + "\n"


def master_cf(services: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the lines of master.cf, one service each with its options below (master(5)).

    :param services: by ``name/type``, with the columns private, unpriv, chroot (``y``, ``n`` or ``-``), wakeup
        (seconds), maxproc (processes), command, and ``options`` as main.cf parameters.
    """
    lines = []
    for key, service in services.items():
        name, kind = key.rsplit("/", 1)
        columns = [service.get(column, "-") for column in ("private", "unpriv")]
        columns += [service.get("chroot", "n"), service.get("wakeup", "-"), service.get("maxproc", "-")]
        lines.append(" ".join(f"{native(c):<9}" for c in (name, kind, *columns)) + " " + native(service["command"]))
        for option, value in service.get("options", {}).items():
            if value is not None:
                lines.append(f"  -o {{ {option} = {native(value)} }}")
    return "\n".join(lines) + "\n"


def _name(line: str, separator: str) -> str | None:
    """Return the option that a line sets, or ``None`` for a comment or a blank line."""
    if not line.strip() or line.lstrip().startswith(("#", "[")):
        return None
    return re.split(
        rf"\s*{re.escape(separator.strip())}\s*" if separator.strip() else r"\s+", line.strip(), maxsplit=1
    )[0]


def _with(line: str, value: Any, separator: str) -> Any:
    """Return an option's value, what it adds to the line's own beside that."""
    if not isinstance(value, Mapping):
        return value
    own = line.partition(separator.strip() or " ")[2].strip()
    parts = [value.get("prepend"), own, value.get("append")]
    return ", ".join(native(part) for part in parts if part not in (None, ""))


def _lines(name: str, value: Any, separator: str) -> list[str]:
    """Return the lines that set ``name``: none for ``None``, one for a value, one an item for a list."""
    if value is None:
        return []
    items = [native(item) for item in (value if isinstance(value, list) else [value])]
    return [f"{name}{separator}{item}" if item else f"{name}{separator}".rstrip() for item in items]
