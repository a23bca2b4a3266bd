"""What a host remembers of its changes: below ``/var/lib/smtpout``, readable by root alone.

    lock             held by the run that is changing something
    whole.json       what the daemons run with: the last whole that proved itself
    originals.json   each file that smtpout has written, and whether something was there before
    generations/     the last wholes, numbered
    edited/          what was changed by hand, and was put back, by the time
    blocked/         who is blocked by command: not a run's, which never takes that back (daemons/postfix/blocks.py)
    drain/           whether the relay is drained: likewise (daemons/postfix/drained.py)
    dkim/            how far each DKIM key is: likewise (stages/record.py); it stays as long as the keys do
    change/          how everything was before the change that is under way (journal)
    staging/         the new whole, as long as the daemons' parsers read it

A lost whole.json costs a restart of the daemons, and nothing else: what was there before smtpout is remembered apart,
and the last generation knows the daemons' files and units. A lost originals.json costs nothing: either knows the files.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smtpout_core import files
from smtpout_core.change import masks
from smtpout_core.change.parts import Content
from smtpout_core.errors import RelayError, os_errors_told

ORIGINAL = ".ORG"
"""What is added to the name of a file that was there before smtpout."""

A_LOOK = 0.1
"""Seconds after which who only looks whether the lock is held has let go of it."""

KEPT = 10
"""How many generations are kept, and of how many times what was changed by hand."""


def _held(descriptor: int) -> bool:
    """Take the lock, and tell whether that was possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Memory:
    """What a host remembers."""

    def __init__(self, state_dir: str) -> None:
        self.folder = Path(state_dir)
        self.files = (self.folder / "whole.json", self.folder / "originals.json")
        self.edited = self.folder / "edited"

    def busy(self) -> bool:
        """Tell whether a run holds the lock. It is held for no longer than it takes to see that."""
        try:
            with open(self.folder / "lock", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def locked(self, test: bool = False) -> Iterator[None]:
        """Hold the one lock of the formula.

        :param test: make no lock where there is none yet.
        :raises RelayError: another run holds it.
        """
        path = self.folder / "lock"
        if test and not path.exists():
            yield
            return
        with os_errors_told():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _held(descriptor):
                time.sleep(A_LOOK)
                if not _held(descriptor):
                    raise RelayError("Another run is changing this relay. Run this again when it is done.")
            yield
        finally:
            os.close(descriptor)

    def whole(self) -> dict[str, Any]:
        """Return the last whole.

        :return: ``generation``; what each of the ``daemons`` runs with, in their order; what was ``proven`` to work;
            digests of what the site ``promised``, and of the ``terms``, None where that isn't known.
        """
        unknown = {"generation": 0, "daemons": {}, "proven": {}, "promised": None, "terms": None}
        return unknown | (self._read("whole.json") or self._last())

    def _last(self) -> dict[str, Any]:
        """Return what the last generation says of a whole whose record is lost."""
        return {
            name: generation[key]
            for generation in self.generations()[-1:]
            for name, key in (("generation", "number"), ("daemons", "daemons"))
        }

    def remember(self, whole: Mapping[str, Any]) -> None:
        """Write down what the daemons run with, if that is anything new."""
        if whole != self.whole() or not (self.folder / "whole.json").exists():
            self._write("whole.json", whole)

    def doubt(self, daemons: Iterable[str]) -> None:
        """Write down that nobody knows what these daemons run with; the next run restarts them."""
        whole = self.whole()
        for name in whole["daemons"].keys() & set(daemons):
            whole["daemons"][name]["doubted"] = True
        self.remember(whole)

    def rewritten(self, path: str, before: str | None, after: str | None) -> None:
        """Write down that whoever operates the relay has rewritten a file that was as it was put in place last.

        :param before: its digest then; another one is somebody's edit, and stays one.
        :param after: its digest now.
        """
        whole = self.whole()
        for record in whole["daemons"].values():
            if before and record.get("disk", {}).get(path) == before:
                record["disk"][path] = after
                self.remember(whole)

    def originals(self) -> dict[str, bool]:
        """Return by path whether something was there before smtpout wrote it; where that is lost, the whole tells."""
        return self._read("originals.json") or {
            path: os.path.lexists(path + ORIGINAL)
            for record in self.whole()["daemons"].values()
            for path in record.get("paths", [])
        }

    def keep_originals(self, paths: Iterable[str]) -> None:
        """Copy what is about to be written for the first time to ``<name>.ORG``."""
        known = self.originals()
        new = {path: os.path.lexists(path) for path in paths if path not in known}
        with os_errors_told():
            for path, there in new.items():
                if there and not os.path.lexists(path + ORIGINAL):
                    files.copy(path, path + ORIGINAL)
        if new:
            self._write("originals.json", known | new)

    def forget_originals(self, paths: Iterable[str]) -> None:
        """Forget files that are as they were before smtpout."""
        gone = set(paths)
        left = {path: there for path, there in self.originals().items() if path not in gone}
        if left != self.originals():
            self._write("originals.json", left)

    def keep_edited(self, sources: Mapping[str, str]) -> dict[str, str]:
        """Keep what files held that were changed by hand, and forget those before the last ten times.

        :param sources: where that lies, by their paths.
        :return: where it is kept, by their paths.
        """
        if not sources:
            return {}
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside, place = self.edited / ".new", self.edited / when
        with os_errors_told():
            number = 1
            while place.exists():
                number += 1
                place = self.edited / f"{when}-{number}"
            with _made_aside(aside, place):
                for path, source in sources.items():
                    _put(aside / path.lstrip("/"), Path(source).read_bytes())
            others = sorted(each.name for each in self.edited.iterdir() if each != place)
            for name in others[: 1 - KEPT]:
                shutil.rmtree(self.edited / name)
        return {path: f"{place}{path}" for path in sources}

    def keep_generation(self, generation: Mapping[str, Any], contents: Mapping[str, Content]) -> None:
        """Keep a whole that proved itself, and forget those before the last ten.

        :param generation: ``number``, ``time``, ``cause``, ``changed``, ``digest``, ``daemons`` with their ``paths``,
            ``units`` and ``working`` by name, ``files`` with their ``digest``, ``mode``, ``owner`` and what of them is
            ``secret`` by path, and digests of what is only ``read``.
        :param contents: of its files; of a private key no copy is kept.
        """
        number = generation["number"]
        aside, place = self.folder / "generations" / f".{number}", self.folder / "generations" / str(number)
        shown = {path for path, file in generation["files"].items() if file["secret"] != masks.ALL}
        with os_errors_told(place), _made_aside(aside, place):
            for path in contents.keys() & shown:
                _put(aside / "files" / path.lstrip("/"), contents[path].data)
            _put(aside / "generation.json", json.dumps(generation, indent=1).encode())
        for kept in self.generations()[:-KEPT]:
            self.drop_generation(kept["number"])

    def next_number(self) -> int:
        """Return the number of the next generation."""
        return 1 + max([self.whole()["generation"], *(generation["number"] for generation in self.generations())])

    def drop_generation(self, number: int) -> None:
        """Forget a whole that has not proved itself after all."""
        for name in (str(number), f".{number}"):
            shutil.rmtree(self.folder / "generations" / name, ignore_errors=True)

    def generations(self) -> list[dict[str, Any]]:
        """Return the generations that are kept, the oldest first."""
        found = []
        for place in (self.folder / "generations").glob("[0-9]*/generation.json"):
            try:
                found.append(json.loads(place.read_bytes()))
            except (OSError, ValueError):  # half of one is none
                continue
        return sorted(found, key=lambda generation: generation["number"])

    def text(self, number: int, path: str) -> str | None:
        """Return what a file held in a generation; None where it held a private key, or wasn't there."""
        kept = self.folder / "generations" / str(number) / "files" / path.lstrip("/")
        return kept.read_bytes().decode(errors="replace") if kept.is_file() else None

    def secret(self, path: str) -> str | None:
        """Return what of a file is secret, as strict as any generation has it; None where none has the file."""
        files_of_each = [generation["files"] for generation in self.generations()]
        found = [held[path]["secret"] for held in files_of_each if path in held]
        return min(found, key=masks.STRICTEST.index, default=None)

    def forget(self) -> None:
        """Forget everything but the lock, and what others have written: nothing of smtpout is left on this host."""
        with os_errors_told():
            for name in ("generations", "staging", "blocked", "drain"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            # The record comes last: where it is lost, the last generation is taken for what runs.
            for path in reversed(self.files):
                path.unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / name).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        with os_errors_told():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write(self.folder / name, json.dumps(data, indent=1).encode(), 0o600)


@contextmanager
def _made_aside(aside: Path, place: Path) -> Iterator[None]:
    """Have a folder filled aside, for root alone, and put in its place whole."""
    umask = os.umask(0o077)
    try:
        for old in (aside, place):
            shutil.rmtree(old, ignore_errors=True)
        yield
        os.rename(aside, place)
    finally:
        os.umask(umask)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
