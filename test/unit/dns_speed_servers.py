"""A thousand domains on loopback, fast: answers are made once, and what differs in a question is put into them.

Run as ``dns_speed_servers.py PORT FILE``, FILE being JSON: by address (``""`` for the resolver) by name and type the
records as texts, ``NS`` of the names that are zones; an address that has none is silent.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

RESOLVER = "127.0.2.53"


def main(port: int, path: str) -> None:
    world = json.loads(Path(path).read_text(encoding="utf-8"))
    selector = selectors.DefaultSelector()
    for address in world:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind((address, port))
        selector.register(sock, selectors.EVENT_READ, address)
    print("up", flush=True)  # noqa: T201 - who waits for it
    while True:
        for key, _ in selector.select():
            sock, address = key.fileobj, key.data
            wire, client = sock.recvfrom(4096)  # type: ignore[union-attr]
            if world[address] is not None:
                sock.sendto(answered(world[address], wire, address), client)  # type: ignore[union-attr]


def answered(records: dict[str, list[str]], wire: bytes, address: str) -> bytes:
    query = dns.message.from_wire(wire)
    answer = dns.message.make_response(query)
    if address != RESOLVER:
        answer.flags |= dns.flags.AA
    name, kind = query.question[0].name, dns.rdatatype.to_text(query.question[0].rdtype)
    text = name.to_text()
    if held := records.get(f"{text} {kind}"):
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *held))
    elif (above := text.partition(".")[2]) + " NS" in records:
        soa = "ns1.servers.test. h.servers.test. 1 3600 600 86400 60"
        answer.authority.append(dns.rrset.from_text(above, 60, "IN", "SOA", soa))
    else:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer.to_wire()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
