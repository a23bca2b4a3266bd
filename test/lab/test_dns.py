"""What DNS says of the site is held against what its mail needs, by asking the lab's name server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from smtpout_core.dns import kept

from lab.checks import publish_keys, salt, verify
from lab.conftest import Applied
from lab.host import Host
from lab.whole import changed

RELAY, ADDRESS = "vm-172-16-11-95.cloud0.hc.mycompany.dom", "172.16.11.95"
SERVER = "ns.outside.example. (198.51.100.53)"
GOOD = {"dkim": {"ok": 3}, "spf": {"ok": 2}, "dmarc": {"ok": 2}, "mta-sts": {"absent": 2}, "tls-rpt": {"absent": 2}}
GOOD |= {"mx": {"ok": 2}, "ptr": {"ok": 1}, "helo": {"ok": 1}}
SPF = '{}. 0 IN TXT "v=spf1 {} -all"\n'
DMARC = '_dmarc.{}. 0 IN TXT "{}"\n'


@pytest.fixture(scope="module")
def outside(on_bookworm: Applied) -> Iterator[Host]:
    """Return the name server's host; the relay's pillar says which address receivers see, and all records are good."""
    lab = on_bookworm.lab
    lab.set_pillar(changed({"dns": {"addresses": [ADDRESS]}}))
    outside = lab.host("outside")
    publish_keys(lab)
    publish(outside, "".join(DMARC.format(domain, "v=DMARC1; p=none") for domain in ("domain01.dom", "domain02.dom")))
    yield outside
    lab.set_pillar(changed({}))


def publish(outside: Host, records: str) -> None:
    outside.run(["/usr/local/lib/lab/publish", "-"], input=records, timeout=30)


def check(applied: Applied, *arguments: str) -> dict[str, Any]:
    lab = applied.lab
    answer = lab.salt(*lab.way.ask, "smtpout_dns.check", *arguments, check=False, timeout=300)
    assert isinstance(answer, dict), answer
    return answer


def test_what_is_published_right_is_found_right(on_bookworm: Applied, outside: Host) -> None:
    outside.run(["true"])
    found = check(on_bookworm)
    assert found["found"] == []
    assert found["counts"] == GOOD
    assert found["silent"] == {}


def test_a_wrong_record_of_each_kind_is_told_and_no_other(on_bookworm: Applied, outside: Host) -> None:
    record = salt(on_bookworm.lab, "opendkim.public_records").replace("domain02.dom", "domain03.dom")
    publish(outside, record.replace("domain01.dom", "domain02.dom") + "\n")
    publish(outside, SPF.format("domain01.dom", "ip4:172.16.11.96") + DMARC.format("domain01.dom", "v=DMARC1"))
    try:
        found = {(each["kind"], each["state"]): each for each in check(on_bookworm)["found"]}
        assert found.keys() == {("dkim", "wrong"), ("spf", "wrong"), ("dmarc", "wrong")}
        assert found["dkim", "wrong"]["names"] == ["default._domainkey.domain02.dom."]
        assert found["dkim", "wrong"]["seen"].startswith("another key than /etc/opendkim/keys/domain02.dom.default.")
        assert found["spf", "wrong"]["seen"].startswith(f"mail from {ADDRESS} gets fail")
        assert found["dmarc", "wrong"]["names"] == ["_dmarc.domain01.dom."]
    finally:
        publish_keys(on_bookworm.lab)
        publish(
            outside, SPF.format("domain01.dom", f"ip4:{ADDRESS}") + DMARC.format("domain01.dom", "v=DMARC1; p=none")
        )
    assert check(on_bookworm)["found"] == []


def test_a_name_server_that_is_silent_makes_nothing_missing(on_bookworm: Applied, outside: Host) -> None:
    named = outside.run(["pidof", "named"]).stdout.split()[0]
    outside.run(["kill", "-STOP", named])
    try:
        found = check(on_bookworm, "domain01.dom", "kinds=dkim,spf")
    finally:
        outside.run(["kill", "-CONT", named])
    assert found["counts"] == {"dkim": {"unknown": 1}, "spf": {"unknown": 1}}
    on_bookworm.lab.set_pillar(changed({"dns": {"addresses": [ADDRESS], "servers": ["198.51.100.53", ADDRESS]}}))
    try:  # nobody listens at the relay's own
        (found,) = check(on_bookworm, "domain01.dom", "kinds=dkim")["found"]
    finally:
        on_bookworm.lab.set_pillar(changed({"dns": {"addresses": [ADDRESS]}}))
    assert found["state"] == "unknown"
    assert "(1 of 2 servers have answered; 172.16.11.95 doesn't answer by UDP" in found["seen"]


def test_what_is_printed_is_what_is_taken(on_bookworm: Applied, outside: Host) -> None:
    data = salt(on_bookworm.lab, "smtpout_dns.records", "data")
    assert {(each["name"], each["type"]) for each in data} >= {
        ("default._domainkey.domain02.dom.", "TXT"),
        ("domain01.dom.", "TXT"),
        ("_dmarc.domain01.dom.", "TXT"),
        (f"{RELAY}.", "A"),
        ("95.11.16.172.in-addr.arpa.", "PTR"),
    }
    lines = salt(on_bookworm.lab, "smtpout_dns.records", "lines").splitlines()
    assert lines == [f"{each['name']} {each['type']} {each['value']}" for each in data]
    publish(outside, salt(on_bookworm.lab, "smtpout_dns.records") + "\n")
    try:
        assert check(on_bookworm)["found"] == []
    finally:
        publish(outside, "".join(SPF.format(each, f"ip4:{ADDRESS}") for each in ("domain01.dom", "domain02.dom")))


def test_the_watch_compares_without_salt_and_verify_tells_of_what_it_found(on_bookworm: Applied, outside: Host) -> None:
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    sentence = "DNS says what the site's mail needs"

    def said() -> dict[str, str]:
        relay.run(["rm", "-f", kept.PATH])
        relay.run(["systemctl", "start", "smtpout-watch.service"])
        return {each["check"]: each["seen"] for each in verify(lab, "ok", "warning")}

    lab.set_pillar(changed({"dns": {"addresses": [ADDRESS], "hours": 24}}))
    on_bookworm.apply("compared")
    assert on_bookworm.failed("compared") == {}
    try:
        assert said()[sentence].startswith("0.0 hours ago 15 records were as they should be")
        publish(outside, SPF.format("domain01.dom", "ip4:172.16.11.96"))
        told = said()[sentence].splitlines()
        assert told[0] == "0.0 hours ago, 1 records were wrong or missing:"
        assert told[1].startswith(f"domain01.dom. spf wrong: mail from {ADDRESS} gets fail")
    finally:
        publish(outside, SPF.format("domain01.dom", f"ip4:{ADDRESS}"))
        lab.set_pillar(changed({"dns": {"addresses": [ADDRESS]}}))
        on_bookworm.apply("compared no more")
        relay.run(["rm", "-f", kept.PATH])
    assert on_bookworm.failed("compared no more") == {}
    assert sentence not in {each["check"] for each in verify(lab, "ok", "warning", "failed")}
