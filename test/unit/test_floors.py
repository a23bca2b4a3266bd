"""What modules and states import is built in floors: each room imports from those below it, and nothing of Salt."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import REPOSITORY

CORE = REPOSITORY / "_utils/smtpout_core"
FILES = sorted(CORE.rglob("*.py"))
# From the ground up; what stands on one floor may import from it, too.
FLOORS = [
    {"errors"},
    {"code", "command", "files", "folder", "listener", "packages", "sockets"},
    {"host"},
    {"site"},
    {"change"},
    {"directory", "guard"},
    {"daemons"},
    {"dns", "promises"},
    {"stages"},
    {"verify"},
]


def room(path: Path) -> str:
    """Return the room that a file belongs to: its folder, or itself."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    """Return how high a room lies."""
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, in full."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_no_arrow_points_upward(path: Path) -> None:
    below = [name.split(".")[1] for name in imported(path) if name.startswith("smtpout_core.")]
    assert path.parent != CORE or path.name != "__init__.py" or below == []
    if room(path) != "__init__":
        assert [name for name in below if floor(name) > floor(room(path))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_nothing_of_salt_is_in_it(path: Path) -> None:
    assert [name for name in imported(path) if name.partition(".")[0] == "salt"] == []
    names = {node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    dunders = {"__salt__", "__opts__", "__grains__", "__pillar__", "__context__", "__states__", "__env__"}
    assert names & dunders == set()


def test_every_room_lies_on_a_floor() -> None:
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert {name for rooms_of_one in FLOORS for name in rooms_of_one} == rooms
