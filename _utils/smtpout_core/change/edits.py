"""What was changed by hand is shown, and kept, before it is put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from smtpout_core.change import masks, plan
from smtpout_core.change.journal import Journal
from smtpout_core.change.memory import Memory
from smtpout_core.change.plan import Step

SHOWN = 50
"""Lines of a difference: more than that nobody reads, and all of it is in the copy."""


class Edit(NamedTuple):
    """A file that was changed by hand.

    :param path: which.
    :param done: what becomes of it, as "replaced".
    :param diff: what was changed, as far as it is known and may be shown.
    """

    path: str
    done: str
    diff: str

    def told(self, place: str) -> str:
        """Say what became of it, and where what it held is."""
        return self._said(f"it was {self.done}, and what it held is in {place}")

    def foretold(self, place: str) -> str:
        """Say what would become of it, and below which folder what it holds would be kept."""
        return self._said(f"it would be {self.done}, and what it holds would be kept in {place}")

    def _said(self, what: str) -> str:
        lines = self.diff.splitlines()
        more = [f"... {len(lines) - SHOWN} more lines"] if len(lines) > SHOWN else []
        return "\n".join([f"{self.path} was changed by hand; {what}.", *lines[:SHOWN], *more])


def found(changing: Sequence[Step], whole: Mapping[str, Any], memory: Memory) -> list[Edit]:
    """Return the files that a change is about to replace or put back, and that hold something else than it put there.

    :param whole: what is remembered of it.
    """
    edits = []
    for step in changing:
        for path in plan.edited_by_hand(step, whole["daemons"].get(step.daemon.name, {})):
            diff = _difference(path, memory.text(whole["generation"], path), memory)
            edits.append(Edit(path, "put back" if path in step.orphans else "replaced", diff))
    return edits


def since_cut_short(facts: Mapping[str, Any], journal: Journal, memory: Memory) -> list[Edit]:
    """Return the files that hold neither what they did before a run that was cut short, nor what it has put there.

    :param facts: as ``Journal.begun`` returns them.
    """
    return [
        Edit(path, "put back", _difference(path, _text(journal.kept(path)), memory)) for path in journal.edited(facts)
    ]


def _difference(path: str, before: str | None, memory: Memory) -> str:
    """Return what was changed, an empty text where nobody knows what was there before, or whether it is secret."""
    secret = memory.secret(path)
    if before is None or secret is None:
        return ""
    return masks.unified(before, _text(path) or "", secret, path, f"{path} (by hand)")


def _text(path: str) -> str | None:
    return Path(path).read_bytes().decode(errors="replace") if Path(path).is_file() else None
