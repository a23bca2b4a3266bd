"""What TLS the relay speaks with whom, as a scanner of its weaknesses and single clients see it."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support import load

from lab import mail
from lab.checks import verify
from lab.conftest import SUMMARY, Applied, Relay
from lab.lab import Lab

# What testssl finds in any lab, by its name for it, and why that is nothing of the relay's.
EXPECTED = {"engine_problem": "Debian's OpenSSL, which testssl asks with, has no GOST ciphers; neither has the relay's"}

SECTIONS = ("--protocols", "--std", "--pfs", "--server-preference", "--vulnerable")
"""What testssl looks at: not the certificate, which is self-made."""

ASKED = {
    "SSLv3",
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "cipherlist_aNULL",
    "cipherlist_AVERAGE",
    "PFS",
    "cipher_order",
}
ASKED |= {"secure_client_renego", "heartbleed", "CCS", "ROBOT", "SWEET32", "LOGJAM", "BEAST", "LUCKY13", "RC4"}
"""Some of what has to have been asked, or to find nothing means nothing."""

HARMLESS = ("OK", "INFO", "DEBUG")
"""Severities below LOW; WARN stands for what couldn't be asked."""


class Door(NamedTuple):
    """A port, and how OpenSSL's and testssl's clients are told that TLS is begun there by a command."""

    port: int
    starttls: tuple[str, ...] = ()


Findings = dict[str, tuple[str, str]]
"""Severity and words of each finding, by testssl's name for it."""
Scans = dict[Door, Findings]

SERVERS, SUBMISSION, SUBMISSIONS = Door(25, ("smtp",)), Door(587, ("smtp",)), Door(465)
USERS = pytest.mark.parametrize("door", [SUBMISSION, SUBMISSIONS], ids=["587", "465"])


def handshake(lab: Lab, door: Door, *options: str) -> str:
    """Return version and cipher of a handshake as OpenSSL's client tells them; an empty text where none was had."""
    begin = ["-starttls", *door.starttls] if door.starttls else []
    argv = ["openssl", "s_client", "-brief", "-connect", f"{mail.RELAY}:{door.port}", *begin, *options]
    done = lab.client().run(argv, input="QUIT\r\n", check=False, timeout=60)
    told = dict(line.split(": ", 1) for line in done.stderr.splitlines() if ": " in line)
    return f"{told['Protocol version']} {told['Ciphersuite']}" if "Ciphersuite" in told else ""


def scanned(lab: Lab, door: Door, report: Path) -> Findings:
    """Return what testssl finds, whatever it is."""
    begin = ["--starttls", *door.starttls] if door.starttls else []
    argv = ["testssl", "--quiet", "--color=0", "--warnings=off", "--nodns=none", f"--jsonfile={report}", *SECTIONS]
    # From a server of the site: a stranger may connect 60 times a minute, and it has many more questions.
    done = lab.client().run([*argv, *begin, f"{mail.RELAY}:{door.port}"], check=False, timeout=280)
    assert report.exists(), done.stdout
    found = json.loads(report.read_text(encoding="utf-8"))
    return {each["id"]: (each["severity"], each["finding"]) for each in found}


@pytest.fixture(scope="module")
def findings(relay_of: Relay, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Scans:
    """Return what a scanner finds at users' ports, both asked at once: it waits for answers that never come."""
    lab, place = relay_of("default").lab, tmp_path_factory.mktemp("testssl")
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        scans = {
            door: pool.submit(scanned, lab, door, place / f"{door.port}.json") for door in (SUBMISSION, SUBMISSIONS)
        }
    found = {door: scan.result() for door, scan in scans.items()}
    told = ", ".join(f"{len(each)} on {door.port}" for door, each in found.items())
    summary = f"testssl on {relay_of('default').release}: {told} answered in {time.monotonic() - started:.0f} s"
    request.config.stash.setdefault(SUMMARY, []).append(summary)
    return found


@USERS
@pytest.mark.timeout(300)
def test_a_scanner_finds_nothing_to_improve_where_users_log_in(findings: Scans, door: Door) -> None:
    found = findings[door]
    assert found.keys() >= ASKED
    faults = {name: said for name, said in found.items() if said[0] not in HARMLESS and name not in EXPECTED}
    assert faults == {}


@USERS
@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_users_get_no_tls_that_is_given_up(example: Applied, door: Door, version: str) -> None:
    assert handshake(example.lab, door, f"-{version}", "-cipher", "ALL:@SECLEVEL=0") == ""


@USERS
@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_users_get_the_ciphers_in_the_relays_order(example: Applied, door: Door, version: str) -> None:
    weakest_first = "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
    suites = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
    told = handshake(example.lab, door, f"-{version}", "-cipher", weakest_first, "-ciphersuites", suites)
    assert "AES256-GCM-SHA384" in told.replace("AES_256_GCM_SHA384", "AES256-GCM-SHA384"), told


@pytest.mark.parametrize("door", [SERVERS, SUBMISSION, SUBMISSIONS], ids=["25", "587", "465"])
def test_nobody_gets_tls_without_a_certificate(example: Applied, door: Door) -> None:
    assert handshake(example.lab, door, "-tls1_2", "-cipher", "aNULL:@SECLEVEL=0") == ""
    assert "TLSv1.2" in handshake(example.lab, door, "-tls1_2")


def test_servers_get_tls_as_old_as_theirs(example: Applied) -> None:
    assert "ECDHE-RSA-AES128-SHA" in handshake(example.lab, SERVERS, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA")


def test_the_log_has_the_version_and_the_cipher_of_each_session(example: Applied) -> None:
    mail.session(example.lab, entry=mail.USERS, user="usuario01")
    asked = ["journalctl", "--identifier=postfix/submission/smtpd", "--output=cat", "--since=-1min"]
    log = example.lab.host("relay").run(asked).stdout
    assert "TLS connection established from unknown[172.16.11.50]: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384" in log


# A device that knows TLS 1.0 alone, and what becomes of its message.
DEVICE = """
import smtplib, ssl, sys
context = ssl._create_unverified_context()
context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
context.set_ciphers("ALL:@SECLEVEL=0")
client = smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=60)
client.starttls(context=context)
client.login("usuario01", sys.stdin.readline().strip())
client.sendmail("usuario01@domain01.dom", ["somebody@outside.example"], sys.stdin.read())
print(client.sock.version())
"""
OLD_DEVICES = Door(2587, ("smtp",))


@pytest.fixture(scope="module")
def old_devices(borrowed: Applied) -> Applied:
    """Return a relay that has a port for old devices."""
    _apply(borrowed, "old devices", {})
    assert borrowed.failed("old devices") == {}
    assert [check["check"] for check in verify(borrowed.lab, "failed")] == []
    return borrowed


def _apply(applied: Applied, step: str, postfix: dict[str, Any]) -> None:
    site = load("default")["smtpout"] | {"authentication": {"old_devices_port": OLD_DEVICES.port}, "postfix": postfix}
    applied.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
    applied.apply(step)


@pytest.mark.timeout(300)
def test_a_device_that_knows_tls_1_0_alone_sends_by_its_own_port(old_devices: Applied) -> None:
    message = mail.compose("usuario01@domain01.dom", "somebody@outside.example")
    argv = [sys.executable, "-c", DEVICE, mail.RELAY, str(OLD_DEVICES.port)]
    told = old_devices.lab.client(mail.STRANGER).run(argv, input=f"{mail.PASSWORD}\n{message}", timeout=60).stdout
    assert told == "TLSv1\n"
    [copy] = mail.arrived(old_devices.lab.host("outside"), message)
    assert "dkim=pass" in copy["Authentication-Results"]


@pytest.mark.parametrize("version", ["tls1", "tls1_1", "tls1_2", "tls1_3"])
def test_old_devices_get_any_tls_that_there_still_is(old_devices: Applied, version: str) -> None:
    told = handshake(old_devices.lab, OLD_DEVICES, f"-{version}", "-cipher", "ALL:@SECLEVEL=0")
    assert told.startswith("TLSv1"), told


def test_old_devices_get_keys_by_rsa_and_none_without_a_certificate(old_devices: Applied) -> None:
    assert handshake(old_devices.lab, OLD_DEVICES, "-tls1", "-cipher", "AES128-SHA:@SECLEVEL=0") == "TLSv1 AES128-SHA"
    assert handshake(old_devices.lab, OLD_DEVICES, "-tls1", "-cipher", "aNULL:@SECLEVEL=0") == ""


@USERS
def test_nobody_else_gets_it(old_devices: Applied, door: Door) -> None:
    assert handshake(old_devices.lab, door, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") == ""


def test_old_devices_log_in_and_send_as_themselves_as_users_do(old_devices: Applied) -> None:
    entry, to = mail.Entry(OLD_DEVICES.port, "starttls"), ["somebody@outside.example"]
    clear = mail.session(old_devices.lab, entry=mail.Entry(OLD_DEVICES.port), user="usuario01")
    assert (clear[-1].command, clear[-1].code) in (("AUTH", 503), ("AUTH", 530)), clear
    nobody = mail.session(old_devices.lab, entry=entry, sender="usuario01@domain01.dom", recipients=to)
    assert nobody[-1].code in (550, 553, 554), nobody
    other = mail.session(old_devices.lab, entry=entry, user="usuario01", sender="usuario02@domain02.dom", recipients=to)
    assert other[-1].code == 553, other


def test_what_only_users_get_is_promised_of_old_devices_port_as_well(old_devices: Applied) -> None:
    lax = {"master": {"2587/inet": {"options": {"smtpd_relay_restrictions": "permit_mynetworks, reject"}}}}
    _apply(old_devices, "a lax port", lax)
    said = str(old_devices.failed("a lax port"))
    assert "Where users send, on 587 and 465, nobody else does: that would be broken" in said
    assert " at 2587/inet from " in said
    _apply(old_devices, "no lax port", {})
