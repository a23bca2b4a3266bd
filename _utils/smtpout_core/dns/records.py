"""How the records are that receivers judge the site's mail by: DKIM, SPF, DMARC. A function a kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from smtpout_core.daemons.opendkim import record
from smtpout_core.dns import spf as senders
from smtpout_core.dns.asking import Asker
from smtpout_core.dns.found import ABSENT, MISSING, OK, UNSURE, WARNING, WRONG, Finding, Verdict, combined, worst
from smtpout_core.dns.said import HAS, NONE, Said
from smtpout_core.dns.wanted import Key, Wanted
from smtpout_core.errors import RelayError

NEARLY = senders.LOOKUPS - 1
"""Look-ups of SPF from which one is told: whoever is included may add one at any time."""
NOBODY = "smtpout-asks-for-nobodys-selector"
DMARC = re.compile(r"v\s*=\s*DMARC1\s*(;|$)")


async def dkim(asker: Asker, wanted: Wanted, domain: str) -> list[Finding]:
    """Return how the records of a domain's keys are: each server has the one that verifies what is signed."""
    return [await _dkim(asker, key) for key in wanted.keys_of(domain)]


def judged_dkim(key: Key, values: tuple[str, ...]) -> Verdict:
    """Return how the records are that one server has of a key."""
    name = record.name(key.domain, key.selector)
    if len(values) > 1:
        return WRONG, f"{len(values)} TXT records; receivers may take any of them"
    try:
        if record.held(name, values[0]) != key.public:
            return WRONG, f"another key than {key.path}"
    except RelayError as error:
        return WRONG, str(error).removeprefix(f"{name}: ")
    if "y" in (record.tags_of(values[0]) or {}).get("t", "").split(":"):
        return WARNING, "t=y says that it is a test: receivers take the mail as unsigned"
    return OK, "the key that signs"


async def served_dkim(asker: Asker, key: Key) -> tuple[list[Said], Verdict]:
    """Return what each server says of a key's record, and what that comes to.

    Where _domainkey is delegated, its own servers count; the ones above may hold it as well, or an old copy.
    """
    said = await asker.all(record.name(key.domain, key.selector), "TXT", f"_domainkey.{key.domain}")
    return said, combined(said, partial(judged_dkim, key), (MISSING, "no such record"))


async def _dkim(asker: Asker, key: Key) -> Finding:
    name, above = record.name(key.domain, key.selector), f"_domainkey.{key.domain}"
    if key.fault:
        return Finding("dkim", key.domain, name, UNSURE, f"there is no key to hold it against: {key.fault}")
    _, (state, seen) = await served_dkim(asker, key)
    if state == WRONG and any(each.state == HAS for each in await asker.all(f"{NOBODY}.{above}", "TXT", above)):
        seen += "; a wildcard record answers for every selector"
    return Finding("dkim", key.domain, name, state, seen)


async def spf(asker: Asker, wanted: Wanted, domain: str) -> list[Finding]:
    """Return how a domain's SPF record is: one, that lets the relay's addresses pass and costs what is allowed."""
    said = await asker.all(domain, "TXT")
    missing = (MISSING, "no SPF record")
    state, seen = await judged_spf(asker, wanted, domain, said, missing)
    return [Finding("spf", domain, f"{domain}.", state, seen)]


async def judged_spf(asker: Asker, wanted: Wanted, domain: str, said: Sequence[Said], none: Verdict) -> Verdict:
    """Return how the SPF records are that the servers of a name have."""
    texts = {value for each in said for value in each.values if senders.is_record(value)}
    verdicts = {text: await _spf(asker, wanted, domain, text) for text in sorted(texts)}

    def judge(values: tuple[str, ...]) -> Verdict:
        found = [value for value in values if value in verdicts]
        if len(found) > 1:
            return WRONG, f"{len(found)} SPF records, which is a permanent error: {' | '.join(found)}"
        if found:
            return verdicts[found[0]]
        like = [value for value in values if "spf1" in value.lower() or value.lower().startswith("v=spf")]
        return (WRONG, f'no SPF record; it begins with "v=spf1 ", and this doesn\'t: {like[0]}') if like else none

    return combined(said, judge, none)


async def _spf(asker: Asker, wanted: Wanted, domain: str, text: str) -> Verdict:
    try:
        terms = senders.terms(text)
    except senders.PermanentError as error:
        return WRONG, f"a permanent error, {error}: {text}"
    verdicts: list[Verdict] = [(OK, text)]
    for address in wanted.addresses:
        judged = await senders.Judge(asker, address).judged(text, domain)
        why = f" ({judged.why})" if judged.why else ""
        if judged.result in ("temperror", "unknown"):
            verdicts.append((UNSURE, f"whether {address} passes isn't known{why}: {text}"))
        elif judged.result != "pass":
            verdicts.append((WRONG, f"mail from {address} gets {judged.result}{why}: {text}"))
    if not wanted.addresses:
        verdicts.append((UNSURE, f"{wanted.no_addresses}; there is: {text}"))
    version = 6 if wanted.addresses and ":" in wanted.addresses[0] else 4
    others = await senders.Judge(asker, version=version).judged(text, domain)
    if others.result == "permerror":
        verdicts.append((WARNING, f"whoever is judged by all of it gets a permanent error, {others.why}: {text}"))
    elif others.lookups >= NEARLY:
        verdicts.append((WARNING, f"{others.lookups} look-ups of {senders.LOOKUPS}: {text}"))
    if any(term.name == "all" and term.sign == "+" for term in terms):
        verdicts.append((WARNING, f"+all lets everybody send as {domain}: {text}"))
    if any(term.name == "ptr" for term in terms):
        verdicts.append((WARNING, f"ptr is slow, and not to be used (RFC 7208, 5.5): {text}"))
    return worst(verdicts)


async def dmarc(asker: Asker, _wanted: Wanted, domain: str) -> list[Finding]:
    """Return how a domain's DMARC record is, or the one above it that holds for it (RFC 7489)."""
    name = f"_dmarc.{domain}"
    said = await asker.all(name, "TXT", domain)
    none: Verdict = (MISSING, "no DMARC record")
    if any(not _dmarc_records(each.values) for each in said if each.state in (HAS, NONE)):
        none = await _above(asker, domain) or none
    unread = {mail for each in said for text in each.values for mail in await _unread(asker, domain, text)}

    def judge(values: tuple[str, ...]) -> Verdict:
        found = _dmarc_records(values)
        if len(found) > 1:  # 6.6.3
            return WRONG, f"{len(found)} DMARC records, so receivers take none: {' | '.join(found)}"
        if not found:
            others = f"; TXT records that are none: {' | '.join(values)}"
            return none[0], none[1] + others
        return _dmarc(found[0], unread)

    return [Finding("dmarc", domain, f"{name}.", *combined(said, judge, none))]


def _dmarc_records(values: Iterable[str]) -> list[str]:
    return [value for value in values if DMARC.match(value)]


def _dmarc(text: str, unread: Iterable[str]) -> Verdict:
    tags = record.tags_of(text)
    if tags is None:
        return WRONG, f"a tag stands there twice: {text}"
    policies = ("none", "quarantine", "reject")
    for tag in ("p", "sp"):
        if (tag == "p" or tag in tags) and tags.get(tag, "").lower() not in policies:
            return WRONG, f"{tag}= is none of {', '.join(policies)}: {text}"
    if not re.fullmatch(r"\d{1,2}|100", tags.get("pct", "100")):
        return WRONG, f"pct= is no number up to 100: {text}"
    for tag in ("rua", "ruf"):
        wrong = [uri for uri in tags.get(tag, "").split(",") if uri and not re.match(r"mailto:[^@]+@[^@]+$", uri)]
        if wrong:
            return WRONG, f"{tag}= has {wrong[0]}, which is no mailto: with an address: {text}"
        known = [each for each in unread if each in tags.get(tag, "")]
        if known:
            return WARNING, f"{known[0]} gets no reports: its domain doesn't say that it takes them (7.1): {text}"
    return OK, text


async def _above(asker: Asker, domain: str) -> Verdict | None:
    """Return which record of a domain above holds for this one; the public suffix's own is none that a site has."""
    above = domain.partition(".")[2]
    while "." in above:
        said = await asker.one(f"_dmarc.{above}", "TXT")
        if found := _dmarc_records(said.values):
            return OK, f"none of its own; that of {above} holds: {found[0]}"
        above = above.partition(".")[2]
    return None


async def _unread(asker: Asker, domain: str, text: str) -> list[str]:
    """Return whom reports are to be sent to who doesn't take them (RFC 7489, 7.1); below one name nobody asks."""
    found = []
    for address, place in re.findall(r"mailto:([^@,;!\s]+@([^,;!\s]+))", text):
        if place.lower().split(".")[-2:] != domain.split(".")[-2:]:
            said = await asker.one(f"{domain}._report._dmarc.{place}", "TXT")
            if said.state == NONE or (said.state == HAS and not _dmarc_records(said.values)):
                found.append(address)
    return found


async def tls_rpt(asker: Asker, _wanted: Wanted, domain: str) -> list[Finding]:
    """Return how a domain's TLS-RPT record is (RFC 8460, 3); it may have none."""
    name = f"_smtp._tls.{domain}"
    said = await asker.all(name, "TXT", domain)

    def judge(values: tuple[str, ...]) -> Verdict:
        found = [value for value in values if re.match(r"v=TLSRPTv1\s*;", value)]
        if len(found) > 1:
            return WRONG, f"{len(found)} TLS-RPT records, so senders take none: {' | '.join(found)}"
        if not found:
            return ABSENT, "no TLS-RPT record"
        places = (record.tags_of(found[0]) or {}).get("rua", "").split(",")
        if wrong := [place for place in places if not re.match(r"mailto:[^@]+@[^@]+$|https://.", place)]:
            return WRONG, f"rua= has {wrong[0] or 'nothing'}, which is neither mailto: nor https: {found[0]}"
        return OK, found[0]

    return [Finding("tls-rpt", domain, f"{name}.", *combined(said, judge, (ABSENT, "no TLS-RPT record")))]
