"""Broken pillars, derived one by one from right ones: always the same ones, in the same order."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

Path = tuple[str | int, ...]

# Text that a parser might trip over, alone and behind what stands there.
# fmt: off
NASTY = [
    "", " # a comment", '"', "\\", "${", "%s", "{", "a } b", "{{ 7 * 7 }}", ",", ":", ")(uid=*", "../../etc/shadow",
    "--help", "\nrelayhost = [203.0.113.9]", "\0", "\x1b[31m", "\ud800", "ñ", "x" * 5000,
]

# What stands where something else was meant.
OTHER = [None, True, -1, 10**30, float("nan"), "", " ", "0.0.0.0/0", [], {}]
# fmt: on


class Mutation(NamedTuple):
    """A broken pillar: what was done where, and what became of the site."""

    kind: str
    path: Path
    site: Any

    def __str__(self) -> str:
        """Say it as a failing test does."""
        return f"{':'.join(map(str, self.path))}: {self.kind}"


def mutations(site: Any, *beside: Any) -> Iterator[Mutation]:
    """Return everything that is done to a site, one thing at a time, where it differs from those ``beside`` it."""
    others = [dict(_places(other)) for other in beside]
    for path, value in _places(site):
        if any(path in other and other[path] == value for other in others):
            continue
        if path:
            yield Mutation("missing", path, _without(site, path))
        if path and isinstance(path[-1], str):
            for kind, name in _misspelt(path[-1]):
                moved = _replaced(site, (*path[:-1], name), value, new=True)
                yield Mutation(kind, path, _without(moved, path))
        for kind, other in _others(value):
            yield Mutation(kind, path, _replaced(site, path, other))


def _places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, (dict, list)):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield from _places(item, (*path, key))


def _misspelt(name: str) -> Iterator[tuple[str, Any]]:
    yield "misspelt", f"{name}s"
    yield "key in capitals", name.upper()
    yield "key with a line break", f"{name}\n"
    yield "key that is a number", 587


def _others(value: Any) -> Iterator[tuple[str, Any]]:
    for other in OTHER:
        yield f"{other!r} instead", other
    yield "in a list", [value]
    yield "in a mapping", {"value": value}
    if isinstance(value, str):
        for text in NASTY:
            yield f"{text[:20]!r} behind", value + text
        yield "a number sign in front", f"#{value}"
        yield "in capitals", value.upper()
        yield "as bytes", value.encode()
    elif isinstance(value, bool):
        yield "as text", str(value)
    elif isinstance(value, int):
        for other in (value - 1, value * 1000, str(value), float(value)):
            yield f"{other!r} instead", other
    elif isinstance(value, list):
        yield "twice", value * 2
        yield "in capitals twice", value + [item.upper() for item in value if isinstance(item, str)]
        yield "a hundred", [f"{number}.{item}" for number in range(100) for item in value]
    elif isinstance(value, dict):
        yield "a key too many", {**value, "nonsense": 1}
        yield "a nasty key", {**value, "a\nb #": "x"}
        yield "itself below", {**value, "deeper": copy.deepcopy(value)}


def _replaced(node: Any, path: Path, value: Any, *, new: bool = False) -> Any:
    """Return a copy of ``node`` with this value at a path; nothing else is copied."""
    if not path:
        return value
    changed = node.copy()
    changed[path[0]] = value if new and len(path) == 1 else _replaced(node[path[0]], path[1:], value, new=new)
    return changed


def _without(node: Any, path: Path) -> Any:
    changed = node.copy()
    if len(path) == 1:
        del changed[path[0]]
    else:
        changed[path[0]] = _without(node[path[0]], path[1:])
    return changed
