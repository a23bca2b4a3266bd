"""A relay is drained while clients come, changed meanwhile, emptied into another server, and serves again.

On Debian 12; and another queue, whose relay has died, is taken over.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import mail
from lab.breaking import systemctl
from lab.checks import verify
from lab.conftest import Applied
from lab.lab import CLIENT
from lab.whole import changed

SENDER, HERE, OUTSIDE = "app@domain01.dom", "usuario01@domain01.dom", "somebody@outside.example"
SIBLING, KEPT = "[172.16.11.96]:2525", "/srv/sibling"
DEAD = "/srv/dead"
SESSIONS = """
import json, smtplib, sys, time
while True:
    client = smtplib.SMTP(timeout=30)
    try:
        code, text = client.connect(sys.argv[1], 25)
    except (OSError, smtplib.SMTPException):  # while it boots
        print(json.dumps(["no connection", 0]), flush=True)
        time.sleep(0.3)
        continue
    with client:
        said = ["greeting", code]
        if code == 220:
            client.ehlo("client.example")
            for word, rest in (("MAIL", "FROM:<%s>" % sys.argv[2]), ("RCPT", "TO:<%s>" % sys.argv[3]), ("DATA", "")):
                said = [word, client.docmd(word, rest)[0]]
            client.send("Subject: trickle\\r\\n\\r\\nOne line.\\r\\n.\\r\\n")
            said = ["the message", client.getreply()[0]]
    print(json.dumps(said), flush=True)
    time.sleep(0.3)
"""


def asked(applied: Applied, function: str, *arguments: str, check: bool = True) -> Any:
    """Return what a function of the module answers."""
    return applied.lab.salt(f"smtpout_drain.{function}", *arguments, check=check)


@contextlib.contextmanager
def trickle(applied: Applied) -> Iterator[Counter[tuple[str, int]]]:
    """Have a server of the site's send, one session after the other; afterwards the last answer of each is counted."""
    seen: Counter[tuple[str, int]] = Counter()
    argv = [sys.executable, "-c", SESSIONS, mail.RELAY, SENDER, HERE]
    command = applied.lab.client(CLIENT).argv(argv)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield seen
        finally:
            process.terminate()
            output, said = process.communicate()
    assert said == ""
    seen.update(tuple(json.loads(line)) for line in output.splitlines())


def greeting(applied: Applied, entry: mail.Entry = mail.SERVERS) -> mail.Answer:
    """Return what a stranger is greeted with."""
    return mail.session(applied.lab, address=mail.STRANGER, entry=entry)[0]


def deferred(applied: Applied, count: int) -> list[str]:
    """Send messages to outside, where nobody takes them, and return their Message-IDs once all of them wait."""
    made = [mail.compose(SENDER, OUTSIDE) for _ in range(count)]
    for message in made:
        answers = mail.session(applied.lab, sender=SENDER, recipients=[OUTSIDE], message=message)
        assert answers[-1].code == 250, answers
    ends = time.monotonic() + mail.ARRIVAL
    look = ["find", "/var/spool/postfix/deferred", "-type", "f"]
    while len(applied.lab.host("relay").run(look).stdout.split()) < count:
        assert time.monotonic() < ends
        time.sleep(0.2)
    return [message["Message-ID"] for message in made]


def copies(applied: Applied, host: str, folder: str, names: list[str]) -> list[int]:
    """Return how often messages are in a folder of a host's, each by its Message-ID."""
    return [
        len(applied.lab.host(host).run(["grep", "-rlF", each, folder], check=False).stdout.split()) for each in names
    ]


@pytest.fixture
def relay(on_bookworm: Applied) -> Iterator[Applied]:
    """Return the relay while outside nobody takes mail, and another server would take all of it."""
    lab = on_bookworm.lab
    delivery = lab.host("delivery")
    delivery.write("/root/partner.py", Path(__file__).with_name("partner.py").read_text(encoding="utf-8"))
    delivery.run(
        ["systemd-run", "--quiet", "--unit=sibling", "python3", "/root/partner.py", "2525", KEPT, "-", "-", "-"]
    )
    systemctl("stop", "postfix@-", host="outside")(lab)
    yield on_bookworm
    systemctl("start", "postfix@-", host="outside")(lab)
    delivery.run(["systemctl", "stop", "sibling"])
    if "drained.json" in lab.host("relay").run(["ls", "/var/lib/smtpout/drain"], check=False).stdout:
        asked(on_bookworm, "ready", "force=True")


@pytest.mark.timeout(300)
def test_a_relay_is_drained_changed_emptied_and_serves_again_and_no_session_fails(relay: Applied) -> None:
    lab, host = relay.lab, relay.lab.host("relay")
    waiting = deferred(relay, 3)
    held = host.run(["sh", "-c", "postqueue -j | head -1"]).stdout
    host.run(["postsuper", "-h", json.loads(held)["queue_id"]])
    with trickle(relay) as seen:
        time.sleep(2)
        assert asked(relay, "start", "reason=a new kernel")["drained"]["reason"] == "a new kernel"
        for entry in (mail.SERVERS, mail.USERS, mail.USERS_OVER_TLS):
            answer = greeting(relay, entry)
            assert answer.code == 421, answer
            assert answer.text.endswith("this relay is being maintained; try again later, or another one")
        # An apply changes what it has to, and nothing else.
        lab.set_pillar(changed({"postfix": {"main": {"smtpd_soft_error_limit": 9}}}))
        said = relay.apply("drained")["Postfix runs the site's configuration"]
        assert relay.failed("drained") == {}
        assert set(said["changes"]) == {"/etc/postfix/main.cf", "service"}
        assert re.match(
            r"the relay is drained since .* by root \(a new kernel\): new sessions get 421", said["warnings"][0]
        )
        relay.apply("drained again")
        assert relay.changed("drained again") == []
        assert greeting(relay).code == 421
        found = {each["check"]: each["state"] for each in verify(lab, "failed", "warning")}
        assert ("failed" in found.values(), found["new sessions are taken"]) == (False, "warning")
        left = asked(relay, "finish", "seconds=3", check=False)
        assert (left["empty"], left["sessions"], left["queue"]["deferred"], left["held"]["others"]) == (False, 0, 2, 1)
        # What programs on the relay send is still taken.
        host.run(["sendmail", HERE], input="Subject: local\n\nOne line.\n")
        found = asked(relay, "hand_over", SIBLING)
        assert (found["empty"], found["held"]["others"], found["queue"]["deferred"]) == (True, 1, 0)
        assert sum(copies(relay, "delivery", KEPT, waiting)) == 2
        host.reboot()
        assert greeting(relay).code == 421
        # A relay that doesn't do what it should isn't let loose.
        systemctl("stop", "opendkim")(lab)
        done = host.run([*lab.way.command, "smtpout_drain.ready"], check=False)
        assert "The relay doesn't do what it should, and stays drained" in done.stdout + done.stderr
        assert "the opendkim milter answers" in done.stdout + done.stderr
        assert greeting(relay).code == 421
        systemctl("start", "opendkim")(lab)
        assert asked(relay, "ready")["drained"] is None
        assert greeting(relay).code == 220
        time.sleep(2)
    assert seen["greeting", 421] > 5
    assert seen["the message", 250] > 5
    assert seen.keys() <= {("greeting", 421), ("the message", 250), ("no connection", 0)}, seen
    host.run(["postsuper", "-d", json.loads(held)["queue_id"]])


@pytest.mark.timeout(300)
def test_the_queue_of_a_relay_that_died_leaves_once(relay: Applied) -> None:
    lab, host = relay.lab, relay.lab.host("relay")
    waiting = deferred(relay, 4)
    systemctl("kill --signal=KILL", "postfix@-")(lab)
    systemctl("stop", "postfix")(lab)
    # Its disk, mounted on a relay whose own queue is empty.
    moved = (
        f"mkdir -p {DEAD} && tar -C /var/spool/postfix -cf - active incoming deferred defer bounce trace hold maildrop"
    )
    host.run(["sh", "-c", f"{moved} | tar -C {DEAD} -xpf -"])
    host.run(["sh", "-c", "find /var/spool/postfix/active /var/spool/postfix/deferred -type f -delete"])
    assert asked(relay, "rescue", DEAD)["messages"] == 4
    command = [*lab.way.command, "smtpout_drain.rescue", DEAD]
    again = host.run(command, check=False)
    assert "was rescued already: 4 messages" in again.stdout + again.stderr
    systemctl("start", "postfix@-", host="outside")(lab)
    asked(relay, "ready")
    ends = time.monotonic() + mail.ARRIVAL
    while copies(relay, "outside", "/srv/mail", waiting) != [1, 1, 1, 1]:
        assert time.monotonic() < ends, copies(relay, "outside", "/srv/mail", waiting)
        time.sleep(0.5)
