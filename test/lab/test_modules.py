"""What the modules' docstrings show a person to type works on an applied relay, as it stands there."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from support import REPOSITORY

from lab.conftest import Applied

WRITE = ("opendkim.generate_key", "smtpout.import_pillar", "smtpout_certificate.create_self_signed")
"""Functions that make a file: their examples are for a host of one's own."""
NEED = ("smtpout_drain.finish", "smtpout_drain.hand_over", "smtpout_drain.rescue")
"""Functions that need an empty queue, another relay or a dead one's disk: test_drain has those."""


def examples() -> Iterator[tuple[str, str]]:
    """Yield each function that a person may call, and its example: a line for a shell."""
    for path in sorted((REPOSITORY / "_modules").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                _, _, shown = (ast.get_docstring(node) or "").partition("CLI Example:")
                lines = (line.strip() for line in shown.splitlines())
                yield f"{path.stem}.{node.name}", next((line for line in lines if line.startswith("salt-call ")), "")


def test_each_function_has_an_example_of_itself() -> None:
    shown = dict(examples())
    assert [function for function, line in shown.items() if f" {function}" not in line] == []
    assert {*WRITE, *NEED} < shown.keys()


@pytest.mark.timeout(600)
def test_each_example_that_only_reads_works_on_an_applied_relay(on_bookworm: Applied) -> None:
    relay = on_bookworm.lab.host("relay")
    numbers = [number for generation in on_bookworm.lab.salt("smtpout.history") for number in generation]
    kept = f"difference {numbers[-1]} {numbers[0]}"
    lines = [line.replace("difference 41 42", kept) for function, line in examples() if function not in WRITE + NEED]
    failed = {}
    for line in lines:
        done = relay.run(["bash", "-o", "pipefail", "-c", line], check=False, timeout=120)
        if done.returncode != 0:
            failed[line] = f"{done.returncode}: {done.stdout}{done.stderr}"
    assert failed == {}
