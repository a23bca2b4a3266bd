"""What has to be taken, what has to be completed, and what needn't be told."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import uuid
import zipfile
from email.message import EmailMessage

import pytest
import yaml
from support import load

from lab import mail, raw
from lab.checks import verify
from lab.conftest import Applied
from lab.lab import CLIENT
from lab.raw import GREETING
from lab.whole import SITE, changed

OUTSIDE = "somebody@outside.example"
USER = "usuario01@domain01.dom"
HAVE_TO_BE = [f"{name}@{domain}" for name in ("postmaster", "ABUSE") for domain in ("domain01.dom", "Domain02.dom")]


@pytest.fixture(scope="module")
def site(borrowed: Applied) -> Applied:
    """Return the example's relay with administrators and aliases, which refuses what nobody can look into."""
    made = load("default")["smtpout"] | {
        "administrators": ["usuario02@domain02.dom"],
        "aliases": {"Sales@domain01.dom": [USER, OUTSIDE]},
    }
    made["clamav"] = {"on_unscannable": "Reject"}
    borrowed.lab.set_pillar(yaml.safe_dump({"smtpout": made}))
    borrowed.apply("manners")
    assert borrowed.failed("manners") == {}
    return borrowed


def sent(applied: Applied, recipient: str, text: str = "", **session: object) -> tuple[list[mail.Answer], str]:
    """Send a message, and return the answers with what it is found by."""
    token = uuid.uuid4().hex
    message = f"X-Token: {token}\n{text or 'Subject: manners'}\n\nOne line.\n"
    given = {"sender": "a@stranger.example", "address": mail.STRANGER} | session
    return mail.session(applied.lab, recipients=[recipient], message=message, **given), token  # type: ignore[arg-type]


def copies(applied: Applied, host: str, token: str) -> list[EmailMessage]:
    """Return what arrived of it, waiting for the first copy."""
    message = EmailMessage()
    message["Message-ID"] = token  # found by its words
    found = applied.lab.host(host)
    script = (
        f"for i in $(seq 100); do f=$(grep -rl 'X-Token: {token}' /srv/mail | grep /new/); "
        '[ -n "$f" ] && break; sleep 0.2; done; for each in $f; do cat $each; printf "\\0"; done'
    )
    texts = found.run(["sh", "-c", script], timeout=60).stdout.split("\0")
    return [email.message_from_string(text, policy=email.policy.default) for text in texts if text]


@pytest.mark.parametrize(
    ("account", "code"), [("root", 250), ("postmaster", 250), ("backup", 550), ("nobody", 550), ("www-data", 550)]
)
def test_strangers_fill_no_mailbox_of_a_system_account(example: Applied, account: str, code: int) -> None:
    hostname = load("default")["smtpout"]["hostname"]
    answers = mail.session(
        example.lab, address=mail.STRANGER, sender="a@stranger.example", recipients=[f"{account}@{hostname}"]
    )
    assert answers[-1].code == code, answers


@pytest.mark.parametrize("entry", [mail.USERS, mail.SERVERS], ids=["a user", "a server"])
def test_what_a_client_left_out_is_completed_and_signed(example: Applied, entry: mail.Entry) -> None:
    user = {"user": "usuario01", "address": mail.STRANGER} if entry is mail.USERS else {"address": CLIENT}
    answers, token = sent(example, OUTSIDE, sender=USER, entry=entry, **user)
    assert answers[-1].code == 250, answers
    (copy,) = copies(example, "outside", token)
    assert all(copy[name] for name in ("Date", "Message-ID")), copy.as_string()
    assert USER in copy["From"], copy.as_string()
    assert "dkim=pass" in copy["Authentication-Results"]


def test_what_a_stranger_left_out_is_not_the_relays(example: Applied) -> None:
    answers, token = sent(example, USER)
    assert answers[-1].code == 250, answers
    (copy,) = copies(example, "delivery", token)
    assert "Message-ID" not in copy, copy.as_string()


def test_the_relays_own_mail_is_signed_by_the_key_of_its_name(example: Applied) -> None:
    token = uuid.uuid4().hex
    example.lab.host("relay").run(["sendmail", OUTSIDE], input=f"X-Token: {token}\nTo: {OUTSIDE}\nSubject: cron\n\nx\n")
    (copy,) = copies(example, "outside", token)
    assert "dkim=pass" in copy["Authentication-Results"], copy["Authentication-Results"]
    assert f"header.d={load('default')['smtpout']['hostname']}" in copy["Authentication-Results"]


@pytest.mark.parametrize("entry", [mail.USERS, mail.USERS_OVER_TLS], ids=["587", "465"])
def test_receivers_learn_neither_where_a_user_wrote_from_nor_the_account(example: Applied, entry: mail.Entry) -> None:
    answers, token = sent(example, OUTSIDE, "From: usuario01@domain01.dom", sender=USER, entry=entry, user="usuario01")
    assert answers[-1].code == 250, answers
    (copy,) = copies(example, "outside", token)
    received = " ".join(copy.get_all("Received", []))
    told = [words for words in (mail.STRANGER, "client.example", "Authenticated sender") if words in received]
    assert told == [], received
    assert "ESMTPSA" in received, received
    assert "dkim=pass" in copy["Authentication-Results"]
    log = example.lab.host("relay").run(["journalctl", "--since=-2min", "--output=cat"]).stdout
    assert f"[{mail.STRANGER}], sasl_method=PLAIN, sasl_username=usuario01" in log


def test_reports_of_success_are_for_users_and_servers(example: Applied) -> None:
    for address, entry, offered in (
        (raw.stranger(), mail.SERVERS, False),
        (CLIENT, mail.SERVERS, True),
        (raw.stranger(), mail.USERS, True),
    ):
        greeting = [] if entry is mail.USERS else [GREETING]
        replies = raw.session(example.lab, address, *greeting, "EHLO mx.stranger.example", entry=entry)
        assert ("DSN" in replies[-1].text) is offered, replies
    wanted = "RCPT TO:<usuario01@domain01.dom> NOTIFY=SUCCESS"
    replies = raw.session(
        example.lab, raw.stranger(), GREETING, "EHLO mx.stranger.example", "MAIL FROM:<a@stranger.example>", wanted
    )
    assert replies[-1].code == 501, replies


def test_a_list_servers_message_reaches_who_is_left(example: Applied) -> None:
    gone = [f"RCPT TO:<gone{number}@domain01.dom>" for number in range(22)]
    replies = raw.session(
        example.lab, "172.16.11.99", GREETING, "EHLO list.domain01.dom", "MAIL FROM:<list@domain01.dom>",
        *gone, f"RCPT TO:<{USER}>", "DATA",
    )  # fmt: skip
    assert [reply.code for reply in replies[-2:]] == [250, 354], replies[-3:]


def zipped(content: bytes) -> bytes:
    """Return twenty archives in each other, deeper than clamd looks (MaxRecursion)."""
    for number in range(20):
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{number}.zip" if number else "letter.txt", content)
        content = whole.getvalue()
    return content


def unscannable() -> str:
    """Return the headers and the body of a message that nobody can look into."""
    part = base64.encodebytes(zipped(b"A letter.")).decode()
    return (
        "Subject: manners\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        f'--b\nContent-Type: application/zip; name="a.zip"\nContent-Transfer-Encoding: base64\n\n{part}\n--b--'
    )


def test_what_could_not_be_looked_into_is_not_called_clean(example: Applied) -> None:
    answers, token = sent(example, USER, unscannable())
    assert answers[-1].code == 250, answers
    (copy,) = copies(example, "delivery", token)
    assert copy["X-Virus-Status"] == "No virus found", copy["X-Virus-Status"]


@pytest.mark.parametrize("recipient", HAVE_TO_BE)
def test_what_each_domain_has_to_have_reaches_the_administrators(site: Applied, recipient: str) -> None:
    answers, token = sent(site, recipient)
    assert answers[-1].code == 250, answers
    (copy,) = copies(site, "delivery", token)
    assert copy["Delivered-To"] in (None, "usuario02@domain02.dom"), copy
    assert copy["X-Original-To"] in (None, "usuario02@domain02.dom"), copy


def test_a_domains_own_postmaster_keeps_their_mail(site: Applied) -> None:
    directory = site.lab.host("directory")
    own = "abuse@domain01.dom"
    directory.run(["samba-tool", "user", "create", "abuse", mail.PASSWORD, f"--mail-address={own}"])
    try:
        answers, token = sent(site, own)
        assert answers[-1].code == 250, answers
        found = site.lab.host("delivery").run(["sh", "-c", f"sleep 2; grep -rl 'X-Token: {token}' /srv/mail"]).stdout
        assert "abuse" in found, found
    finally:
        directory.run(["samba-tool", "user", "delete", "abuse"])


def test_the_relays_own_mail_reaches_the_administrators(site: Applied) -> None:
    token = uuid.uuid4().hex
    site.lab.host("relay").run(["sendmail", "root"], input=f"X-Token: {token}\nSubject: cron\n\nx\n")
    assert copies(site, "delivery", token)


def test_an_alias_leads_to_all_of_its_own(site: Applied) -> None:
    answers, token = sent(site, "sales@DOMAIN01.dom")
    assert answers[-1].code == 250, answers
    assert copies(site, "delivery", token)
    assert copies(site, "outside", token)


def test_what_could_not_be_looked_into_is_refused_where_the_pillar_says_so(site: Applied) -> None:
    answers, _ = sent(site, USER, unscannable())
    assert answers[-1].code == 550, answers


def test_an_alias_that_leads_to_nobody_is_refused(site: Applied) -> None:
    led = {"aliases": {"sales@domain01.dom": ["gone@domain02.dom"]}}
    site.lab.set_pillar(yaml.safe_dump({"smtpout": load("default")["smtpout"] | led}))
    site.apply("an alias to nobody")
    said = site.failed("an alias to nobody")[SITE]
    assert "to <gone@domain02.dom>: RCPT is answered 550" in said, said
    assert "smtpout:aliases" in said, said


def test_an_administrator_who_leaves_is_told(site: Applied) -> None:
    directory = site.lab.host("directory")
    directory.run(["samba-tool", "user", "create", "leaver", mail.PASSWORD, "--mail-address=leaver@domain01.dom"])
    site.lab.set_pillar(changed({"administrators": ["leaver@domain01.dom"]}))
    site.apply("an administrator who leaves")
    directory.run(["samba-tool", "user", "delete", "leaver"])
    assert site.failed("an administrator who leaves") == {}
    (check,) = verify(site.lab, "failed")
    assert check["check"] == "whom aliases lead to is there"
    assert "smtpout:administrators: leaver@domain01.dom is answered 550" in check["seen"]
