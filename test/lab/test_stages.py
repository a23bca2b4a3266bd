"""A changed DKIM selector signs once receivers find its record; until then the old one does, and mail verifies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from lab import mail
from lab.checks import publish_keys, salt, verify
from lab.conftest import Applied
from lab.lab import CLIENT
from lab.test_clients import sent
from lab.whole import SITE, changed

PLANNED = "Which keys receivers find is known"
MOVED, SIGNS = "Each domain signs with a key that receivers find", "OpenDKIM signs what the site sends"
REMEMBERED = "/var/lib/smtpout/dkim/stages.json"
SERVER = "ns.outside.example. (198.51.100.53)"
SENDER, OUTSIDE = "alarm@domain02.dom", "somebody@outside.example"


@pytest.fixture
def rotated(on_bookworm: Applied) -> Iterator[Applied]:
    """Return the relay of pillar.example with its records published; afterwards nothing is remembered of a new key."""
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    publish_keys(lab)
    yield on_bookworm
    lab.set_pillar(pillar("default"))
    on_bookworm.apply("the old one again")
    assert on_bookworm.failed("the old one again") == {}
    relay.run(["rm", "-f", REMEMBERED])


def pillar(selector: str) -> str:
    return changed({"opendkim": {"selector": selector, "hold": 0}})


def signed_with(relay: Applied) -> str:
    """Return the selector that a receiver has found the signature of a message good by."""
    copy = sent(relay, CLIENT, SENDER, OUTSIDE, mail.SERVERS, "outside")
    assert "dkim=pass" in copy["Authentication-Results"]
    return next(each.strip()[2:] for each in copy["DKIM-Signature"].split(";") if each.strip().startswith("s="))


@pytest.mark.timeout(300)
def test_a_changed_selector_signs_once_every_server_has_its_record(rotated: Applied) -> None:
    lab = rotated.lab
    lab.set_pillar(pillar("s2027"))
    rotated.apply("dry", test=True)
    assert rotated.touched["dry"] == []
    said = rotated.apply("made")
    assert rotated.failed("made") == {}
    assert not [path for path in said[SIGNS]["changes"] if path.endswith("Table")]
    waits = f"s2027._domainkey.domain02.dom: made: default signs until it may: {SERVER}: no such record"
    assert waits in said[PLANNED]["warnings"]
    assert signed_with(rotated) == "default"
    assert [check for check in verify(lab, "failed") if "opendkim" in check["check"]] == []
    names = publish_keys(lab)
    assert {f"{each}._domainkey.domain02.dom." for each in ("default", "s2027")} <= set(names)
    plan = salt(lab, "smtpout_dns.plan")
    assert {each["stage"] for each in plan["keys"]} == {"active", "retired"}
    rotated.apply("published")
    assert rotated.failed("published") == {}
    assert {SITE, MOVED, SIGNS} <= set(rotated.changed("published"))
    assert signed_with(rotated) == "s2027"
    rotated.apply("again")
    assert rotated.changed("again") == []
    assert rotated.failed("again") == {}
    assert {each["stage"] for each in yaml.safe_load(lab.host("relay").read(REMEMBERED))} == {"active", "retired"}
