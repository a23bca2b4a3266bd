"""Which DKIM keys wait: for a person, who publishes a record, or for an apply, which moves them on."""

from __future__ import annotations

from typing import Any

from smtpout_core.dns import comparison
from smtpout_core.errors import RelayError
from smtpout_core.host import Host
from smtpout_core.stages import turn

SENTENCE = "no DKIM key waits"
SECONDS = 20
"""That DNS is asked at most; of keys that wait alone."""
SHOWN = 3


def waiting(settings: dict[str, Any], host: Host) -> list[tuple[str, str]]:
    """Return what keys wait for, under the sentence that is to be true; nothing where none does.

    :param settings: the site's.
    :param host: where it is remembered; before a first apply nothing is.
    """
    try:
        now = turn.Turn(settings, host.state_dir, test=True)
        if not now.remembered:
            return []
        plan = now.plan(comparison.Way(servers=settings["dns"]["servers"], seconds=SECONDS))
    except RelayError as error:
        return [(SENTENCE, str(error))]
    found = [f"the next apply moves {note}" for note in plan.moves] + [str(note) for note in plan.waits if note.warns]
    more = [f"and {len(found) - SHOWN} more: `smtpout_dns.plan`"] if len(found) > SHOWN else []
    return [(SENTENCE, "\n".join([*found[:SHOWN], *more]))] if found else []
