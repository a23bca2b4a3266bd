"""How clients come in, which a trial's doors don't show: they are sockets that anybody may say anything at.

So it is read from the configuration where Postfix would listen, whether TLS comes first there (RFC 8314), and who is
believed that he speaks for another: by a line of the PROXY protocol, or by XCLIENT (XCLIENT_README).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import NamedTuple

from smtpout_core.daemons.postfix import conf, listen, maps
from smtpout_core.errors import RelayError
from smtpout_core.promises.promise import Content, End, Question
from smtpout_core.site.rules.postfix import port

FIRST = {"25": False, "465": True, "587": False}
"""Whether a client begins with TLS, by the port."""
SPEAKS = "smtpd_authorized_xclient_hosts"


class Entrance(NamedTuple):
    """A service that takes sessions: where it listens, and who may speak for others there.

    :param tls: TLS comes first.
    :param proxy: a line of the PROXY protocol does.
    :param xclient: hosts that may say XCLIENT, as main.cf writes them.
    """

    addresses: tuple[str, ...]
    tls: bool
    proxy: bool
    xclient: str


class Entrances:
    """The services that take sessions.

    :param found: each by its name in master.cf, as :func:`found` has it.
    :param answer: gives what a table of the configuration has for a key.
    """

    def __init__(self, found: Mapping[str, Entrance], answer: Callable[[str, str], str]) -> None:
        self.found = found
        self.answer = answer

    def fault(self, question: Question) -> str:
        """Return what a client would meet that the trial's didn't; an empty text where that is nothing."""
        if ipaddress.ip_address(question.client).is_loopback:
            return ""
        number = port(question.door)  # whatever a site calls the service there, and be there several
        there = [each for name, each in self.found.items() if port(name) == number]
        reached = [each for each in there if any(not ipaddress.ip_address(at).is_loopback for at in each.addresses)]
        if question.ends is End.TAKEN:
            if there and not reached:
                addresses = ", ".join(address for each in there for address in each.addresses)
                return f"nobody gets there, it listens on {addresses or 'no address'} alone (inet_interfaces)"
            if any(each.tls != FIRST.get(number, each.tls) for each in reached):
                how = "with" if FIRST[number] else "without"
                return f"clients begin {how} TLS there, and it would not (smtpd_tls_wrappermode)"
        elif question.content is not Content.CLEAR_LOGIN and not question.login:
            if any(each.proxy for each in reached):
                return "anybody is believed whom a line of the PROXY protocol names (smtpd_upstream_proxy_protocol)"
            if any(self._may(each.xclient, question.client) for each in reached):
                return f"the client may say XCLIENT, and be whoever it likes ({SPEAKS})"
        return ""

    def _may(self, hosts: str, client: str) -> bool:
        """Tell whether a list of hosts has a client, by its address (postconf(5))."""
        for each in maps.named(hosts):
            wanted = not each.startswith("!")
            if self._is_one(each.lstrip("!"), client):
                return wanted
        return False

    def _is_one(self, entry: str, client: str) -> bool:
        if ":" in entry and not entry.startswith("["):
            try:
                return bool(self.answer(entry, client))
            except RelayError:  # nobody is let in by what can't be read
                return False
        try:
            return ipaddress.ip_address(client) in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), False)
        except ValueError:  # a name
            return False


def found(config: str) -> dict[str, Entrance]:
    """Return the services of a configuration that take sessions by TCP.

    :param config: its directory.
    :raises RelayError: a name of it has no address here, or no port.
    """
    everywhere = conf.values(config, SPEAKS)[SPEAKS]
    places = listen.endpoints(config)
    made = {}
    for service in conf.services(config):
        own = [each for each in places if each.service == str(service) and each.speaks_smtp]
        if own:
            hosts = service.options.get(SPEAKS, everywhere)
            made[str(service)] = Entrance(tuple(each.address for each in own), own[0].tls, own[0].proxy, hosts)
    return made
