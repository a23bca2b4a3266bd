"""A file's text, from its template and the settings."""

from __future__ import annotations

import os
import re
import stat
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2

from smtpout_core import files
from smtpout_core.change import filters, masks
from smtpout_core.change.parts import Content, File, Part, digest
from smtpout_core.errors import RelayError
from smtpout_core.host import Host

BREAK = re.compile(r"[\r\n\0]")


class _Lines(str):
    """A text that a filter has made of several lines, each of them checked by it."""

    __slots__ = ()


class Templates:
    """The formula's templates: each gets ``settings``, and what the file's own context names."""

    def __init__(self, settings: Mapping[str, Any], host: Host) -> None:
        self.settings = settings
        self.host = host
        self.sources: dict[str, str] = {}
        compiled = Path(host.cache_dir)  # what the templates became, for the next run
        compiled.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(self._load),
            bytecode_cache=jinja2.FileSystemBytecodeCache(str(compiled)),
            undefined=jinja2.StrictUndefined,
            finalize=self._finalized,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self.environment.filters.update(
            native=filters.native,
            lua=filters.lua,
            overridden=filters.overridden,
            master_cf=lambda services: _Lines(filters.master_cf(services)),
        )

    def rendered(self, file: File) -> Rendered:
        """Return a file with its text.

        :raises RelayError: names the template and its line, for an undefined name too.
        """
        if file.secret and int(file.mode, 8) & 0o007:
            raise RelayError(f"{file.path}: mode {file.mode}: other users could read its secrets.")
        try:
            text = self.environment.get_template(file.source).render({**file.context, "settings": self.settings})
        except jinja2.TemplateNotFound as error:
            raise RelayError(f"{error.name}: there is no such template.") from error
        except Exception as error:
            at = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in self.sources]
            where, line = (
                (self.sources[at[-1].filename], at[-1].lineno) if at else (file.source, getattr(error, "lineno", "?"))
            )
            raise RelayError(f"{where}, line {line}: {error}") from error
        return Rendered(file, text)

    def _load(self, source: str) -> tuple[str, str, Callable[[], bool]]:
        path = self.host.cache_file(source)
        if not path:
            raise jinja2.TemplateNotFound(source)
        self.sources[path] = source
        read = os.stat(path).st_mtime_ns  # a minion may live longer than a template
        return Path(path).read_text(encoding="utf-8"), path, lambda: os.stat(path).st_mtime_ns == read

    def _finalized(self, printed: Any) -> Any:
        """Refuse a line break within a value, which would begin another option of the daemon."""
        if isinstance(printed, str) and not isinstance(printed, _Lines) and BREAK.search(printed):
            path = next((path for path, value in _strings(self.settings) if value == printed), "a value")
            raise ValueError(f"{path} holds a line break or a NUL; a line of a configuration can't.")
        return printed


class Rendered(Part):
    """A file whose text was rendered."""

    def __init__(self, file: File, text: str) -> None:
        self.file, self.made, self.operated = file, text, file.operated()
        self.text = self.operated.text(text) if self.operated else text
        self.path, self.restart = file.path, file.restart
        self.secret = masks.OPTIONS if file.secret else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what the relay's operation has made of it."""
        return (self.operated.told,) if self.operated else ()

    @property
    def wanted(self) -> str:
        """Return the digest of the text as the site has it: whoever operates the relay has its daemon read the rest."""
        return digest(self.made)

    def contents(self, folder: str) -> dict[str, Content]:  # noqa: ARG002 - nothing is made on the way
        """Return the text with its mode and owner."""
        return {self.path: Content(self.text.encode(), int(self.file.mode, 8), self.file.user, self.file.group)}

    def staged(self, contents: Mapping[str, Content], redirected: Callable[[bytes], bytes]) -> Mapping[str, Content]:
        """Return the text with the other parts named where they lie aside."""
        return {path: content._replace(data=redirected(content.data)) for path, content in contents.items()}

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, str] | None:  # noqa: ARG002 - texts tell
        """Return ``diff``, ``mode`` and ``owner`` ("old -> new"), as far as they differ."""
        return text_difference(self.path, self.text, self.file.mode, f"{self.file.user}:{self.file.group}", self.secret)


def text_difference(path: str, text: str, mode: str, owner: str, secret: str = "") -> dict[str, str] | None:
    """Return how a file on the disk differs from a text, a mode and an owner (``user:group``).

    A symbolic link is replaced, never followed: whoever may move it would choose what root writes to.
    """
    there, link = os.path.lexists(path), os.path.islink(path)
    change = {}
    try:
        old = Path(path).read_bytes().decode(errors="replace") if os.path.exists(path) else ""
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}") from error
    if not there or link or old != text:
        change["diff"] = masks.unified(old, text, secret, path, path)
    if there and not link:
        status = os.stat(path)
        now = f"{stat.S_IMODE(status.st_mode):04o}"
        if int(now, 8) != int(mode, 8):
            change["mode"] = f"{now} -> {mode}"
        if (has := files.owner(status.st_uid, status.st_gid)) != owner:
            change["owner"] = f"{has} -> {owner}"
    return change or None


def _strings(node: Any, path: str = "smtpout") -> Iterator[tuple[str, str]]:
    """Yield every string of the settings, after the pillar path it stands at."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, (dict, list, tuple)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _strings(child, f"{path}:{key}")
