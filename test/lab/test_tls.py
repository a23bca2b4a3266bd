"""What TLS the relay speaks with whom, as a scanner of its weaknesses and single clients see it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import mail
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
