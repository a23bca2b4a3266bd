"""The site pillar held against its schema, before anything is installed.

Plain Python, since Salt ships no validator of JSON Schema. What a schema may say is told in ``reading``. Two rules are
stricter than JSON Schema's: 2048.0 is not an integer, since a daemon would read it as it stands; and what JSON cannot
hold (a date, infinity, a key that is not text, data that contains itself) is refused wherever it stands.
"""

from __future__ import annotations

import copy
import datetime as dt
import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from smtpout_core.site import reading

_CONTAINERS = frozenset(("array", "object"))
_NUMBERS = frozenset(("integer", "number"))
_CONSTANTS = frozenset(("const", "enum"))
_YAML_BOOLEANS = {True: ("y", "yes", "true", "on"), False: ("n", "no", "false", "off")}
_DEEPEST = 40  # lists and mappings in each other
_LONGEST = 60  # characters of a text that are shown

Node = dict[str, Any]


class _Problem(NamedTuple):
    """``verdict`` follows the value; ``hint`` follows the verdict, with its own punctuation."""

    path: str
    value: str | None
    verdict: str
    hint: str = ""


class _Place(NamedTuple):
    """Where a value stands; ``within`` are the ids of the lists and mappings around it."""

    path: str
    secret: bool = False
    within: tuple[int, ...] = ()

    def problem(self, value: object, verdict: str, hint: str = "") -> _Problem:
        """Return a problem of the value here; a hint may quote the value, so there is none for a secret."""
        return _Problem(self.path, "(secret)" if self.secret else shown(value), verdict, "" if self.secret else hint)


def problems(value: object, schema: Mapping[str, Any], path: str = "smtpout") -> list[dict[str, str | None]]:
    """Return every way in which ``value`` is not what ``schema`` says, in the value's own order.

    :param value: whatever the pillar holds; no input makes this raise.
    :param schema: a JSON Schema, see ``reading``.
    :param path: pillar path of ``value``, the first part of every path returned.

    Each problem has ``path`` (``smtpout:domains:0``), ``value`` (what was found as an error shows it: short, escaped,
    ``(secret)`` for a secret; None where nothing was found) and ``message`` (what is wrong and what would be right).

    :raises RelayError: when the schema itself uses what is not supported.
    """
    found = dict.fromkeys(_checked(value, reading.read(schema), _Place(path)))
    return [{"path": p.path, "value": p.value, "message": _printable(p.verdict + p.hint)} for p in found]


def sentences(problems: list[dict[str, str | None]]) -> list[str]:
    """Return one sentence a problem, such as ``smtpout:opendkim:bits: 512 is below 1024``.

    :param problems: as ``problems`` returns them.
    """
    return [f"{p['path']}: {p['value'] + ' ' if p['value'] else ''}{p['message']}" for p in problems]


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds where the pillar is silent: each key's ``default``, nested as the keys are.

    :param schema: a JSON Schema, see ``reading``. A key with neither a default nor keys of its own is left out; a
        mapping's own default is laid over those of its keys.

    :raises RelayError: when the schema itself uses what is not supported.
    """
    return _default(reading.read(schema))


def _default(node: Node) -> Any:
    own = copy.deepcopy(node.get("default", {}))
    if "properties" not in node:
        return own
    below = {key: _default(part) for key, part in node["properties"].items() if {"default", "properties"} & part.keys()}
    return below | own


def reference(schema: Mapping[str, Any], path: str = "smtpout") -> str:
    """Return the reference of the pillar in Markdown, by need: key, what it takes, default, meaning, example.

    :param schema: a JSON Schema, see ``reading``.
    :param path: pillar path of the schema's root.

    :raises RelayError: when the schema itself uses what is not supported.
    """
    whole = reading.read(schema)
    tables: dict[str, list[tuple[str, ...]]] = {}
    for key, part in whole.get("properties", {}).items():
        tables.setdefault(part.get("x-need", ""), []).extend(_rows({**whole, "properties": {key: part}}, path))
    head: list[tuple[str, ...]] = [("Key", "Takes", "Default", "Meaning", "Example"), ("---",) * 5]
    return "\n".join(
        (f"## {need}\n\n" if need else "") + "".join(f"| {' | '.join(row)} |\n" for row in [*head, *rows])
        for need, rows in tables.items()
    )


def _rows(node: Node, path: str) -> Iterator[tuple[str, ...]]:
    for key, part in node.get("properties", {}).items():
        default = _code(part["default"]) if "default" in part else "required" if key in node.get("required", ()) else ""
        example = _code(part["examples"][0]) if "examples" in part else ""
        yield f"`{path}:{key}`", _cell(_takes(part)), default, _cell(part.get("description", "")), example
        yield from _rows(part, f"{path}:{key}")
    for part in (*node.get("patternProperties", {}).values(), node.get("additionalProperties")):
        if part:
            yield from _rows(part, f"{path}:<name>")
    for part in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _rows(part, path)
    if "items" in node:
        yield from _rows(node["items"], f"{path}:<number>")


def _takes(node: Node) -> str:
    rest = node.get("additionalProperties") or {}
    if "items" in node:
        return f"{node['right']}, each {node['items']['right']}"
    if rest.get("right"):
        return f"{node['right']} from {node.get('propertyNames', {}).get('right') or 'a name'} to {rest['right']}"
    bounds = [f"{word} {node[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in node]
    return " ".join([node["right"], *bounds])


def _code(value: object) -> str:
    return f"`{_cell(json.dumps(value, ensure_ascii=False, default=str))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _checked(value: Any, node: Node, place: _Place) -> Iterator[_Problem]:
    """Yield what is wrong with ``value``, and with all below it."""
    if node.get("x-secret"):
        place = place._replace(secret=True)
    kind, types = _kind(value), node.get("types")
    if kind is None:
        yield _odd(value, place)
    elif id(value) in place.within:
        yield place.problem(value, "contains itself")
    elif len(place.within) > _DEEPEST:
        yield place.problem(value, f"is nested more than {_DEEPEST} deep")
    elif types is not None and kind not in types:
        yield _mistyped(value, kind, node, place)
    else:
        yield from _constant_problems(value, node, place)
        if kind in _NUMBERS:
            yield from _range_problems(value, node, place)
        elif kind == "string":
            yield from _text_problems(value, node, place)
        elif kind == "array":
            yield from _array_problems(value, node, place)
        elif kind == "object":
            yield from _object_problems(value, node, place)
        yield from _choice_problems(value, kind, node, place)


def _kind(value: object) -> str | None:
    """Return the JSON Schema type of ``value``; None for what JSON cannot hold."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, (list, tuple)):
        return "array"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number" if math.isfinite(value) else None
    return "null" if value is None else None


def _odd(value: object, place: _Place) -> _Problem:
    if isinstance(value, dt.date):
        return place.problem(value, "is a date; put it in quotes")
    return place.problem(value, "is not a finite number" if isinstance(value, float) else "cannot stand in a pillar")


def _mistyped(value: Any, kind: str, node: Node, place: _Place) -> _Problem:
    verdict = f"is not {node['right']}"
    if kind == "null":
        verdict += ": it was left empty"
    elif any(_kind(other) in node["types"] and not any(_checked(other, node, place)) for other in _requoted(value)):
        verdict += "; take the quotes off" if kind == "string" else "; put it in quotes"
    found = place.problem(value, verdict)
    if kind in {"string", *_NUMBERS} and node["types"] <= _CONTAINERS | {"null"}:
        # not shown: a mapping written wrongly may well hold a secret
        return found._replace(value="text" if kind == "string" else "a number")
    return found


def _requoted(value: Any) -> list[Any]:
    """Return what YAML would have read with quotes around ``value``, or without those that it had."""
    if isinstance(value, str):
        booleans = [truth for truth, words in _YAML_BOOLEANS.items() if value.lower() in words]
        return [int(value)] if re.fullmatch(r"-?[0-9]{1,18}", value) else booleans
    if isinstance(value, bool):
        return [written for word in _YAML_BOOLEANS[value] for written in (word, word.title(), word.upper())]
    return [_bare(value)] if isinstance(value, (int, float)) else []


def _reason(node: Node) -> str:
    return f", {node['x-reason']}" if "x-reason" in node else ""


def _constant_problems(value: Any, node: Node, place: _Place) -> Iterator[_Problem]:
    for keyword in _CONSTANTS & node.keys():
        allowed = node["enum"] if keyword == "enum" else [node["const"]]
        if not any(_same(value, constant) for constant in allowed):
            yield place.problem(value, f"is not {node['right']}{_reason(node)}", _nearest(value, allowed))


def _range_problems(value: float, node: Node, place: _Place) -> Iterator[_Problem]:
    if value < node.get("minimum", value):
        yield place.problem(value, f"is below {node['minimum']}{_reason(node)}")
    if value > node.get("maximum", value):
        yield place.problem(value, f"is above {node['maximum']}{_reason(node)}")
    yield from _format_problems(value, node, place)


def _format_problems(value: Any, node: Node, place: _Place) -> Iterator[_Problem]:
    wrong = node["check"](value) if "check" in node else None
    if wrong is not None:
        yield place.problem(value, f"is not {node['right']}", f": {wrong}" if wrong else "")


def _text_problems(value: str, node: Node, place: _Place) -> Iterator[_Problem]:
    misformed = list(_format_problems(value, node, place))
    yield from misformed
    if "regex" in node and not misformed and not node["regex"].search(value):
        right = f"is not {node['x-right']}" if "x-right" in node else f"does not match {node['pattern']}"
        yield place.problem(value, right + _reason(node))
    if len(value) < node.get("minLength", 0):
        short = f"is shorter than {node['minLength']} characters{_reason(node)}"
        yield place.problem(value, short if value else "is empty")
    if len(value) > node.get("maxLength", len(value)):
        yield place.problem(value, f"is longer than {node['maxLength']} characters{_reason(node)}")


def _array_problems(value: list[Any], node: Node, place: _Place) -> Iterator[_Problem]:
    items = node.get("items", {})
    if len(value) < node.get("minItems", 0):
        yield _Problem(place.path, None, f"{len(value) or 'no'} entries, at least {node['minItems']} must be there")
    first: dict[Any, str] = {}
    for index, item in enumerate(value):
        secret = place.secret or items.get("x-secret", False)
        where = _Place(f"{place.path}:{index}", secret, (*place.within, id(value)))
        wrong = list(_checked(item, items, where))
        yield from wrong
        if not wrong and node.get("uniqueItems"):
            earlier = first.setdefault(_frozen(item), where.path)
            if earlier != where.path:
                yield where.problem(item, f"repeats {earlier}")


def _object_problems(value: Mapping[Any, Any], node: Node, place: _Place) -> Iterator[_Problem]:
    properties, rest = node.get("properties", {}), node.get("additionalProperties", {})
    for name in node.get("required", ()):
        if name not in value:
            right = properties.get(name, {}).get("right")
            yield _Problem(f"{place.path}:{name}", None, f"missing; must be {right}" if right else "missing")
    for key, item in value.items():
        where = _Place(f"{place.path}:{_bare(key)}", place.secret, (*place.within, id(value)))
        if not isinstance(key, str):
            yield _Problem(where.path, "the key", "is not text", "; put it in quotes" if _requoted(key) else "")
            continue
        for wrong in _checked(key, node.get("propertyNames", {}), _Place(where.path)):
            yield wrong._replace(value="the key")
        parts = [part for regex, part in node.get("patternProperties", {}).items() if regex.search(key)]
        parts += [properties[key]] if key in properties else []
        if not parts and rest is False:
            known = f"; known: {', '.join(properties)}" if properties else ""
            yield _Problem(where.path, None, "unknown key", _nearest(key, properties) or known)
        else:
            for part in parts or [rest]:
                yield from _checked(item, part, where)


def _choice_problems(value: Any, kind: str, node: Node, place: _Place) -> Iterator[_Problem]:
    for keyword in ("anyOf", "oneOf"):
        if keyword not in node:
            continue
        outcomes = [(branch, list(_checked(value, branch, place))) for branch in node[keyword]]
        fitting = [branch["right"] for branch, wrong in outcomes if not wrong]
        if not fitting:
            yield from _nearest_branch(value, kind, outcomes, node, place)
        elif keyword == "oneOf" and len(fitting) > 1:
            yield place.problem(value, f"fits more than one of: {'; '.join(fitting)}")


def _nearest_branch(
    value: Any, kind: str, outcomes: list[tuple[Node, list[_Problem]]], node: Node, place: _Place
) -> Iterator[_Problem]:
    """Yield the problems of the branch that was meant.

    That is the only one of the value's type, or, for a list or a mapping, the one with the fewest problems; where
    several are for a scalar, all that can be said is what would be right for any.
    """
    meant = [wrong for branch, wrong in outcomes if branch["types"] is None or kind in branch["types"]]
    if len(meant) == 1 or (meant and kind in _CONTAINERS):
        yield from min(meant, key=len)
    else:
        secret = place.secret or any(branch.get("x-secret") for branch, _ in outcomes)
        hints = [problem.hint for wrong in meant for problem in wrong if problem.hint]
        yield place._replace(secret=secret).problem(value, f"is not {node['right']}", hints[0] if hints else "")


def _same(one: object, other: object) -> bool:
    """Compare scalars as JSON does: 1 is 1.0, but true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _frozen(value: Any) -> Any:
    """Return something hashable, equal for values that are the same all through."""
    if isinstance(value, Mapping):
        return "object", frozenset((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "array", tuple(map(_frozen, value))
    return isinstance(value, bool), value


def _nearest(value: object, known: Iterable[object]) -> str:
    """Return a hint at the nearest of the ``known`` texts; none, where none is near."""
    texts = [text for text in known if isinstance(text, str)]
    near = difflib.get_close_matches(value[:_LONGEST], texts, 1) if isinstance(value, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def shown(value: object) -> str:
    """Return ``value`` as an error shows it: text in quotes, and of a list or a mapping only that it is one."""
    if isinstance(value, str):
        return f'"{_bare(value)}"'
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else _bare(value)


def _bare(value: Any) -> str:
    """Return a scalar as one short printable line, without quotes."""
    if isinstance(value, str):
        return _printable(value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}...")
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 200 else f"a number of {value.bit_length()} bits"
    return str(value) if isinstance(value, (float, dt.date)) else f"data of type {type(value).__name__}"


def _printable(text: str) -> str:
    """Return ``text`` with everything escaped that could break a line, or a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
