"""What runs after an apply is what its files say, also where a reload wouldn't bring it, or somebody was there before.

On Debian 12, whose postfix.service is a dummy that knows nothing of a reload that failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.checks import verify
from lab.conftest import Applied
from lab.host import Host
from lab.whole import SITE, changed

RELAY = "172.16.11.95"
POSTFIX = "Postfix runs the site's configuration"


@pytest.fixture
def relay(on_bookworm: Applied) -> Iterator[Host]:
    """Return the relay's host; afterwards its configuration is as before."""
    yield on_bookworm.lab.host("relay")
    apply(on_bookworm, {})


def apply(applied: Applied, main: dict[str, Any]) -> dict[str, Any]:
    """Apply parameters of main.cf, then twice see that nothing is left to do; return what Postfix's state changed."""
    applied.lab.set_pillar(changed({"postfix": {"main": main}}))
    foreseen = applied.apply("foreseen", test=True)[POSTFIX]["changes"].keys()
    done = applied.apply("done")[POSTFIX]["changes"]
    assert applied.failed("done") == {}
    assert done.keys() == foreseen
    applied.apply("again")
    assert applied.changed("again") == []
    assert verify(applied.lab, "failed") == []
    return done


def listens(relay: Host) -> set[str]:
    """Return where the relay's port 25 is open."""
    lines = relay.run(["ss", "-Hltn", "sport = :25"]).stdout.splitlines()
    return {line.split()[3] for line in lines}


@pytest.mark.timeout(120)
def test_postfix_listens_where_the_pillar_says_and_again_where_it_said_before(
    on_bookworm: Applied, relay: Host
) -> None:
    assert apply(on_bookworm, {"inet_interfaces": RELAY})["service"] == "restarted (inet_interfaces)"
    assert listens(relay) == {f"{RELAY}:25"}
    assert apply(on_bookworm, {"inet_protocols": "ipv4"})["service"] == "restarted (inet_interfaces, inet_protocols)"
    assert listens(relay) == {"0.0.0.0:25"}
    apply(on_bookworm, {})
    assert listens(relay) == {"0.0.0.0:25", "[::]:25"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("back", [False, True], ids=["left there", "put back by hand"])
def test_what_somebody_changed_and_restarted_is_undone_in_the_running_postfix_too(
    on_bookworm: Applied, relay: Host, back: bool
) -> None:
    relay.run(["cp", "-p", "/etc/postfix/main.cf", "/root/main.cf"])
    relay.run(["postconf", "-e", "inet_interfaces=loopback-only"])
    relay.run(["systemctl", "restart", "postfix"])
    if back:
        relay.run(["cp", "-p", "/root/main.cf", "/etc/postfix/main.cf"])
    assert f"restarted ({'where it listens' if back else 'inet_interfaces'})" in str(apply(on_bookworm, {}))
    assert listens(relay) == {"0.0.0.0:25", "[::]:25"}


@pytest.mark.timeout(120)
def test_a_queue_elsewhere_is_where_postfix_and_systemd_look(on_bookworm: Applied, relay: Host) -> None:
    on_bookworm.lab.set_pillar(changed({"postfix": {"main": {"queue_directory": "/srv/mailq"}}}))
    on_bookworm.apply("refused")
    said = on_bookworm.failed("refused")[SITE]
    assert "smtpout:postfix:main:queue_directory: there is no directory /srv/mailq" in said
    relay.run(["mkdir", "/srv/mailq"])
    apply(on_bookworm, {"queue_directory": "/srv/mailq"})
    relay.run(["systemctl", "restart", "postfix"])
    shown = relay.run(["systemctl", "show", "--property=MainPID,PIDFile,NRestarts", "postfix@-"]).stdout
    number = relay.read("/srv/mailq/pid/master.pid").strip()
    assert {"PIDFile=/srv/mailq/pid/master.pid", "NRestarts=0", f"MainPID={number}"} == set(shown.split())
    relay.run(["postqueue", "-f"])


def test_a_port_for_users_without_a_login_is_told(on_bookworm: Applied, relay: Host) -> None:
    relay.run(["postconf", "-P", "submission/inet/smtpd_discard_ehlo_keywords=auth"])
    relay.run(["postfix", "reload"])
    relay.run(["sleep", "1"])
    (check,) = [each for each in verify(on_bookworm.lab, "failed") if each["check"] == "users are served on port 587"]
    assert "offers no login" in check["seen"]
