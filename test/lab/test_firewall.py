"""An active firewall lets in what the relay serves, and nothing else; one that is off stays off.

On a bare host with something that listens on each port: what is asked is the firewall, not Postfix.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.conftest import new_lab
from lab.lab import Lab
from lab.mail import STRANGER

SERVICES = {"smtp": 25, "smtps": 465, "smtp-submission": 587}
OTHER = 9999  # what nobody lets in
LISTENER = f"""
import socket, time
servers = [socket.create_server(("", port)) for port in {[*SERVICES.values(), OTHER]}]
time.sleep(3600)
"""
CONNECT = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def answers(port):
    try:
        socket.create_connection((sys.argv[1], int(port)), timeout=1).close()
        return True
    except OSError:
        return False
ports = sys.argv[2:]
with ThreadPoolExecutor(len(ports)) as pool:  # a port that drops what comes takes all of its time
    print(*(port for port, there in zip(ports, pool.map(answers, ports)) if there))
"""
# From outside systemd: nspawn leaves its services no right to change the network. Its log goes to /var/log/firewalld.
START_FIREWALLD = "setsid firewalld --nofork >/dev/null 2>&1 </dev/null &"
# Writing to /proc/sys is refused in a host, and ufw would otherwise fail at that.
START_UFW = "sed -i 's/^IPT_SYSCTL/#&/' /etc/default/ufw; ufw --force enable"


@pytest.fixture(scope="module")
def lab(release: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return a lab with nothing but a bare relay that listens, and both firewalls installed and off."""
    made = new_lab("firewall", release, request.config, ["relay"])
    relay = made.host("relay")
    relay.run(["apt-get", "update", "-qq"], timeout=120)
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "--no-install-recommends"]
    relay.run([*install, "firewalld", "ufw"], timeout=300)
    relay.run(["systemctl", "disable", "--now", "firewalld", "ufw"], timeout=120)
    relay.write("/root/listener.py", LISTENER)
    relay.run(["sh", "-c", "setsid python3 /root/listener.py >/dev/null 2>&1 </dev/null &"])
    wait_until(lambda: reachable(made) == [*SERVICES.values(), OTHER])
    yield made
    made.down()


@pytest.fixture
def firewalld(lab: Lab) -> Iterator[Lab]:
    """Return the lab with firewalld running on the relay."""
    relay = lab.host("relay")
    relay.run(["sh", "-c", START_FIREWALLD])
    wait_until(lambda: relay.run(["firewall-cmd", "--state"], check=False).returncode == 0)
    yield lab
    relay.run(["sh", "-c", "kill $(cat /run/firewalld.pid)"])
    wait_until(lambda: relay.run(["firewall-cmd", "--state"], check=False).returncode != 0)


@pytest.fixture
def ufw(lab: Lab) -> Iterator[Lab]:
    """Return the lab with ufw active on the relay."""
    lab.host("relay").run(["sh", "-c", START_UFW], timeout=60)
    yield lab
    lab.host("relay").run(["ufw", "disable"], timeout=60)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that takes as long as the machine is busy."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.2)


def reachable(lab: Lab) -> list[int]:
    """Return the ports at which somebody from outside is answered."""
    address = lab.host("relay").role.addresses[0]
    ports = [str(port) for port in [*SERVICES.values(), OTHER]]
    said = lab.client(STRANGER).run(["python3", "-c", CONNECT, address, *ports], timeout=60).stdout
    return [int(port) for port in said.split()]


def state(lab: Lab, function: str, test: bool = False, **arguments: Any) -> dict[str, Any]:
    """Apply one state on the relay."""
    given = [f"{name}={json.dumps(value)}" for name, value in arguments.items()]
    command = ["salt-call", "--local", "--out=json", "state.single", f"host_firewall.{function}", "name=mail"]
    done = lab.host("relay").run([*command, f"test={test}", *given], check=False, timeout=120)
    found: dict[str, Any] = next(iter(json.loads(done.stdout)["local"].values()))
    return found


def lets_mail_in_and_nothing_else(lab: Lab, openings: dict[str, str]) -> None:
    """Go through what an administrator does: dry run, apply, apply again, give submission up, clean."""
    assert reachable(lab) == []
    dry = state(lab, "opened", test=True, services=SERVICES)
    assert dry["result"] is None
    assert reachable(lab) == []

    done = state(lab, "opened", services=SERVICES)
    assert done["result"] is True, done
    assert sorted(done["changes"]) == sorted(dry["changes"]) == sorted(openings.values())
    assert reachable(lab) == [25, 465, 587]
    again = state(lab, "opened", services=SERVICES)
    assert (again["result"], again["changes"]) == (True, {})

    fewer = state(lab, "opened", services={"smtp": 25})
    assert sorted(fewer["changes"]) == sorted([openings["smtps"], openings["smtp-submission"]])
    assert reachable(lab) == [25]

    dry = state(lab, "closed", test=True)
    assert (dry["result"], list(dry["changes"])) == (None, [openings["smtp"]])
    assert reachable(lab) == [25]
    assert list(state(lab, "closed")["changes"]) == [openings["smtp"]]
    assert reachable(lab) == []
    assert state(lab, "closed")["changes"] == {}


@pytest.mark.timeout(400)
def test_a_firewall_that_is_off_stays_off(lab: Lab) -> None:
    done = state(lab, "opened", services=SERVICES)
    assert (done["result"], done["changes"]) == (True, {})
    assert "Neither firewalld nor ufw is active" in done["comment"]
    assert reachable(lab) == [25, 465, 587, OTHER]


@pytest.mark.timeout(400)
def test_firewalld_lets_mail_in_and_nothing_else(firewalld: Lab) -> None:
    lets_mail_in_and_nothing_else(firewalld, {name: f"public/{name}" for name in SERVICES})


@pytest.mark.timeout(400)
def test_firewalld_keeps_it_after_a_reload(firewalld: Lab) -> None:
    state(firewalld, "opened", services=SERVICES)
    firewalld.host("relay").run(["firewall-cmd", "--reload"], timeout=60)
    assert reachable(firewalld) == [25, 465, 587]
    state(firewalld, "closed")
    firewalld.host("relay").run(["firewall-cmd", "--reload"], timeout=60)
    assert reachable(firewalld) == []


@pytest.mark.timeout(400)
def test_a_service_that_was_there_before_is_still_there_after_clean(firewalld: Lab) -> None:
    relay = firewalld.host("relay")
    for how in ([], ["--permanent"]):
        relay.run(["firewall-cmd", *how, "--add-service=smtp"], timeout=60)
    narrow = 'rule family="ipv4" source address="10.0.0.0/8" service name="smtps" accept'
    for how in ([], ["--permanent"]):
        relay.run(["firewall-cmd", *how, f"--add-rich-rule={narrow}"], timeout=60)
    assert list(state(firewalld, "opened", services=SERVICES)["changes"]) == ["public/smtp-submission"]
    assert reachable(firewalld) == [25, 587]  # the site's rule on 465 is for 10.0.0.0/8
    state(firewalld, "closed")
    assert reachable(firewalld) == [25]


@pytest.mark.timeout(400)
def test_a_zone_that_is_none_is_said_in_firewallds_words(firewalld: Lab) -> None:
    done = state(firewalld, "opened", services=SERVICES, zones=["nowhere"])
    assert (done["result"], done["changes"]) == (False, {})
    assert "INVALID_ZONE: nowhere" in done["comment"]


@pytest.mark.timeout(400)
def test_ufw_lets_mail_in_and_nothing_else(ufw: Lab) -> None:
    lets_mail_in_and_nothing_else(ufw, {name: f"{port}/tcp" for name, port in SERVICES.items()})


@pytest.mark.timeout(400)
def test_a_rule_of_the_site_s_own_in_ufw_has_its_say(ufw: Lab) -> None:
    relay = ufw.host("relay")
    relay.run(["ufw", "allow", "from", "10.0.0.0/8", "to", "any", "port", "465", "proto", "tcp"], timeout=60)
    assert sorted(state(ufw, "opened", services=SERVICES)["changes"]) == ["25/tcp", "587/tcp"]
    assert reachable(ufw) == [25, 587]
    state(ufw, "closed")
    assert reachable(ufw) == []
    assert "465/tcp" in relay.run(["ufw", "status"], timeout=60).stdout
