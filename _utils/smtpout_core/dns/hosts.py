"""How the records are that name hosts: MX of the domains; PTR, HELO and addresses of the relay."""

from __future__ import annotations

import asyncio
import ipaddress

from smtpout_core.dns.asking import Asker, absolute
from smtpout_core.dns.found import MISSING, OK, UNSURE, WARNING, WRONG, Finding, Verdict, combined, worst
from smtpout_core.dns.records import judged_spf
from smtpout_core.dns.said import HAS, NONE, UNKNOWN
from smtpout_core.dns.wanted import Wanted

NOWHERE = "replies and bounces have nowhere to go"


async def mx(asker: Asker, _wanted: Wanted, domain: str) -> list[Finding]:
    """Return how a domain's MX records are: what it sends can be answered (RFC 5321, 5.1)."""
    said = await asker.all(domain, "MX")
    hosts = sorted({value.split()[1] for each in said for value in each.values})
    verdicts = dict(zip(hosts, await asyncio.gather(*(_host(asker, host) for host in hosts)), strict=True))

    def judge(values: tuple[str, ...]) -> Verdict:
        exchanges = [value.split()[1] for value in values]
        if exchanges == ["."]:
            return WARNING, f"a null MX (RFC 7505): {NOWHERE}"
        if "." in exchanges:
            return WRONG, "a null MX, and others beside it (RFC 7505, 3)"
        return worst([(OK, ", ".join(values)), *(verdicts[exchange] for exchange in exchanges)])

    none: Verdict = (MISSING, f"no MX record, and no address: {NOWHERE}")
    if any(each.state == NONE for each in said):
        addresses = await asyncio.gather(*(asker.one(domain, kind) for kind in ("A", "AAAA")))
        if any(each.state == HAS for each in addresses):
            none = (WARNING, "no MX record: mail goes to the address of the domain itself")
        elif any(each.state == UNKNOWN for each in addresses):
            none = (UNSURE, "no MX record, and whether there is an address isn't known")
    return [Finding("mx", domain, f"{domain}.", *combined(said, judge, none))]


async def _host(asker: Asker, host: str) -> Verdict:
    """Return how a host is that an MX record names."""
    if host == ".":
        return OK, ""
    try:
        ipaddress.ip_address(host.rstrip("."))
    except ValueError:
        pass
    else:
        return WRONG, f"{host} is an address, and an MX record names a host (RFC 1035, 3.3.9)"
    said = await asyncio.gather(*(asker.one(host, kind) for kind in ("A", "AAAA")))
    if any(each.state == HAS for each in said):
        if any(each.via for each in said):
            return WARNING, f"{host} is a CNAME, which an MX record may not name (RFC 2181, 10.3)"
        return OK, ""
    unknown = [each for each in said if each.state == UNKNOWN]
    if unknown:
        return UNSURE, f"whether {host} has an address isn't known: {unknown[0].server} {unknown[0].why}"
    return WRONG, f"{host} has no address"


async def ptr(asker: Asker, wanted: Wanted, domain: str) -> list[Finding]:
    """Return how the names of the relay's addresses are: each leads back, and is what the relay says in HELO."""
    if not wanted.addresses:
        return [Finding("ptr", domain, absolute(domain), UNSURE, wanted.no_addresses)]
    return list(await asyncio.gather(*(_ptr(asker, domain, address) for address in wanted.addresses)))


async def _ptr(asker: Asker, hostname: str, address: str) -> Finding:
    name = ipaddress.ip_address(address).reverse_pointer + "."
    said = await asker.all(name, "PTR")
    names = sorted({value for each in said for value in each.values})
    kind = _kind(address)
    forward = dict(zip(names, await asyncio.gather(*(asker.one(each, kind) for each in names)), strict=True))

    def judge(values: tuple[str, ...]) -> Verdict:
        lost = [each for each in values if forward[each].state == NONE or not _leads(forward[each].values, address)]
        unknown = [each for each in lost if forward[each].state == UNKNOWN]
        if unknown:
            return UNSURE, f"whether {unknown[0]} has the address isn't known: {forward[unknown[0]].why}"
        if lost:
            return WRONG, f"{lost[0]} hasn't the address {address}: many receivers refuse that"
        if absolute(hostname) not in values:
            return WARNING, f"{', '.join(values)}, and the relay says {hostname} in HELO"
        if len(values) > 1:
            return WARNING, f"{len(values)} names, of which receivers see any: {', '.join(values)}"
        return OK, values[0]

    return Finding("ptr", hostname, name, *combined(said, judge, (MISSING, f"{address} has no name")))


async def helo(asker: Asker, wanted: Wanted, domain: str) -> list[Finding]:
    """Return how the name is that the relay says in HELO: it has an address (RFC 5321, 2.3.5), and SPF lets it pass."""
    name = absolute(domain)
    found: list[Verdict] = []
    kinds = sorted({_kind(address) for address in wanted.addresses} or {"A"})
    for kind in kinds:
        said = await asker.all(domain, kind)
        own = [address for address in wanted.addresses if _kind(address) == kind]

        def judge(values: tuple[str, ...], own: list[str] = own) -> Verdict:
            others = [address for address in own if not _leads(values, address)]
            if others:
                return WARNING, f"it has the address {', '.join(values)}, and mail leaves from {', '.join(others)}"
            return OK, ", ".join(values)

        found.append(combined(said, judge, (MISSING, f"no {kind} record")))
    text = await asker.all(domain, "TXT")
    nothing: Verdict = (OK, "no SPF record of its own")
    found.append(await judged_spf(asker, wanted, domain, text, nothing))
    return [Finding("helo", domain, name, *worst(found))]


def _kind(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def _leads(values: tuple[str, ...], address: str) -> bool:
    return any(ipaddress.ip_address(value) == ipaddress.ip_address(address) for value in values)
