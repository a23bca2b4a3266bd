"""Ask one address one question: few at once, again where nothing comes, and no more where nothing ever comes.

One dead server of a provider's would hold up a thousand domains: each question to it would wait as long as the first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections import Counter
from typing import Any

from smtpout_core import packages
from smtpout_core.errors import RelayError

AT_ONCE, AT_ONE_ADDRESS, AT_A_RESOLVER = 100, 10, 50
PATIENCE = (2.0, 4.0)
"""Seconds that a first and a second try wait."""
FAILURES, FAILURES_OF_KNOWN = 5, 20
"""Questions in a row without an answer, after which an address is asked no more: one that never answered, and one that
did, which may be slow, or limit rates. More come of the questions that are under way."""
PAYLOAD = 1232
"""Bytes of an answer by UDP that no path cuts into pieces (DNS flag day 2020)."""


class Silence(RelayError):
    """There is no answer; the text says why, in the words that follow a server's name."""


class NoWayError(Silence):
    """From this host there is no way to the address, as to an IPv6 one where there is IPv4 only."""


def library() -> Any:
    """Return dnspython.

    :raises NotInstalledError: it isn't there.
    """
    packages.imported("dns.asyncquery", "dnspython")  # which imports what messages need
    packages.imported("dns.resolver", "dnspython")
    return packages.imported("dns", "dnspython")


class Gates:
    """The ways to all addresses.

    :param port: where servers listen.
    :param seconds: after which nothing more is asked.
    """

    def __init__(self, port: int = 53, seconds: float = 300) -> None:
        self.dns, self.port = library(), port
        self.ends = time.monotonic() + seconds
        self.places = asyncio.Semaphore(AT_ONCE)
        self.of_address: dict[str, asyncio.Semaphore] = {}
        self.failed: Counter[tuple[str, str]] = Counter()
        self.answered: set[tuple[str, str]] = set()
        self.ways: dict[str, str] = {}
        self.asked = 0

    async def ask(self, address: str, name: str, kind: str, *, recursive: bool = False) -> Any:
        """Return an address's answer, a ``dns.message.Message``, asked by TCP where it is too long for UDP.

        :param address: of a server.
        :param name: what is asked for, absolute.
        :param kind: of record, as ``TXT``.
        :param recursive: ask it as a resolver.
        :raises Silence: there is none.
        """
        dns = self.dns
        if no_way := self._no_way(address):
            raise NoWayError(no_way)
        try:
            query = dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD)
        except dns.exception.DNSException as error:
            raise Silence(f"can't be asked for {name}: {error}") from None
        if not recursive:
            query.flags &= ~dns.flags.RD
        self.asked += 1
        most = AT_A_RESOLVER if recursive else AT_ONE_ADDRESS
        async with self.of_address.setdefault(address, asyncio.Semaphore(most)):
            try:
                return await self._tried(address, query, "UDP")
            except dns.message.Truncated:
                return await self._tried(address, query, "TCP")

    async def _tried(self, address: str, query: Any, by: str) -> Any:
        dns = self.dns
        why = ""
        for patience in PATIENCE:
            if self.given_up(address, by):  # as it is when a place is free, not when one was asked for
                raise Silence(f"doesn't answer by {by}")
            if (left := self.ends - time.monotonic()) <= 0:
                raise Silence("wasn't asked any more: the time was up")
            wait = min(patience, left)
            try:
                async with self.places:
                    if by == "TCP":
                        answer = await dns.asyncquery.tcp(query, address, timeout=wait, port=self.port)
                    else:
                        answer = await dns.asyncquery.udp(
                            query, address, wait, self.port, ignore_unexpected=True, raise_on_truncation=True
                        )
            except dns.message.Truncated:
                self._answers(address, by)
                raise
            except dns.exception.Timeout:
                why = f"doesn't answer by {by}"
            except (OSError, EOFError) as error:
                why = f"doesn't answer by {by}: {getattr(error, 'strerror', None) or error}"
            except (dns.exception.DNSException, ValueError) as error:  # an answer, and none that can be read
                raise Silence(f"answers what can't be read: {error or type(error).__name__}") from None
            else:
                self._answers(address, by)
                return answer
        self.failed[address, by] += 1
        raise Silence(why)

    def given_up(self, address: str, by: str) -> bool:
        """Return whether an address is asked no more."""
        known = (address, by) in self.answered
        return self.failed[address, by] >= (FAILURES_OF_KNOWN if known else FAILURES)

    def _answers(self, address: str, by: str) -> None:
        self.failed[address, by] = 0
        self.answered.add((address, by))

    def _no_way(self, address: str) -> str:
        """Return why an address can't be reached at all; no packet is sent for that."""
        if address not in self.ways:
            family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as way:
                    way.connect((address, self.port))
                self.ways[address] = ""
            except OSError as error:
                self.ways[address] = f"can't be reached from here: {error.strerror}"
        return self.ways[address]
