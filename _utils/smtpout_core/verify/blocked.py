"""What is asked about accounts that are blocked by command: whether Postfix refuses them, and for how long it has."""

from __future__ import annotations

from typing import Any

from smtpout_core.daemons.postfix import blocking, blocks
from smtpout_core.daemons.postfix.blocks import Block, Blocks
from smtpout_core.errors import Doubt, RelayError

FORGOTTEN = 7
"""Days after which a block is told of: by then an account has a new password, or is gone."""


def refused(settings: dict[str, Any]) -> str:
    """Return how many accounts are blocked by command; raise where Postfix doesn't look them up, or can't."""
    state = Blocks.of(settings)
    known = [each for each in state.read() if not each.ended]
    if fault := state.fault():
        said = f"{state.database} is {fault}: who logs in is answered 451, or isn't looked up; apply mends it"
        raise RelayError(said)
    missed = blocks.not_looked_up(settings)
    if missed and known:
        raise RelayError(f"{', '.join(missed)} takes their mail: {_hidden()}")
    if missed:
        raise Doubt(f"nobody can be blocked by command on {', '.join(missed)}: {_hidden()}")
    return f"{len(known)} by command, {len(settings['blocked']['logins'])} by the pillar"


def forgotten(settings: dict[str, Any]) -> str:
    """Return who is blocked by command, and for how long; raise where it is long."""
    known = Blocks.of(settings).read()
    told = ", ".join(map(_told, known))
    if any(blocking.days(each) >= FORGOTTEN for each in known):
        raise Doubt(f"{told}: unblock, or put it into smtpout:blocked:logins")
    if half := [each.login for each in known if each.ended]:
        raise Doubt(f"unblocking {', '.join(half)} was cut short, and some of its mail may be on hold; do it again")
    return told or "nobody is blocked by command"


def _hidden() -> str:
    return "smtpout:postfix has smtpd_recipient_restrictions of its own there; use append or prepend"


def _told(each: Block) -> str:
    days = blocking.days(each)
    said = f"{each.login} for {days} {'day' if days == 1 else 'days'}"
    return f"{said} ({each.reason})" if each.reason else said
