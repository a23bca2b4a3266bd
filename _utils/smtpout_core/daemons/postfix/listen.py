"""Where Postfix listens: by its configuration, staged or live, and in fact."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from smtpout_core import listener
from smtpout_core.daemons.postfix import conf
from smtpout_core.errors import RelayError

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
EVERYWHERE = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - what Postfix binds to for `all`

# The parameter by which a program is told that each connection begins with a PROXY line (postconf(5)).
PROXY = {"smtpd": "smtpd_upstream_proxy_protocol", "postscreen": "postscreen_upstream_proxy_protocol"}
WANTED = ("inet_interfaces", "inet_protocols", "smtpd_tls_wrappermode", *PROXY.values())


class Endpoint(NamedTuple):
    """An address and a port that a service of master.cf listens on, and how it wants to be talked to."""

    address: str
    port: int
    program: str
    """``smtpd``, ``postscreen``, or what doesn't speak SMTP."""
    service: str
    """As master.cf has it, such as ``submission/inet``."""
    tls: bool = False
    """TLS comes first (RFC 8314)."""
    proxy: bool = False
    """A line of the PROXY protocol comes before anything else."""

    def __str__(self) -> str:
        return written(self.address, self.port)

    @property
    def speaks_smtp(self) -> bool:
        """Whether it greets."""
        return self.program in PROXY

    @property
    def asked_at(self) -> str:
        """The address to ask it at, from this host."""
        if not ipaddress.ip_address(self.address).is_unspecified:
            return self.address
        return "::1" if ":" in self.address else "127.0.0.1"

    @property
    def place(self) -> str:
        """Where it is asked, as one writes it."""
        return written(self.asked_at, self.port)


def endpoints(directory: str = conf.LIVE) -> list[Endpoint]:
    """Return where a configuration has Postfix listen; a host without IPv6 has no endpoint of that family.

    :param directory: the configuration directory, staged or live.
    :raises RelayError: a name of ``inet_interfaces`` or master.cf has no address here, or no port.
    :raises NotInstalledError: there is no Postfix.
    """
    parameters = conf.values(directory, *WANTED)
    families = _families(parameters["inet_protocols"])
    found = []
    for service in conf.services(directory):
        if service.type != "inet":
            continue
        effective = {**parameters, **service.options}
        try:
            host, port = _parts(service.name)
            addresses = _resolved(host, families) if host else _interfaces(parameters["inet_interfaces"], families)
        except OSError as error:
            raise RelayError(f"master.cf: {service}: {error.strerror or error}") from None
        tls = service.program == "smtpd" and effective["smtpd_tls_wrappermode"] == "yes"
        proxy = bool(effective.get(PROXY.get(service.program, "")))
        found += [Endpoint(address, port, service.program, str(service), tls, proxy) for address in addresses]
    return found


def asked(directory: str = conf.LIVE) -> list[Endpoint]:
    """Return the endpoints at which a client on this host can greet Postfix.

    :param directory: the configuration directory.
    :raises RelayError: as of ``endpoints``.
    """
    local = listener.local_addresses()
    return [each for each in endpoints(directory) if each.speaks_smtp and _is_here(each.asked_at, local)]


def reached(directory: str = conf.LIVE) -> list[Endpoint]:
    """Return the endpoints that clients from elsewhere reach, each at an address of this host's that isn't loopback.

    :param directory: the configuration directory.
    :raises RelayError: as of ``endpoints``.
    """
    local = [ipaddress.ip_address(address) for address in sorted(listener.local_addresses())]
    others = [address for address in local if not (address.is_loopback or address.is_link_local)]
    found = []
    for each in endpoints(directory):
        bound = ipaddress.ip_address(each.address)
        at = [
            address
            for address in others
            if address.version == bound.version and (bound.is_unspecified or address == bound)
        ]
        if each.speaks_smtp and at:
            found.append(each._replace(address=str(at[0])))
    return found


def astray(settings: dict[str, Any]) -> str | None:
    """Return a sentence where the running Postfix listens elsewhere than its configuration says; None where it doesn't.

    :param settings: the site's.
    :raises RelayError: as of ``endpoints``.
    """
    postfix = settings["postfix"]
    return difference(endpoints(postfix["directory"]), listener.held(postfix["unit"], "master"), postfix["unit"])


def difference(wanted: Iterable[Endpoint], held: set[tuple[str, int]], unit: str) -> str | None:
    """Compare where Postfix should listen with where it does.

    :param wanted: the endpoints of its configuration.
    :param held: address and port of each listening socket of its master.
    :param unit: the unit that a restart would help.
    """
    places = {(each.address, each.port) for each in wanted}
    missing, surplus = sorted(places - held), sorted(held - places)
    parts = []
    if missing:
        parts.append(f"doesn't listen on {', '.join(written(*place) for place in missing)}")
    if surplus:
        parts.append(f"listens still on {', '.join(written(*place) for place in surplus)}")
    if not parts:
        return None
    said = f"Postfix {' and '.join(parts)}, against its configuration"
    return f"{said}: it takes a stop and start (systemctl restart {unit})"


def where(name: str) -> tuple[str, int]:
    """Return address (empty for all) and port of an inet service's name, which is ``[host:]port`` (master(5)).

    :param name: as it stands in master.cf.
    :raises OSError: there is no such host or port.
    """
    host, port = _parts(name)
    return str(socket.getaddrinfo(host, port)[0][4][0]) if host else "", port


def written(address: str, port: int) -> str:
    """Return address and port as one writes them.

    :param address: an IP address.
    :param port: the TCP port.
    """
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _parts(name: str) -> tuple[str, int]:
    host, _, service = name.rpartition(":")
    # Not getservbyname(3): one answer of it serves all threads, and port 25 has come out as 547.
    try:
        found = socket.getaddrinfo(None, service, type=socket.SOCK_STREAM)
    except socket.gaierror:
        raise OSError(f"{service} is no TCP service of /etc/services") from None
    return host.strip("[]"), int(found[0][4][1])


def _families(protocols: str) -> list[socket.AddressFamily]:
    """Return the families of ``inet_protocols``; ``all`` and IPv6 are without IPv6 where the kernel has none."""
    words = re.split(r"[\s,]+", protocols.lower().strip())
    return [
        family
        for word, family in FAMILIES.items()
        if (word in words or "all" in words) and (family == socket.AF_INET or _has_ipv6())
    ]


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _interfaces(words: str, families: list[socket.AddressFamily]) -> list[str]:
    """Return the addresses of ``inet_interfaces``."""
    names = [word for word in re.split(r"[\s,]+", words) if word]
    if names == ["all"]:
        return [EVERYWHERE[family] for family in families]
    if names == ["loopback-only"]:
        local = (ipaddress.ip_address(address) for address in sorted(listener.local_addresses()))
        versions = {4 if family == socket.AF_INET else 6 for family in families}
        return [str(address) for address in local if address.is_loopback and address.version in versions]
    return list(dict.fromkeys(address for name in names for address in _resolved(name.strip("[]"), families)))


def _resolved(host: str, families: list[socket.AddressFamily]) -> list[str]:
    """Return a host's addresses of these families.

    :raises OSError: it has none.
    """
    found = list(dict.fromkeys(_addresses(host, families)))
    if not found:
        raise OSError(f"{host} has no address")
    return found


def _addresses(host: str, families: list[socket.AddressFamily]) -> Iterator[str]:
    for family in families:
        try:
            answers = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
        except socket.gaierror:
            continue
        for answer in answers:
            yield str(ipaddress.ip_address(str(answer[4][0]).partition("%")[0]))


def _is_here(address: str, local: set[str]) -> bool:
    """Tell whether an address can be asked: all of 127.0.0.0/8 is here, and ::1 only where IPv6 is switched on."""
    return ipaddress.ip_address(address) in ipaddress.ip_network("127.0.0.0/8") or address in local
