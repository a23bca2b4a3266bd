"""Name servers on loopback: any number of addresses, each with its zones and its own way of failing; and a resolver.

They are real sockets, UDP and TCP, in one thread; a process of its own where they have to be fast.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone

RESOLVER = "127.0.1.53"


@dataclass
class Behaviour:
    """How a server is.

    :param zones: those that it answers for, by name, as texts.
    :param rcode: what it says to everything.
    :param authority: whether it says that it has authority.
    :param most: bytes that it sends by UDP.
    :param tcp: whether it answers by TCP.
    """

    zones: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False
    rcode: str = ""
    authority: bool = True
    most: int = 1232
    tcp: bool = True


def parsed(zones: Mapping[str, str]) -> dict[dns.name.Name, Any]:
    return {
        dns.name.from_text(name): dns.zone.from_text(text, name, relativize=False, check_origin=False)
        for name, text in zones.items()
    }


class World:
    """All servers, and as resolver one that knows everything that any of them has."""

    def __init__(self, servers: Mapping[str, Behaviour], port: int = 0, broken: tuple[str, ...] = ()) -> None:
        self.servers = {address: (behaviour, parsed(behaviour.zones)) for address, behaviour in servers.items()}
        self.all: dict[dns.name.Name, Any] = {}
        for _, zones in self.servers.values():
            for name, zone in zones.items():
                self.all.setdefault(name, zone)
        self.broken = {dns.name.from_text(name) for name in broken}
        self.selector = selectors.DefaultSelector()
        self.port = port
        self.asked: list[tuple[str, str, str, str]] = []
        for address in (*self.servers, RESOLVER):
            self._open(address)
        self.running = True

    def _open(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        udp.bind((address, self.port))
        self.port = self.port or udp.getsockname()[1]
        tcp = socket.socket(family)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, self.port))
        tcp.listen(100)
        self.selector.register(udp, selectors.EVENT_READ, ("udp", address))
        self.selector.register(tcp, selectors.EVENT_READ, ("listen", address))

    def serve(self) -> None:
        while self.running:
            for key, _ in self.selector.select(0.1):
                how, address = key.data
                sock: Any = key.fileobj
                if how == "udp":
                    wire, client = sock.recvfrom(4096)
                    if (answer := self._answer(address, wire, "udp")) is not None:
                        sock.sendto(answer, client)
                elif how == "listen":
                    self.selector.register(sock.accept()[0], selectors.EVENT_READ, ("tcp", address))
                else:
                    wire = sock.recv(4096)
                    behaviour = self.servers[address][0] if address in self.servers else None
                    answer = (
                        self._answer(address, wire[2:], "tcp") if wire and (not behaviour or behaviour.tcp) else None
                    )
                    if answer is not None:
                        sock.sendall(struct.pack("!H", len(answer)) + answer)
                    self.selector.unregister(sock)
                    sock.close()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]

    def _answer(self, address: str, wire: bytes, by: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        self.asked.append((address, by, question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
        if address == RESOLVER:
            answer = self._resolved(query)
        else:
            behaviour, zones = self.servers[address]
            if behaviour.silent:
                return None
            answer = dns.message.make_response(query)
            if behaviour.rcode:
                answer.set_rcode(dns.rcode.from_text(behaviour.rcode))
            else:
                self._authoritative(answer, zones, behaviour.authority)
            if by == "udp" and len(answer.to_wire()) > behaviour.most:
                answer = dns.message.make_response(query)
                answer.flags |= dns.flags.TC | dns.flags.AA
        return answer.to_wire()

    def _authoritative(self, answer: Any, zones: Mapping[dns.name.Name, Any], authority: bool = True) -> None:
        name, kind = answer.question[0].name, answer.question[0].rdtype
        apex = max((each for each in zones if name.is_subdomain(each)), key=len, default=None)
        if apex is None:
            answer.set_rcode(dns.rcode.REFUSED)
            return
        zone = zones[apex]
        cut = next((cut for cut in _above(name, apex) if cut != apex and zone.get_rrset(cut, "NS")), None)
        if cut is not None and cut not in zones:
            answer.authority.append(zone.get_rrset(cut, "NS"))
            return
        if authority:
            answer.flags |= dns.flags.AA
        if (held := _held(zone, name, kind)) or (held := _held(zone, name, dns.rdatatype.CNAME)):
            answer.answer.append(held)
            return
        if not any(each.is_subdomain(name) for each in zone) and not _wild(zone, name):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if soa := zone.get_rrset(apex, "SOA"):
            answer.authority.append(soa)

    def _resolved(self, query: Any) -> Any:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        name, kind = query.question[0].name, query.question[0].rdtype
        for _ in range(12):
            if any(name.is_subdomain(each) for each in self.broken):
                answer.set_rcode(dns.rcode.SERVFAIL)
                return answer
            step = dns.message.make_response(dns.message.make_query(name, kind))
            self._authoritative(step, self.all)
            answer.answer += step.answer
            answer.authority = step.authority
            answer.set_rcode(dns.rcode.NXDOMAIN if step.rcode() == dns.rcode.REFUSED else step.rcode())
            if not step.answer or step.answer[0].rdtype == kind:
                return answer
            name = step.answer[0][0].target
        answer.set_rcode(dns.rcode.SERVFAIL)
        return answer


def _above(name: dns.name.Name, apex: dns.name.Name) -> Iterator[dns.name.Name]:
    for length in range(len(apex), len(name) + 1):
        yield name.split(length)[1]


def _wild(zone: Any, name: dns.name.Name) -> dns.name.Name | None:
    """Return the wildcard that a name falls under (RFC 4592): nothing between it and the name is there."""
    above = name
    while len(above) > len(zone.origin):
        if any(each.is_subdomain(above) for each in zone):
            return None
        above = above.parent()
        if (wild := dns.name.Name((b"*", *above.labels))) in zone.nodes:
            return wild
    return None


def _held(zone: Any, name: dns.name.Name, kind: Any) -> Any:
    found = zone.get_rrset(name, kind)
    if found is None and name not in zone.nodes and (wild := _wild(zone, name)):
        found = zone.get_rrset(wild, kind)
        if found is not None:
            return dns.rrset.from_rdata_list(name, found.ttl, list(found))
    return found


@contextmanager
def served(servers: Mapping[str, Behaviour], broken: tuple[str, ...] = ()) -> Iterator[World]:
    """Start the servers; what none of them has, the resolver doesn't have either.

    :param broken: names of which, and below which, the resolver says SERVFAIL.
    """
    world = World(servers, broken=broken)
    thread = threading.Thread(target=world.serve, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        world.running = False
        thread.join()
