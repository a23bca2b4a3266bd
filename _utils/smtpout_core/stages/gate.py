"""Ask DNS who has the records of keys that may move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from smtpout_core.dns import comparison, records
from smtpout_core.dns import wanted as wanting
from smtpout_core.dns.asking import Asker
from smtpout_core.dns.found import OK, UNSURE
from smtpout_core.dns.said import HAS, UNKNOWN, servers
from smtpout_core.errors import RelayError
from smtpout_core.stages import moves
from smtpout_core.stages.moves import Answer
from smtpout_core.stages.record import Key

SECONDS = 120
"""After which what is open stays unknown: an apply goes on."""


def answers(keys: Sequence[Key], gate: str, own: Iterable[str], way: comparison.Way) -> dict[tuple[str, str], Answer]:
    """Return what DNS has of keys, by domain and selector; where nobody can ask, that is unknown.

    :param keys: whose records are asked for.
    :param gate: of ``moves.Rules``.
    :param own: the site's domains.
    :param way: who is asked.
    """
    if not keys:
        return {}
    one = _by_resolver if gate == moves.RESOLVER else _by_all

    async def work() -> list[Answer]:
        asker, places = comparison.asker_of(way, own), asyncio.Semaphore(comparison.AT_ONCE)

        async def in_turn(key: Key) -> Answer:
            held = wanting.held(key.domain, key.selector, key.path)
            if held.fault:
                return Answer(moves.UNKNOWN, held.fault)
            async with places:
                return await one(asker, held)

        return await asyncio.gather(*map(in_turn, keys))

    try:
        found = comparison.run_aside(work)
    except RelayError as error:  # dnspython isn't there
        found = [Answer(moves.UNKNOWN, str(error))] * len(keys)
    return {key.id: answer for key, answer in zip(keys, found, strict=True)}


async def _by_all(asker: Asker, key: wanting.Key) -> Answer:
    said, (state, seen) = await records.served_dkim(asker, key)
    right = [each for each in said if each.state == HAS and records.judged_dkim(key, each.values)[0] == OK]
    if state == OK:
        return Answer(moves.ALL, seen)
    if right:
        # A server that is silent makes nothing known of all; one that lacks it, that not all have it.
        return Answer(moves.UNKNOWN if state == UNSURE else moves.SOME, seen)
    if state == UNSURE or any(each.state == UNKNOWN for each in said):
        return Answer(moves.UNKNOWN, seen)
    return Answer(moves.NOBODY, f"{servers(said)}: {seen}")


async def _by_resolver(asker: Asker, key: wanting.Key) -> Answer:
    said = await asker.one(f"{key.selector}._domainkey.{key.domain}", "TXT")
    if said.state == HAS:
        state, seen = records.judged_dkim(key, said.values)
        return Answer(moves.ALL if state == OK else moves.NOBODY, seen)
    return Answer(moves.UNKNOWN if said.state == UNKNOWN else moves.NOBODY, f"{said.server} {said.why}")
