"""Two directory servers, and what becomes of logins and recipients when one of them fails, or both. On Debian 12 only.

The second is a forwarder to the same directory, on another host: it has a name of its own, and whatever is done to it
the first doesn't notice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import breaking, mail
from lab.checks import verify
from lab.conftest import SUMMARY, Applied
from lab.host import Host
from lab.lab import Lab
from lab.whole import changed

CHECK = "the relay's daemons reach the directory"
FIRST, SECOND = "dc1.domain01.dom", "dc2.domain01.dom"
AUTHORITY = "/etc/ssl/directory-ca.pem"
RELAY, DIRECTORY, DELIVERY = "172.16.11.95", "172.16.11.63", "172.16.11.96"
PASSED_BY = 3
"""Seconds after which a server that fails is asked no more."""
SITE = {"servers": [f"ldaps://{FIRST}", f"ldaps://{SECOND}"], "ca_file": AUTHORITY}
FORWARDER = f"""
import socket, threading
def pass_on(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    for each in (one, other):
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
server = socket.create_server(("{DELIVERY}", 636))
while True:
    client = server.accept()[0]
    try:
        there = socket.create_connection(("{DIRECTORY}", 636))
    except OSError:
        client.close()
        continue
    for pair in ((client, there), (there, client)):
        threading.Thread(target=pass_on, args=pair, daemon=True).start()
"""
ANOTHER = """
openssl req -x509 -newkey rsa:2048 -noenc -days 1 -subj /CN=another.example -keyout /run/a.key -out /run/a.pem
exec openssl s_server -quiet -accept 172.16.11.96:636 -cert /run/a.pem -key /run/a.key
"""


class Seen(NamedTuple):
    """A login on port 587 or 25, or a recipient (``RCPT``): when it began, how long it took, and the answer's code."""

    kind: str
    began: float
    took: float
    code: int


def forwarder(lab: Lab, *what: str) -> None:
    """Run a command about the forwarder on its host."""
    lab.host("delivery").run(["systemctl", *what, "dc2"])


def serve(lab: Lab, *command: str) -> None:
    """Have the second server's place be served by a program."""
    delivery = lab.host("delivery")
    delivery.run(["systemctl", "stop", "dc2"], check=False)
    delivery.run(["systemd-run", "--quiet", "--unit=dc2", "--collect", *command])


def forwarded(lab: Lab) -> None:
    """Have the forwarder serve there."""
    serve(lab, "python3", "/root/forwarder.py")


def both_hang(lab: Lab) -> None:
    """Stop the directory itself, which both lead to."""
    breaking.directory_signalled("STOP")(lab)


def silent(verb: str) -> Callable[[Lab], object]:
    """Return what has the second server's answers vanish, or come again."""
    return lambda lab: lab.host("delivery").run(["ip", "route", verb, "blackhole", f"{RELAY}/32"])


FAULTS: dict[str, tuple[Callable[[Lab], object], Callable[[Lab], object]]] = {
    "dies": (lambda lab: forwarder(lab, "kill", "--signal=KILL"), forwarded),
    "hangs": (
        lambda lab: forwarder(lab, "kill", "--signal=STOP"),
        lambda lab: forwarder(lab, "kill", "--signal=CONT"),
    ),
    "drops packets": (silent("add"), silent("del")),
    "shows another certificate": (lambda lab: serve(lab, "sh", "-ec", ANOTHER), forwarded),
}


@pytest.fixture(scope="module")
def proxied(on_bookworm: Applied) -> Iterator[Applied]:
    """Return the relay with two servers in its pillar."""
    lab = on_bookworm.lab
    relay, directory, delivery = lab.host("relay"), lab.host("directory"), lab.host("delivery")
    hosts = relay.read("/etc/hosts")
    relay.write("/etc/hosts", f"{hosts}\n{DIRECTORY} {FIRST}\n{DELIVERY} {SECOND}\n", "0644")
    relay.write(AUTHORITY, directory.read("/usr/local/lib/lab/directory-ca.pem"), "0644")
    delivery.write("/root/forwarder.py", FORWARDER)
    load = Path(__file__).with_name("login_load.py").read_text(encoding="utf-8")
    directory.write("/root/login_load.py", load)
    forwarded(lab)
    lab.set_pillar(changed({"directory": SITE}))
    on_bookworm.apply("two servers")
    assert on_bookworm.failed("two servers") == {}
    yield on_bookworm
    delivery.run(["systemctl", "stop", "dc2"], check=False)
    relay.write("/etc/hosts", hosts, "0644")


def during(applied: Applied, fault: Callable[[Lab], object], seconds: float, after: float = 1) -> list[Seen]:
    """Return what became of logins and recipients that began at the fault or later; its second is 0."""
    lab = applied.lab
    argv = ["python3", "/root/login_load.py", RELAY, str(seconds + after), "usuario01"]
    with ThreadPoolExecutor(1) as pool:
        load, begun = pool.submit(lab.host("directory").run, argv, input=mail.PASSWORD, timeout=120), time.monotonic()
        time.sleep(after)
        fault(lab)
        at = time.monotonic() - begun
        seen = [Seen(*each) for each in json.loads(load.result().stdout)]
    return [each._replace(began=each.began - at) for each in seen if each.began + each.took >= at]


def told(request: pytest.FixtureRequest, name: str, seen: list[Seen]) -> None:
    """Print the figures."""
    codes = {kind: sorted({each.code for each in seen if each.kind == kind}) for kind in ("587", "25", "RCPT")}
    longest = max(each.took for each in seen)
    late = sum(each.code not in (235, 250) for each in seen if each.began > PASSED_BY)
    vain = f", {sum(each.code not in (235, 250) for each in seen)} in vain, {late} of them after {PASSED_BY} s"
    line = f"{name}: {len(seen)} logins and recipients, codes {codes}{vain}, the longest took {longest:.1f} s"
    request.config.stash.setdefault(SUMMARY, []).append(line)


def state(applied: Applied) -> tuple[str, str]:
    """Return what verify says of how daemons reach the directory."""
    [said] = [each for each in verify(applied.lab, "ok", "warning", "failed") if each["check"] == CHECK]
    return said["state"], said["seen"]


def whole(relay: Host) -> None:
    """Wait until HAProxy leads to both again."""
    ask = "import socket;s=socket.socket(socket.AF_UNIX);s.connect('/run/smtpout-haproxy/status');"
    ask += "s.sendall(b'show stat\\n');print(s.makefile().read())"
    for _ in range(100):
        said = relay.run(["python3", "-c", ask], check=False).stdout  # it may not have begun
        if sum(line.startswith("directory,dc") and ",UP," in line for line in said.splitlines()) == 2:
            return
        time.sleep(0.1)
    pytest.fail("HAProxy doesn't lead to both servers again")


@pytest.mark.parametrize("fault", FAULTS)
def test_logins_and_recipients_go_on_when_one_of_two_servers(
    proxied: Applied, fault: str, request: pytest.FixtureRequest
) -> None:
    begin, end = FAULTS[fault]
    try:
        seen = during(proxied, begin, 5)
        said = state(proxied) if fault == "dies" else None
    finally:
        end(proxied.lab)
    told(request, f"a server {fault}", seen)
    later = [each for each in seen if each.began > PASSED_BY]
    assert {each.code for each in later} == {235, 250}
    # Before, a process of Postfix's that has just turned to that server is cut off with it, and doesn't ask again.
    assert {each.code for each in seen} <= {235, 250, 451}
    assert {each.code for each in seen if each.kind == "25"} == {235}
    assert max(each.took for each in seen) < 4
    if said:
        assert said[0] == "warning"
        assert said[1].startswith(f"passed by until they answer: {SECOND}:636: ")
        journal = proxied.lab.host("relay").run(["journalctl", "--unit=smtpout-haproxy", "--output=cat"]).stdout
        assert f"Server directory/{SECOND}:636 is DOWN" in journal
    whole(proxied.lab.host("relay"))


def test_nobody_is_told_that_a_password_is_wrong_while_none_answers(
    proxied: Applied, request: pytest.FixtureRequest
) -> None:
    try:
        seen = during(proxied, both_hang, 6)
    finally:
        breaking.directory_signalled("CONT")(proxied.lab)
    told(request, "both servers hang", seen)
    assert {each.code for each in seen if each.kind == "25"} == {454}
    assert {each.code for each in seen if each.kind == "587"} <= {451, 454}
    assert {each.code for each in seen if each.kind == "RCPT"} == {451}
    whole(proxied.lab.host("relay"))


def test_haproxy_that_dies_is_there_again_and_one_that_is_stopped_is_a_failure(
    proxied: Applied, request: pytest.FixtureRequest
) -> None:
    relay, units = proxied.lab.host("relay"), ["smtpout-haproxy.socket", "smtpout-haproxy.service"]
    seen = during(proxied, breaking.killed("smtpout-haproxy"), 3)
    told(request, "HAProxy dies", seen)
    assert {each.code for each in seen} == {235, 250}
    relay.run(["systemctl", "stop", *units])
    assert state(proxied)[0] == "failed"
    relay.run(["systemctl", "start", *units])
    whole(relay)
    assert state(proxied)[0] == "ok"
    assert relay.run(["systemctl", "is-enabled", *units]).stdout.split() == ["enabled", "enabled"]
