"""Ask every authoritative server for a set of records, wherever delegation and CNAME records lead.

A resolver says who is authoritative, never what the records are: it remembers, and so do those that others ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from smtpout_core.dns.gates import Gates, NoWayError, Silence
from smtpout_core.dns.said import BROKEN, HAS, NONE, UNASKED, UNKNOWN, Said

CHAIN = 8
"""CNAME records that are followed one after the other, as resolvers do."""
DEPTH = 4
"""Delegations below a zone that are followed."""

Found = TypeVar("Found")


class Server(NamedTuple):
    """A server of a zone: what its NS record calls it, and an address; without one, why there is none."""

    name: str
    address: str
    why: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.name, f"({self.address})" if self.name and self.address else self.address]))


class Zone(NamedTuple):
    """Whom a zone is asked of; without a server, why nobody can be asked."""

    name: str
    servers: tuple[Server, ...]
    why: str = ""


class Asker:
    """Who asks, and remembers for as long as one comparison lasts.

    :param gates: the ways to all servers.
    :param resolvers: addresses of those that say who is authoritative.
    :param own: domains for which, and for what is below them, ``servers`` are asked and nobody else.
    :param servers: their addresses; none, as delegation says.
    """

    def __init__(
        self, gates: Gates, resolvers: Sequence[str], own: Iterable[str] = (), servers: Sequence[str] = ()
    ) -> None:
        self.gates, self.dns = gates, gates.dns
        self.resolvers = resolvers
        self.own = {absolute(name) for name in own}
        self.servers = tuple(Server("", address) for address in servers)
        self._known: dict[tuple[str, ...], asyncio.Task[Any]] = {}

    async def all(self, name: str, kind: str, base: str = "") -> list[Said]:
        """Return what each server says of a name's records, those of a CNAME's target included.

        :param name: which.
        :param kind: as ``TXT``.
        :param base: above it, from where on delegation is followed. Default, the name itself.
        """
        return await self._followed(absolute(name), kind, absolute(base or name), ())

    async def one(self, name: str, kind: str) -> Said:
        """Return what a resolver says, as receivers ask one; of a name of the site's own, one of ``servers``."""
        name = absolute(name)
        if self._servers_of_own(name):
            said = await self.all(name, kind)
            return min(said, key=lambda each: (HAS, NONE, BROKEN, UNKNOWN, UNASKED).index(each.state))
        return await self._once(("one", name, kind), partial(self._resolved, name, kind))

    def _once(self, key: tuple[str, ...], ask: Callable[[], Awaitable[Found]]) -> Awaitable[Found]:
        if key not in self._known:
            self._known[key] = asyncio.ensure_future(ask())
        return self._known[key]

    async def _followed(self, name: str, kind: str, base: str, via: tuple[str, ...]) -> list[Said]:
        direct = await self._once(("all", name, kind, base), partial(self._direct, name, kind, base))
        found: list[Said] = []
        targets: dict[str, list[Said]] = {}
        for each in direct:
            if each.state != "alias":
                found.append(each._replace(via=via))
            else:
                targets.setdefault(each.values[0], []).append(each)
        for target, aliases in targets.items():
            path = (*via, name)
            if target in path or len(path) > CHAIN:
                what = "a CNAME loop" if target in path else f"more than {CHAIN} CNAME records in a row"
                why = f"has {what}: {' -> '.join([*path, target])}"
                found += [Said(each.server, BROKEN, why=why, via=path) for each in aliases]
            else:
                found += await self._followed(target, kind, await self._base_of(target), path)
        return list(dict.fromkeys(found))

    async def _base_of(self, target: str) -> str:
        """Return from where on a CNAME's target is asked for: a resolver has no zone for a name of a loop."""
        above = target.partition(".")[2]
        return target if not above or (await self._zone(target)).servers else above

    async def _direct(self, name: str, kind: str, base: str) -> list[Said]:
        """Return what each server of a name's zone says itself; a CNAME is ``alias``, its target the value."""
        zone = await self._zone(base)
        if not zone.servers:
            return [Said(f"the zone of {base}", UNKNOWN, why=zone.why)]
        return await self._in_zone(zone, name, kind, 0)

    async def _in_zone(self, zone: Zone, name: str, kind: str, depth: int) -> list[Said]:
        said = await asyncio.gather(*(self._asked(server, zone, name, kind) for server in zone.servers))
        found = [each for each in said if isinstance(each, Said)]
        below: dict[str, Any] = {each.name: each for each in said if isinstance(each, Zone)}
        for child in below.values():
            if depth >= DEPTH or not child.servers:
                found.append(
                    Said(f"the zone {child.name}", BROKEN, why="is delegated, and to no server with an address")
                )
            else:
                found += await self._in_zone(child, name, kind, depth + 1)
        return found

    async def _asked(self, server: Server, zone: Zone, name: str, kind: str) -> Said | Zone:
        if not server.address:
            return Said(server.name, UNKNOWN, why=server.why)
        try:
            answer = await self.gates.ask(server.address, name, kind)
        except NoWayError as error:
            return Said(str(server), UNASKED, why=str(error))
        except Silence as error:
            return Said(str(server), UNKNOWN, why=str(error))
        return await self._read(answer, server, zone, name, kind)

    async def _read(self, answer: Any, server: Server, zone: Zone, name: str, kind: str) -> Said | Zone:
        """Return what an answer says, or the zone below that it leads to."""
        dns = self.dns
        rcode, owner = answer.rcode(), dns.name.from_text(name)
        if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return Said(str(server), UNKNOWN, why=f"answers {dns.rcode.to_text(rcode)} for {name}")
        if not answer.flags & dns.flags.AA:
            for rrset in answer.authority:
                inside = rrset.name.is_subdomain(dns.name.from_text(zone.name)) and rrset.name.to_text() != zone.name
                if rrset.rdtype == dns.rdatatype.NS and inside and owner.is_subdomain(rrset.name):
                    return await self._delegated(rrset, answer.additional)
            return Said(str(server), UNKNOWN, why=f"answers for {name} without authority (lame)")
        held = _rrset(answer.answer, owner, dns.rdatatype.from_text(kind))
        if held is not None:
            return Said(str(server), HAS, values(held))
        if alias := _rrset(answer.answer, owner, dns.rdatatype.CNAME):
            return Said(str(server), "alias", (alias[0].target.to_text().lower(),))
        why = "has no such name" if rcode == dns.rcode.NXDOMAIN else f"has no {kind} record"
        return Said(str(server), NONE, why=why)

    async def _delegated(self, rrset: Any, additional: Iterable[Any]) -> Zone:
        """Return a zone that a server has delegated; its addresses beside it are used where a resolver has none."""
        names = sorted({each.target.to_text().lower() for each in rrset})
        glue = [(each.name.to_text().lower(), address) for each in additional for address in values(each)]
        servers: list[Server] = []
        for name in names:
            found = await self._addresses(name)
            beside = [Server(name, address) for owner, address in glue if owner == name]
            servers += beside if beside and not any(each.address for each in found) else found
        return Zone(rrset.name.to_text().lower(), tuple(servers))

    def _servers_of_own(self, name: str) -> tuple[Server, ...]:
        return self.servers if self.servers and any(each in self.own for each in _upward(name)) else ()

    async def _zone(self, name: str) -> Zone:
        """Return the zone that a name is in."""
        if own := self._servers_of_own(name):
            return Zone(next(each for each in _upward(name) if each in self.own), own)
        return await self._once(("zone", name), partial(self._found_zone, name))

    async def _found_zone(self, name: str) -> Zone:
        dns = self.dns
        try:
            answer = await self._recursive(name, "NS")
        except Silence as error:
            return Zone(name, (), f"isn't known: the resolver {error}")
        owner = dns.name.from_text(name)
        if (held := _rrset(answer.answer, owner, dns.rdatatype.NS)) is None:
            above = name.partition(".")[2] or "."
            # Where the name is an alias, the SOA is of its target's zone.
            apex = [] if answer.answer else [each.name for each in answer.authority if each.rdtype == dns.rdatatype.SOA]
            if apex and apex[0] != owner and owner.is_subdomain(apex[0]):
                above = apex[0].to_text().lower()
            return Zone(name, (), "has no server") if name == "." else await self._zone(above)
        hosts = sorted({each.target.to_text().lower() for each in held})
        found = await asyncio.gather(*(self._addresses(host) for host in hosts))
        return Zone(name, tuple(server for servers in found for server in servers))

    async def _addresses(self, host: str) -> list[Server]:
        return await self._once(("host", host), partial(self._found_addresses, host))

    async def _found_addresses(self, host: str) -> list[Server]:
        said = await asyncio.gather(*(self.one(host, kind) for kind in ("A", "AAAA")))
        servers = [Server(host, address) for each in said for address in each.values]
        unknown = [each.why for each in said if each.state == UNKNOWN]
        why = f"has no address that is known: {unknown[0]}" if unknown else "has no address (lame)"
        return servers or [Server(host, "", why)]

    async def _resolved(self, name: str, kind: str) -> Said:
        dns = self.dns
        try:
            answer = await self._recursive(name, kind)
        except Silence as error:
            return Said("the resolver", UNKNOWN, why=str(error))
        owner, via = dns.name.from_text(name), [name]
        while (alias := _rrset(answer.answer, owner, dns.rdatatype.CNAME)) and len(via) <= CHAIN:
            owner = alias[0].target
            via.append(owner.to_text().lower())
        if held := _rrset(answer.answer, owner, dns.rdatatype.from_text(kind)):
            return Said("the resolver", HAS, values(held), via=tuple(via[:-1]))
        return Said("the resolver", NONE, why=f"has no {kind} record", via=tuple(via[:-1]))

    async def _recursive(self, name: str, kind: str) -> Any:
        """Return a resolver's answer: the first one's that has an answer at all.

        :raises Silence: none has.
        """
        dns = self.dns
        why = "isn't there: this host has none"
        for resolver in self.resolvers:
            try:
                answer = await self.gates.ask(resolver, name, kind, recursive=True)
            except Silence as error:
                why = f"{resolver} {error}"
                continue
            if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return answer
            why = f"{resolver} answers {dns.rcode.to_text(answer.rcode())} for {name}"
        raise Silence(why)


def absolute(name: str) -> str:
    """Return a name in lower case with the root's dot."""
    return name.lower().rstrip(".") + "."


def _upward(name: str) -> Iterator[str]:
    """Yield a name, and those above it."""
    while name:
        yield name
        name = name.partition(".")[2]


def values(rrset: Any) -> tuple[str, ...]:
    """Return records as texts: a TXT record in one piece, names in lower case."""
    return tuple(
        sorted(
            b"".join(each.strings).decode("utf-8", "replace") if hasattr(each, "strings") else each.to_text().lower()
            for each in rrset
        )
    )


def _rrset(section: Iterable[Any], owner: Any, kind: int) -> Any:
    return next((each for each in section if each.name == owner and each.rdtype == kind), None)
