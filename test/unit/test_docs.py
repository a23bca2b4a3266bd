"""What the documents name is there: files, programs, functions, pillar paths, states.

And the drawings are what their text says.
"""

from __future__ import annotations

import html
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from smtpout_core.site import reading
from support import REPOSITORY

DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted(REPOSITORY.glob("docs/*.md"))]
DRAWINGS = sorted(REPOSITORY.glob("docs/*.dot"))

# Of the shell, of the host (no test needs them), and Salt's.
ELSEWHERE = {"umask", "journalctl", "editor", "salt-call", "salt-ssh", "ldapwhoami"}


def fences(document: Path, language: str) -> Iterator[str]:
    """Yield the fenced blocks of a language; none has no language."""
    for _, found, block in re.findall(
        r"^( *)```(\w*)\n(.*?)^\1```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        if found == language:
            yield block


def commands(document: Path) -> Iterator[list[str]]:
    """Yield the commands of a document's shell blocks, as the shell would part them."""
    for block in fences(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
            lexer.whitespace_split = True
            command: list[str] = []
            for word in [*lexer, ";"]:
                if word in {";", "|", "||", "&&"}:
                    if command:
                        yield command
                    command = []
                else:
                    command.append(word)


def each(documents: list[Path]) -> Any:
    """Make a test of each document."""
    return pytest.mark.parametrize("document", documents, ids=lambda path: path.name)


@each(DOCUMENTS)
def test_links_lead_to_what_is_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if not re.match(r"https?:", target):
            assert (document.parent / target.partition("#")[0]).exists(), target


@each(DOCUMENTS)
def test_commands_are_programs_and_functions_that_are_there(document: Path, modules: Any) -> None:
    for command in commands(document):
        program = command[1] if command[0] == "sudo" else command[0]
        if program.startswith("bin/"):
            assert (REPOSITORY / program).exists(), command
        else:
            assert program in ELSEWHERE or shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"), command
        asked = command[command.index("--ask") + 1].split()[0] if "--ask" in command else None
        if program == "salt-call":
            asked = next(word for word in command[1:] if not word.startswith("-"))
        if asked and asked != "FUNCTION":
            assert asked in modules, command


@each(DOCUMENTS)
def test_pillar_paths_are_in_the_schema(document: Path) -> None:
    schema = reading.read(yaml.safe_load((REPOSITORY / "smtpout/schema.yaml").read_text(encoding="utf-8")))
    text = document.read_text(encoding="utf-8")
    for output in fences(document, ""):  # which may be about a wrong one
        text = text.replace(output, "")
    for path in set(re.findall(r"\bsmtpout((?::[a-z_0-9<>./-]+)+)", text)):
        node = schema
        for key in path.strip(":").split(":"):
            branches = [node, *node.get("anyOf", ())]
            node = next((each for each in branches if key in each.get("properties", {})), node)
            below = node.get("properties", {}).get(key, node.get("additionalProperties"))
            if not isinstance(below, dict):  # an index of a list, or a native option's name
                assert below is not False, f"smtpout{path}"
                assert node.get("items") or "additionalProperties" in node, f"smtpout{path}"
                break
            node = below


def state_ids() -> set[str]:
    """Return the IDs of all states."""
    texts = [path.read_text(encoding="utf-8") for path in REPOSITORY.glob("smtpout/**/*.sls")]
    return {identifier for text in texts for identifier in re.findall(r"^([^\s{#][^:\n]*):$", text, re.MULTILINE)}


@each(DOCUMENTS)
def test_outputs_name_states_that_are_there(document: Path) -> None:
    for block in fences(document, ""):
        for state in re.findall(r"^  (?:FAILED  |changed |would   |not run ) ([^:\n]+)", block, re.MULTILINE):
            assert state in state_ids(), state


@pytest.mark.parametrize("source", DRAWINGS, ids=lambda path: path.name)
def test_a_drawing_shows_what_its_source_says(source: Path) -> None:
    text = re.sub(r"^\s*//.*$", "", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    drawn = html.unescape(source.with_suffix(".svg").read_text(encoding="utf-8"))
    shown = {line.strip() for line in re.findall(r"<text[^>]*>(.*?)</text>", drawn)}
    titles = set(re.findall(r"<title>(.*?)</title>", drawn))
    said = {
        line.strip()
        for label in re.findall(r'label="(.*?)"', text)
        for line in re.split(r"\\[nl]", label)
        if line.strip()
    }
    edges = {
        f"{one}->{other}"
        for chain in re.findall(r"^\s*(\w+(?: -> (?:\w+|\{[\w ]+\}))+)", text, re.MULTILINE)
        for left, right in zip(chain.split(" -> "), chain.split(" -> ")[1:], strict=False)
        for one in left.strip("{} ").split()
        for other in right.strip("{} ").split()
    }
    nodes = {node for edge in edges for node in edge.split("->")}
    unlabelled = nodes - set(re.findall(r"^\s*(\w+) \[[^\n]*label=", text, re.MULTILINE))
    redraw = f"dot -Tsvg docs/{source.name} -o docs/{source.stem}.svg"
    assert len(said) > 20
    assert shown == said | unlabelled, redraw
    assert titles - {"cluster_relay", source.stem} == nodes | edges, redraw


def test_the_drawing_of_files_names_states_that_are_there() -> None:
    text = (REPOSITORY / "docs/files.dot").read_text(encoding="utf-8")
    labels = [label.replace("\\n", " ") for label in re.findall(r'state_\w+ \[label="(.*?)"', text)]
    assert len(labels) == 10
    assert set(labels) <= state_ids()


@each(DOCUMENTS)
def test_no_document_releases_what_is_held(document: Path) -> None:
    # Requeued mail isn't filtered again: ALL without a queue's name would deliver quarantined viruses (postsuper(1)).
    assert re.findall(r"postsuper -[rH] ALL(?! deferred)", document.read_text(encoding="utf-8")) == []
