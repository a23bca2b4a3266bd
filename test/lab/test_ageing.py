"""What ends, fills or piles up by itself is told by verify while there is time, and fails nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from smtpout_core.daemons.postfix import certificate

from lab.checks import publish_keys, salt, verify
from lab.conftest import Applied
from lab.host import Host
from lab.whole import changed

SERVED = "/etc/postfix/tls/self-made.pem"
DEAD_END = "somebody@[198.51.100.77]"


@pytest.fixture
def relay(on_bookworm: Applied) -> Iterator[Host]:
    """Return the relay's host; afterwards its certificate, its queue, its aliases and the pillar are as before."""
    relay = on_bookworm.lab.host("relay")
    relay.run(["cp", "-p", SERVED, "/root/served.pem"])
    publish_keys(on_bookworm.lab)
    yield relay
    relay.run(["cp", "-p", "/root/served.pem", SERVED])
    relay.run(["systemctl", "reload", "postfix"])
    relay.run(["postsuper", "-d", "ALL"])
    relay.run(["rm", "-f", "/var/mail/root"])
    on_bookworm.lab.set_pillar(changed({}))
    assert warned(on_bookworm) == {}


def warned(applied: Applied, **thresholds: int) -> dict[str, str]:
    """Return what verify warns of with these thresholds, of what it warns of in time; nothing has failed."""
    applied.lab.set_pillar(changed({"warnings": thresholds}))
    assert verify(applied.lab, "failed") == []
    return {
        each["check"]: each["seen"]
        for each in verify(applied.lab, "warning")
        if each["check"] != "passwords are encrypted on their way to the directory"
    }


def test_a_certificate_that_ends_has_another_name_or_can_be_read_by_everybody_is_told(
    on_bookworm: Applied, relay: Host
) -> None:
    relay.write(SERVED, certificate.self_signed("another.dom", days=9).decode(), mode="0644")
    relay.run(["systemctl", "reload", "postfix"])
    ends = f"{SERVED} ends on "
    told = warned(on_bookworm)
    assert told.pop("the certificate is good for 30 days").startswith(ends)
    assert told.pop("the certificate has the relay's name").startswith(
        f"{SERVED} is for another.dom, and the relay is "
    )
    assert told.pop("the certificate's key is for the relay alone").startswith(f"{SERVED} has mode 0644: everybody")
    assert told == {}
    assert not any("is good for" in sentence for sentence in warned(on_bookworm, certificate_days=8))
    relay.write(SERVED, certificate.self_signed("another.dom", days=0).decode())
    assert f"{SERVED} ended on " in warned(on_bookworm)["the certificate is good for 30 days"]


def test_a_certificate_that_postfix_can_not_use_is_seen_by_the_users_ports(on_bookworm: Applied, relay: Host) -> None:
    relay.write(SERVED, "no certificate")
    relay.run(["systemctl", "reload", "postfix"])
    failed = {each["check"]: each["seen"] for each in verify(on_bookworm.lab, "failed")}
    assert "does not answer as a mail server: 454 " in failed["users are served on port 587"]
    assert "does not answer as a mail server: " in failed["users are served on port 465"]
    assert "does not answer as a mail server: 454 " in failed["servers get TLS on port 25"]


def test_mail_that_waits_grows_old_or_is_held_is_told(on_bookworm: Applied, relay: Host) -> None:
    relay.run(["sendmail", "-f", "", DEAD_END], input="Subject: waits\n\nwaits\n")
    ends = time.monotonic() + 30
    while "mail leaves the relay" not in (told := warned(on_bookworm)) and time.monotonic() < ends:
        time.sleep(0.5)
    assert told.keys() == {"mail leaves the relay"}
    assert "1 recipients wait to be tried again, 1 of them: " in told["mail leaves the relay"]
    # The second that a message came in stands in its own file.
    now = int(relay.run(["date", "+%s"]).stdout) // 100_000
    older = ["sed", "-i", f"s/{now}/{now - 1}/", "{}", "+"]
    relay.run(["find", "/var/spool/postfix/deferred", "-type", "f", "-exec", *older])
    assert "no message waits for long" in warned(on_bookworm)
    assert "no message waits for long" not in warned(on_bookworm, oldest_hours=30)
    relay.run(["postsuper", "-h", "ALL"])
    told = warned(on_bookworm)
    assert told.keys() == {"no message is held and forgotten"}
    assert told["no message is held and forgotten"].startswith("1 held in the queue, which stay until somebody lets")
    assert warned(on_bookworm, held=1) == {}
    assert warned(on_bookworm, held=1, queue=0).keys() == {"mail leaves the relay"}


def test_a_disk_without_room_to_spare_is_told(on_bookworm: Applied, relay: Host) -> None:
    relay.run(["true"])
    told = warned(on_bookworm, disk=99)
    assert told.keys() == {"the disks have room to spare"}
    assert "% free; full, it stops mail" in told["the disks have room to spare"]


def test_mail_to_root_that_nobody_reads_is_told_until_somebody_is_named(on_bookworm: Applied, relay: Host) -> None:
    relay.run(["sendmail", "root"], input="Subject: of today\n\nof today\n")
    relay.run(["sh", "-euc", "for try in $(seq 50); do test -s /var/mail/root && exit; sleep 0.1; done; exit 1"])
    assert warned(on_bookworm) == {}
    old = "From cron@relay  Mon Nov  2 09:00:00 2026\nSubject: old\n\nold\n\n"
    relay.write("/var/mail/root", old + relay.read("/var/mail/root"))
    told = warned(on_bookworm)
    assert told.keys() == {"somebody reads root's mail"}
    assert "/var/mail/root has some from " in told["somebody reads root's mail"]
    relay.run(["cp", "-p", "/etc/aliases", "/root/aliases"])
    try:
        relay.run(["sh", "-euc", "echo 'root: usuario01@domain01.dom' >> /etc/aliases && newaliases"])
        assert warned(on_bookworm) == {}
    finally:
        relay.run(["sh", "-euc", "cp -p /root/aliases /etc/aliases && newaliases"])


def test_a_record_with_another_key_than_the_one_that_signs_is_told(on_bookworm: Applied, relay: Host) -> None:
    relay.run(["true"])
    sentence = "receivers find the keys that mail is signed with"
    record = salt(on_bookworm.lab, "opendkim.public_records").replace("domain02.dom", "domain03.dom")
    record = record.replace("domain01.dom", "domain02.dom")
    on_bookworm.lab.host("outside").run(["/usr/local/lib/lab/publish", "-"], input=record + "\n")
    try:
        told = warned(on_bookworm)
    finally:
        publish_keys(on_bookworm.lab)
    assert told.keys() == {sentence}
    key = "/etc/opendkim/keys/domain02.dom.default.private"
    assert told[sentence].startswith(f"default._domainkey.domain02.dom.: DNS has another key than {key}\n")
