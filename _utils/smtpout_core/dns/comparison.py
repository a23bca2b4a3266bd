"""Hold what DNS says of a site against what its mail needs: every kind of record, of every domain, at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from smtpout_core.dns import hosts, records, sts
from smtpout_core.dns.asking import Asker
from smtpout_core.dns.found import ABSENT, MISSING, OK, STATES, WRONG, Finding
from smtpout_core.dns.gates import Gates, library
from smtpout_core.dns.wanted import Wanted
from smtpout_core.errors import RelayError

Done = TypeVar("Done")
Compare = Callable[[Asker, Wanted, str], Coroutine[Any, Any, list[Finding]]]

OF_DOMAINS: dict[str, Compare] = {
    "dkim": records.dkim,
    "spf": records.spf,
    "dmarc": records.dmarc,
    "mta-sts": sts.mta_sts,
    "tls-rpt": records.tls_rpt,
    "mx": hosts.mx,
}
OF_RELAY: dict[str, Compare] = {"ptr": hosts.ptr, "helo": hosts.helo}
KINDS = (*OF_DOMAINS, *OF_RELAY)
AT_ONCE = 1000
"""Records that are compared at once: many, so that they go on while some wait for a server that is silent."""
EVERY = 2.0
"""Seconds between two words on how far it is."""


class Way(NamedTuple):
    """Who is asked.

    :param resolvers: that say who is authoritative. Default, the host's own.
    :param servers: asked for the site's own domains instead of whom delegation names.
    :param port: where all of them listen.
    :param seconds: after which what is open stays unknown.
    """

    resolvers: Sequence[str] = ()
    servers: Sequence[str] = ()
    port: int = 53
    seconds: float = 300


class Compared(NamedTuple):
    """What was found, which addresses were silent, how many questions were asked, and how long it took in seconds."""

    findings: list[Finding]
    silent: dict[str, str]
    questions: int
    seconds: float


def compared(
    wanted: Wanted, way: Way, kinds: Collection[str] = (), progress: Callable[[str], None] = lambda _: None
) -> Compared:
    """Return how the site's records are.

    :param wanted: what its mail needs.
    :param way: who is asked.
    :param kinds: of record. Default, all.
    :param progress: is told how far it is.
    :raises RelayError: there is no such kind.
    :raises NotInstalledError: dnspython isn't there.
    """
    if others := [kind for kind in kinds if kind not in KINDS]:
        raise RelayError(f"{', '.join(others)}: there are {', '.join(KINDS)}")
    return run_aside(lambda: _compared(wanted, way, kinds or KINDS, progress))


def run_aside(work: Callable[[], Coroutine[Any, Any, Done]]) -> Done:
    """Return what questions come to, asked in a thread of its own: the one that asks may have an event loop that runs.

    :raises NotInstalledError: dnspython isn't there.
    """
    library()
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(lambda: asyncio.run(work())).result()


def asker_of(way: Way, own: Iterable[str]) -> Asker:
    """Return who asks.

    :param own: the site's domains.
    :raises RelayError: the host has no resolver.
    """
    gates = Gates(way.port, way.seconds)
    try:
        resolvers = way.resolvers or gates.dns.resolver.Resolver().nameservers
    except gates.dns.exception.DNSException as error:
        raise RelayError(f"this host has no resolver that could be asked: {error}") from error
    return Asker(gates, resolvers, own, way.servers)


async def _compared(wanted: Wanted, way: Way, kinds: Collection[str], progress: Callable[[str], None]) -> Compared:
    began = time.monotonic()
    signing = dict.fromkeys(key.domain for key in wanted.keys)
    asker = asker_of(way, wanted.domains)
    gates = asker.gates
    places = asyncio.Semaphore(AT_ONCE)

    async def in_turn(compare: Compare, domain: str) -> list[Finding]:
        async with places:
            return await compare(asker, wanted, domain)

    work = [
        asyncio.ensure_future(in_turn(compare, domain))
        for kind, compare in OF_DOMAINS.items()
        for domain in (signing if kind == "dkim" else wanted.domains)
        if kind in kinds
    ]
    if wanted.hostname:
        work += [
            asyncio.ensure_future(in_turn(compare, wanted.hostname))
            for kind, compare in OF_RELAY.items()
            if kind in kinds
        ]
    waiting = set(work)
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=EVERY)
        if waiting:
            seconds = time.monotonic() - began
            progress(f"{len(work) - len(waiting)} of {len(work)} compared, {gates.asked} questions, {seconds:.0f} s")
    silent = {
        address: f"didn't answer {count} questions by {by}, and was asked no more"
        for (address, by), count in gates.failed.items()
        if gates.given_up(address, by)
    }
    findings = [finding for each in work for finding in each.result()]
    return Compared(findings, silent, gates.asked, time.monotonic() - began)


def told(result: Compared, everything: bool = False) -> dict[str, Any]:
    """Return a comparison as a person reads it: counts, silent servers, and what isn't good, the worst first.

    :param result: of :func:`compared`.
    :param everything: what is good, too.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in sorted(result.findings, key=lambda each: -STATES.index(each.state)):
        if everything or finding.state not in (OK, ABSENT):
            groups.setdefault((finding.state, finding.kind, finding.seen), []).append(finding.name)
    counts: dict[str, Counter[str]] = {}
    for finding in result.findings:
        counts.setdefault(finding.kind, Counter())[finding.state] += 1
    return {
        "counts": {kind: dict(count) for kind, count in counts.items()},
        "silent": result.silent,
        "questions": result.questions,
        "seconds": round(result.seconds, 1),
        "found": [
            {"state": state, "kind": kind, "names": names, "seen": seen}
            for (state, kind, seen), names in groups.items()
        ],
    }


def failed(result: Compared) -> bool:
    """Return whether something is wrong or missing; what isn't known is neither."""
    return any(finding.state in (MISSING, WRONG) for finding in result.findings)
