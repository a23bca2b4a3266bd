"""Printers and appliances send with the addresses that the pillar gives them, to where it lets them, and no others."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from lab import mail
from lab.checks import verify
from lab.conftest import Applied
from lab.whole import ASKED, SITE, changed

PRINTER, APPLIANCE, STRANGER = "172.16.11.60", "172.16.11.61", "198.51.100.66"
CLIENTS = [
    {"networks": [f"{PRINTER}/32"], "senders": ["scanner@domain01.dom"]},
    {"networks": [f"{APPLIANCE}/32"], "senders": ["@domain02.dom"], "outside": True, "tls": True},
]
COPIERS = ("172.16.11.70", "172.16.11.71")
LIMITED = {"networks": [f"{each}/32" for each in COPIERS], "senders": ["copier@domain01.dom"], "limit": 3}
SERVERS = ["172.16.10.0/24", "172.16.11.50/32"]
USER, OUTSIDE = "usuario01@domain01.dom", "somebody@outside.example"
BY_TLS = mail.Entry(25, "starttls")


@pytest.fixture(scope="module")
def clients(on_bookworm: Applied) -> Applied:
    """Return the relay of pillar.example with clients of their own in the site's network."""
    on_bookworm.lab.set_pillar(changed({"clients": CLIENTS, "networks": SERVERS}))
    said = on_bookworm.apply("clients")
    assert on_bookworm.failed("clients") == {}
    assert f"A trial of it kept {ASKED + 1} promises." in said[SITE]["comment"]
    return on_bookworm


def last(relay: Applied, address: str, sender: str, recipient: str, entry: mail.Entry = mail.SERVERS) -> mail.Answer:
    """Return the last answer to a client's message up to the recipient."""
    return mail.session(relay.lab, address=address, entry=entry, sender=sender, recipients=[recipient])[-1]


def sent(relay: Applied, address: str, sender: str, recipient: str, entry: mail.Entry, host: str) -> Any:
    """Return a client's message as it arrived."""
    message = mail.compose(sender, recipient)
    answers = mail.session(
        relay.lab, address=address, entry=entry, sender=sender, recipients=[recipient], message=message
    )
    assert answers[-1].code == 250, answers
    return mail.arrived(relay.lab.host(host), message)[0]


def test_a_printer_sends_to_users_with_its_address_signed(clients: Applied) -> None:
    copy = sent(clients, PRINTER, "scanner@domain01.dom", USER, mail.SERVERS, "delivery")
    assert "d=domain01.dom;" in copy["DKIM-Signature"]


def test_an_appliance_sends_to_outside_with_any_address_of_its_domain(clients: Applied) -> None:
    copy = sent(clients, APPLIANCE, "alarm@domain02.dom", OUTSIDE, BY_TLS, "outside")
    assert "dkim=pass" in copy["Authentication-Results"]
    assert "header.d=domain02.dom" in copy["Authentication-Results"]


@pytest.mark.parametrize("sender", ["president@domain01.dom", "scanner@domain02.dom", "a@outside.example", ""])
def test_a_printer_sends_with_no_other_address_and_is_told_with_which(clients: Applied, sender: str) -> None:
    answer = last(clients, PRINTER, sender, USER)
    assert answer.code == 554, answer
    assert "from here, send as scanner@domain01.dom only" in answer.text


def test_what_a_printer_left_out_is_completed(clients: Applied) -> None:
    message = mail.compose("scanner@domain01.dom", USER)
    text = f"From: scanner@domain01.dom\nX-Of: Message-ID: {message['Message-ID']}\nSubject: scan\n\nOne page.\n"
    answers = mail.session(clients.lab, address=PRINTER, sender="scanner@domain01.dom", recipients=[USER], message=text)
    assert answers[-1].code == 250, answers
    (copy,) = mail.arrived(clients.lab.host("delivery"), message)  # found by the words in X-Of:
    assert copy["Message-ID"], copy.as_string()
    assert copy["Date"], copy.as_string()


def test_a_printer_does_not_send_to_outside(clients: Applied) -> None:
    assert last(clients, PRINTER, "scanner@domain01.dom", OUTSIDE).code == 554


def test_an_appliance_sends_by_tls_alone_and_for_its_domain_alone(clients: Applied) -> None:
    assert last(clients, APPLIANCE, "alarm@domain02.dom", OUTSIDE).code == 550
    assert last(clients, APPLIANCE, "alarm@domain01.dom", OUTSIDE, BY_TLS).code == 554


def test_nobody_else_sends_as_they_do(clients: Applied) -> None:
    for recipient in (USER, OUTSIDE):
        assert last(clients, STRANGER, "scanner@domain01.dom", recipient).code == 554
    assert last(clients, "172.16.11.50", "scanner@domain01.dom", OUTSIDE).code == 250


def test_a_user_logs_in_from_there_as_from_anywhere(clients: Applied) -> None:
    answers = mail.session(
        clients.lab, address=PRINTER, entry=mail.USERS, user="usuario01", sender=USER, recipients=[OUTSIDE]
    )
    assert answers[-1].code == 250, answers


def test_clients_with_a_limit_are_counted_together_and_nobody_else(clients: Applied) -> None:
    lab, relay = clients.lab, clients.lab.host("relay")
    lab.set_pillar(changed({"clients": [*CLIENTS, LIMITED], "networks": SERVERS}))
    said = clients.apply("a limit")
    assert clients.failed("a limit") == {}
    assert f"A trial of it kept {ASKED + 2} promises." in said[SITE]["comment"]
    clients.apply("a limit again")
    assert clients.changed("a limit again") == []
    if (left := 3600 - int(relay.run(["date", "+%s"]).stdout) % 3600) < 60:
        time.sleep(left)  # what is counted ends with the hour
    answers = [message(clients, COPIERS[number % 2], "copier@domain01.dom") for number in range(5)]
    assert [each.code for each in answers] == [250, 250, 250, 450, 450]
    assert answers[-1].command == "DATA"
    told = "this client, with all that share its limit, has had 3 of 3 messages this hour; it goes on at "
    assert told in answers[-1].text
    assert {message(clients, PRINTER, "scanner@domain01.dom").code for _ in range(4)} == {250}
    user = mail.session(
        lab, address=COPIERS[0], entry=mail.USERS, user="usuario01", sender=USER, recipients=[OUTSIDE],
        message=mail.compose(USER, OUTSIDE),
    )  # fmt: skip
    assert user[-1].code == 250, user
    seen = {each["check"]: each["seen"] for each in verify(lab, "ok")}
    assert seen["what clients send is counted"] == "1 entries of clients have sent today, 1 of them more than they may"
    relay.run(["systemctl", "stop", "smtpout-policy.socket", "smtpout-policy.service"])
    assert message(clients, COPIERS[0], "copier@domain01.dom").code == 250, "nobody counts, and mail passes"
    relay.run(["systemctl", "start", "smtpout-policy.socket", "smtpout-policy.service"])
    assert message(clients, COPIERS[0], "copier@domain01.dom").code == 450, "what was counted is kept"


def message(relay: Applied, address: str, sender: str) -> mail.Answer:
    """Return the last answer to a client's whole message."""
    return mail.session(
        relay.lab, address=address, sender=sender, recipients=[USER], message=mail.compose(sender, USER)
    )[-1]


def test_what_was_hardly_meant_is_told(clients: Applied) -> None:
    site = yaml.safe_load(changed({"clients": CLIENTS, "networks": [*SERVERS, "172.160.11.0/24"]}))
    site["smtpout"]["postfix"] = {"maps": {"forgotten": {"entries": {"root": USER}}}}
    clients.lab.set_pillar(yaml.safe_dump(site))
    clients.apply("hardly meant")
    assert clients.failed("hardly meant") == {}
    told = {each["check"]: each["seen"] for each in verify(clients.lab, "warning")}
    assert "172.160.11.0/24 is of public addresses" in told["only the site's own servers send without a login"]
    assert "/etc/postfix/forgotten" in told["every map of the site's is looked up"]


def test_a_domain_that_is_delivered_elsewhere_is_signed_here(clients: Applied) -> None:
    """The newsletter's: its mail is signed, mail to it goes to the Internet, and others may write from it."""
    lab = clients.lab
    lab.set_pillar(changed({"signed_domains": ["outside.example"]}))
    clients.apply("signed elsewhere")
    assert clients.failed("signed elsewhere") == {}
    copy = sent(clients, "172.16.11.50", "news@outside.example", OUTSIDE, mail.SERVERS, "outside")
    assert "d=outside.example;" in copy["DKIM-Signature"]
    copy = sent(clients, STRANGER, "news@outside.example", USER, mail.SERVERS, "delivery")
    assert copy["DKIM-Signature"] is None
