"""Tell who listens on a TCP port of this host, so that a taken one is found before a daemon wants it."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket as sockets
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"  # Linux's number of the state (include/net/tcp_states.h)
OPEN = ("01", "08")  # established, and closed by the other side alone


def conflict(port: int, address: str = "", units: list[str] | None = None) -> str | None:
    """Return who else listens where a daemon is about to, such as ``"haproxy (process 123)"``; None when nobody does.

    :param port: the TCP port.
    :param address: the IP address; empty for all of them. One listener on all addresses of a family takes the port
        from every other of it (ip(7), tcp(7)).
    :param units: the systemd units whose own processes don't count.
    """
    inodes = {inode for other, inode in _listeners(port) if _clash(address, other)}
    if not inodes:
        return None
    holders = _holders(inodes)
    if any(_belongs(pid, units or []) for pid in holders):
        return None
    # systemd holds the ports of its socket units, for whom only it knows.
    strangers = [pid for pid in holders if pid != 1]
    return f"{_name(strangers[0])} (process {strangers[0]})" if strangers else None


def socket_conflict(socket: str, units: list[str] | None = None) -> str | None:
    """Return who else listens on a milter's socket, as ``conflict`` does; None for a unix-domain one.

    :param socket: ``inet:PORT``, ``inet:PORT@HOST``, or another form, which has no port.
    :param units: as for ``conflict``.
    """
    match = re.fullmatch(r"inet(6?):(\d+)(?:@(.+))?", socket)
    if not match:
        return None
    family = sockets.AF_INET6 if match[1] else sockets.AF_INET
    try:
        address = str(sockets.getaddrinfo(match[3].strip("[]"), None, family)[0][4][0]) if match[3] else ""
    except OSError:
        return None  # a host without an address: the daemon says so itself
    return conflict(int(match[2]), address, units)


def strange(address: str) -> bool:
    """Tell whether no daemon can listen at an address, since this host doesn't have it; bind(2) says so.

    :param address: an IP address.
    """
    try:
        with sockets.socket(sockets.AF_INET6 if ":" in address else sockets.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno == errno.EADDRNOTAVAIL
    return False


def held(unit: str, name: str) -> set[tuple[str, int]]:
    """Return the addresses and TCP ports on which a unit's program listens.

    :param unit: the systemd unit.
    :param name: the program's name, as ps(1) shows it.
    """
    ours = {f"socket:[{inode}]": (address, port) for address, port, inode in _sockets()}
    processes = (int(process.name) for process in Path("/proc").glob("[0-9]*"))
    holders = [pid for pid in processes if _name(pid) == name and _belongs(pid, [unit])]
    return {ours[link] for pid in holders for link in _links(pid) if link in ours}


def local_addresses() -> set[str]:
    """Return the IP addresses of this host's interfaces (proc(5), /proc/net/if_inet6 and fib_trie)."""
    found = set()
    with suppress(OSError):
        text = Path("/proc/net/fib_trie").read_text(encoding="ascii")
        found |= set(re.findall(r"\|-- ([\d.]+)\n\s+/32 host LOCAL", text))
    with suppress(OSError):
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
        found |= {str(ipaddress.ip_address(bytes.fromhex(line[:32]))) for line in lines}
    return found


def _listeners(port: int) -> Iterable[tuple[str, str]]:
    """Yield address and inode of each listening socket of a port."""
    return ((address, inode) for address, number, inode in _sockets() if number == port)


def sessions(ports: Collection[int]) -> int:
    """Return how many connections to some of this host's TCP ports are open.

    :param ports: which.
    """
    return sum(number in ports for _, number, _ in _sockets(OPEN))


def _sockets(states: Collection[str] = (LISTEN,)) -> Iterable[tuple[str, int, str]]:
    """Yield address, port and inode of each socket that listens (proc(5), /proc/net/tcp), or is in another state."""
    for family in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", family).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                host, _, number = fields[1].partition(":")
                if fields[3] in states:
                    yield _address(host), int(number, 16), fields[9]


def _address(host: str) -> str:
    """Return an address from the words of the processor's byte order that /proc prints it in."""
    words = [int(host[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(host), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _clash(one: str, other: str) -> bool:
    if not one:
        return True
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if second.is_unspecified:  # [::] takes IPv4 too, unless its program said otherwise
        return second.version == 6 or first.version == 4
    return first == second or (first.is_unspecified and first.version == second.version)


def _holders(inodes: set[str]) -> list[int]:
    """Return the processes that have one of these sockets open."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    processes = (int(process.name) for process in Path("/proc").glob("[0-9]*"))
    return sorted(pid for pid in processes if any(link in wanted for link in _links(pid)))


def _links(pid: int) -> Iterator[str]:
    """Yield what a process has open; what it closes meanwhile is left out."""
    with suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield os.readlink(handle)


def _belongs(pid: int, units: list[str]) -> bool:
    """Tell whether a process is of a unit: systemd names the control group after it."""
    with suppress(OSError):
        group = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        return any(re.search(rf"/{re.escape(unit)}(?:\.service)?(?:/|$)", group, re.MULTILINE) for unit in units)
    return False


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    return "a process"
