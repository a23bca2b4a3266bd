"""What README generates from the schema is current."""

from __future__ import annotations

import pytest
import yaml
from smtpout_core.site import schema as schema_rules
from support import REPOSITORY

README = REPOSITORY / "README.md"


def current(part: str, generated: str, update: bool) -> None:
    """Hold a generated part of README against what it is generated from, or write it."""
    begin, end = f"<!-- {part}:begin -->\n", f"<!-- {part}:end -->"
    before, rest = README.read_text(encoding="utf-8").split(begin)
    written, after = rest.split(end)
    if update:
        README.write_text(before + begin + generated + end + after, encoding="utf-8")
    else:
        assert written == generated, "what README is generated from has changed: bin/test unit -k readme --update"


def test_the_pillar_reference_is_what_the_schema_says(request: pytest.FixtureRequest) -> None:
    schema = yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8"))
    current("reference", "\n" + schema_rules.reference(schema) + "\n", request.config.getoption("--update"))


def test_the_platform_table_is_what_the_platforms_say(request: pytest.FixtureRequest) -> None:
    listed = yaml.safe_load((REPOSITORY / "smtpout/platforms.yaml").read_text(encoding="utf-8"))
    lines = ["", "| Platform | Names | Proof | Not confirmed |", "| --- | --- | --- | --- |"]
    for name, facts in listed.items():
        if not name.startswith("_"):
            names = ", ".join(facts["names"])
            lines.append(f"| `{name}` | {names} | {facts['proof']} | {facts.get('unconfirmed', '')} |")
    current("platforms", "\n".join([*lines, "", ""]), request.config.getoption("--update"))
