"""A login that sends more than the pillar lets it is put off, by any of its names; no mail waits for what counts it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import mail, raw
from lab.breaking import killed, systemctl
from lab.checks import verify
from lab.conftest import Applied
from lab.host import Host
from lab.whole import ASKED, SITE, changed

UNIT = "smtpout-policy"
CHECK = "what logins send is counted"
STATE = "/var/lib/smtpout-policy/counts.json"
USER, UPN, OTHER = "usuario01", "usuario01@domain01.dom", "usuario02"
OUTSIDE = "somebody@outside.example"
# Of a day: an hour may end while a test runs.
LIMITS: dict[str, Any] = {
    "messages": {"day": 3},
    "recipients": {"day": 5},
    "exceptions": {"USUARIO02@domain02.dom": {}},
}
KEYS: dict[str, Any] = {
    "limits": LIMITS,
    "directory": {"login": ["account_name", "mail"]},
    "administrators": ["usuario02@domain02.dom"],
}


@pytest.fixture(scope="module")
def limited(on_bookworm: Applied) -> Applied:
    """Return the relay of pillar.example with limits."""
    on_bookworm.lab.set_pillar(changed(KEYS))
    said = on_bookworm.apply("limits")
    assert on_bookworm.failed("limits") == {}
    assert f"A trial of it kept {ASKED + 1} promises." in said[SITE]["comment"]
    on_bookworm.apply("limits again")
    assert on_bookworm.changed("limits again") == []
    return on_bookworm


@pytest.fixture(autouse=True)
def nothing_sent(limited: Applied) -> Iterator[None]:
    """Have nobody have sent anything; afterwards the service runs."""
    relay = limited.lab.host("relay")
    forget(relay)
    yield
    relay.run(["systemctl", "reset-failed", f"{UNIT}.service"], check=False)
    relay.run(["systemctl", "start", f"{UNIT}.socket", f"{UNIT}.service"])


def forget(relay: Host) -> None:
    """Begin to count anew."""
    relay.run(["sh", "-c", f"systemctl stop {UNIT}.service; rm -rf {STATE}*; systemctl start {UNIT}.service"])


def sends(limited: Applied, login: str = USER, recipients: int = 1, entry: mail.Entry = mail.USERS) -> mail.Answer:
    """Return the last answer to a user's message."""
    name = login.partition("@")[0].lower()
    sender = {USER: UPN, OTHER: f"{OTHER}@domain02.dom"}[name]
    answers = mail.session(
        limited.lab, address=mail.STRANGER, entry=entry, user=login, sender=sender,
        recipients=[f"somebody{number}@outside.example" for number in range(recipients)],
        message=mail.compose(sender, OUTSIDE),
    )  # fmt: skip
    return answers[-1]


def seen(limited: Applied) -> tuple[str, str]:
    """Return what verify says of the service: the state, and what was seen."""
    [said] = [each for each in verify(limited.lab, "ok", "warning", "failed") if each["check"] == CHECK]
    return said["state"], said["seen"]


def test_who_has_sent_enough_is_put_off_until_the_day_ends_and_others_are_not(limited: Applied) -> None:
    relay = limited.lab.host("relay")
    began = relay.run(["date", "+@%s"]).stdout.strip()
    assert [sends(limited).code for _ in range(3)] == [250] * 3
    answer = sends(limited)
    assert (answer.command, answer.code) == ("DATA", 450)
    assert "4.7.1 <usuario01>: SASL login name rejected: this login has had 3 of 3 messages today; it" in answer.text
    assert [sends(limited, f"{OTHER}@domain02.dom").code for _ in range(5)] == [250] * 5
    for entry in (mail.USERS_OVER_TLS, mail.Entry(25, "starttls")):
        assert sends(limited, entry=entry).code == 450
    journal = relay.run(["journalctl", "--no-pager", "--output=cat", f"--since={began}", f"--unit={UNIT}"]).stdout
    assert (
        journal.count("over the limit: login=usuario01 account=usuario01 client=198.51.100.66 messages day 3 of 3") == 3
    )
    assert seen(limited) == ("ok", "1 accounts have sent today, 1 of them more than they may")


def test_servers_of_the_site_are_not_counted(limited: Applied) -> None:
    for _ in range(6):
        message = mail.compose("app@domain01.dom", OUTSIDE)
        answers = mail.session(limited.lab, sender="app@domain01.dom", recipients=[OUTSIDE], message=message)
        assert answers[-1].code == 250, answers
    assert seen(limited)[1].startswith("0 accounts")


def test_recipients_that_are_taken_are_counted(limited: Applied) -> None:
    assert sends(limited, recipients=4).code == 250
    answer = sends(limited, recipients=2)
    assert (answer.code, "had 4 of 5 recipients today, and this message has 2;" in answer.text) == (450, True)
    assert sends(limited, recipients=1).code == 250
    assert ": send it in parts" in sends(limited, recipients=6).text


def test_a_message_in_chunks_is_one(limited: Applied) -> None:
    plain = base64.b64encode(f"\0{USER}\0{mail.PASSWORD}".encode()).decode()
    text = raw.wire(mail.compose(UPN, OUTSIDE))
    envelope = (f"MAIL FROM:<{UPN}>", f"RCPT TO:<{OUTSIDE}>")
    chunks = (
        raw.Step(f"BDAT {len(text)}\r\n{text}", replies=1),
        raw.Step(f"BDAT {len(text)} LAST\r\n{text}", replies=1),
    )
    replies = raw.session(
        limited.lab, mail.STRANGER,
        "EHLO client.example", f"AUTH PLAIN {plain}", *(3 * (*envelope, *chunks)), *envelope, chunks[0],
        entry=mail.USERS,
    )  # fmt: skip
    assert [reply.code for reply in replies] == [250, 235, *(3 * [250] * 4), 250, 250, 450], replies
    assert sends(limited).code == 450


def test_all_names_of_an_account_are_one(limited: Applied) -> None:
    assert [sends(limited, login).code for login in (USER, UPN, USER.upper())] == [250] * 3
    assert [sends(limited, login).code for login in (USER, UPN.upper())] == [450] * 2
    time.sleep(6)  # until they are saved
    names = json.loads(limited.lab.host("relay").read(STATE))["counts"]
    assert names.keys() <= {USER}


def test_administrators_are_told_once(limited: Applied) -> None:
    delivery = limited.lab.host("delivery")
    subject = "Subject: usuario01 sends more messages today than it may"
    count = f"grep -rlF '{subject}' /srv/mail | grep -c /new/"

    def told() -> int:
        return int(delivery.run(["sh", "-c", count], check=False).stdout)

    before = told()
    assert [sends(limited).code for _ in range(5)] == [250, 250, 250, 450, 450]
    ends = time.monotonic() + 20
    while told() == before and time.monotonic() < ends:
        time.sleep(0.2)
    time.sleep(1)
    assert told() == before + 1


@pytest.mark.parametrize("how", [systemctl("restart", f"{UNIT}.service"), killed(UNIT)], ids=["restarted", "killed"])
def test_what_was_counted_outlives_the_service(limited: Applied, how: Callable[[Any], object]) -> None:
    assert [sends(limited).code for _ in range(3)] == [250] * 3
    time.sleep(6)  # what is killed saves nothing
    how(limited.lab)
    assert sends(limited).code == 450


def test_a_changed_limit_is_taken_over_by_a_reload_and_counts_what_was_sent(limited: Applied) -> None:
    relay, shown = limited.lab.host("relay"), ["systemctl", "show", "--value", "--property=MainPID", UNIT]
    before = relay.run(shown).stdout
    assert [sends(limited).code for _ in range(4)] == [250, 250, 250, 450]
    limited.lab.set_pillar(changed({**KEYS, "limits": {**LIMITS, "messages": {"day": 4}}}))
    said = limited.apply("more")
    assert limited.failed("more") == {}
    assert said["What logins send is counted"]["changes"]["service"] == "reloaded"
    assert relay.run(shown).stdout == before
    assert [sends(limited).code for _ in range(2)] == [250, 450]
    limited.lab.set_pillar(changed(KEYS))
    limited.apply("as many as before")
    assert seen(limited)[0] == "ok"


def seconds_of(work: Callable[[], mail.Answer]) -> tuple[int, float]:
    """Return the code of an answer, and how long it took."""
    began = time.monotonic()
    return work().code, time.monotonic() - began


def test_where_nobody_counts_mail_passes_at_once_and_that_is_told(limited: Applied) -> None:
    usual = min(seconds_of(lambda: sends(limited, f"{OTHER}@domain02.dom"))[1] for _ in range(3))
    systemctl("stop", f"{UNIT}.socket", f"{UNIT}.service")(limited.lab)
    for _ in range(4):
        code, seconds = seconds_of(lambda: sends(limited))
        assert (code, seconds < usual + 1) == (250, True), seconds
    state, said = seen(limited)
    assert (state, "mail passes uncounted" in said) == ("failed", True)


def test_one_that_hangs_costs_two_seconds_and_is_started_again(limited: Applied) -> None:
    relay = limited.lab.host("relay")
    usual = min(seconds_of(lambda: sends(limited, f"{OTHER}@domain02.dom"))[1] for _ in range(3))
    relay.run(["systemctl", "kill", "--signal=STOP", f"{UNIT}.service"])
    code, seconds = seconds_of(lambda: sends(limited))
    assert (code, seconds < usual + 3) == (250, True), seconds
    assert seen(limited)[0] == "failed"
    ends = time.monotonic() + 20
    while seen(limited)[0] != "ok":
        assert time.monotonic() < ends, "the watchdog doesn't start it again"
    assert sends(limited).code == 250


def test_counts_that_can_not_be_read_or_written_keep_no_mail_back(limited: Applied) -> None:
    relay = limited.lab.host("relay")
    relay.run(["sh", "-c", f"systemctl stop {UNIT}.service; echo no counts >{STATE}; systemctl start {UNIT}.service"])
    assert sends(limited).code == 250
    state, said = seen(limited)
    assert (state, "could not be read" in said) == ("warning", True), said
    forget(relay)
    relay.run(["mkdir", f"{STATE}.new"])
    assert sends(limited).code == 250
    time.sleep(6)
    state, said = seen(limited)
    assert (state, "can't be written" in said) == ("warning", True), said


def test_only_postfix_can_ask_and_only_the_service_reads_what_it_keeps(limited: Applied) -> None:
    relay = limited.lab.host("relay")
    shown = relay.run(["stat", "--format=%a %U", "/run/smtpout-policy.sock", "/etc/smtpout/accounts.ldap"]).stdout
    assert shown.splitlines() == ["600 postfix", "600 root"]
    assert sends(limited).code == 250
    time.sleep(6)
    assert relay.run(["stat", "-L", "--format=%a", STATE]).stdout.strip() == "600"
    assert relay.run(["runuser", "-u", "postfix", "--", "cat", STATE], check=False).returncode != 0


def test_a_site_that_limits_nobody_any_more_has_nothing_of_it(limited: Applied) -> None:
    relay = limited.lab.host("relay")
    limited.lab.set_pillar(changed({}))
    limited.apply("unlimited")
    assert limited.failed("unlimited") == {}
    left = "ls -d /etc/smtpout/[la]*.[jl]* /etc/systemd/system/smtpout-policy.* /run/smtpout-policy*"
    assert relay.run(["sh", "-c", left], check=False).stdout == ""
    assert relay.run(["systemctl", "is-active", f"{UNIT}.service"], check=False).stdout.strip() == "inactive"
    assert [sends(limited).code for _ in range(4)] == [250] * 4
    limited.lab.set_pillar(changed(KEYS))
    limited.apply("limited again")
    assert limited.failed("limited again") == {}
