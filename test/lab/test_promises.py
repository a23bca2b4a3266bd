"""What a site promises is asked before it goes live: of a trial on a booted relay, with its real directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support import load

from lab.conftest import Applied
from lab.whole import ASKED, SITE

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def site(example: Applied) -> Iterator[dict[str, Any]]:
    """Return the example's site, to be changed; afterwards nothing of a trial is left, and the example is applied."""
    yield load("default")["smtpout"]
    relay = example.lab.host("relay")
    assert relay.run(["pgrep", "-fa", "/tmp/(clamd|milter|opendkim).*conf"], check=False).stdout == ""
    assert relay.run(["find", "/tmp", "/var/lib/smtpout/staging", "-name", ".smtpout-aside*"]).stdout == ""
    example.lab.set_pillar(yaml.safe_dump({"smtpout": load("default")["smtpout"]}))
    example.apply("as it was")
    assert example.failed("as it was") == {}


def refused(applied: Applied, site: dict[str, Any]) -> str:
    """Apply a site that is refused, in test mode as well; return what is said."""
    applied.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
    applied.apply("foreseen", test=True)
    applied.apply("refused")
    said = applied.failed("refused")[SITE]
    assert said.startswith("The new configuration is refused; nothing was changed:\n")
    assert applied.failed("foreseen")[SITE] == said
    return said


@pytest.mark.usefixtures("site")
def test_the_running_relay_keeps_all_promises(example: Applied) -> None:
    answer = example.lab.salt("smtpout.promises", check=False, timeout=120)
    assert {each["promise"]: each.get("seen") for each in answer if each["state"] != "kept"} == {}
    assert len(answer) == ASKED
    assert f"A trial of it kept {ASKED} promises." in example.runs["first"][SITE]["comment"]


@pytest.mark.usefixtures("on_bookworm")
def test_a_table_of_networks_that_holds_all_of_them_is_refused(example: Applied, site: dict[str, Any]) -> None:
    entries = {"10.0.0.0/8": "OK", "0.0.0.0/0": "OK"}
    site["postfix"] = {
        "main": {"mynetworks": "cidr:/etc/postfix/trusted"},
        "maps": {"trusted": {"type": "cidr", "entries": entries}},
    }
    said = refused(example, site)
    assert "Nobody from outside sends through the relay to outside: that would be broken." in said
    assert "203.0.113.9 at smtp/inet from <> to <somebody@[198.51.100.25]>: it is taken (RCPT is answered 250" in said
    assert (
        "Look at smtpout:postfix:main:mynetworks; or take it back: smtpout:promises:strangers_do_not_relay: f" in said
    )


@pytest.mark.usefixtures("on_trixie")
def test_a_network_that_is_new_and_not_in_a_table_of_the_sites_own_is_refused(
    example: Applied, site: dict[str, Any]
) -> None:
    # The relay that runs would refuse it as well, and nobody had promised it anything.
    site["postfix"] = {"main": {"mynetworks": [*site["networks"], "127.0.0.0/8", "[::1]/128"]}}
    example.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
    example.apply("its own table")
    assert example.failed("its own table") == {}
    site["networks"] = [*site["networks"], "172.16.12.0/24"]
    said = refused(example, site)
    assert "The site's servers send to outside and to its users: that would be broken." in said
    assert "172.16.12.1 at smtp/inet from <postmaster@" in said


@pytest.mark.usefixtures("on_bookworm")
def test_a_promise_that_the_site_takes_back_may_be_broken_and_is_warned_of(
    example: Applied, site: dict[str, Any]
) -> None:
    site["postfix"] = {"main": {"smtpd_sender_restrictions": "reject_authenticated_sender_login_mismatch"}}
    assert "Nobody from outside writes with an address of the site" in refused(example, site)
    # What judges read receipts stands in the same parameter.
    site["promises"] = {"strangers_do_not_send_as_the_site": False, "authors_are_users": False}
    example.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
    example.apply("taken back")
    assert example.failed("taken back") == {}
    checks = example.lab.salt("smtpout.verify", check=False, timeout=120)
    [seen] = [each for each in checks if "without a login" in each["check"]]
    assert (seen["state"], seen["seen"]) == (
        "warning",
        "smtpout:promises:strangers_do_not_send_as_the_site takes it back",
    )


@pytest.mark.usefixtures("on_trixie")
@pytest.mark.usefixtures("site")
def test_what_would_become_of_a_message_is_told(example: Applied) -> None:
    words = ["203.0.113.9", "president@domain01.dom", "usuario01@domain01.dom"]
    told = example.lab.salt("smtpout.explain", *words, timeout=120)
    assert told["decided"] == ["check_sender_access in smtpd_sender_restrictions refuses it"]


@pytest.mark.usefixtures("on_trixie")
def test_a_client_that_can_not_talk_to_servers_outside_is_refused(example: Applied, site: dict[str, Any]) -> None:
    site["postfix"] = {"main": {"smtp_tls_ciphers": "best"}}
    said = refused(example, site)
    assert "Servers that mail is handed on to take it: that would be broken." in said
    assert "a server outside doesn't take it: Cannot start TLS: handshake failure" in said
