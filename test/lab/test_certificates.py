"""Certificates of several names, from files and from the pillar: served, renewed under users' eyes, or refused."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from smtpout_core.daemons.postfix import certificate
from support import load

from lab import mail
from lab.conftest import Applied
from lab.host import Host
from lab.lab import CLIENT

OWN, OTHER, THIRD = load("default")["smtpout"]["hostname"], "smtp.other.dom", "smtp.third.dom"
FILE = "/etc/site/other.pem"

# A user who has logged in, and goes on when a line comes.
SESSION = """
import smtplib, ssl, sys
client = smtplib.SMTP(sys.argv[1], 587, timeout=60)
client.starttls(context=ssl._create_unverified_context())
client.login("usuario01", sys.stdin.readline().strip())
print("open", flush=True)
sys.stdin.readline()
refused = client.sendmail("usuario01@domain01.dom", ["somebody@outside.example"], "Subject: x\\n\\nx\\n")
print(refused, client.quit()[0], flush=True)
"""


def pem(name: str, days: int = 60) -> str:
    return certificate.self_signed(name, days=days).decode()


def apply(applied: Applied, step: str, tls: dict[str, Any]) -> None:
    applied.lab.set_pillar(yaml.safe_dump({"smtpout": load("default")["smtpout"] | {"tls": tls}}))
    applied.apply(step)


def told(applied: Applied, port: int, name: str) -> str:
    """Return the certificate that a client gets who asks for a name, as PEM."""
    begin = [] if port == 465 else ["-starttls", "smtp"]
    argv = ["openssl", "s_client", "-connect", f"{mail.RELAY}:{port}", "-servername", name, *begin]
    said = applied.lab.client().run(argv, input="QUIT\r\n", check=False, timeout=60).stdout
    begins, ends = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
    return begins + said.partition(begins)[2].partition(ends)[0] + ends


@pytest.fixture(scope="module")
def given(borrowed: Applied) -> dict[str, str]:
    """Return a key and a certificate for each of three names: two in the pillar, and one in a file that it names."""
    given = {name: pem(name) for name in (OWN, OTHER, THIRD)}
    borrowed.lab.host("relay").write(FILE, given[OTHER])
    apply(borrowed, "three names", tls(given))
    assert borrowed.failed("three names") == {}
    apply(borrowed, "three names again", tls(given))
    assert borrowed.changed("three names again") == []
    return given


def tls(given: dict[str, str]) -> dict[str, Any]:
    return {"chain": given[OWN], "names": {OTHER: {"chain_file": FILE}, THIRD: {"chain": given[THIRD]}}}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("port", [25, 587, 465])
def test_a_client_gets_the_certificate_of_the_name_that_it_asks_for(
    borrowed: Applied, given: dict[str, str], port: int
) -> None:
    asked = {OWN: OWN, OTHER: OTHER, OTHER.upper(): OTHER, THIRD: THIRD, "unknown.dom": OWN}
    assert {name: told(borrowed, port, name) in given[own] for name, own in asked.items()} == dict.fromkeys(asked, True)


def test_keys_lie_where_root_alone_reads_them_and_nowhere_else(borrowed: Applied, given: dict[str, str]) -> None:
    relay = borrowed.lab.host("relay")
    pieces = [text.splitlines()[10] for text in given.values()]
    pieces += [base64.b64encode(text.encode()).decode()[400:460] for text in given.values()]
    found = relay.run(["grep", "-rlaF", "-f", "-", "/etc", "/var", "/run", "/tmp", "/root"], input="\n".join(pieces))
    places = ["/etc/postfix/tls/given.pem", "/etc/postfix/tls_names", "/etc/postfix/tls_names.lmdb", FILE]
    assert sorted(found.stdout.splitlines()) == sorted(places)
    assert relay.run(["stat", "--format=%a %U", *places]).stdout.splitlines() == ["600 root"] * len(places)
    said = json.dumps(borrowed.runs) + relay.run(["journalctl", "--output=cat", "--no-pager"]).stdout
    assert [piece for piece in pieces if piece in said] == []


@pytest.fixture
def session(borrowed: Applied, given: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Return a user's session, logged in and open."""
    assert given
    argv = borrowed.lab.client(CLIENT).argv([sys.executable, "-c", SESSION, mail.RELAY])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write(f"{mail.PASSWORD}\n")
        session.stdin.flush()
        assert session.stdout.readline() == "open\n"
        yield session
        session.kill()


def _master(relay: Host) -> str:
    return relay.run(["cat", "/var/spool/postfix/pid/master.pid"]).stdout


def test_what_is_renewed_is_served_after_an_apply_and_no_session_is_lost(
    borrowed: Applied, given: dict[str, str], session: subprocess.Popen[str]
) -> None:
    relay = borrowed.lab.host("relay")
    before = _master(relay)
    renewed = {name: pem(name, 90) for name in given}
    relay.write(FILE, renewed[OTHER])
    apply(borrowed, "renewed", tls(renewed))
    assert borrowed.failed("renewed") == {}
    assert "postfix reloaded" in borrowed.runs["renewed"]["Postfix runs the site's configuration"]["comment"]
    assert {name: told(borrowed, 587, name) in renewed[name] for name in renewed} == dict.fromkeys(renewed, True)
    assert _master(relay) == before
    said, _ = session.communicate("go on\n", timeout=60)
    assert said == "{} 221\n"
    given |= renewed


def test_what_can_not_be_served_is_refused_by_its_path_and_what_is_served_stays(
    borrowed: Applied, given: dict[str, str]
) -> None:
    relay = borrowed.lab.host("relay")
    unfit = pem("a.dom").partition("-----BEGIN CERT")[0] + told(borrowed, 587, OTHER)
    relay.write("/etc/site/unfit.pem", unfit)
    own = {
        "unfit.dom": {"chain_file": "/etc/site/unfit.pem"},
        "gone.dom": {"chain_file": "/etc/site/gone.pem"},
        "ended.dom": {"chain": pem("ended.dom", 0)},
    }
    wrong = tls(given) | {"names": own}
    for step, pillar, said in (
        (
            "a further one",
            wrong,
            "smtpout:tls:names:unfit.dom:chain_file: /etc/site/unfit.pem: no private key that fits",
        ),
        ("another", wrong, "smtpout:tls:names:gone.dom:chain_file: /etc/site/gone.pem: No such file or directory"),
        ("a third", wrong, "smtpout:tls:names:ended.dom:chain: the certificate ended on "),
        ("its own", {"chain": unfit}, "smtpout:tls:chain: no private key that fits the certificate"),
    ):
        if step in ("a further one", "its own"):
            apply(borrowed, "refused", pillar)
        assert said in str(borrowed.failed("refused")), step
    relay.run(["rm", FILE])
    apply(borrowed, "its file is gone", tls(given))
    assert borrowed.failed("its file is gone") == {}
    gone = f"smtpout:tls:names:{OTHER}:chain_file: {FILE}: No such file or directory; what it held is served on"
    assert gone in json.dumps(borrowed.runs["its file is gone"])
    assert told(borrowed, 587, OTHER) in given[OTHER]
