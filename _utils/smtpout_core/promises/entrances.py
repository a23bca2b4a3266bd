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
        entrance = self.found.get(question.door)
        if entrance is None or ipaddress.ip_address(question.client).is_loopback:
            return ""
        reached = any(not ipaddress.ip_address(each).is_loopback for each in entrance.addresses)
        if question.ends is End.TAKEN:
            first = FIRST.get(port(question.door), entrance.tls)
            if not reached:
                return f"nobody gets there, it listens on {', '.join(entrance.addresses) or 'no address'} alone"
            if entrance.tls != first:
                return f"clients {'begin with TLS' if first else 'begin without TLS'} there, and it would not"
        elif reached and question.content is not Content.CLEAR_LOGIN and not question.login:
            if entrance.proxy:
                return "anybody is believed whom a line of the PROXY protocol names (smtpd_upstream_proxy_protocol)"
            if self._may(entrance.xclient, question.client):
                return f"the client may say XCLIENT ({SPEAKS}), and be whoever it likes"
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
