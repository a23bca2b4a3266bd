"""The lab's network: a bridge in a namespace of its own and, for each host or client, a namespace and a cable.

There is no way out: no namespace has a default route, and nothing connects them to the machine's own network.
"""

import contextlib
import fcntl
import ipaddress
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from lab.process import CACHE, LabError, run

SITE = ipaddress.IPv4Network("172.16.11.0/24")
INTERNET = ipaddress.IPv4Network("198.51.100.0/24")

NAMESPACES = Path("/run/netns")
# What the labs keep while they are up; gone after the last one.
RUN = Path("/run/smtpout-lab")
_ROUTES = RUN / "routes"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock under which any lab changes networks or the machine's routes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "network.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def address_in_lab(address: str) -> str:
    """Return the address; raise LabError where it is in neither of the lab's networks."""
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError as invalid:
        raise LabError(f"{address} is not an IPv4 address") from invalid
    if not any(parsed in network for network in (SITE, INTERNET)):
        raise LabError(f"{address} is outside the lab's networks, {SITE} and {INTERNET}")
    return address


class Network:
    """The network of one lab; the names of its namespaces begin with the lab's prefix."""

    def __init__(self, prefix: str):
        self.prefix = prefix

    def namespace(self, port: str) -> str:
        """The name of a port's network namespace."""
        return f"{self.prefix}-{port}"

    def path(self, port: str) -> Path:
        """The file that stands for a port's network namespace."""
        return NAMESPACES / self.namespace(port)

    def namespaces(self) -> list[str]:
        """The lab's namespaces that are there, the bridge's own first."""
        names = sorted(path.name for path in NAMESPACES.glob(f"{self.prefix}*"))
        return [name for name in names if name == self.prefix or name.startswith(f"{self.prefix}-")]

    def ensure(self) -> None:
        """Make the bridge and close the machine's own way to the lab's addresses, unless that is done."""
        with alone():
            _close_routes()
            if self.prefix not in self.namespaces():
                run(["ip", "netns", "add", self.prefix])
                _ip(self.prefix, ["link set lo up", "link add lan type bridge", "link set lan up"])

    def plug(self, port: str, addresses: tuple[str, ...]) -> None:
        """
        Connect a namespace to the bridge, unless it is.

        port
            Its name, of at most 15 characters: that of its interface at the bridge, too.
        addresses
            Its addresses. The lab's other network is on-link as well, so packets keep their real source address.
        """
        namespace = self.namespace(port)
        with alone():
            if self.path(port).exists():
                return
            run(["ip", "netns", "add", namespace])
            cable = f"link add name {port} type veth peer name eth0 netns {namespace}"
            _ip(self.prefix, [cable, f"link set dev {port} master lan up"])
            lines = ["link set lo up", "link set eth0 up", *(f"addr add {each}/24 dev eth0" for each in addresses)]
            near = ipaddress.IPv4Address(addresses[0])
            lines += [f"route add {far} dev eth0 src {near}" for far in (SITE, INTERNET) if near not in far]
            _ip(namespace, lines)

    def unplug(self, port: str) -> None:
        """Remove a port, where it is there, with its namespace and all that runs in it."""
        with alone():
            if self.path(port).exists():
                # The kernel takes its time over what is in a deleted namespace, and the port may be plugged in again.
                _ip(self.prefix, [f"link delete dev {port}"])
                _remove(self.namespace(port))

    def down(self) -> None:
        """Remove the lab's namespaces with all that runs in them and, after the last lab, what was done to routes."""
        with alone():
            for name in reversed(self.namespaces()):
                _remove(name)
            if NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
                # The first `ip netns add` made it and mounted it on itself.
                run(["umount", str(NAMESPACES)], check=False)
                NAMESPACES.rmdir()
            if RUN.is_dir() and not any(path.is_dir() for path in RUN.iterdir()):
                _open_routes()
                RUN.rmdir()


def _remove(namespace: str) -> None:
    for process in run(["ip", "netns", "pids", namespace]).stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    run(["ip", "netns", "delete", namespace])


def _close_routes() -> None:
    """
    Make the machine refuse packets to the lab's addresses, and note for which of them that was new.

    A program that is run outside the lab by mistake would otherwise send mail and passwords to the machine's gateway.
    """
    RUN.mkdir(exist_ok=True)
    for network in (SITE, INTERNET):
        if not run(["ip", "route", "show", "exact", str(network)]).stdout:
            with open(_ROUTES, "a") as routes:
                print(network, file=routes)
            run(["ip", "route", "add", "prohibit", str(network)])


def _open_routes() -> None:
    if _ROUTES.exists():
        for network in _ROUTES.read_text().split():
            run(["ip", "route", "delete", "prohibit", network], check=False)
        _ROUTES.unlink()


def _ip(namespace: str, lines: list[str]) -> None:
    run(["ip", "-netns", namespace, "-batch", "-"], input="\n".join([*lines, ""]))
