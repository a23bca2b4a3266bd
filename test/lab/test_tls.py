"""What TLS the relay speaks with whom, as clients of every age see it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from lab import mail
from lab.conftest import Applied
from lab.lab import Lab


class Door(NamedTuple):
    """A port, and how OpenSSL's client is told that TLS is begun there by a command."""

    port: int
    starttls: tuple[str, ...] = ()


SERVERS, SUBMISSION, SUBMISSIONS = Door(25, ("smtp",)), Door(587, ("smtp",)), Door(465)
USERS = pytest.mark.parametrize("door", [SUBMISSION, SUBMISSIONS], ids=["587", "465"])


def handshake(lab: Lab, door: Door, *options: str) -> str:
    """Return version and cipher of a handshake as OpenSSL's client tells them; an empty text where none was had."""
    begin = ["-starttls", *door.starttls] if door.starttls else []
    argv = ["openssl", "s_client", "-brief", "-connect", f"{mail.RELAY}:{door.port}", *begin, *options]
    done = lab.client().run(argv, input="QUIT\r\n", check=False, timeout=60)
    told = dict(line.split(": ", 1) for line in done.stderr.splitlines() if ": " in line)
    return f"{told['Protocol version']} {told['Ciphersuite']}" if "Ciphersuite" in told else ""


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
