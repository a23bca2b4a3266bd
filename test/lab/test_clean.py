"""smtpout.clean undoes what was made, and loses neither mail nor keys unless the pillar says so."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import PILLARS

from lab import mail
from lab.conftest import Applied, Relay
from lab.host import Host

# A server of the site that sends without a pause for so many seconds, and prints how many messages were taken.
SENDER = """
import smtplib, sys, time
ends, taken = time.time() + float(sys.argv[1]), 0
while time.time() < ends:
    try:
        with smtplib.SMTP("172.16.11.95", timeout=10) as server:
            while time.time() < ends:
                server.sendmail("app@domain01.dom", "usuario01@domain01.dom", "Subject: hello\\n\\nhello\\n")
                taken += 1
    except (OSError, smtplib.SMTPException):
        time.sleep(0.05)
print(taken)
"""
QUEUED = "find /var/spool/postfix/maildrop /var/spool/postfix/[adhi]* -type f ! -path '*/defer/*' | wc -l"

KEYS = ["/etc/opendkim/keys/domain01.dom.default.private", "/etc/opendkim/keys/domain02.dom.default.private"]


@pytest.fixture
def with_mail_waiting(relay_of: Relay) -> Iterator[Applied]:
    """Return a relay with a message in its queue that can't be delivered yet; afterwards it is applied again."""
    applied = relay_of("default")
    relay = applied.lab.host("relay")
    applied.lab.host("delivery").run(["systemctl", "stop", "postfix@-"])
    recipient = "usuario01@domain01.dom"
    answers = mail.session(
        applied.lab,
        sender="app@domain01.dom",
        recipients=[recipient],
        message=mail.compose("app@domain01.dom", recipient),
    )
    assert answers[-1].code == 250, answers
    try:
        yield applied
    finally:
        applied.lab.host("delivery").run(["systemctl", "start", "postfix@-"])
        applied.lab.set_pillar(PILLARS["default"].read_text(encoding="utf-8"))
        applied.apply("after clean")
        assert applied.failed("after clean") == {}
        relay.run(["postqueue", "-f"])


def there(host: Host, path: str) -> bool:
    """Tell whether a file is there."""
    return host.run(["test", "-e", path], check=False).returncode == 0


@contextmanager
def sending(applied: Applied, seconds: int) -> Iterator[list[int]]:
    """Send all the while; at the end the list holds how many messages were taken."""
    taken: list[int] = []

    def send() -> None:
        argv = [sys.executable, "-c", SENDER, str(seconds)]
        taken.append(int(applied.lab.client().run(argv, timeout=seconds + 60).stdout))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield taken
    finally:
        thread.join()


@pytest.mark.timeout(300)
def test_clean_strands_nothing_of_what_comes_while_it_looks(with_mail_waiting: Applied) -> None:
    applied = with_mail_waiting
    relay = applied.lab.host("relay")
    pillar = PILLARS["default"].read_text(encoding="utf-8")
    applied.lab.set_pillar(pillar + "\n  clean:\n    delete_queued_mail: true\n")
    with sending(applied, 15) as taken:
        applied.apply("clean under load", sls="smtpout.clean")
    assert applied.failed("clean under load") == {}
    assert taken[0] > 0
    assert relay.run(["systemctl", "is-active", "postfix@-"], check=False).stdout.strip() == "inactive"
    assert relay.run(["sh", "-c", QUEUED]).stdout.strip() == "0"
    assert "master_service_disable" not in relay.read("/etc/postfix/main.cf")
    applied.apply("clean under load again", sls="smtpout.clean")
    assert applied.changed("clean under load again") == []


@pytest.mark.timeout(300)
def test_clean_refuses_while_mail_waits_then_undoes_all_but_keys(with_mail_waiting: Applied) -> None:
    applied = with_mail_waiting
    relay = applied.lab.host("relay")

    applied.apply("refused", sls="smtpout.clean")
    assert next(iter(applied.failed("refused"))) == "No mail is lost with the queue"
    assert "1 message waits" in applied.failed("refused")["No mail is lost with the queue"]
    assert applied.changed("refused") == []
    assert relay.run(["systemctl", "is-active", "postfix"]).stdout.strip() == "active"

    pillar = PILLARS["default"].read_text(encoding="utf-8")
    applied.lab.set_pillar(pillar + "\n  clean:\n    delete_queued_mail: true\n")
    applied.apply("clean, predicted", sls="smtpout.clean", test=True)
    assert applied.touched["clean, predicted"] == []
    applied.apply("clean", sls="smtpout.clean")
    assert applied.failed("clean") == {}
    assert applied.changed("clean, predicted") == applied.changed("clean")
    for path in ("/etc/postfix/people-mycompany.ldap", "/etc/saslauthd.conf", "/etc/postfix/main.cf.ORG"):
        assert not there(relay, path), path
    assert "Managed by smtpout" not in relay.read("/etc/postfix/main.cf")
    assert "Managed by smtpout" not in relay.read("/etc/opendkim.conf")
    for unit in ("postfix", "saslauthd", "clamav-milter", "opendkim"):
        assert relay.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "inactive", unit
    assert all(there(relay, key) for key in KEYS)

    applied.apply("clean again", sls="smtpout.clean")
    assert applied.failed("clean again") == {}
    assert applied.changed("clean again") == []
