"""docs/examples/active-directory.sls as it stands, applied, and each wish tried by who has it. On Debian 12 only."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY

from lab import checks, mail
from lab.conftest import Applied
from lab.host import Host
from lab.test_routes import KEPT, certificates

EXAMPLE = REPOSITORY / "docs/examples/active-directory.sls"
USERS = "cn=users,dc=domain01,dc=dom"
ADMINISTRATOR, WEBMAIL, PRINTER = "usuario01@domain01.dom", "172.16.11.50", "172.16.11.200"
JOHN, OUTSIDE = "john.doe@domain02.dom", "somebody@outside.example"
FORMS = ("jdoe", "jdoe@domain01.dom", JOHN)
SMART_HOST = ("mycompany", "the provider's word")
# Who is there besides the lab's own people: a user with addresses in three domains, a program, a mailbox that several
# look after, somebody who left. The shared one is disabled, as Exchange has them.
PEOPLE = {
    "jdoe": {"mail": JOHN, "proxyAddresses": [f"SMTP:{JOHN}", "smtp:jd@domain03.dom"]},
    "erp": {"mail": "erp@domain01.dom", "proxyAddresses": ["SMTP:erp@domain01.dom"]},
    "info": {"mail": "info@domain01.dom", "proxyAddresses": ["SMTP:info@domain01.dom"], "shared": "4"},
    "left": {"mail": "left@domain01.dom", "proxyAddresses": ["SMTP:left@domain01.dom"], "userAccountControl": "514"},
}
GROUPS = {"team": ("jdoe", "team@domain01.dom"), "mail users": ("team,erp,usuario01,usuario02,left", "")}
MODIFY = ["ldapmodify", "-x", "-H", "ldap://172.16.11.63", "-w", "Adm1n-of-the-lab", "-D"]
RECORDS = """
dc1.domain01.dom. A 172.16.11.63
dc2.domain01.dom. A 172.16.11.64
relay1.domain01.dom. A 172.16.11.95
mx.partner.example. A 198.51.100.11
smarthost.provider.example. A 198.51.100.12
"""


def furnish(directory: Host) -> None:
    """Make the people and groups, and give the directory its second address."""
    directory.run(["sh", "-c", "ip address add 172.16.11.64/24 dev eth0"], check=False)
    for name, entry in PEOPLE.items():
        directory.run(["samba-tool", "user", "create", name, mail.PASSWORD])
        lines = [f"dn: cn={name},{USERS}", "changetype: modify"]
        for attribute, values in entry.items():
            each = [values] if isinstance(values, str) else values
            name_there = "msExchRecipientTypeDetails" if attribute == "shared" else attribute
            lines += [f"replace: {name_there}", *(f"{name_there}: {value}" for value in each), "-"]
        directory.run([*MODIFY, f"cn=administrator,{USERS}"], input="\n".join([*lines, ""]))
    directory.run(["samba-tool", "user", "disable", "info"])
    for name, (members, address) in GROUPS.items():
        directory.run(["samba-tool", "group", "add", name, *([f"--mail-address={address}"] if address else [])])
        directory.run(["samba-tool", "group", "addmembers", name, members])


def unfurnish(directory: Host) -> None:
    """Take them away again."""
    for name in GROUPS:
        directory.run(["samba-tool", "group", "delete", name])
    for name in PEOPLE:
        directory.run(["samba-tool", "user", "delete", name])
    directory.run(["sh", "-c", "ip address delete 172.16.11.64/24 dev eth0"], check=False)


@pytest.fixture(scope="module")
def company(on_bookworm: Applied) -> Iterator[Applied]:
    """Return the relay of the example, with the company around it: directory, partner, provider, name server."""
    lab = on_bookworm.lab
    relay, outside, delivery, directory = (lab.host(name) for name in ("relay", "outside", "delivery", "directory"))
    furnish(directory)
    delivery.run(["postconf", "virtual_mailbox_domains = domain01.dom, domain02.dom, domain03.dom"])
    delivery.run(["postfix", "reload"])
    outside.run(["/usr/local/lib/lab/publish", "-"], input=RECORDS, timeout=30)
    outside.write("/root/partner.py", Path(__file__).with_name("partner.py").read_text(encoding="utf-8"))
    logins = {"mx.partner.example": ("-", "-"), "smarthost.provider.example": SMART_HOST}
    for number, (name, login) in enumerate(logins.items(), 11):
        authority, chain = certificates(name)
        outside.run(["ip", "address", "add", f"198.51.100.{number}/24", "dev", "eth0"], check=False)
        outside.write(f"/root/{name}.pem", chain)
        server = ["python3", "/root/partner.py", f"198.51.100.{number}:587", f"{KEPT}/{name}", f"/root/{name}.pem"]
        outside.run(["systemd-run", "--quiet", f"--unit={name}", *server, *login])
        relay.write(f"/usr/local/share/ca-certificates/{name}.crt", authority, mode="0644")
    own = directory.read("/usr/local/lib/lab/directory-ca.pem")
    relay.write("/usr/local/share/ca-certificates/company.crt", own, mode="0644")
    relay.run(["update-ca-certificates"])
    lab.set_pillar(EXAMPLE.read_text(encoding="utf-8"))
    on_bookworm.apply("company")
    checks.publish_keys(lab)
    yield on_bookworm
    outside.run(["systemctl", "stop", *logins])
    unfurnish(directory)
    delivery.run(["postconf", "virtual_mailbox_domains = domain01.dom, domain02.dom"])
    delivery.run(["postfix", "reload"])


def sent(company: Applied, sender: str, recipient: str, **session: Any) -> Any:
    """Send a message that is taken; return it."""
    message = mail.compose(sender, recipient, session.pop("attachment", None))
    answers = mail.session(company.lab, sender=sender, recipients=[recipient], message=message, **session)
    assert answers[-1].code == 250, answers
    return message


def arrives(company: Applied, host: str, sender: str, recipient: str, **session: Any) -> Any:
    """Send a message, and return it as it arrived."""
    copies = mail.arrived(company.lab.host(host), sent(company, sender, recipient, **session))
    assert len(copies) == 1, copies
    return copies[0]


def code(company: Applied, sender: str, recipient: str, **session: Any) -> int:
    """Return the code that a session up to the recipient ends with."""
    return mail.session(company.lab, sender=sender, recipients=[recipient], **session)[-1].code


def test_it_is_applied_and_once_more_changes_nothing(company: Applied) -> None:
    assert company.failed("company") == {}
    company.apply("company again")
    assert company.failed("company again") == {}
    assert company.changed("company again") == []
    assert checks.verify(company.lab, "failed") == []


@pytest.mark.parametrize("form", FORMS)
def test_a_user_logs_in_with_any_form_and_sends_with_any_own_address(company: Applied, form: str) -> None:
    for sender in (JOHN, "jd@domain03.dom"):
        copy = arrives(company, "outside", sender, OUTSIDE, entry=mail.USERS, user=form)
        assert f"header.d={sender.partition('@')[2]}" in copy["Authentication-Results"]
        assert "dkim=pass" in copy["Authentication-Results"]
    assert code(company, "erp@domain01.dom", OUTSIDE, entry=mail.USERS, user=form) == 553


def test_a_teams_members_write_as_the_team_and_nobody_else(company: Applied) -> None:
    assert code(company, "team@domain01.dom", OUTSIDE, entry=mail.USERS, user="jdoe") == 250
    assert code(company, "team@domain01.dom", OUTSIDE, entry=mail.USERS, user="usuario02") == 553


def test_only_the_groups_members_log_in_and_nobody_who_left(company: Applied) -> None:
    company.lab.host("directory").run(["samba-tool", "user", "create", "apprentice", mail.PASSWORD])
    for user in ("apprentice", "left", "info"):
        answers = mail.session(company.lab, entry=mail.USERS, user=user, sender=JOHN, recipients=[OUTSIDE])
        assert (answers[-1].command, answers[-1].code) == ("AUTH", 535), user
    company.lab.host("directory").run(["samba-tool", "user", "delete", "apprentice"])


@pytest.mark.parametrize(
    ("recipient", "answer"),
    [
        ("jd@domain03.dom", 250), (JOHN, 250), ("team@domain01.dom", 250), ("info@domain01.dom", 250),
        ("left@domain01.dom", 550), ("nobody@domain03.dom", 550), ("jdoe@domain02.dom", 550),
    ],
)  # fmt: skip
def test_addresses_of_people_teams_and_shared_mailboxes_exist_and_no_others(
    company: Applied, recipient: str, answer: int
) -> None:
    assert code(company, "a@outside.example", recipient, address=mail.STRANGER) == answer


def test_webmail_sends_with_all_addresses_to_everybody(company: Applied) -> None:
    copy = arrives(company, "outside", JOHN, OUTSIDE, address=WEBMAIL)
    assert "dkim=pass" in copy["Authentication-Results"]
    assert arrives(company, "delivery", "erp@domain01.dom", "jd@domain03.dom", address=WEBMAIL)


def test_a_printer_sends_as_itself_to_users(company: Applied) -> None:
    assert arrives(company, "delivery", "scanner@domain01.dom", JOHN, address=PRINTER)
    assert code(company, "boss@domain01.dom", JOHN, address=PRINTER) == 554
    assert code(company, "scanner@domain01.dom", OUTSIDE, address=PRINTER) == 554


def test_the_erps_invoices_go_out_as_fast_as_it_sends_them(company: Applied) -> None:
    # Of 20,000 a night one hundred, each in a session of its own: what a limit for strangers would stop first.
    began = time.monotonic()
    for _ in range(100):
        sent(company, "no-reply@domain01.dom", OUTSIDE, entry=mail.USERS, user="erp")
    print(f"100 invoices in {time.monotonic() - began:.1f} s")
    assert code(company, "no-reply@domain01.dom", OUTSIDE, entry=mail.USERS, user="jdoe") == 553


def test_a_users_from_is_the_address_that_is_sent_with(company: Applied) -> None:
    message = mail.compose("boss@domain01.dom", OUTSIDE)
    answers = mail.session(
        company.lab, entry=mail.USERS, user="jdoe", sender=JOHN, recipients=[OUTSIDE], message=message
    )
    assert answers[-1].code == 550, answers


def test_a_login_sends_a_hundred_messages_an_hour_and_no_more(company: Applied) -> None:
    own, codes = "usuario02@domain02.dom", []
    for _ in range(101):
        message = mail.compose(own, OUTSIDE)
        answers = mail.session(
            company.lab, entry=mail.USERS, user="usuario02", sender=own, recipients=[OUTSIDE], message=message
        )
        codes.append(answers[-1].code)
    assert codes == [250] * 100 + [450], answers


def test_a_blocked_sender_reaches_the_postmaster_alone(company: Applied) -> None:
    stranger = {"address": mail.STRANGER}
    assert code(company, "offer@spammer.example", JOHN, **stranger) == 554
    assert code(company, "offer@spammer.example", "postmaster@domain03.dom", **stranger) == 250


@pytest.mark.parametrize(
    ("recipient", "host", "login"),
    [
        ("buyer@partner.example", "mx.partner.example", "-"),
        ("clerk@office.example", "smarthost.provider.example", "mycompany"),
    ],
    ids=["a partner's", "an office's by its smart host"],
)
def test_mail_takes_its_own_way_by_tls(company: Applied, recipient: str, host: str, login: str) -> None:
    message = sent(company, JOHN, recipient, address=WEBMAIL)
    outside, ends = company.lab.host("outside"), time.monotonic() + mail.ARRIVAL
    while not (paths := outside.run(["grep", "-rlF", message["Message-ID"], f"{KEPT}/{host}"], check=False).stdout):
        assert time.monotonic() < ends, "it arrives nowhere"
        time.sleep(0.2)
    text = outside.read(paths.split()[0])
    assert text.startswith(f"{login} TLS ")
    assert "d=domain02.dom" in text


def encrypted() -> bytes:
    """Return an archive whose one file says that it is encrypted (APPNOTE.TXT, 4.4.4)."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("offer.txt", "nobody can read this " * 10)
    made = bytearray(whole.getvalue())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.index(signature) + flags] |= 1
    return bytes(made)


@pytest.mark.parametrize("attachment", [mail.EICAR, encrypted()], ids=["a virus", "an encrypted archive"])
def test_what_is_infected_or_can_not_be_looked_into_is_held(company: Applied, attachment: bytes) -> None:
    relay = company.lab.host("relay")
    message = sent(company, JOHN, OUTSIDE, address=WEBMAIL, attachment=attachment)
    assert mail.arrived(company.lab.host("outside"), message, wait=3) == []
    held = relay.run(["sh", "-c", "for each in $(ls /var/spool/postfix/hold); do postcat -qh $each; done"]).stdout
    assert message["Message-ID"] in held
    relay.run(["postsuper", "-d", "ALL", "hold"])


def test_the_administrators_get_postmasters_mail_of_each_domain(company: Applied) -> None:
    for domain in ("domain01.dom", "domain02.dom", "domain03.dom"):
        copy = arrives(company, "delivery", "a@outside.example", f"postmaster@{domain}", address=mail.STRANGER)
        assert copy["X-Original-To"] or copy["Delivered-To"] == ADMINISTRATOR


def test_an_alias_reaches_all_that_it_names(company: Applied) -> None:
    message = sent(company, "a@outside.example", "sales@domain03.dom", address=mail.STRANGER)
    ends = time.monotonic() + mail.ARRIVAL
    while len(copies := mail.arrived(company.lab.host("delivery"), message)) < 2 and time.monotonic() < ends:
        time.sleep(0.2)
    assert {copy["Delivered-To"] for copy in copies} == {ADMINISTRATOR, "usuario02@domain02.dom"}


def test_one_domain_controller_away_is_no_harm(company: Applied) -> None:
    relay = company.lab.host("relay")
    relay.run(["ip", "route", "add", "unreachable", "172.16.11.63/32"])
    relay.run(["ss", "-K", "dst", "172.16.11.63"], check=False)  # as when its host is shut down: connections end, too
    try:
        assert code(company, JOHN, OUTSIDE, entry=mail.USERS, user="jdoe") == 250
        assert code(company, "a@outside.example", JOHN, address=mail.STRANGER) == 250
        assert code(company, "a@outside.example", "nobody@domain01.dom", address=mail.STRANGER) == 550
        told = {each["check"]: each["seen"] for each in checks.verify(company.lab, "warning")}
        assert any("dc1.domain01.dom" in seen for seen in told.values()), told
        assert checks.verify(company.lab, "failed") == []
    finally:
        relay.run(["ip", "route", "delete", "unreachable", "172.16.11.63/32"])
    assert code(company, JOHN, OUTSIDE, entry=mail.USERS, user="jdoe") == 250
