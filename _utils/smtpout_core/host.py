"""What a minion knows and has, as the rest of the package gets it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from smtpout_core.errors import RelayError

SALTENV = "smtpout.saltenv"
"""Where a run's ``__context__`` says which environment the formula's SLS files come from, and so all of its files."""

BROUGHT = "smtpout.brought"
"""Where a run's ``__context__`` says what it has brought that stays, whatever becomes of the site: packages, keys."""

STAGES = "smtpout.stages"
"""Where a run's ``__context__`` has the DKIM keys in the stages that they are in once the site has changed."""

STATE_DIR = "/var/lib/smtpout"
"""Where smtpout keeps what it remembers of a host; the minion option ``smtpout_state_dir`` names another place."""


@dataclass(frozen=True)
class Host:
    """A minion: its facts, where things are kept, and whether anything may be changed at all."""

    grains: Mapping[str, Any] = field(default_factory=dict)
    test: bool = False
    state_dir: str = STATE_DIR
    cache_dir: str = "/var/cache/smtpout"
    cache_file: Callable[[str], str] = lambda _source: ""
    """Returns the path of a file of the formula (``salt://...``), brought here; an empty one where there is none."""

    def path(self, source: str) -> str:
        """Return where a file of the formula is.

        :param source: as ``salt://smtpout/schema.yaml``.
        :raises RelayError: the formula isn't whole.
        """
        found = self.cache_file(source)
        if not found:
            raise RelayError(f"{source} can't be found: is the formula whole in file_roots?")
        return found


def minion(
    opts: Mapping[str, Any], grains: Mapping[str, Any], cache_file: Callable[..., Any], saltenv: str | None = None
) -> Host:
    """Return the minion that Salt has loaded a module or a state for.

    :param opts: its ``__opts__``.
    :param grains: its ``__grains__``.
    :param cache_file: its ``cp.cache_file``.
    :param saltenv: the environment that the formula's states come from; the files come from the same one.
    """
    environment = saltenv or opts.get("saltenv") or "base"
    return Host(
        grains=grains,
        test=bool(opts.get("test")),
        state_dir=opts.get("smtpout_state_dir", STATE_DIR),
        cache_dir=f"{opts['cachedir']}/smtpout",
        cache_file=lambda source: cache_file(source, environment) or "",
    )


def who() -> str:
    """Return who calls: behind sudo, the person."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
