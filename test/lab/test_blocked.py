"""Who is blocked sends nothing more: by command in sessions that were open before, in every form of a login."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab import mail
from lab.breaking import systemctl
from lab.checks import verify
from lab.conftest import Applied
from lab.lab import CLIENT, Lab
from lab.whole import ASKED, SITE, changed

KEPT = Path(__file__).with_name("smtp_kept.py")
ACCOUNT, ADDRESS = "robado", "robado@domain01.dom"
FORMS = {"account": ACCOUNT, "upn": "principal@domain01.dom", "mail": ADDRESS}
USER, OTHER, OUTSIDE = "usuario01", "usuario01@domain01.dom", "somebody@outside.example"
BY_TLS = mail.Entry(25, "starttls")
DOORS = {"25": BY_TLS, "587": mail.USERS, "465": mail.USERS_OVER_TLS}
BLOCKED = "SASL login name rejected: this account is blocked; ask your administrator"
LOGINS = {"directory": {"login": ["account_name", "upn", "mail"]}}
TABLE = "/var/lib/smtpout/blocked/logins.lmdb"


class Kept:
    """A session that is open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def say(self, line: str) -> mail.Answer:
        """Return what a line is answered."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return self.heard(line)

    def heard(self, command: str) -> mail.Answer:
        """Return the next answer."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        return mail.Answer(command, *json.loads(line)) if line else mail.Answer(command, 0, "closed")

    def up_to_a_recipient(self, sender: str = ADDRESS, recipient: str = OUTSIDE) -> mail.Answer:
        """Begin a message anew and return the first answer that isn't 250, or the recipient's."""
        for line in ("RSET", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
            answer = self.say(line)
            if answer.code != 250:
                return answer
        return answer


@contextlib.contextmanager
def session(lab: Lab, entry: mail.Entry, user: str = "", address: str = mail.STRANGER) -> Iterator[Kept]:
    """Give a session that stays open, logged in where there is a user."""
    given = {"host": mail.RELAY, "port": entry.port, "tls": entry.tls, "user": user, "password": mail.PASSWORD}
    command = lab.client(address).argv([sys.executable, str(KEPT)])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        kept = Kept(process)
        assert process.stdin
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()
        try:
            answer = kept.heard("the login" if user else "EHLO")
            assert answer.code == (235 if user else 250), answer
            yield kept
        finally:
            process.kill()


@pytest.fixture(scope="module")
def site(on_trixie: Applied) -> Iterator[Applied]:
    """Return the relay of pillar.example with logins of three forms, and one whose password is stolen."""
    directory = on_trixie.lab.host("directory")
    directory.run(["samba-tool", "user", "create", ACCOUNT, mail.PASSWORD, f"--mail-address={ADDRESS}"])
    directory.run(["samba-tool", "user", "rename", ACCOUNT, f"--upn={FORMS['upn']}"])
    apply(on_trixie, {})
    yield on_trixie
    directory.run(["samba-tool", "user", "delete", ACCOUNT])


@pytest.fixture
def relay(site: Applied) -> Iterator[Applied]:
    """Return the relay; afterwards nobody is blocked."""
    yield site
    for each in asked(site, "blocked"):
        if "since" in each:
            asked(site, "unblock", each["login"])
    systemctl("start", "postfix@-", host="outside")(site.lab)
    if site.lab.host("relay").read("/srv/pillar/site.sls") != changed(LOGINS):
        apply(site, {})


def apply(applied: Applied, change: dict[str, Any]) -> dict[str, Any]:
    """Apply the site with a change, and return what its state said."""
    applied.lab.set_pillar(changed({**LOGINS, **change}))
    said = applied.apply(str(change))
    assert applied.failed(str(change)) == {}
    return said[SITE]


def asked(applied: Applied, function: str, *arguments: str) -> Any:
    """Return what a function of the module answers."""
    return applied.lab.salt(f"smtpout_account.{function}", *arguments)


def refused(applied: Applied, function: str, *arguments: str) -> str:
    """Return how a function of the module fails."""
    command = [*applied.lab.way.command, f"smtpout_account.{function}", *arguments]
    done = applied.lab.host("relay").run(command, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def once(applied: Applied, user: str, sender: str, entry: mail.Entry = mail.USERS, **more: Any) -> mail.Answer:
    """Return the last answer to somebody who logs in anew and sends up to the recipient."""
    given = {"recipients": [OUTSIDE], "address": mail.STRANGER} | more
    return mail.session(applied.lab, entry=entry, user=user, sender=sender, **given)[-1]


def queued(applied: Applied) -> dict[str, list[str]]:
    """Return the names of the messages in the queue, by sender and queue, as ``robado@domain01.dom hold``."""
    found: dict[str, list[str]] = {}
    for line in applied.lab.host("relay").run(["postqueue", "-j"]).stdout.splitlines():
        message = json.loads(line)
        queue = "hold" if message["queue_name"] == "hold" else "waits"
        found.setdefault(f"{message['sender']} {queue}", []).append(message["queue_id"])
    return found


def wait(applied: Applied, sender: str, count: int) -> list[str]:
    """Send so many messages as somebody, whose nexthop is away, and return their names once they wait."""
    user = ACCOUNT if sender == ADDRESS else USER
    before = queued(applied).get(f"{sender} waits", [])
    for _ in range(count):
        answer = once(applied, user, sender, message=mail.compose(sender, OUTSIDE))
        assert (answer.command, answer.code) == ("DATA", 250), answer
    ends = time.monotonic() + mail.ARRIVAL
    while time.monotonic() < ends:
        new = [each for each in queued(applied).get(f"{sender} waits", []) if each not in before]
        active = applied.lab.host("relay").run(["find", "/var/spool/postfix/active", "-type", "f"]).stdout
        if len(new) == count and not active:
            return new
        time.sleep(0.5)
    raise AssertionError(queued(applied))


@pytest.mark.parametrize("door", DOORS)
def test_a_session_that_was_open_is_refused_at_its_next_recipient_and_taken_again(relay: Applied, door: str) -> None:
    with session(relay.lab, DOORS[door], ACCOUNT) as kept, session(relay.lab, DOORS[door], USER) as other:
        assert kept.up_to_a_recipient().code == 250
        asked(relay, "block", ACCOUNT)
        within = kept.say(f"RCPT TO:<{OUTSIDE}>")
        assert (within.code, BLOCKED in within.text) == (554, True), within
        assert kept.up_to_a_recipient().code == 554
        assert other.up_to_a_recipient(OTHER).code == 250
        assert asked(relay, "unblock", ACCOUNT)["released"] == 0
        assert kept.up_to_a_recipient().code == 250
        asked(relay, "block", ACCOUNT)
        assert kept.up_to_a_recipient().code == 554
    answer = once(relay, ACCOUNT, ADDRESS, DOORS[door])
    assert (answer.command[:4], answer.code) == ("RCPT", 554), "the login itself is taken"


def test_a_message_that_is_under_way_is_refused_at_its_end(relay: Applied) -> None:
    with session(relay.lab, mail.USERS, ACCOUNT) as kept:
        assert kept.up_to_a_recipient().code == 250
        assert kept.say("DATA").code == 354
        asked(relay, "block", ACCOUNT)
        assert kept.say("Subject: late\r\n\r\n.").code == 554
    assert f"{ADDRESS} waits" not in queued(relay)


@pytest.mark.parametrize("form", FORMS)
def test_one_form_blocks_all_in_any_case_of_letters(relay: Applied, form: str) -> None:
    said = asked(relay, "block", FORMS[form].upper(), "reason=phished")
    assert set(said["blocked"]) == set(FORMS.values())
    assert "said" not in said
    typed = [*FORMS.values(), *(each.upper() for each in FORMS.values())]
    assert {each: once(relay, each, ADDRESS).code for each in typed} == dict.fromkeys(typed, 554)
    assert once(relay, USER, OTHER).code == 250
    [known] = asked(relay, "blocked")
    assert (known["reason"], known["days"], set(known["names"])) == ("phished", 0, set(FORMS.values()))
    other = next(each for each in FORMS.values() if each != FORMS[form])
    assert "it was blocked by command before" in str(asked(relay, "block", other)["said"])
    assert len(asked(relay, "blocked")) == 1
    asked(relay, "unblock", other)
    assert {each: once(relay, each, ADDRESS).code for each in typed} == dict.fromkeys(typed, 250)


def test_whom_the_directory_does_not_know_is_blocked_as_given(relay: Applied) -> None:
    said = asked(relay, "block", "gone")
    assert said["blocked"] == ["gone"]
    assert "the directory has nobody of this name" in str(said["said"])
    assert "isn't blocked; blocked by command is gone" in refused(relay, "unblock", ACCOUNT)
    assert "is no login" in refused(relay, "block", "*")


def test_with_the_directory_away_other_forms_are_found_when_it_is_back(relay: Applied) -> None:
    directory = relay.lab.host("directory")
    directory.run(["systemctl", "stop", "samba-ad-dc"])
    try:
        said = asked(relay, "block", FORMS["mail"])
        assert said["blocked"] == [FORMS["mail"]]
        assert "the directory can't be asked" in str(said["said"])
    finally:
        directory.run(["systemctl", "start", "samba-ad-dc"])
        directory.run(["/usr/local/lib/lab/boot.sh", "directory"], timeout=120)
    assert {form: once(relay, each, ADDRESS).code for form, each in FORMS.items()} == dict.fromkeys(FORMS, 554)


def test_what_waits_is_held_and_exactly_that_is_released(relay: Applied) -> None:
    relay_host = relay.lab.host("relay")
    systemctl("stop", "postfix@-", host="outside")(relay.lab)
    own, others = wait(relay, ADDRESS, 4), wait(relay, OTHER, 2)
    relay_host.run(["postsuper", "-h", own[0]])
    relay_host.run(["postsuper", "-h", others[0]])
    assert asked(relay, "block", FORMS["upn"])["held"] == 3
    there = queued(relay)
    assert set(there[f"{ADDRESS} hold"]) == set(own)
    assert there[f"{OTHER} waits"] == others[1:]
    assert asked(relay, "blocked")[0]["held"] == 3
    relay_host.run(["postsuper", "-d", own[1]])
    assert asked(relay, "block", ACCOUNT)["held"] == 0
    assert asked(relay, "unblock", ACCOUNT)["released"] == 2
    there = queued(relay)
    assert there[f"{ADDRESS} hold"] == own[:1], "somebody else held it"
    assert there[f"{OTHER} hold"] == others[:1]
    assert set(there[f"{ADDRESS} waits"]) == set(own[2:])
    for each in (*own[:1], *own[2:], *others):
        relay_host.run(["postsuper", "-d", each])


def test_it_outlives_an_apply_and_a_reboot_and_verify_tells(relay: Applied) -> None:
    asked(relay, "block", ACCOUNT, "reason=phished")
    relay.apply("blocked")
    assert (relay.failed("blocked"), relay.changed("blocked")) == ({}, [])
    relay.lab.host("relay").reboot()
    assert once(relay, ACCOUNT, ADDRESS).code == 554
    seen = {each["check"]: each["seen"] for each in verify(relay.lab, "ok")}
    assert seen["blocked accounts are refused"] == "1 by command, 0 by the pillar"
    assert seen["no block is forgotten"] == f"{ACCOUNT} for 0 days (phished)"
    host = relay.lab.host("relay")
    modes = host.run(["stat", "--format=%a %U", "/var/lib/smtpout/blocked", TABLE, f"{TABLE[:-5]}.json"]).stdout
    assert modes.splitlines() == ["700 root", "600 root", "600 root"]
    [old] = json.loads(host.read("/var/lib/smtpout/blocked/logins.json"))
    host.write("/var/lib/smtpout/blocked/logins.json", json.dumps([{**old, "since": old["since"] - 8 * 86_400}]))
    warned = {each["check"]: each["seen"] for each in verify(relay.lab, "warning")}
    assert warned["no block is forgotten"].startswith(f"{ACCOUNT} for 8 days (phished): unblock")


def test_the_promise_is_asked_of_whom_the_command_blocks(relay: Applied) -> None:
    before = relay.lab.salt("smtpout.promises")
    assert "blocked_are_refused" not in {each["promise"] for each in before}
    asked(relay, "block", USER)  # the first user whom promises would be asked as
    after = {each["promise"]: each["state"] for each in relay.lab.salt("smtpout.promises")}
    assert after["blocked_are_refused"] == "kept"
    assert set(after.values()) == {"kept"}, after
    own = {"postfix": {"main": {"smtpd_recipient_restrictions": "permit_mynetworks, permit_sasl_authenticated"}}}
    relay.lab.set_pillar(changed({**LOGINS, **own}))
    relay.apply("hidden")
    assert "Nothing is taken of whom the site blocks" in relay.failed("hidden")[SITE]
    assert once(relay, USER, OTHER).code == 554


def test_where_the_site_hides_it_the_command_says_so(relay: Applied) -> None:
    own = {"smtpd_recipient_restrictions": "permit_mynetworks, permit_sasl_authenticated"}
    apply(relay, {"postfix": {"main": own}})
    assert "nobody can be blocked by command on" in str(verify(relay.lab, "warning"))
    assert "takes its mail all the same" in refused(relay, "block", ACCOUNT)
    assert "takes their mail" in str(verify(relay.lab, "failed"))


def test_a_broken_table_lets_nobody_pass_who_logs_in_and_an_apply_mends_it(relay: Applied) -> None:
    host = relay.lab.host("relay")
    asked(relay, "block", ACCOUNT)
    host.run(["dd", "if=/dev/urandom", f"of={TABLE}.new", "bs=4096", "count=8", "status=none"])
    host.run(["mv", f"{TABLE}.new", TABLE])
    try:
        assert (once(relay, ACCOUNT, ADDRESS).code, once(relay, USER, OTHER).code) == (451, 451)
        assert "apply makes it anew" in refused(relay, "block", "another")
        assert mail.session(relay.lab, sender="", recipients=[OTHER])[-1].code == 250, "who doesn't log in goes on"
        assert "is unreadable" in str(verify(relay.lab, "failed"))
        host.run(["rm", TABLE])
        relay.apply("test", test=True)
        assert relay.failed("test") == {}
        assert relay.touched["test"] == []
        changes = relay.runs["test"]["Postfix runs the site's configuration"]["changes"]
        assert changes["blocked accounts"] == {"old": "missing", "new": "as it was blocked by command"}
    finally:
        relay.apply("mended")
    assert relay.failed("mended") == {}
    assert (once(relay, ACCOUNT, ADDRESS).code, once(relay, USER, OTHER).code) == (554, 250)
    relay.apply("again")
    assert relay.changed("again") == []


def test_who_blocks_at_once_waits_for_the_other(relay: Applied) -> None:
    names = [ACCOUNT, USER, "gone"]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda each: asked(relay, "block", each), names))
    assert {each["login"] for each in asked(relay, "blocked")} == set(names)
    assert {once(relay, ACCOUNT, ADDRESS).code, once(relay, USER, OTHER).code} == {554}


def test_whom_the_pillar_blocks_is_refused_in_sessions_that_were_open_too(relay: Applied) -> None:
    sender, recipient, client = "noisy@partner.example", "drop@phisher.example", "172.16.11.61"
    given = {"logins": [FORMS["mail"].upper()], "senders": [sender, "@bad.example"], "recipients": [recipient],
             "clients": [client]}  # fmt: skip
    with (
        session(relay.lab, mail.USERS, ACCOUNT) as user,
        session(relay.lab, mail.SERVERS, address=CLIENT) as server,
        session(relay.lab, mail.SERVERS, address=client) as blocked,
    ):
        for each in (user.up_to_a_recipient(), blocked.up_to_a_recipient(""), server.up_to_a_recipient(sender)):
            assert each.code == 250
        said = apply(relay, {"blocked": given})
        assert f"kept {ASKED + 1} promises" in said["comment"], said
        assert {each.up_to_a_recipient("").code for each in (user, server, blocked)} <= {0, 421}, "Postfix restarted"
    for typed in FORMS.values():
        answer = once(relay, typed, ADDRESS)
        assert (answer.code, BLOCKED in answer.text) == (554, True), answer

    def by_a_server(sender: str, recipient: str, address: str = CLIENT) -> int:
        return mail.session(relay.lab, address=address, sender=sender, recipients=[recipient])[-1].code

    assert by_a_server(sender, OUTSIDE) == by_a_server("x@bad.example", OTHER) == by_a_server("", recipient) == 554
    assert by_a_server(OTHER, OUTSIDE, client) == 554
    assert by_a_server(sender, "postmaster@domain02.dom") == by_a_server("", "postmaster", client) == 250
    assert by_a_server(OTHER, OUTSIDE) == 250
    assert once(relay, USER, OTHER, recipients=[recipient]).code == 554
    assert "is blocked by smtpout:blocked:logins alone" in refused(relay, "unblock", ACCOUNT)
    assert "smtpout:blocked:logins has it, too" in str(asked(relay, "block", ACCOUNT)["said"])
    assert "it is still blocked by smtpout:blocked:logins" in str(asked(relay, "unblock", FORMS["upn"])["said"])
    assert once(relay, ACCOUNT, ADDRESS).code == 554
    apply(relay, {})
    assert (once(relay, ACCOUNT, ADDRESS).code, by_a_server(sender, OUTSIDE)) == (250, 250)
