"""bin/lab: the lab from the command line."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import images
from lab.lab import CLIENT, EXAMPLE, HOSTS, ROLES, Lab, build
from lab.network import RUN
from lab.process import LabError

DESCRIPTION = """\
Boots throw-away hosts with a real systemd each, in network namespaces with no way out:

  directory  172.16.11.63   Samba AD domain controller: LDAP, LDAPS, Kerberos
  relay      172.16.11.95   bare Debian with Salt; the formula makes it the outgoing SMTP layer
  delivery   172.16.11.96   takes mail for domain01.dom and domain02.dom
  outside    198.51.100.10  the Internet: SMTP for outside.example, DNS at 198.51.100.53

and, where they are named:

  master     172.16.11.94   bare Debian with Salt, to be a Salt master
  neighbour  172.16.11.97   the same, to be another site's relay

A host writes into memory only, so after `down` and `up` it is new. What it has written outlives a reboot, be it by
`reboot`, by `systemctl reboot` in the host, or by a cut of its power; /run and /tmp are new then, as on any host.
"""
STATUS = """\
A power cut ends the host's processes, not the memory that it writes into: what a program has written is there
afterwards, the journal too, even where a real machine would have needed an fsync to keep it. Switched off from within,
a host is gone as after `down`.

The exit status of run, shell and client is the command's, or 125 where the lab could not run it; that of apply is
bin/apply's: 0 applied, 1 a state failed, 2 refused.
"""
LAB_FAILED = 125


def up(lab: Lab, options: argparse.Namespace) -> int:
    lab.up(options.hosts or HOSTS)
    return 0


def shell(lab: Lab, options: argparse.Namespace) -> int:
    return become(lab.host(options.host).argv(["bash", "--login"]))


def run(lab: Lab, options: argparse.Namespace) -> int:
    return become(lab.host(options.host).argv([options.command, *options.arguments]))


def client(lab: Lab, options: argparse.Namespace) -> int:
    return become(lab.client(options.address).argv([options.command, *options.arguments]))


def apply(lab: Lab, options: argparse.Namespace) -> int:
    return become(lab.apply_argv(options.pillar, options.test))


def status(lab: Lab, _options: argparse.Namespace) -> int:
    if not lab.is_up():
        print(f"The lab {lab.name} is not up.")
    hosts = [lab.host(name) for name in ROLES] if lab.is_up() else []
    hosts = [host for host in hosts if host.name in HOSTS or host.is_up()]
    for host in hosts:
        image = host.image if host.is_up() else ""
        print(f"{host.name:10} {', '.join(host.role.addresses):29} {host.state():10} {image}".rstrip())
    for address in lab.clients():
        print(f"{'client':10} {address}")
    others = sorted(path.name for path in RUN.glob("*/") if path != lab.folder)
    if others:
        print(f"Other labs here: {', '.join(others)}")
    return 0 if hosts and all(host.is_up() for host in hosts) else 1


def reboot(lab: Lab, options: argparse.Namespace) -> int:
    lab.host(options.host).reboot(power_cut=options.power_cut)
    lab.progress(f"{options.host}: booted again")
    return 0


def down(lab: Lab, options: argparse.Namespace) -> int:
    lab.down(options.hosts)
    return 0


def build_images(lab: Lab, options: argparse.Namespace) -> int:
    if options.fresh:
        images.forget()
    build([*(images.relay(release) for release in images.RELEASES), images.services()], lab.progress)
    return 0


def become(argv: Sequence[str]) -> int:
    """Run a command in this process's place: terminal, signals and exit status are its own."""
    sys.stdout.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the command would inherit that
    try:
        os.execvp(argv[0], list(argv))  # noqa: S606 - the command is the caller's own, and no shell reads it
    except OSError as impossible:
        raise LabError(f"{argv[0]}: {impossible.strerror}") from impossible


def parser() -> argparse.ArgumentParser:
    """The command line."""
    lines = argparse.ArgumentParser(
        prog="lab", description=DESCRIPTION, epilog=STATUS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    lines.add_argument("--name", default="demo", help="which lab, where several stand side by side (default: demo)")
    commands = lines.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, work: Callable[[Lab, argparse.Namespace], int], summary: str, failed: int = 1
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        added.set_defaults(work=work, failed=failed, release=images.RELEASES[0])
        return added

    def host_and_command(added: argparse.ArgumentParser) -> None:
        added.add_argument("command", metavar="COMMAND")
        added.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)

    one = command("up", up, "build the images that are missing and boot the hosts that are not up")
    one.add_argument("--release", choices=images.RELEASES, help="the relay's Debian release (default: %(default)s)")
    one.add_argument("hosts", metavar="HOST", nargs="*", help=f"of {', '.join(ROLES)} (default: the first four)")

    one = command("shell", shell, "open a shell in a host", LAB_FAILED)
    one.add_argument("host", metavar="HOST")

    one = command("run", run, "run a command in a host", LAB_FAILED)
    one.add_argument("host", metavar="HOST")
    host_and_command(one)

    one = command("client", client, "run a command of this machine with nothing but an address in the lab", LAB_FAILED)
    one.add_argument("--address", default=CLIENT, help="of 172.16.11.0/24 or 198.51.100.0/24 (default: %(default)s)")
    host_and_command(one)

    one = command("apply", apply, "make the relay what a pillar file says, with bin/apply", 2)
    one.add_argument("--pillar", type=Path, default=EXAMPLE, help="default: pillar.example")
    one.add_argument("--test", action="store_true", help="only say what would change")

    command("status", status, "show the hosts; the exit status is 0 when all are up")

    one = command("reboot", reboot, "reboot a host with what it has written, and return when it serves again")
    one.add_argument("--power-cut", action="store_true", help="kill all of its processes instead of stopping them")
    one.add_argument("host", metavar="HOST")

    one = command("down", down, "remove hosts, networks and all else of the lab but the images")
    one.add_argument("hosts", metavar="HOST", nargs="*", help="only this host and its address (default: the whole lab)")

    one = command("build", build_images, "build the images of both releases that are missing")
    one.add_argument("--fresh", action="store_true", help="build all of them again, from today's packages")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    try:
        try:
            return work(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on, as in `lab status | head -1`. What is still unwritten must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def work(arguments: Sequence[str] | None) -> int:
    """Do what the command line says; report what the lab can't do."""
    options = parser().parse_args(arguments)
    try:
        lab = Lab(options.name, options.release)
        return options.work(lab, options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return options.failed
    except KeyboardInterrupt:
        return 130
