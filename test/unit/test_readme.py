"""What README generates from the schema is current."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support import REPOSITORY

README = REPOSITORY / "README.md"
BEGIN, END = "<!-- reference:begin -->\n", "<!-- reference:end -->"


def test_the_pillar_reference_is_what_the_schema_says(modules: Any, request: pytest.FixtureRequest) -> None:
    schema = yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8"))
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    written, after = rest.split(END)
    generated = "\n" + modules["pillar_schema.reference"](schema) + "\n"
    if request.config.getoption("--update"):
        README.write_text(before + BEGIN + generated + END + after, encoding="utf-8")
    else:
        assert written == generated, "smtpout/schema.yaml has changed: bin/test unit -k reference --update"
