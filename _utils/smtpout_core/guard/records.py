"""What was changed of the host's guards, by name, so that it can be taken back: JSON, readable by root alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smtpout_core import files
from smtpout_core.errors import os_errors_told


def recall(state_dir: str, name: str) -> dict[str, Any]:
    """Return what was remembered; nothing where it was lost, or never was.

    :param state_dir: where smtpout keeps what it remembers of the host.
    :param name: of the record.
    """
    try:
        found = json.loads(_path(state_dir, name).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(state_dir: str, name: str, record: Mapping[str, Any] | None) -> None:
    """Remember something, or forget it.

    :param record: None to forget.
    """
    path = _path(state_dir, name)
    with os_errors_told():
        if record is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, json.dumps(record, indent=1).encode(), 0o600)


def _path(state_dir: str, name: str) -> Path:
    return Path(state_dir, f"{name}.json")
