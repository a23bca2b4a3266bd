"""Judge an address by an SPF record as a receiver does (RFC 7208), and count what that costs the receiver."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from smtpout_core.dns.asking import Asker
from smtpout_core.dns.said import NONE, UNKNOWN, Said

LOOKUPS, VOID, HOSTS = 10, 2, 10
"""Terms that may ask DNS, answers that may hold nothing (both 4.6.4), and hosts that an mx may have."""
RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
MECHANISM = re.compile(
    r"(?P<sign>[-+~?]?)(?P<name>all|include|a|mx|ptr|ip4|ip6|exists)(?::(?P<value>[^/\s]+))?"
    r"(?:/(?P<four>\d+))?(?://(?P<six>\d+))?",
    re.IGNORECASE,
)
IP = re.compile(r"(?P<sign>[-+~?]?)(?P<name>ip4|ip6):(?P<value>[0-9A-Fa-f:.]+(?:/\d+)?)", re.IGNORECASE)
MODIFIER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)=(?P<value>\S*)")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PermanentError(Exception):
    """A receiver gives up on the record: permerror, which it takes for none, or for a reason to refuse (2.6.7)."""


class TemporaryError(Exception):
    """DNS didn't say, so nobody knows."""


class Term(NamedTuple):
    """A mechanism or a modifier of a record, its name in lower case."""

    sign: str
    name: str
    value: str
    four: int
    six: int


class Judged(NamedTuple):
    """What becomes of an address.

    :param result: pass, fail, softfail, neutral, permerror, temperror, or unknown where a macro decides.
    :param lookups: terms that asked DNS on the way.
    :param why: of permerror, temperror and unknown.
    """

    result: str
    lookups: int
    why: str = ""


def is_record(value: str) -> bool:
    """Return whether a TXT record is one of SPF's (4.5)."""
    return value.lower() == "v=spf1" or value.lower().startswith("v=spf1 ")


def terms(record: str) -> list[Term]:
    """Return the terms of a record.

    :raises PermanentError: it isn't well-formed; a receiver stops at that wherever it stands (4.6).
    """
    found, modifiers = [], set()
    for word in record.split(" ")[1:]:
        if not word:
            continue
        if match := IP.fullmatch(word):
            try:
                network = ipaddress.ip_network(match["value"], strict=False)
            except ValueError:
                raise PermanentError(f"{word} is no network") from None
            if f"ip{network.version}" != match["name"].lower():
                raise PermanentError(f"{word} has an address of IPv{network.version}")
            found.append(Term(match["sign"] or "+", match["name"].lower(), str(network), 32, 128))
        elif match := MECHANISM.fullmatch(word):
            found.append(_mechanism(word, match))
        elif match := MODIFIER.fullmatch(word):
            name = match["name"].lower()
            if name in ("redirect", "exp"):
                if name in modifiers:
                    raise PermanentError(f"{name}= stands there twice")
                if not match["value"]:
                    raise PermanentError(f"{name}= names nothing")
                modifiers.add(name)
                found.append(Term("", name, match["value"], 32, 128))
        else:
            raise PermanentError(f"{word} is no term of SPF's")
    return found


def _mechanism(word: str, match: re.Match[str]) -> Term:
    name, value = match["name"].lower(), match["value"] or ""
    bare = name in ("all", "include", "ptr", "exists") and (match["four"] or match["six"])
    needs = name in ("include", "exists") and not value
    if name in ("ip4", "ip6") or bare or needs or (name == "all" and value):
        raise PermanentError(f"{word} is no term of SPF's")
    four, six = int(match["four"] or 32), int(match["six"] or 128)
    if four > 32 or six > 128:
        raise PermanentError(f"{word} has a longer prefix than an address")
    return Term(match["sign"] or "+", name, value, four, six)


class Judge:
    """A receiver that has got mail from one address.

    :param asker: who asks DNS.
    :param address: whose mail; none, one that no term names, for which all terms are asked.
    :param version: of IP, where there is none.
    """

    def __init__(self, asker: Asker, address: str = "", version: int = 4) -> None:
        self.asker = asker
        self.address: Address | None = ipaddress.ip_address(address) if address else None
        self.kind = "AAAA" if (self.address.version if self.address else version) == 6 else "A"
        self.lookups = self.void = 0
        self.unsure: list[tuple[str, str]] = []

    async def judged(self, record: str, domain: str) -> Judged:
        """Return what becomes of the address.

        :param record: of the domain.
        :param domain: of the envelope.
        """
        try:
            result = await self._record(record, domain, (domain,))
        except PermanentError as error:
            return Judged("permerror", self.lookups, str(error))
        except TemporaryError as error:
            return Judged("temperror", self.lookups, str(error))
        others = [term for term, would in self.unsure if would != result]
        if others:
            return Judged("unknown", self.lookups, f"{others[0]} depends on the message")
        return Judged(result, self.lookups)

    async def _record(self, record: str, domain: str, path: tuple[str, ...]) -> str:
        known = terms(record)
        for term in known:
            if term.name not in ("redirect", "exp"):
                matches = await self._matches(term, domain, path)
                if matches is None:
                    self.unsure.append((_written(term), RESULTS[term.sign]))
                elif matches:
                    return RESULTS[term.sign]
        redirect = next((term.value for term in known if term.name == "redirect"), "")
        if not redirect or any(term.name == "all" for term in known):
            return "neutral"  # 4.7
        self._looks_up(f"redirect={redirect}")
        if "%" in redirect:
            self.unsure.append((f"redirect={redirect}", "?"))
            return "neutral"
        return await self._of_domain(redirect, path, f"redirect={redirect}")

    async def _matches(self, term: Term, domain: str, path: tuple[str, ...]) -> bool | None:
        """Return whether a mechanism matches; None where nobody can say without the message."""
        if term.name == "all":
            return True
        if term.name in ("ip4", "ip6"):
            return self.address is not None and self.address in ipaddress.ip_network(term.value)
        self._looks_up(_written(term))
        if "%" in term.value or term.name in ("ptr", "exists"):
            return await self._by_name(term)
        target = term.value or domain
        if term.name == "include":
            return await self._included(term, path)
        if term.name == "a":
            return self._among(await self._asked(target, self.kind), term)
        hosts = [value.split()[1] for value in (await self._asked(target, "MX")).values]
        if len(hosts) > HOSTS:
            raise PermanentError(f"{_written(term)} has {len(hosts)} hosts, of which a receiver asks {HOSTS}")
        return any([self._among(await self._asked(host, self.kind), term) for host in hosts if host != "."])

    async def _included(self, term: Term, path: tuple[str, ...]) -> bool:
        """Return whether an included record lets the address pass; what it is unsure of, this one is, too."""
        known = len(self.unsure)
        matches = await self._of_domain(term.value, path, f"include:{term.value}") == "pass"
        within = self.unsure[known:]
        self.unsure[known:] = [
            (name, RESULTS[term.sign] if would == "pass" else "neutral")
            for name, would in within
            if matches or would == "pass"
        ]
        return matches

    async def _by_name(self, term: Term) -> bool | None:
        """Ask what depends on the message only as far as it doesn't."""
        if term.name == "exists" and "%" not in term.value:
            return bool((await self._asked(term.value, "A")).values) and self.address is not None
        return None if self.address else False

    async def _of_domain(self, domain: str, path: tuple[str, ...], term: str) -> str:
        if domain in path:
            raise PermanentError(f"{' -> '.join([*path, domain])} is a loop")
        said = await self._asked(domain, "TXT")
        records = [value for value in said.values if is_record(value)]
        if len(records) != 1:  # 5.2, 6.1
            raise PermanentError(f"{term}: {domain} has {len(records) or 'no'} SPF record{'s' * (len(records) > 1)}")
        return await self._record(records[0], domain, (*path, domain))

    async def _asked(self, name: str, kind: str) -> Said:
        said = await self.asker.one(name, kind)
        if said.state == UNKNOWN:
            raise TemporaryError(f"{name} {kind}: {said.server} {said.why}")
        if said.state == NONE:
            self.void += 1
            if self.void > VOID:
                raise PermanentError(f"{name} is look-up {self.void} that finds nothing; {VOID} are allowed")
        return said

    def _looks_up(self, term: str) -> None:
        self.lookups += 1
        if self.lookups > LOOKUPS:
            raise PermanentError(f"{term} is look-up {self.lookups}; {LOOKUPS} are allowed")

    def _among(self, said: Said, term: Term) -> bool:
        """Return whether the address is in a network of one of these addresses."""
        length = term.six if self.kind == "AAAA" else term.four
        networks = (ipaddress.ip_network(f"{value}/{length}", strict=False) for value in said.values)
        return self.address is not None and any(self.address in network for network in networks)


def _written(term: Term) -> str:
    sign = "" if term.sign == "+" else term.sign
    return f"{sign}{term.name}{f':{term.value}' if term.value else ''}"
