"""Ask the host's firewall what it lets in, and have it let services in or shut them out again.

firewalld and ufw are known. Only the one that is active is asked: nothing here switches a firewall on, and nothing is
written into one that is off. An opening is what a firewall is told: ``public/smtp`` (a zone and one of firewalld's
services) or ``25/tcp`` (ufw's form).

Salt's own ``firewalld`` functions reload after each change, which drops what an administrator has set for the running
firewall alone; for ufw, Salt has none.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from smtpout_core import command

# ufw's rules with the names of applications and services resolved to ports; `ufw show added` has the names.
UFW_RULES = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules")


def active() -> str | None:
    """Tell which firewall is active: ``firewalld``, ``ufw``, or None for neither."""
    if shutil.which("firewall-cmd") and _run("firewall-cmd", "--state", check=False) == "running":
        return "firewalld"
    if shutil.which("ufw") and "Status: active" in _run("ufw", "status").splitlines():
        return "ufw"
    return None


def openings(firewall: str, services: dict[str, int], zones: Sequence[str] = ()) -> list[str]:
    """Return the openings that let services in.

    :param firewall: ``firewalld`` or ``ufw``.
    :param services: TCP ports by the names that firewalld has for them.
    :param zones: firewalld's zones; none for its default zone, where every interface is that has no other.
    :raises RelayError: firewalld's own words.
    """
    if firewall == "ufw":
        return [f"{port}/tcp" for port in services.values()]
    places = zones or [_run("firewall-cmd", "--get-default-zone")]
    return [f"{zone}/{service}" for zone in places for service in services]


def settled(firewall: str, wanted: Sequence[str], services: dict[str, int]) -> list[str]:
    """Return those of the openings that need nothing: they are there, or a rule of the site's own is for that port.

    Such a rule may be narrower than an opening, or refuse; it is the site's word, and an opening would overrule it.

    :param firewall: ``firewalld`` or ``ufw``.
    :param wanted: as ``openings`` returns them.
    :param services: as for ``openings``.
    :raises RelayError: the firewall's own words.
    """
    if firewall == "ufw":
        ruled = list(_ruled_by_ufw())
        return [each for each in wanted if any(first <= int(each[:-4]) <= last for first, last in ruled)]
    here: list[set[str]] = []
    for how in ([], ["--permanent"]):
        zones = {zone: _zone(zone, how) for zone in {each.split("/")[0] for each in wanted}}
        said = {f"{zone}/{name}" for zone in zones for name, port in services.items() if _said(zones[zone], name, port)}
        here.append(said)
    return [each for each in wanted if each in here[0] & here[1]]


def allow(firewall: str, opening: str) -> None:
    """Have the firewall let something in, now and after its next start.

    :param firewall: ``firewalld`` or ``ufw``.
    :param opening: as ``openings`` returns it.
    :raises RelayError: the firewall's own words.
    """
    if firewall == "ufw":
        _run("ufw", "allow", opening, "comment", "smtpout")
    else:
        _change_zone("--add-service", opening)


def withdraw(firewall: str, opening: str) -> None:
    """Have the firewall no longer let something in; nothing happens where it doesn't.

    :param firewall: ``firewalld`` or ``ufw``.
    :param opening: as ``openings`` returns it.
    :raises RelayError: the firewall's own words.
    """
    if firewall == "ufw":
        _run("ufw", "delete", "allow", opening)
    else:
        _change_zone("--remove-service", opening)


def _change_zone(verb: str, opening: str) -> None:
    """Change a zone twice, as firewall-cmd(1) says to, instead of reloading."""
    zone, service = opening.split("/")
    for how in ([], ["--permanent"]):
        _run("firewall-cmd", *how, f"--zone={zone}", f"{verb}={service}")


def _zone(zone: str, how: list[str]) -> dict[str, str]:
    """Return what a zone has by heading, as ``firewall-cmd --list-all`` prints it."""
    parts: dict[str, str] = {}
    heading = ""
    for line in _run("firewall-cmd", *how, f"--zone={zone}", "--list-all").splitlines():
        if match := re.match(r"  ([a-z-]+(?: [a-z]+)*): ?(.*)", line):
            heading = match[1]
            parts[heading] = match[2]
        elif heading:
            parts[heading] += f"\n{line.strip()}"
    return parts


def _said(zone: dict[str, str], service: str, port: int) -> bool:
    """Tell whether a zone has something to say on a service: the service, its port, or a rich rule for either."""
    spans = [span.split("/")[0].split("-") for span in zone["ports"].split() if span.endswith("/tcp")]
    rule = rf'service name="{service}"|port port="{port}" protocol="tcp"'
    return (
        zone["target"] == "ACCEPT"
        or service in zone["services"].split()
        or any(int(span[0]) <= port <= int(span[-1]) for span in spans)
        or re.search(rule, zone["rich rules"]) is not None
    )


def _ruled_by_ufw() -> Iterator[tuple[int, int]]:
    """Yield the TCP ports, first and last, that ufw has rules on for what comes in."""
    for line in [line for path in UFW_RULES for line in Path(path).read_text(encoding="utf-8").splitlines()]:
        # Action, protocol, port and address here, port and address there, names of applications, direction.
        if match := re.match(r"### tuple ### (?!route:)\S+ (?:tcp|any) ([\d,:]+) .* in(_\S+)?( comment=\S*)?$", line):
            for span in match[1].split(","):
                first, _, last = span.partition(":")
                yield int(first), int(last or first)


def _run(*arguments: str, check: bool = True) -> str:
    """Run one of a firewall's own commands, and return what it prints."""
    return command.run(arguments, check=check).output.strip()
