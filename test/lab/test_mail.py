"""Mail behaves as the site's pillar says: one behaviour a test, seen by the client and by the receiver."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab import mail
from lab.checks import CHECKS
from lab.conftest import Applied

# With the recipe's relay_domains, which names the first domain only, this is what the recipe does; see README.
NOT_IN_THE_RECIPE = ["an unknown recipient of domain02.dom is refused by the LDAP map"]


@pytest.mark.parametrize("sentence", CHECKS)
def test_the_recipes_own_checks(applied: Applied, sentence: str) -> None:
    # The recipe's users log in on port 25, in clear text.
    entry = mail.SERVERS if applied.suite == "recipe" else mail.USERS
    if applied.suite == "recipe" and sentence in NOT_IN_THE_RECIPE:
        with pytest.raises(AssertionError, match="Relay access denied"):
            CHECKS[sentence](applied.lab, entry)
    else:
        assert CHECKS[sentence](applied.lab, entry)


def test_no_password_is_asked_for_without_tls(example: Applied) -> None:
    answers = mail.session(example.lab, user="usuario01")
    assert (answers[-1].command, answers[-1].code) == ("AUTH", 503), answers


def test_the_recipes_clear_text_login_is_there_when_the_pillar_asks(recipe: Applied) -> None:
    answers = mail.session(recipe.lab, user="usuario01")
    assert (answers[-1].command, answers[-1].code) == ("AUTH", 235), answers


def test_users_log_in_on_465(example: Applied) -> None:
    answers = mail.session(example.lab, entry=mail.USERS_OVER_TLS, user="usuario01", address=mail.STRANGER)
    assert answers[-1].code == 235, answers


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("usuario01", "wrong"),
        ("usuario01@evil.test", mail.PASSWORD),
        ("usuario03", mail.PASSWORD),
        ("usuario0*", mail.PASSWORD),
        ("usuario01)(cn=*", mail.PASSWORD),
    ],
    ids=["wrong password", "foreign domain", "disabled account", "wildcard", "filter injection"],
)
def test_nobody_else_logs_in(example: Applied, user: str, password: str) -> None:
    answers = mail.session(example.lab, entry=mail.USERS, user=user, password=password)
    assert (answers[-1].command, answers[-1].code) == ("AUTH", 535), answers


@pytest.mark.parametrize("sender", ["usuario02@domain02.dom", "president@outside.example"])
def test_a_user_cannot_send_as_somebody_else(example: Applied, sender: str) -> None:
    answers = mail.session(
        example.lab, entry=mail.USERS, user="usuario01", sender=sender, recipients=["x@outside.example"]
    )
    assert answers[-1].code == 553, answers


def test_a_server_of_the_site_relays_without_logging_in_and_is_signed(example: Applied) -> None:
    message = mail.compose("app@domain01.dom", "somebody@outside.example")
    answers = mail.session(
        example.lab, sender="app@domain01.dom", recipients=["somebody@outside.example"], message=message
    )
    assert answers[-1].code == 250, answers
    copies = mail.arrived(example.lab.host("outside"), message)
    assert "dkim=pass" in copies[0]["Authentication-Results"]


def test_the_second_domain_is_signed_with_its_own_key(example: Applied) -> None:
    message = mail.compose("usuario02@domain02.dom", "somebody@outside.example")
    answers = mail.session(
        example.lab, entry=mail.USERS, user="usuario02",
        sender="usuario02@domain02.dom", recipients=["somebody@outside.example"], message=message,
    )  # fmt: skip
    assert answers[-1].code == 250, answers
    results = mail.arrived(example.lab.host("outside"), message)[0]["Authentication-Results"]
    assert "dkim=pass" in results
    assert "header.d=domain02.dom" in results


@pytest.mark.parametrize(
    ("author", "signed"),
    [("Usuario01@DOMAIN01.Dom", True), ("x@under.domain01.dom", False), ("x@notdomain01.dom", False)],
)
def test_who_is_signed_is_a_matter_of_the_domain_alone(example: Applied, author: str, signed: bool) -> None:
    message = mail.compose(author, "somebody@outside.example")
    answers = mail.session(
        example.lab, sender="app@domain01.dom", recipients=["somebody@outside.example"], message=message
    )
    assert answers[-1].code == 250, answers
    copy = mail.arrived(example.lab.host("outside"), message)[0]
    assert ("header.d=domain01.dom" in copy["Authentication-Results"]) is signed
    assert ("DKIM-Signature" in copy) is signed


def test_a_relay_user_is_not_found_by_vrfy(example: Applied) -> None:
    script = "import smtplib; print(smtplib.SMTP('172.16.11.95', timeout=20).vrfy('usuario01@domain01.dom')[0])"
    answer = example.lab.client(mail.STRANGER).run(["python3", "-c", script], timeout=60)
    assert answer.stdout.strip() == "502"


def test_an_infected_message_is_named_in_the_log(example: Applied) -> None:
    CHECKS["an EICAR attachment is refused with the virus named"](example.lab, mail.USERS)
    log = example.lab.host("relay").run(["journalctl", "--unit", "clamav-milter", "--output=cat"]).stdout
    assert "Lab.Eicar" in log


def test_tls_connections_to_the_delivery_layer_are_used_again(example: Applied) -> None:
    relay, delivery = example.lab.host("relay"), example.lab.host("delivery")
    delivery.run(["cp", "-a", "/etc/postfix/main.cf", "/root/main.cf"])
    tls = ["smtpd_tls_security_level=encrypt", "smtpd_tls_chain_files=/etc/postfix/mx.key, /etc/postfix/mx.pem"]
    try:
        delivery.run(["postconf", "-e", *tls])
        delivery.run(["postfix", "reload"])
        relay.run([
            "smtp-source", "-s", "10", "-m", "100", "-f", "usuario01@domain01.dom", "-t", "usuario02@domain02.dom",
            "127.0.0.1:25",
        ], timeout=120)  # fmt: skip
        ends = time.monotonic() + mail.ARRIVAL
        sent = ""
        while sent.count("status=sent") < 100 and time.monotonic() < ends:
            time.sleep(0.5)
            log = relay.run(["journalctl", "--identifier=postfix/smtp", "--output=cat", "--since=-2min"]).stdout
            sent = "\n".join(line for line in log.splitlines() if "relay=172.16.11.96" in line)
        assert "conn_use=" in sent, sent
        assert "status=deferred" not in sent, sent
    finally:
        delivery.run(["cp", "-a", "/root/main.cf", "/etc/postfix/main.cf"])
        delivery.run(["postfix", "reload"])


# What a signature has to outlive: lines that are too long (RFC 5322, 2.1.1), 8-bit text, as much as 66 KiB of headers.
SHAPES = {
    "a body line of 5,000 characters": ("", "x" * 5000),
    "a header of 1,500 characters that isn't folded": (f"References: {'<a@b.example> ' * 107}\n", "One line."),
    "8-bit text and a raw subject": ("Content-Type: text/plain; charset=utf-8\nX-Raw: añadido\n", "Señor, más."),
    "66 KiB of headers": ("".join(f"X-Filler-{n}: {'y' * 900}\n" for n in range(75)), "One line."),
}


@pytest.fixture
def without_8bitmime(example: Applied) -> Iterator[Applied]:
    """Return the example's relay while the Internet's host takes no 8-bit text."""
    outside = example.lab.host("outside")
    outside.run(["cp", "-a", "/etc/postfix/main.cf", "/root/main.cf"])
    try:
        outside.run(["postconf", "-e", "smtpd_discard_ehlo_keywords=8bitmime,smtputf8,chunking,silent-discard"])
        outside.run(["postfix", "reload"])
        yield example
    finally:
        outside.run(["cp", "-a", "/root/main.cf", "/etc/postfix/main.cf"])
        outside.run(["postfix", "reload"])


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_signed_leaves_as_it_was_signed(without_8bitmime: Applied, shape: str) -> None:
    lab = without_8bitmime.lab
    headers, body = SHAPES[shape]
    message = mail.compose("app@domain01.dom", "somebody@outside.example")
    known = "".join(f"{name}: {message[name]}\n" for name in ("From", "To", "Date", "Message-ID"))
    text = f"{known}Subject: {shape}\n{headers}MIME-Version: 1.0\n\n{body}\n"
    answers = mail.session(lab, sender="app@domain01.dom", recipients=["somebody@outside.example"], message=text)
    assert answers[-1].code == 250, answers
    (copy,) = mail.arrived(lab.host("outside"), message)
    assert "dkim=pass" in copy["Authentication-Results"], copy["Authentication-Results"]


@pytest.mark.parametrize(
    ("address", "source"),
    [("127.0.0.1", ""), ("127.0.0.1", "127.0.0.5"), ("::1", ""), ("::ffff:127.0.0.1", ""), ("localhost", "")],
)
def test_a_program_on_the_relay_sends_by_whichever_loopback(example: Applied, address: str, source: str) -> None:
    message = mail.compose("cron@domain01.dom", "somebody@outside.example")
    script = (
        "import smtplib, sys\n"
        "smtplib.SMTP(sys.argv[1], 25, timeout=20, source_address=(sys.argv[2], 0) if sys.argv[2] else None)"
        ".sendmail('cron@domain01.dom', 'somebody@outside.example', sys.stdin.read())\n"
    )
    example.lab.host("relay").run(["python3", "-c", script, address, source], input=message.as_string(), timeout=60)
    (copy,) = mail.arrived(example.lab.host("outside"), message)
    assert "dkim=pass" in copy["Authentication-Results"]


def test_text_beyond_ascii_in_a_header_needs_no_smtputf8(without_8bitmime: Applied) -> None:
    lab = without_8bitmime.lab
    message = mail.compose("cron@domain01.dom", "somebody@outside.example")
    text = message.as_string().replace("A message of the lab", "Relatório nº 5")
    lab.host("relay").run(["sendmail", "-f", "cron@domain01.dom", "somebody@outside.example"], input=text)
    (copy,) = mail.arrived(lab.host("outside"), message)
    assert "dkim=pass" in copy["Authentication-Results"]


def test_what_the_next_host_may_not_have_is_not_offered(example: Applied) -> None:
    script = (
        "import smtplib\n"
        "client = smtplib.SMTP('172.16.11.95', timeout=20)\n"
        "client.ehlo()\n"
        "print('smtputf8' in client.esmtp_features)\n"
        "print(client.docmd('MAIL FROM:<usuario01@domain01.dom> SMTPUTF8')[0])\n"
    )
    answer = example.lab.client().run(["python3", "-c", script], timeout=60)
    assert answer.stdout.split() == ["False", "555"]
