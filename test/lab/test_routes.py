"""Mail to others' domains takes the routes of the pillar: by a partner's server with TLS and a login, or it stays."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from lab import mail
from lab.checks import verify
from lab.conftest import Applied
from lab.whole import SITE, changed

HOST = "mx.outside.example"
LOGIN = {"user": "mycompany", "password": "P@rtner's word"}
THERE = {"nexthop": f"smtp:[{HOST}]:587", **LOGIN, "tls": "verified"}
KEPT, AUTHORITY = "/srv/partner", "/etc/site/partner-ca.pem"
CHECK = "the servers that routes lead to answer"
ADDRESSES = "mail leaves from addresses that this host has"
SECOND = "172.16.11.98"
"""An address of the lab that no host has."""


def certificates(host: str = HOST) -> tuple[str, str]:
    """Return an authority's certificate, and the chain and the key of a partner's server, which it vouches for."""
    now, pem = dt.datetime.now(dt.timezone.utc), serialization.Encoding.PEM
    authority, own = (rsa.generate_private_key(65537, 2048) for _ in range(2))

    def made(name: str, key: rsa.RSAPrivateKey, issuer: str) -> x509.CertificateBuilder:
        subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer))
        builder = x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(9))

    root = made("authority", authority, "authority").add_extension(x509.BasicConstraints(True, None), True)
    leaf = made(host, own, "authority").add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
    private = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = leaf.sign(authority, hashes.SHA256()).public_bytes(pem) + private
    return root.sign(authority, hashes.SHA256()).public_bytes(pem).decode(), chain.decode()


@pytest.fixture(scope="module")
def partner(on_trixie: Applied) -> Iterator[Applied]:
    """Return the relay of pillar.example while a partner's server is up on the Internet's host; it trusts that."""
    outside = on_trixie.lab.host("outside")
    authority, chain = certificates()
    on_trixie.lab.host("relay").write(AUTHORITY, authority, mode="0644")
    outside.write("/root/partner.pem", chain)
    outside.write("/root/partner.py", Path(__file__).with_name("partner.py").read_text(encoding="utf-8"))
    server = ["python3", "/root/partner.py", "587", KEPT, "/root/partner.pem", *LOGIN.values()]
    outside.run(["systemd-run", "--quiet", "--unit=partner", *server])
    yield on_trixie
    outside.run(["systemctl", "stop", "partner"])


def applied(relay: Applied, step: str, routes: dict[str, Any]) -> str:
    """Apply the example with routes; return what the site's state says, and warns of."""
    relay.lab.set_pillar(changed({"routes": routes, "postfix": {"main": {"smtp_tls_CAfile": AUTHORITY}}}))
    said = relay.apply(step)[SITE]
    return "\n".join([said["comment"], *said.get("warnings", [])])


def kept(relay: Applied, recipient: str) -> str:
    """Send a message to outside; return what the partner's server has of it, an empty text after some seconds."""
    message = mail.compose("app@domain01.dom", recipient)
    answers = mail.session(relay.lab, sender="app@domain01.dom", recipients=[recipient], message=message)
    assert answers[-1].code == 250, answers
    ends = time.monotonic() + mail.ARRIVAL
    while time.monotonic() < ends:
        command = ["grep", "-rlF", message["Message-ID"], KEPT, "/srv/mail"]
        for path in relay.lab.host("outside").run(command, check=False).stdout.split():
            if path.startswith(KEPT):
                return relay.lab.host("outside").read(path)
            if "/new/" in path:
                return ""
        time.sleep(0.2)
    raise AssertionError("it arrives nowhere")


def test_a_partners_mail_goes_to_its_server_with_a_login_over_tls(partner: Applied) -> None:
    applied(partner, "routes", {"partner.example": THERE, ".partner.example": THERE})
    assert partner.failed("routes") == {}
    for recipient in ("somebody@partner.example", "somebody@sales.partner.example"):
        message = kept(partner, recipient)
        assert message.startswith(f"mycompany TLS {mail.RELAY} ")
        assert "DKIM-Signature" in message
    assert kept(partner, "somebody@outside.example") == ""
    assert {check["check"]: check["state"] for check in verify(partner.lab, "ok", "warning", "failed")}[CHECK] == "ok"
    applied(partner, "routes again", {"partner.example": THERE, ".partner.example": THERE})
    assert partner.changed("routes again") == []


def test_the_password_is_roots_alone_and_in_no_answer(partner: Applied) -> None:
    relay = partner.lab.host("relay")
    found = relay.run(["grep", "-rlF", LOGIN["password"], "/etc", "/run", "/usr/local"], check=False).stdout.split()
    assert set(found) <= {f"/etc/postfix/route_passwords{suffix}" for suffix in ("", ".lmdb")}
    modes = relay.run(["stat", "-c", "%a %U", *found]).stdout.splitlines()
    assert set(modes) == {"600 root"}
    assert LOGIN["password"] not in json.dumps(partner.runs)


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ({"password": "not that"}, "535 5.7.8 Nobody here has that password"),
        ({"match": ["mx.other.example"]}, "Server certificate not verified"),
    ],
    ids=["the password", "the certificate"],
)
def test_a_route_whose_server_refuses_is_refused_with_its_key(
    partner: Applied, wrong: dict[str, Any], seen: str
) -> None:
    said = applied(partner, "wrong", {"new.example": {**THERE, **wrong}})
    assert SITE in partner.failed("wrong")
    assert "Servers that mail is handed on to take it: that would be broken." in said
    assert f"smtp:[{HOST}]:587 doesn't take it: " in said
    assert seen in said
    assert "Look at smtpout:routes:new.example" in said
    assert "not that" not in said


def test_a_server_without_a_login_is_refused_before_mail_could_bounce(partner: Applied) -> None:
    where = {**THERE, "nexthop": f"smtp:[{HOST}]:25", "tls": "encrypt"}
    said = applied(partner, "no login", {"new.example": where})
    assert f"smtpout:routes:new.example: smtp:[{HOST}]:25: {HOST}:25: it offers no " in said


@pytest.fixture
def second_address(partner: Applied) -> Iterator[str]:
    """Give the relay one more address."""
    relay = partner.lab.host("relay")
    relay.run(["ip", "address", "add", f"{SECOND}/32", "dev", "eth0"])
    yield SECOND
    relay.run(["ip", "address", "del", f"{SECOND}/32", "dev", "eth0"])


def received(relay: Applied, recipient: str, where: str = "outside") -> str:
    """Send a message that takes no partner's server; return what the receiving host says of who brought it."""
    message = mail.compose("app@domain01.dom", recipient)
    answers = mail.session(relay.lab, sender="app@domain01.dom", recipients=[recipient], message=message)
    assert answers[-1].code == 250, answers
    (copy,) = mail.arrived(relay.lab.host(where), message)
    return str(copy["Received"])


def test_mail_leaves_from_an_address_and_with_a_name_of_the_routes_own(partner: Applied, second_address: str) -> None:
    own = {"addresses": [second_address], "helo": "bulk.hc.mycompany.dom"}
    applied(partner, "own address", {"outside.example": own})
    assert partner.failed("own address") == {}
    assert f"from bulk.hc.mycompany.dom (unknown [{second_address}])" in received(partner, "somebody@outside.example")
    assert f"[{mail.RELAY}]" in received(partner, "usuario01@domain01.dom", "delivery")
    assert {check["check"]: check["state"] for check in verify(partner.lab, "ok", "warning", "failed")}[
        ADDRESSES
    ] == "ok"
    applied(partner, "own address again", {"outside.example": own})
    assert partner.changed("own address again") == []


def test_so_does_all_mail_by_mx_or_by_a_smart_host(partner: Applied, second_address: str) -> None:
    applied(partner, "all by MX", {"default": {"addresses": [second_address]}})
    assert partner.failed("all by MX") == {}
    assert f"[{second_address}]" in received(partner, "somebody@outside.example")
    applied(partner, "all by a smart host", {"default": {**THERE, "addresses": [second_address], "helo": "b.hc.dom"}})
    assert partner.failed("all by a smart host") == {}
    assert kept(partner, "somebody@outside.example").startswith(f"mycompany TLS {second_address} b.hc.dom\n")


def test_an_address_that_the_host_has_not_is_refused_with_its_key(partner: Applied) -> None:
    said = applied(partner, "no such address", {"outside.example": {"addresses": ["172.16.11.99"]}})
    assert SITE in partner.failed("no such address")
    assert "smtpout:routes:outside.example:addresses:0: 172.16.11.99 is none of this host's" in said


def test_mail_waits_while_the_host_has_lost_the_address(partner: Applied, second_address: str) -> None:
    applied(partner, "an address", {"outside.example": {"addresses": [second_address]}})
    relay = partner.lab.host("relay")
    relay.run(["ip", "address", "del", f"{second_address}/32", "dev", "eth0"])
    try:
        message = mail.compose("app@domain01.dom", "somebody@outside.example")
        answers = mail.session(
            partner.lab, sender="app@domain01.dom", recipients=["somebody@outside.example"], message=message
        )
        assert answers[-1].code == 250
        assert mail.arrived(partner.lab.host("outside"), message, wait=3) == []
        states = {check["check"]: check["state"] for check in verify(partner.lab, "ok", "warning", "failed")}
        assert states[ADDRESSES] != "ok"
    finally:
        relay.run(["ip", "address", "add", f"{second_address}/32", "dev", "eth0"])
    relay.run(["postqueue", "-f"])
    assert mail.arrived(partner.lab.host("outside"), message)


def test_a_routes_limits_are_those_of_its_transport(partner: Applied) -> None:
    limits = {"outside.example": {"delay": 2}, "partner.example": {**THERE, "connections": 3}}
    applied(partner, "limits", limits)
    assert partner.failed("limits") == {}
    names = ["route-partner.example_destination_concurrency_limit", "route-outside.example_destination_rate_delay"]
    said = partner.lab.host("relay").run(["postconf", "-h", *names]).stdout.split()
    assert said == ["3", "2s"]
    messages = [mail.compose("app@domain01.dom", "somebody@outside.example") for _ in range(3)]
    for message in messages:
        mail.session(partner.lab, sender="app@domain01.dom", recipients=["somebody@outside.example"], message=message)
    copies = [mail.arrived(partner.lab.host("outside"), message)[0] for message in messages]
    came = sorted(parsedate_to_datetime(str(copy["Received"]).rpartition(";")[2]) for copy in copies)
    gaps = [(after - before).total_seconds() for before, after in pairwise(came)]
    assert min(gaps) >= 1, gaps  # of two seconds, which the header tells whole


def test_all_other_mail_goes_by_a_smart_host(partner: Applied) -> None:
    applied(partner, "smart host", {"default": THERE})
    assert partner.failed("smart host") == {}
    assert kept(partner, "somebody@outside.example").startswith("mycompany TLS ")
    message = mail.compose("app@domain01.dom", "usuario01@domain01.dom")
    answers = mail.session(
        partner.lab, sender="app@domain01.dom", recipients=["usuario01@domain01.dom"], message=message
    )
    assert answers[-1].code == 250, answers
    assert mail.arrived(partner.lab.host("delivery"), message)
