"""Who is measured: relays that are made once and then take turns."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab.host import Host
from lab.lab import CLIENT, Lab
from lab.load import waiting
from lab.process import LabError

from bench import openldap

FORMULA = "/srv/formula"
PEERS = f"{FORMULA}/test/bench/peers"
KEPT = "/srv/bench"
# The units whose CPU is counted, by what they are called in a table; Postfix's differ between releases, and the last
# two are the second filters of peers that publish TCP sockets.
UNITS = {
    "postfix@-": "Postfix", "postfix": "Postfix", "clamav-milter": "clamav-milter", "clamav-daemon": "clamd",
    "opendkim": "OpenDKIM", "saslauthd": "saslauthd", "systemd-journald": "journal",
    "bench-clamav-milter": "clamav-milter", "bench-opendkim": "OpenDKIM",
}  # fmt: skip
WITHOUT_FILTERS = "postconf -e smtpd_milters= non_smtpd_milters="
# All but the scanner: what the signatures take is no matter of the relay's settings.
MEMORY = """
import pathlib
total = 0
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if (process / "comm").read_text().strip() in {names}:
            lines = (process / "smaps_rollup").read_text().splitlines()
            total += int(next(line.split()[1] for line in lines if line.startswith("Pss:")))
    except OSError:
        pass  # it has just ended
print(total)
"""
PING = """
import socket
clamd = socket.socket(socket.AF_UNIX)
clamd.connect("/run/clamav/clamd.ctl")
clamd.send(b"PING")
clamd.recv(9)
"""
DAEMONS = {
    "master", "smtpd", "cleanup", "qmgr", "smtp", "trivial-rewrite", "proxymap", "anvil", "scache", "tlsmgr", "pickup",
    "bounce", "tlsproxy", "postscreen", "dnsblog", "clamav-milter", "opendkim", "saslauthd",
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A relay: its host, and the Postfix settings that it has when it is its turn."""

    name: str
    host: Host
    port: int = 587
    tls: bool = True

    @property
    def address(self) -> str:
        return self.host.role.addresses[0]

    @property
    def kept(self) -> str:
        return f"{KEPT}/{self.name.replace(' ', '-')}"

    def take_turn(self) -> None:
        """Put the subject's settings in place and restart Postfix, so that no subject finds warm processes."""
        # By pattern: Debian 12's postfix.service doesn't wait for postfix@-.service, which is the one that has Postfix.
        stop, start = "systemctl stop 'postfix*.service'", "systemctl start postfix"
        self.host.run(["sh", "-euc", f"{stop}; rm -rf /etc/postfix; cp -a {self.kept} /etc/postfix; {start}"])
        until_listening(self.host)

    def keep(self) -> None:
        """Remember the host's settings as the subject's own."""
        self.host.run(["sh", "-euc", f"mkdir -p {KEPT}; rm -rf {self.kept}; cp -a /etc/postfix {self.kept}"])

    def cpu(self) -> dict[str, float]:
        """Return the seconds of CPU that each daemon has taken since it was started."""
        units = list(UNITS)
        said = self.host.run(["systemctl", "show", "--property=Id,CPUUsageNSec", *units]).stdout
        found: dict[str, float] = {}
        for block in said.split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines())
            if values.get("CPUUsageNSec", "").isdigit() and len(values["CPUUsageNSec"]) < 19:
                name = UNITS[values["Id"].removesuffix(".service")]
                found[name] = found.get(name, 0) + int(values["CPUUsageNSec"]) / 1e9
        return found

    def memory(self) -> float:
        """Return the megabytes of all mail daemons but clamd, shared pages counted once."""
        said = self.host.run(["python3", "-"], input=MEMORY.format(names=sorted(DAEMONS))).stdout
        return int(said) / 1024

    def waiting(self) -> int:
        """Return how many messages the queue holds."""
        return waiting(self.host)


def until_listening(host: Host, port: int = 25) -> None:
    """Wait until a host's port is open."""
    script = f"until ss -Hltn 'sport = {port}' | grep -q .; do sleep 0.05; done"
    host.run(["sh", "-c", script], timeout=60)


def prepare(lab: Lab, peers: bool, signatures: bool) -> list[Subject]:
    """Boot what is needed, make each relay, and return those that are to be measured.

    :param peers: whether docker-mailserver's and mailcow's settings are among them.
    :param signatures: whether clamd gets as many signatures as the official databases have.
    """
    lab.up(["directory", "relay", "delivery", "outside", "neighbour"])
    openldap.start(lab)
    relay, neighbour = lab.host("relay"), lab.host("neighbour")
    with ThreadPoolExecutor() as pool:
        made = [pool.submit(_smtpout, lab, signatures), pool.submit(_recipe, neighbour, signatures)]
        for each in made:
            each.result()
    lab.progress("smtpout and the recipe serve")
    ours, limit = Subject("smtpout", relay), Subject("no filters", relay)
    subjects = [Subject("recipe", neighbour, port=25, tls=False), ours, limit]
    if peers:
        # A table type of peers' own; its entry in Postfix's directory is there for all.
        relay.run(["sh", "-euc", "DEBIAN_FRONTEND=noninteractive apt-get install --yes postfix-pcre"])
        relay.run([f"{PEERS}/inet-filters.sh"])
    subjects[0].keep()
    ours.keep()
    relay.run(["sh", "-euc", WITHOUT_FILTERS])
    limit.keep()
    for name in ("docker-mailserver", "mailcow") if peers else ():
        ours.take_turn()
        relay.run([f"{PEERS}/{name}.sh"])
        subjects.append(Subject(name, relay))
        subjects[-1].keep()
    return subjects


def _smtpout(lab: Lab, signatures: bool) -> None:
    done = lab.apply()
    if done.returncode:
        raise LabError(f"the relay was not applied: {done.stdout[-2000:]}")
    if signatures:
        _sign(lab.host("relay"))


def _recipe(host: Host, signatures: bool) -> None:
    environment = {
        "RELAY_ADDRESS": host.role.addresses[0],
        "RELAY_HOSTNAME": host.role.fqdn,
        # The how-to signs for its own address; the load comes from another of the site's servers, and is to be signed.
        "TRUSTED": f"{host.role.addresses[0]} {CLIENT}",
        "SIGNATURES": f"{FORMULA}/test/lab/signatures",
    }
    assignments = [f"{name}={value}" for name, value in environment.items()]
    host.run(["env", *assignments, f"{PEERS}/recipe.sh"])
    if signatures:
        _sign(host)
    until_listening(host)


def _sign(host: Host) -> None:
    """Give clamd signatures by the million, and wait until it has read them."""
    folder = "/var/lib/clamav"
    host.run(["python3", f"{FORMULA}/test/bench/signatures.py", folder])
    host.run(["sh", "-euc", f"chown clamav:clamav {folder}/*; systemctl restart clamav-daemon"])
    host.run(["python3", "-c", PING], timeout=300)
    host.run(["systemctl", "restart", "clamav-milter"])
    time.sleep(2)


def logins(host: Host, socket: str, seconds: float) -> dict[str, float]:
    """Return how many logins saslauthd answered, asked by eight processes at a time."""
    given = {
        "socket": socket, "user": "usuario01", "password": "P@ssw0rd", "service": "smtp", "processes": 8,
        "seconds": seconds,
    }  # fmt: skip
    script = f"{FORMULA}/test/bench/logins.py"
    return json.loads(host.run(["python3", script], input=json.dumps(given), timeout=120).stdout)
