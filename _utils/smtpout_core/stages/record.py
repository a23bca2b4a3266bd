"""Which stage each DKIM key is in: what a relay remembers of its keys, below ``/var/lib/smtpout/dkim``, for root alone.

It is state of the relay's operation and part of no generation: no way back takes a stage back, as what receivers have
seen of a key can't be taken back either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smtpout_core import files
from smtpout_core.errors import RelayError, os_errors_told

MADE, PUBLISHED, ACTIVE, RETIRED, REMOVED = "made", "published", "active", "retired", "removed"
STAGES = (MADE, PUBLISHED, ACTIVE, RETIRED, REMOVED)
FOLDER, NAME = "dkim", "stages.json"
FOLDER_MODE, MODE = 0o700, 0o600


@dataclass(frozen=True)
class Key:
    """A key of a domain's, and how far it is.

    :param domain: what it signs as.
    :param selector: likewise.
    :param path: the private key's file.
    :param stage: ``made``, its file is there; ``published``, a server has its record; ``active``, mail is signed with
        it; ``retired``, it was, and mail on its way still is; ``removed``, nobody asks for its record any more.
    :param since: when it came to that stage, in seconds since 1970.
    :param complete: since when all servers have been seen to have its record; 0 where they haven't.
    :param public: by which the public key is known again (:func:`mark`).
    """

    domain: str
    selector: str
    path: str
    stage: str
    since: int
    complete: int = 0
    public: str = ""

    @property
    def id(self) -> tuple[str, str]:
        """Domain and selector."""
        return self.domain, self.selector

    @property
    def name(self) -> str:
        """The name of its record, without the root's dot (RFC 6376, 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


class Record:
    """What is remembered of a relay's keys.

    :param state_dir: of the host.
    """

    def __init__(self, state_dir: str) -> None:
        self.path = Path(state_dir, FOLDER, NAME)

    def read(self) -> list[Key]:
        """Return the keys, an empty list where nothing was ever remembered.

        :raises RelayError: what is remembered can't be read.
        """
        try:
            found = [Key(**each) for each in json.loads(self.path.read_bytes())]
            if all(isinstance(key.since + key.complete, int) and key.stage in STAGES for key in found):
                return found
            why = "a stage or a time isn't one"
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError, TypeError) as error:
            why = str(error)
        raise RelayError(
            f"{self.path} can't be read, so nobody knows which DKIM keys receivers may meet: {why}. Put it back from a "
            "backup; or remove it, and what signs today is taken for active by the next apply"
        )

    def write(self, keys: Iterable[Key]) -> None:
        """Remember the keys, whole or not at all."""
        text = json.dumps([asdict(key) for key in keys], indent=0).encode() + b"\n"
        with os_errors_told(self.path):
            for folder in (self.path.parent.parent, self.path.parent):  # whatever the umask
                if not folder.exists():
                    folder.mkdir(parents=True, exist_ok=True)
                    folder.chmod(FOLDER_MODE)
            files.write(self.path, text, MODE)

    def mark(self) -> Any:
        """Return what is another as soon as something else is remembered."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_ctime_ns
