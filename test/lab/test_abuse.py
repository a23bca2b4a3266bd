"""The relay is not open: nobody sends through it who may not, under no form of address, name or login.

Each test drives the relay byte by byte (raw.py). What else strangers try is in test_abuse_protocol.py (how they speak)
and test_abuse_limits.py (how much and how fast).
"""

from __future__ import annotations

import base64
from typing import Any

import pytest

from lab import mail, raw
from lab.conftest import Applied
from lab.raw import GREETING, Step

HOSTNAME = "vm-172-16-11-95.cloud0.hc.mycompany.dom"

RECIPIENTS = {
    "plain": "somebody@outside.example",
    "source route": "@a.example,@b.example:somebody@outside.example",
    "source route through the relay": f"@{HOSTNAME}:somebody@outside.example",
    "source route into the site and out again": "@outside.example:somebody%outside.example@domain01.dom",
    "percent hack through a domain of the site": "somebody%outside.example@domain01.dom",
    "percent hack through the relay's name": f"somebody%outside.example@{HOSTNAME}",
    "percent hack without a domain": "somebody%outside.example",
    "double percent hack": f"somebody%outside.example%domain01.dom@{HOSTNAME}",
    "bang path": "outside.example!somebody",
    "bang path through the relay's name": f"{HOSTNAME}!outside.example!somebody",
    "bang path through a domain of the site": "outside.example!somebody@domain01.dom",
    "quoted address in a domain of the site": '"somebody@outside.example"@domain01.dom',
    "quoted address at the relay's name": f'"somebody@outside.example"@{HOSTNAME}',
    "quoted address without a domain": '"somebody@outside.example"',
    "quotes within quotes": r'"\"somebody@outside.example\""@domain01.dom',
    "quoted backslash": r'"a\\@outside.example"@domain01.dom',
    "two @": "somebody@outside.example@domain01.dom",
    "two @, the relay last": f"somebody@outside.example@{HOSTNAME}",
    "address literal of another host": "somebody@[198.51.100.10]",
    "address literal of the relay": "usuario01@[172.16.11.95]",
    "address literal of the delivery layer": "usuario01@[172.16.11.96]",
    "address literal of loopback": "usuario01@[127.0.0.1]",
    "address literal of IPv6 loopback": "usuario01@[IPv6:::1]",
    "bare address as a domain": "somebody@198.51.100.10",
    "trailing dot": "somebody@outside.example.",
    "two trailing dots": "somebody@outside.example..",
    "a user at localhost": "usuario01@localhost",
    "a user at the relay's name": f"usuario01@{HOSTNAME}",
    "a user without a domain": "usuario01",
    "comment": "somebody(usuario01@domain01.dom)@outside.example",
    "two addresses in one": "somebody@outside.example>,<usuario01@domain01.dom",
    "NUL after an address of the site": "usuario01@domain01.dom\0@outside.example",
    "NUL before an address of the site": "somebody@outside.example\0@domain01.dom",
    "UTF-8": "usuário@outside.example".encode().decode("latin-1"),
    "8 bits that are no UTF-8": "usu\xe1rio@outside.example",
    "no local part": "@outside.example",
    "no domain": "somebody@",
    "every user": "*@domain01.dom",
    "some users": "usuario0*@domain01.dom",
    "filter injection": "usuario01)(mail=*@domain01.dom",
    "a subdomain that is not the site's": "usuario01@lists.domain01.dom",
    "a command on the relay": f"|/bin/id@{HOSTNAME}",
    "a file of the relay": f"/var/tmp/abuse@{HOSTNAME}",
    "an included file of the relay": ":include:/etc/passwd@localhost",
}

SENDERS = {
    "nobody (the null sender)": "",
    "a user of the site": "usuario01@domain01.dom",
    "the relay": f"root@{HOSTNAME}",
    "the relay by its address": "root@[172.16.11.95]",
    "root without a domain": "root",
    "the recipient": "somebody@outside.example",
}

# What a client says of itself is not what it is.
HELLOS = {
    "localhost": "EHLO localhost",
    "loopback": "EHLO [127.0.0.1]",
    "the relay": f"EHLO {HOSTNAME}",
    "a server of the site": "EHLO [172.16.11.50]",
    "a domain of the site": "HELO domain01.dom",
    "a shell": "EHLO `id`;$(id)|id %n%s",
    "8 bits and NUL": "EHLO \x80\xff\0localhost",
    "nothing": "EHLO",
}

# A stranger writes to a user of the site in a colleague's name; that the colleague exists or not is the same.
SITE_SENDERS = {
    "a user": "usuario02@domain02.dom",
    "somebody who does not exist": "president@domain01.dom",
    "in capitals": "PRESIDENT@DOMAIN01.DOM",
    "with a trailing dot": "president@domain01.dom.",
    "with a source route": "@mx.stranger.example:president@domain01.dom",
    "with an extension": "usuario02+x@domain02.dom",
    "quoted": '"president"@domain01.dom',
    "quoted whole": '"president@domain01.dom"',
    "by percent hack": f"president%domain01.dom@{HOSTNAME}",
    "by bang path": "domain01.dom!president",
    "with two @": "president@outside.example@domain01.dom",
}


def plain(*parts: str) -> str:
    """Return an AUTH command with its parts put together as RFC 4616 has them: authorize as, user, password."""
    return "AUTH PLAIN " + base64.b64encode("\0".join(parts).encode()).decode()


def text(words: str) -> str:
    """Return an answer to AUTH LOGIN's question."""
    return base64.b64encode(words.encode()).decode()


def refused(example: Applied, recipient: str, **session: Any) -> list[raw.Reply]:
    """Try a message that must not pass, see that its recipient was the end of it, and return the replies."""
    message, replies = raw.attempt(example.lab, recipient, **session)
    REFUSED.append(f"{message['Message-ID']}\n")
    assert not raw.queued(replies), replies
    assert not any(reply.code == 354 for reply in replies), replies
    assert any(reply.code // 100 == 5 for reply in replies), replies
    return replies


REFUSED: list[str] = []
LOGIN = [plain("", "usuario01", mail.PASSWORD)]


def test_a_strangers_mail_to_a_user_of_the_site_arrives(example: Applied) -> None:
    message, replies = raw.attempt(example.lab, "usuario01@domain01.dom")
    assert raw.queued(replies) == 1, replies
    assert len(mail.arrived(example.lab.host("delivery"), message)) == 1


def test_a_logged_in_users_mail_leaves(example: Applied) -> None:
    message, replies = raw.attempt(
        example.lab, "somebody@outside.example", sender="usuario01@domain01.dom", entry=mail.USERS, login=LOGIN
    )
    assert raw.queued(replies) == 1, replies
    assert len(mail.arrived(example.lab.host("outside"), message)) == 1


def test_a_users_mail_to_a_subdomain_that_lives_elsewhere_is_taken(example: Applied) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        "EHLO mx.stranger.example", *LOGIN, "MAIL FROM:<usuario01@domain01.dom>", "RCPT TO:<a@lists.domain01.dom>",
        entry=mail.USERS,
    )  # fmt: skip
    assert replies[-1].code == 250, replies


@pytest.mark.parametrize("recipient", RECIPIENTS.values(), ids=RECIPIENTS)
def test_a_stranger_reaches_nobody_but_users_of_the_site(example: Applied, recipient: str) -> None:
    refused(example, recipient)


@pytest.mark.parametrize("sender", SENDERS.values(), ids=SENDERS)
def test_a_stranger_does_not_relay_in_the_name_of(example: Applied, sender: str) -> None:
    refused(example, "somebody@outside.example", sender=sender)


@pytest.mark.parametrize("hello", HELLOS.values(), ids=HELLOS)
def test_a_stranger_does_not_relay_by_calling_itself(example: Applied, hello: str) -> None:
    refused(example, "somebody@outside.example", hello=hello)


@pytest.mark.parametrize("sender", SITE_SENDERS.values(), ids=SITE_SENDERS)
def test_a_stranger_does_not_write_to_the_staff_as_one_of_them(example: Applied, sender: str) -> None:
    replies = refused(example, "usuario01@domain01.dom", sender=sender)
    assert any("log in to send" in reply.text for reply in replies), replies


def test_what_a_stranger_says_of_its_origin_is_not_believed(example: Applied) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        GREETING, "EHLO mx.stranger.example", "XCLIENT ADDR=127.0.0.1 NAME=localhost LOGIN=usuario01",
        "XFORWARD ADDR=127.0.0.1 NAME=localhost", "MAIL FROM:<a@stranger.example> AUTH=<usuario01@domain01.dom>",
        "RCPT TO:<somebody@outside.example>",
    )  # fmt: skip
    assert [reply.code // 100 for reply in replies[2:4]] == [5, 5], replies
    assert replies[-1].code == 554, replies


@pytest.mark.parametrize("entry", [mail.SERVERS, mail.Entry(587)], ids=["25", "587"])
def test_a_balancers_header_from_a_stranger_ends_the_session(example: Applied, entry: mail.Entry) -> None:
    # Together with commands that are pipelined where they may not be, so that it ends before the greeting or after it.
    header = "PROXY TCP4 127.0.0.1 172.16.11.95 56324 25\r\nEHLO localhost\r\nMAIL FROM:<a@stranger.example>\r\n"
    replies = raw.session(
        example.lab, raw.stranger(), Step(header, replies=raw.UNTIL_CLOSED), entry=entry
    )  # fmt: skip
    assert raw.closed(replies), replies
    assert {reply.code // 100 for reply in replies[:-1]} <= {2, 5}, replies
    assert not any("PIPELINING" in reply.text for reply in replies), replies


@pytest.mark.parametrize("entry", [mail.USERS, mail.USERS_OVER_TLS], ids=["587", "465"])
@pytest.mark.parametrize("recipient", ["usuario01@domain01.dom", "somebody@outside.example"])
def test_nobody_sends_on_a_users_port_without_logging_in(example: Applied, entry: mail.Entry, recipient: str) -> None:
    refused(example, recipient, entry=entry)


def test_a_server_of_the_site_logs_in_as_well_on_a_users_port(example: Applied) -> None:
    refused(example, "somebody@outside.example", address="172.16.11.50", entry=mail.USERS, sender="app@domain01.dom")


@pytest.mark.parametrize("port", [25, 587])
def test_no_login_is_taken_in_clear_text(example: Applied, port: int) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        GREETING, "EHLO mx.stranger.example", *LOGIN, "AUTH LOGIN", "MAIL FROM:<usuario01@domain01.dom>",
        "RCPT TO:<somebody@outside.example>", entry=mail.Entry(port),
    )  # fmt: skip
    assert "AUTH" not in replies[1].text, replies
    assert [reply.code // 100 for reply in replies[2:4]] == [5, 5], replies
    assert replies[-1].code // 100 == 5, replies


def test_port_465_says_nothing_without_tls(example: Applied) -> None:
    replies = raw.session(
        example.lab, raw.stranger(), Step("EHLO x\r\n", replies=raw.UNTIL_CLOSED), entry=mail.Entry(465)
    )
    assert [reply.code for reply in replies] == [0], replies


@pytest.mark.parametrize(
    "steps",
    [
        [plain("", "usuario01", "")],
        [plain("", "", mail.PASSWORD)],
        [plain("", "usuario01", mail.PASSWORD, "x")],
        [plain("usuario01", mail.PASSWORD)],
        [plain("usuario02", "usuario01", mail.PASSWORD)],
        [plain("", "*", mail.PASSWORD)],
        [plain("", "usuario01)(|(cn=*", mail.PASSWORD)],
        [plain("", "usuario01\\2a", mail.PASSWORD)],
        [plain("", "cn=usuario01,cn=users,dc=domain01,dc=dom", mail.PASSWORD)],
        [plain("", "u" * 1000, mail.PASSWORD)],
        [plain("", "usuario01", "p" * 1000)],
        ["AUTH PLAIN " + "A" * 20000],
        ["AUTH PLAIN *"],
        ["AUTH PLAIN ="],
        ["AUTH LOGIN", text("usuario01"), text("")],
        ["AUTH LOGIN", text("usuario01)(|(cn=*"), text(mail.PASSWORD)],
        ["AUTH LOGIN", "*"],
        ["AUTH ANONYMOUS =", "AUTH EXTERNAL dXN1YXJpbzAx", "AUTH CRAM-MD5", "AUTH NTLM", "AUTH GSSAPI ="],
    ],
    ids=[
        "an empty password", "no user", "a fourth part", "two parts", "another user's name to act as", "any user",
        "a filter", "an escaped wildcard", "a distinguished name", "a user's name of 1,000 bytes",
        "a password of 1,000 bytes", "20,000 bytes", "a cancelled PLAIN", "nothing", "LOGIN with an empty password",
        "LOGIN with a filter", "a cancelled LOGIN", "mechanisms that are not offered",
    ],
)  # fmt: skip
def test_nobody_logs_in_with(example: Applied, steps: list[str]) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        "EHLO mx.stranger.example", *steps, "MAIL FROM:<a@stranger.example>", "RCPT TO:<somebody@outside.example>",
        entry=mail.USERS,
    )  # fmt: skip
    assert not any(reply.code == 235 for reply in replies), replies
    assert replies[-1].code // 100 == 5, replies


def test_a_user_who_acts_as_themself_logs_in(example: Applied) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        "EHLO mx.stranger.example", plain("usuario01", "usuario01", mail.PASSWORD), entry=mail.USERS,
    )  # fmt: skip
    assert replies[-1].code == 235, replies


@pytest.mark.parametrize(
    "sender", ["usuario02@domain02.dom", "president@domain01.dom", f"root@{HOSTNAME}", "a@outside.example", "root"]
)
def test_a_user_does_not_send_in_the_name_of(example: Applied, sender: str) -> None:
    replies = refused(example, "somebody@outside.example", sender=sender, entry=mail.USERS, login=LOGIN)
    assert any(reply.code == 235 for reply in replies), replies


def test_nothing_of_what_was_refused_is_anywhere(example: Applied) -> None:
    message, _ = raw.attempt(example.lab, "usuario01@domain01.dom")
    assert mail.arrived(example.lab.host("delivery"), message)
    searched = {"delivery": "/srv/mail", "outside": "/srv/mail", "relay": "/var/spool/postfix /var/mail /var/tmp"}
    for wanted, found in ((f"{message['Message-ID']}\n", ["delivery"]), ("".join(REFUSED), [])):
        assert wanted
        hosts = []
        for host, places in searched.items():
            command = ["grep", "-rlF", "-f", "-", *places.split()]
            if example.lab.host(host).run(command, input=wanted, check=False).returncode == 0:
                hosts.append(host)
        assert hosts == found, wanted
