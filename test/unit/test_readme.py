"""What README and the pillar reference generate is current."""

from __future__ import annotations

import pytest
import yaml
from smtpout_core.site import schema as schema_rules
from support import REPOSITORY

SCHEMA = yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8"))


def current(document: str, part: str, generated: str, update: bool) -> None:
    """Hold a generated part of a document against what it is generated from, or write it."""
    path, begin, end = REPOSITORY / document, f"<!-- {part}:begin -->\n", f"<!-- {part}:end -->"
    before, rest = path.read_text(encoding="utf-8").split(begin)
    written, after = rest.split(end)
    if update:
        path.write_text(before + begin + generated + end + after, encoding="utf-8")
    else:
        assert written == generated, f"what {document} is generated from has changed: bin/test unit -k readme --update"


def test_the_pillar_reference_is_what_the_schema_says(request: pytest.FixtureRequest) -> None:
    generated = f"\n{schema_rules.reference(SCHEMA)}\n"
    current("docs/pillar.md", "reference", generated, request.config.getoption("--update"))


def test_each_key_of_a_site_stands_in_a_chapter_of_the_reference() -> None:
    assert [key for key, part in SCHEMA["properties"].items() if not part.get("x-need")] == []


def test_the_platform_table_is_what_the_platforms_say(request: pytest.FixtureRequest) -> None:
    listed = yaml.safe_load((REPOSITORY / "smtpout/platforms.yaml").read_text(encoding="utf-8"))
    lines = ["", "| Platform | Names | Proof | Not confirmed |", "| --- | --- | --- | --- |"]
    for name, facts in listed.items():
        if not name.startswith("_"):
            names = ", ".join(facts["names"])
            lines.append(f"| `{name}` | {names} | {facts['proof']} | {facts.get('unconfirmed', '')} |")
    current("README.md", "platforms", "\n".join([*lines, "", ""]), request.config.getoption("--update"))
