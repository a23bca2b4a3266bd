"""A lab: the hosts and the clients of one network, under one name."""

import ipaddress
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import images, machine
from lab.host import Host, Role
from lab.images import Image
from lab.network import RUN, Network, address_in_lab
from lab.process import CommandFailed, LabError, Progress, run

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "pillar.example"

ROLES = {
    role.name: role
    for role in (
        Role("directory", ("172.16.11.63",), "directory.domain01.dom", nameserver="172.16.11.63"),
        Role(
            "relay", ("172.16.11.95",), "vm-172-16-11-95.cloud0.hc.mycompany.dom", nameserver="198.51.100.53", bare=True
        ),
        Role("delivery", ("172.16.11.96",), "smtp-delivery.cloud0.hc.mycompany.dom", nameserver="198.51.100.53"),
        Role("outside", ("198.51.100.10", "198.51.100.53"), "mx.outside.example", nameserver="198.51.100.53"),
        Role("master", ("172.16.11.94",), "master.cloud0.hc.mycompany.dom", nameserver="198.51.100.53", bare=True),
        Role("neighbour", ("172.16.11.97",), "relay.site-b.example", nameserver="198.51.100.53", bare=True),
    )
}
# Bare hosts with Salt: the relay to be and, for those who ask for them, a Salt master and another site's relay.
BARE = tuple(role.name for role in ROLES.values() if role.bare)
HOSTS = ("directory", "relay", "delivery", "outside")
CLIENT = "172.16.11.50"
CLIENT_PORT = "at-"


@dataclass(frozen=True)
class Way:
    """How the relay's Salt is asked: the host that does it, the command there, and what stands before a function."""

    host: str = "relay"
    command: tuple[str, ...] = ("salt-call", "--local", "--retcode-passthrough")
    ask: tuple[str, ...] = ()


class Client:
    """An address on the lab's network without a host: commands of this machine run there with nothing but that."""

    def __init__(self, address: str, namespace: Path):
        self.address = address
        self.namespace = namespace

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command that runs a command with this client's network."""
        return ["nsenter", f"--net={self.namespace}", "--", *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command at this address; the parameters are those of lab.process.run."""
        where = f"client {self.address}"
        return run(self.argv(argv), shown=argv, where=where, input=input, check=check, timeout=timeout)


class Lab:
    """
    Hosts, clients and their network. Labs of different names stand side by side.

    name
        At most 12 lower-case letters and digits; every name of the lab on this machine derives from it.
    release
        The Debian release of the relay.
    salt_version
        The relay's Salt: 3008, 3007 or 3006, the newest of each.
    quiet
        Print no progress.
    """

    def __init__(
        self,
        name: str = "demo",
        release: str = "bookworm",
        salt_version: str = images.SALT_VERSION,
        quiet: bool = False,
    ):
        if not re.fullmatch("[a-z0-9]{1,12}", name):
            raise LabError(f"{name} is no name for a lab: at most 12 lower-case letters and digits")
        self.name = name
        services = images.services()
        self.images = dict.fromkeys(ROLES, services) | dict.fromkeys(BARE, images.relay(release, salt_version))
        self.network = Network(f"smtpout-{name}")
        self.progress = Progress(quiet)
        self.folder = RUN / name
        self.way = Way()
        machine.prepare(self.progress)

    def host(self, name: str) -> Host:
        """A host of the lab, up or not."""
        if name not in ROLES:
            raise LabError(f"{name} is no host of the lab; there are {', '.join(ROLES)}")
        machine = self.network.namespace(name)
        return Host(machine, ROLES[name], self.network.path(name), self.folder / name)

    def client(self, address: str = CLIENT) -> Client:
        """A client at an address of the lab's networks, plugged in where it is new."""
        taken = {each: role.name for role in ROLES.values() for each in role.addresses}
        if address_in_lab(address) in taken:
            raise LabError(f"{address} is the address of {taken[address]}")
        if not self.is_up():
            raise LabError("the lab is not up: bin/lab up")
        # An interface's name has at most 15 characters, an address may have as many by itself.
        port = f"{CLIENT_PORT}{int(ipaddress.IPv4Address(address)):08x}"
        self.network.plug(port, (address,))
        return Client(address, self.network.path(port))

    def clients(self) -> list[str]:
        """The addresses that clients have been plugged in at."""
        first = self.network.namespace(CLIENT_PORT)
        ports = [name.removeprefix(first) for name in self.network.namespaces() if name.startswith(first)]
        return [str(ipaddress.IPv4Address(int(port, 16))) for port in ports]

    def is_up(self) -> bool:
        """Whether any part of the lab is there."""
        return self.folder.is_dir()

    def up(self, hosts: Iterable[str] = HOSTS) -> None:
        """
        Boot hosts that are not up yet and return when each of them serves.

        hosts
            Their names.
        """
        wanted = [host for host in map(self.host, hosts) if not self._serves(host)]
        build([self.images[host.name] for host in wanted], self.progress)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.network.ensure()
        _at_once(self._boot, wanted)

    def _serves(self, host: Host) -> bool:
        if not host.serves():
            return False
        if not host.image.startswith(f"{self.images[host.name].name}-"):
            raise LabError(f"{host.name} is up from the image {host.image}: first bin/lab down")
        return True

    def _boot(self, host: Host) -> None:
        # What is left of a boot that failed or was interrupted.
        host.stop()
        self.network.plug(host.name, host.role.addresses)
        host.boot(self.images[host.name].path, REPOSITORY)
        failed = host.failed_units()
        self.progress(f"{host.name}: booted" + (f", but these units failed: {', '.join(failed)}" if failed else ""))
        host.serve()
        if not host.role.bare:
            self.progress(f"{host.name}: serves")

    def salt(self, *words: str, check: bool = True, timeout: float | None = None) -> Any:
        """
        What the relay's Salt answers.

        words
            The function and its arguments.
        check
            Raise CommandFailed on a status other than 0.
        timeout
            Seconds.
        """
        command = [*self.way.command, "--out=json", *words]
        done = self.host(self.way.host).run(command, check=check, timeout=timeout)
        if not done.stdout.strip().startswith("{"):
            raise CommandFailed(self.way.host, done)
        return next(iter(json.loads(done.stdout).values()))

    def set_pillar(self, site: str) -> list[str]:
        """
        Give the relay a pillar, with what the lab adds to any, and return the paths of its files there.

        site
            The text of a pillar file; only root can read it on the relay.
        """
        relay, path = self.host("relay"), "/srv/pillar/site.sls"
        relay.write("/srv/pillar/top.sls", "base: {'*': [site, lab]}\n")
        relay.write("/srv/pillar/lab.sls", (REPOSITORY / "test/salt/pillar/lab.sls").read_text())
        relay.write(path, site)
        return [path, "/srv/pillar/lab.sls"]

    def apply_argv(self, pillar: Path, test: bool = False) -> list[str]:
        """
        Give the relay a pillar and return the command that makes it what that says, with bin/apply.

        pillar
            A pillar file of this machine.
        test
            Only say what would change.
        """
        try:
            files = self.set_pillar(pillar.read_text())
        except OSError as unreadable:
            raise LabError(f"{unreadable.filename}: {unreadable.strerror}") from unreadable
        return self.host("relay").argv(["/srv/formula/bin/apply", *files, *(["--test"] if test else [])])

    def apply(self, pillar: Path = EXAMPLE, test: bool = False) -> subprocess.CompletedProcess[str]:
        """
        Make the relay what a pillar file says; the result is bin/apply's, whatever its status.

        Its progress goes to the terminal, unless the lab is quiet. The parameters are those of apply_argv.
        """
        progress = subprocess.PIPE if self.progress.quiet else None
        return subprocess.run(
            self.apply_argv(pillar, test), check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=progress, text=True,
        )  # fmt: skip

    def down(self, hosts: Iterable[str] = ()) -> None:
        """
        Remove everything of the lab from this machine but the images.

        hosts
            The names of the hosts that go; where none is named, all of them, the clients and the network.
        """
        if stopped := [self.host(name) for name in hosts]:
            _at_once(Host.stop, stopped)
            for host in stopped:
                self.network.unplug(host.name)
            return
        if self.is_up():
            _at_once(Host.stop, [self.host(name) for name in ROLES])
            self.folder.rmdir()
        self.network.down()


def build(wanted: Iterable[Image], progress: Progress) -> None:
    """Build the images that are missing."""
    different = {image.name: image for image in wanted}.values()
    _at_once(lambda image: image.ensure(progress), list(different))


def _at_once(work: Callable[[Any], Any], things: Sequence[Any]) -> None:
    """Do the same with several things at the same time; raise the first error after all have ended."""
    with ThreadPoolExecutor(len(things) or 1) as pool:
        for done in [pool.submit(work, thing) for thing in things]:
            done.result()
