"""The formula's own files of facts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smtpout_core.host import Host

Parse = Callable[[str], Any]
"""Reads a YAML text as Salt does, which has its own mind on dates, octal numbers and keys that are there twice."""


class Documents:
    """The formula's files below ``smtpout/``, each brought to the host and read once."""

    def __init__(self, host: Host, parse: Parse) -> None:
        self._host, self._parse = host, parse
        self._parsed: dict[str, Any] = {}
        self._read: dict[str, tuple[str, int]] = {}

    def __getitem__(self, name: str) -> Any:
        """Return what a YAML file says.

        :param name: as ``postfix/master.yaml``.
        :raises RelayError: the formula isn't whole.
        """
        if name not in self._parsed:
            self._parsed[name] = self._parse(self.text(name))
        return self._parsed[name]

    def text(self, name: str) -> str:
        """Return a file as it is.

        :param name: as ``postfix/main.cf.jinja``.
        :raises RelayError: the formula isn't whole.
        """
        self._read[name] = self._stamp(name)
        return Path(self._read[name][0]).read_text(encoding="utf-8")

    def current(self) -> bool:
        """Tell whether what was read is what is served: a minion may live longer than a version of the formula."""
        return all(self._stamp(name) == read for name, read in self._read.items())

    def _stamp(self, name: str) -> tuple[str, int]:
        """Return where a file is, and when it was written."""
        path = self._host.path(f"salt://smtpout/{name}")
        return path, os.stat(path).st_mtime_ns
