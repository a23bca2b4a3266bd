"""A lookup table, and the aliases, as parts of what Postfix runs with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smtpout_core import files
from smtpout_core.change import masks
from smtpout_core.change.parts import Content, Part, digest
from smtpout_core.daemons.postfix import holding, maps
from smtpout_core.errors import NotInstalledError, RelayError, os_errors_told
from smtpout_core.site import map_format

PROGRAM = "postalias"


class Table(Part):
    """A table with these entries: its text and, where it has one, its database."""

    def __init__(
        self, path: str, type: str, entries: Mapping[str, Any], *, secret: bool = False, bare: bool = False
    ) -> None:
        self.path, self.type, self.entries = path, type, entries
        self.secret = masks.VALUES if secret else ""
        self.bare = bare
        self.mode = 0o600 if secret else 0o644

    @property
    def paths(self) -> tuple[str, ...]:
        """Return text and database."""
        return tuple(maps.files(self.path, self.type))

    @property
    def wanted(self) -> str:
        """Return the digest of its type and its text."""
        return digest([self.type, map_format.text(self.entries)])

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:
        """Return what would be ``added``, ``removed`` and ``changed`` by key, and the access of its ``files``."""
        access = f"root:root {self.mode:04o}"
        if self._lies_as_built(placed):
            found = holding.difference({}, {}, dict.fromkeys(self.paths, ""), access)
        else:
            table = {"type": self.type, "program": "postmap", "config_directory": None}
            found = holding.difference(*holding.compared(self.path, self.entries, table, bare=self.bare), access)
        return holding.presentable(found, bool(self.secret)) if found else None

    def _lies_as_built(self, placed: Mapping[str, str | None]) -> bool:
        """Tell whether its files are those that were built of these entries, and the Postfix of today can read them.

        To build ten thousand entries again and compare takes a quarter of a second.
        """
        if not all(path in placed and files.digest(path) == placed[path] for path in self.paths):
            return False
        try:
            maps.query(self.path, self.type, "smtpout")
        except RelayError:
            return False
        return True

    def contents(self, folder: str) -> dict[str, Content]:
        """Build it in a folder."""
        place = folder + self.path
        os.makedirs(os.path.dirname(place), mode=0o700)
        built = maps.build(place, self.type, self.entries, mode="0600")
        return {path.removeprefix(folder): Content(Path(path).read_bytes(), self.mode) for path in built}


class Aliases(Part):
    """The database of the host's own aliases, whose text is the administrator's."""

    def __init__(self, text: str, type: str, *, bare: bool = False) -> None:
        self.text, self.type, self.bare = text, type, bare
        self.path = maps.files(text, type, program=PROGRAM)[-1]
        self.made_from = (text,)

    @property
    def wanted(self) -> str:
        """Return the digest of the text."""
        return digest([self.type, files.digest(self.text)])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the lines that newaliases would warn of, and leave out."""
        try:
            said = maps.check(self.text, self.type, program=PROGRAM) if os.path.exists(self.text) else []
        except NotInstalledError:
            said = []
        return (f"{self.text}: {'; '.join(said)}",) if said else ()

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:  # noqa: ARG002 - entries tell
        """Return what would be ``added``, ``removed`` and ``changed`` by name, and the access of the database."""
        table = {"type": self.type, "program": PROGRAM, "config_directory": None}
        wanted, held, notes = holding.compared(self.text, None, table, bare=self.bare)
        notes = {path: note for path, note in notes.items() if path == self.path}
        found = holding.difference(wanted, held, notes, "root:root 0644")
        return holding.presentable(found, False) if found else None

    def contents(self, folder: str) -> dict[str, Content]:
        """Build it in a folder, from the text that is there; nothing where Postfix's package is still to bring it."""
        if self.bare and not os.path.exists(self.text):
            return {}
        place = folder + self.text
        os.makedirs(os.path.dirname(place), mode=0o700)
        with os_errors_told():
            shutil.copyfile(self.text, place)
        built = maps.build(place, self.type, program=PROGRAM)
        return {path.removeprefix(folder): Content(Path(path).read_bytes(), 0o644) for path in built}
