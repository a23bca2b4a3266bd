"""How a domain's MTA-STS is (RFC 8461): its record, the policy that is fetched over HTTPS, and the MX it names."""

from __future__ import annotations

import asyncio
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NoReturn

from smtpout_core.dns.asking import Asker
from smtpout_core.dns.found import ABSENT, OK, UNSURE, WARNING, WRONG, Finding, Verdict, combined, worst
from smtpout_core.dns.said import UNKNOWN
from smtpout_core.dns.wanted import Wanted
from smtpout_core.errors import RelayError

RECORD = re.compile(r"v=STSv1\s*(;|$)")
SECONDS, BYTES = 10, 65_536
LONGEST = 31_557_600
"""Seconds that a policy may hold (3.2)."""


class UnfetchedError(RelayError):
    """There is no way to the policy from here; whether others have one isn't known."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A policy is where it is (3.3)."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetched(domain: str) -> str:
    """Return a domain's policy.

    :raises RelayError: it isn't served as senders need it.
    :raises UnfetchedError: its server can't be reached.
    """
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(f"https://mta-sts.{domain}/.well-known/mta-sts.txt", timeout=SECONDS) as answer:
            return answer.read(BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        raise RelayError(f"mta-sts.{domain} answers {error.code}") from None
    except urllib.error.URLError as error:
        _untold(domain, error.reason)
    except (OSError, ValueError) as error:
        _untold(domain, error)


def _untold(domain: str, reason: object) -> NoReturn:
    if isinstance(reason, ssl.SSLError):
        raise RelayError(f"mta-sts.{domain} has no certificate that senders take: {reason}") from None
    raise UnfetchedError(f"mta-sts.{domain} can't be reached from here: {reason}") from None


async def mta_sts(asker: Asker, _wanted: Wanted, domain: str, fetch: Callable[[str], str] = fetched) -> list[Finding]:
    """Return how a domain's MTA-STS is; it may have none.

    :param fetch: returns a domain's policy.
    """
    name = f"_mta-sts.{domain}"
    said = await asker.all(name, "TXT", domain)
    policy: Verdict = (OK, "")
    if any(RECORD.match(value) for each in said for value in each.values):
        policy = await _policy(asker, domain, fetch)

    def judge(values: tuple[str, ...]) -> Verdict:
        found = [value for value in values if RECORD.match(value)]
        if len(found) > 1:  # 3.1
            return WRONG, f"{len(found)} MTA-STS records, so senders take none: {' | '.join(found)}"
        if not found:
            return ABSENT, "no MTA-STS record"
        if not re.search(r";\s*id\s*=\s*[A-Za-z0-9]{1,32}\s*(;|$)", found[0]):
            return WRONG, f"id= is no 1 to 32 letters and digits: {found[0]}"
        return worst([(OK, found[0]), policy])

    return [Finding("mta-sts", domain, f"{name}.", *combined(said, judge, (ABSENT, "no MTA-STS record")))]


async def _policy(asker: Asker, domain: str, fetch: Callable[[str], str]) -> Verdict:
    try:
        text = await asyncio.get_running_loop().run_in_executor(None, fetch, domain)
    except UnfetchedError as error:
        return UNSURE, str(error)
    except RelayError as error:
        return WRONG, str(error)
    pairs = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in text.splitlines())]
    said, patterns = dict(reversed(pairs)), [value.lower() for key, value in pairs if key == "mx"]
    if said.get("version") != "STSv1" or said.get("mode") not in ("enforce", "testing", "none"):
        return WRONG, "the policy says neither version: STSv1 nor a mode that there is"
    if not said.get("max_age", "").isdigit() or int(said["max_age"]) > LONGEST:
        return WRONG, f"the policy's max_age is no number up to {LONGEST}"
    if said["mode"] == "none":
        return OK, ""
    answer = await asker.one(domain, "MX")
    if answer.state == UNKNOWN:
        return UNSURE, f"whether the policy names the MX isn't known: {answer.why}"
    hosts = [value.split()[1].rstrip(".") for value in answer.values]
    if others := [host for host in hosts if not any(_names(pattern, host) for pattern in patterns)]:
        weight = WRONG if said["mode"] == "enforce" else WARNING
        return (
            weight,
            f"the policy (mode {said['mode']}) doesn't name the MX {', '.join(others)}: mail isn't sent to it",
        )
    return OK, ""


def _names(pattern: str, host: str) -> bool:
    """Return whether a policy's pattern names a host; its * is one label (4.1)."""
    return host.partition(".")[2] == pattern[2:] if pattern.startswith("*.") else host == pattern
