"""The schema of the site pillar itself: what it says of each key holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from smtpout_core.site import reading
from smtpout_core.site import schema as schema_rules
from support import REPOSITORY


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Return the schema of the site pillar."""
    return yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8"))


def test_the_schema_is_json_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_default_and_example_is_right(schema: dict[str, Any]) -> None:
    def tried(node: Any, path: str) -> int:
        if isinstance(node, list):
            return sum(tried(part, path) for part in node)
        if not isinstance(node, dict):
            return 0
        said = [*([node["default"]] if "default" in node else []), *node.get("examples", [])]
        for value in said:
            assert schema_rules.problems(value, {**node, "$defs": schema["$defs"]}, path) == []
        within = [key for key in ("properties", "patternProperties", "$defs") if key in node]
        parts = [(part, f"{path}:{name}") for key in within for name, part in node[key].items()]
        parts += [(node.get(key), path) for key in ("items", "additionalProperties", "propertyNames", "anyOf", "oneOf")]
        return len(said) + sum(tried(*part) for part in parts)

    assert tried(schema, "smtpout") > 50


def keys(node: Any, path: str) -> Iterator[tuple[str, Any, bool]]:
    """Yield every key of a schema, whether in a mapping of names or not: path, what it says, whether it is required."""
    for name, part in node.get("properties", {}).items():
        yield f"{path}:{name}", part, name in node.get("required", ())
        yield from keys(part, f"{path}:{name}")
    if isinstance(node.get("additionalProperties"), dict):
        yield from keys(node["additionalProperties"], f"{path}:<name>")


def test_every_key_has_a_type_a_meaning_a_default_and_an_example(schema: dict[str, Any]) -> None:
    found = {path: (part, required) for path, part, required in keys(reading.read(schema), "smtpout")}
    assert {"smtpout:postfix:maps:<name>:type", "smtpout:opendkim:domains:<name>:selector"} <= found.keys()
    for path, (part, required) in found.items():
        meaning = part.get("description", "")
        assert part["types"], f"{path}: no type"
        assert meaning, f"{path}: no meaning"
        assert part.get("examples"), f"{path}: no example"
        said = any(word in meaning for word in ("Default, ", "Without ", "needed with "))
        assert required or "default" in part or said, f"{path}: nothing says what holds without it"
