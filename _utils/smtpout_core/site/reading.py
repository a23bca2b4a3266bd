"""The schema of the site pillar, read: every reference followed, every pattern and format at hand.

The schema is JSON Schema, draft 2020-12, in the part named by ``_CHECKING`` and ``_TELLING`` below. Four keywords are
its own:

x-secret
    The value, and all below it, is shown as ``(secret)``.
x-right
    What would be right, instead of what is derived from type, format, enum and pattern.
x-reason
    Why; follows a complaint about a range, a length, a choice or a pattern.
x-need
    The chapter of the reference that a key of the root, with all below it, stands in.

Whatever else a schema uses is refused: a keyword that is passed over would let a wrong pillar pass as right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from smtpout_core.errors import RelayError
from smtpout_core.site import formats, values


# fmt: off
_CHECKING = frozenset((
    "$ref", "type", "enum", "const", "anyOf", "oneOf",
    "minimum", "maximum", "minLength", "maxLength", "pattern", "format",
    "items", "minItems", "uniqueItems",
    "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
))
_TELLING = frozenset((
    "$schema", "$defs", "title", "description", "default", "examples", "x-secret", "x-right", "x-reason", "x-need",
))
# fmt: on
_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping",
}
_CONSTANTS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}

Node = dict[str, Any]


def read(schema: Mapping[str, Any]) -> Node:
    """Return ``schema`` as ``schema`` works with it.

    :param schema: a JSON Schema, see above.

    Each part of the schema stays a mapping of its keywords, with ``$ref`` replaced by what it names, and the keys of
    ``patternProperties`` by compiled expressions. Added are ``types``, the kinds of value that it takes (None: any);
    ``right``, what would be right in words (empty: anything); ``regex``, the compiled ``pattern``; and ``check``, the
    function behind ``format`` (see ``formats`` and ``values``).

    :raises RelayError: for what is not supported.
    """
    known = {**formats.known(), **values.known()}
    return _Reader(schema.get("$defs", {}), known).node(schema, "#")


class _Reader:
    def __init__(self, definitions: Mapping[str, Any], formats: Mapping[str, Any]) -> None:
        self.definitions = definitions
        self.formats = formats

    def node(self, part: Any, where: str, following: tuple[str, ...] = ()) -> Node:
        """Return one part of the schema; ``following`` are the references that led to it."""
        if part is True:
            part = {}
        if not isinstance(part, Mapping):
            raise _unsupported(where, "neither a mapping nor true")
        while "$ref" in part:
            name, part = self.followed(part, where)
            if name in following:
                raise _unsupported(where, f"$ref {name} leads back to itself")
            following = (*following, name)
        if unknown := [str(keyword) for keyword in part if keyword not in _CHECKING | _TELLING]:
            raise _unsupported(where, f"keyword {unknown[0]}")
        node = dict(part)
        self.read_parts(node, where, following)
        if "pattern" in node:
            node["regex"] = _compiled(node["pattern"], where)
        if "format" in node:
            if node["format"] not in self.formats:
                raise _unsupported(where, f"format {node['format']}")
            node["check"] = self.formats[node["format"]][1]
        node["types"] = _types(node, where)
        node["right"] = self.right(node)
        return node

    def read_parts(self, node: Node, where: str, following: tuple[str, ...]) -> None:
        """Replace the schemas within ``node`` by their nodes."""
        for keyword in ("items", "propertyNames", "additionalProperties"):
            if keyword in node and (keyword, node[keyword]) != ("additionalProperties", False):
                node[keyword] = self.node(node[keyword], f"{where}/{keyword}", following)
        for keyword in ("anyOf", "oneOf"):
            if keyword in node:
                node[keyword] = [self.node(branch, f"{where}/{keyword}", following) for branch in node[keyword]]
        for keyword in ("properties", "patternProperties"):
            if keyword in node:
                node[keyword] = {
                    key: self.node(part, f"{where}/{key}", following) for key, part in node[keyword].items()
                }
        if "patternProperties" in node:
            node["patternProperties"] = {_compiled(key, where): part for key, part in node["patternProperties"].items()}

    def followed(self, part: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
        """Return the reference's name and what it names, with the texts beside the reference laid over it."""
        beside = {keyword: value for keyword, value in part.items() if keyword != "$ref"}
        name = str(part["$ref"])
        definition = self.definitions.get(name.removeprefix("#/$defs/"))
        if not name.startswith("#/$defs/") or not isinstance(definition, Mapping):
            raise _unsupported(where, f"$ref {name}, which is no part of $defs")
        if beside.keys() & _CHECKING:
            raise _unsupported(where, f"{min(beside.keys() & _CHECKING)} beside $ref")
        return name, {**definition, **beside}

    def right(self, node: Node) -> str:
        """Return what would be right, in words."""
        if "x-right" in node:
            return node["x-right"]
        if "const" in node or "enum" in node:
            constants = [_written(constant) for constant in _constants(node)]
            return constants[0] if len(constants) == 1 else f"one of {', '.join(constants)}"
        if "format" in node:
            return self.formats[node["format"]][0]
        if "type" in node:
            return " or ".join(_KINDS[kind] for kind in _listed(node["type"]))
        return " or ".join(branch["right"] for branch in _branches(node))


def _types(node: Node, where: str) -> frozenset[str] | None:
    constants = [_CONSTANTS.get(type(constant), "") for constant in _constants(node)]
    branches = [branch["types"] for branch in _branches(node)]
    if "" in constants:
        raise _unsupported(where, "a list or a mapping in enum or const")
    if "type" in node:
        types = set(_listed(node["type"]))
    elif constants:
        types = set(constants)
    elif branches and None not in branches:
        types = set().union(*branches)
    else:
        return None
    if not types <= _KINDS.keys():
        raise _unsupported(where, f"type {min(map(str, types - _KINDS.keys()))}")
    if "number" in types or (constants and "integer" in types and "type" not in node):
        types |= {"integer", "number"}  # 1 is a number, and 1.0 is the 1 of an enum
    return frozenset(types)


def _constants(node: Node) -> list[Any]:
    return [node["const"]] if "const" in node else node.get("enum", [])


def _branches(node: Node) -> list[Node]:
    return node.get("anyOf") or node.get("oneOf") or []


def _listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _written(constant: object) -> str:
    return constant if isinstance(constant, str) else json.dumps(constant)


def _compiled(pattern: str, where: str) -> re.Pattern[str]:
    """Return ``pattern`` as JSON Schema means it: ``$`` is the very end, where Python would let a line break follow."""
    try:
        return re.compile(re.sub(r"(\\.|\[(?:\\.|[^\]])*\])|\$", lambda part: part[1] or r"\Z", pattern), re.ASCII)
    except re.error as error:
        raise _unsupported(where, f"pattern {pattern} ({error})") from error


def _unsupported(where: str, what: str) -> RelayError:
    return RelayError(f"The pillar's schema, at {where}: not supported: {what}")
