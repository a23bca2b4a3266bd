"""A file that no template makes: its content comes from whoever is asked for it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from smtpout_core import files
from smtpout_core.change.parts import Content, Part


class Made(Part):
    """A file whose content is made once it is asked for."""

    def __init__(
        self, path: str, make: Callable[[], bytes], mode: int, secret: str = "", *, restart: bool = False
    ) -> None:
        self.path, self.make, self.mode, self.secret, self.restart = path, make, mode, secret, restart

    @cached_property
    def data(self) -> bytes:
        """The content."""
        return self.make()

    @property
    def wanted(self) -> str:
        """Return the digest of the content."""
        return hashlib.sha256(self.data).hexdigest()

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:  # noqa: ARG002 - the file tells
        """Return ``content``, ``mode`` and ``owner``, as far as they differ; the content itself isn't shown."""
        if not os.path.lexists(self.path) or os.path.islink(self.path):
            return {"content": "new"}
        status = os.stat(self.path)
        mode, owner = stat.S_IMODE(status.st_mode), files.owner(status.st_uid, status.st_gid)
        change = {
            "content": "another (not shown)" if files.digest(self.path) != self.wanted else "",
            "mode": f"{mode:04o} -> {self.mode:04o}" if mode != self.mode else "",
            "owner": f"{owner} -> root:root" if owner != "root:root" else "",
        }
        return {name: value for name, value in change.items() if value} or None

    def contents(self, folder: str) -> dict[str, Content]:  # noqa: ARG002 - nothing is made on the way
        """Return the content with its mode."""
        return {self.path: Content(self.data, self.mode)}
