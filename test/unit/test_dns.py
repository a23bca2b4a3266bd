"""What smtpout_dns makes of a site's settings, what it asks whom, and what it prints."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.rdatatype
import dns.zone
import pytest
from dns_servers import RESOLVER, Behaviour, served
from minions import Settings, minion
from salt.exceptions import CommandExecutionError
from smtpout_core.daemons.opendkim import keys
from smtpout_core.dns import comparison, found, kept, printed, spf
from smtpout_core.dns import wanted as wanting
from smtpout_core.dns.asking import Asker
from smtpout_core.dns.gates import Gates
from smtpout_core.dns.said import Said
from smtpout_core.dns.wanted import Key, Wanted, wanted
from smtpout_core.errors import Doubt, RelayError

Site = dict[str, Any]
HEAD = "$TTL 60\n@ SOA ns.a.test. h.a.test. 1 3600 600 86400 60\n@ NS ns.a.test.\nns A 127.0.1.1\n"


# --- what is wanted ------------------------------------------------------------------------------------------------


def test_every_domain_that_signs_is_looked_at_in_one_list(site: Site, settings: Settings) -> None:
    site |= {"signed_domains": ["news.mycompany.dom"], "dns": {"addresses": ["203.0.113.5"]}}
    made = wanted(settings(site))
    assert made.domains == ("domain01.dom", "domain02.dom", "news.mycompany.dom")
    relay = "vm-172-16-11-95.cloud0.hc.mycompany.dom"  # which signs what it writes itself, in its own name
    assert [(key.domain, key.selector) for key in made.keys] == [(each, "default") for each in (*made.domains, relay)]
    assert made.hostname == relay


def test_one_domain_is_looked_at_where_it_is_the_sites(site: Site, settings: Settings) -> None:
    made = wanted(settings(site), ["Domain02.dom"])
    assert (made.domains, len(made.keys)) == (("domain02.dom",), 1)
    with pytest.raises(RelayError, match=r"^elsewhere\.dom: no domain that the site sends from"):
        wanted(settings(site), ["elsewhere.dom"])


def test_a_site_that_signs_nothing_has_no_keys_to_look_for(site: Site, settings: Settings) -> None:
    site["opendkim"] = {"enabled": False}
    assert wanted(settings(site)).keys == ()


@pytest.mark.parametrize(
    ("change", "addresses"),
    [
        ({"dns": {"addresses": ["8.8.8.8", "2001:DB8::0025"]}}, ("8.8.8.8", "2001:db8::25")),
        ({"postfix": {"main": {"smtp_bind_address": "8.8.4.4"}}}, ("8.8.4.4",)),
        ({"postfix": {"main": {"smtp_bind_address": "$somewhere"}}}, ()),
        ({"routes": {"default": {"nexthop": "smtp:[smart.example]:587"}}}, ()),
    ],
    ids=["named", "bound", "bound to none", "smart host"],
)
def test_the_addresses_are_those_that_receivers_see(
    change: Site, addresses: tuple[str, ...], site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanting, "OUTSIDE", {socket.AF_INET: "127.0.0.1"})  # which is reached from a private address
    made = wanted(settings(site | change))
    assert made.addresses == addresses
    assert bool(made.no_addresses) == (not addresses)
    assert addresses or "name them in smtpout:dns:addresses" in made.no_addresses
    assert (made.hostname == "") == ("routes" in change)


# --- who is asked --------------------------------------------------------------------------------------------------


def asked(running: dict[str, Behaviour], ask: Callable[[Asker], Any], **asker: Any) -> tuple[Any, Any]:
    """Return what an asker says, and the servers."""
    with served(running) as world:

        async def run() -> Any:
            return await ask(Asker(Gates(world.port, 30), [RESOLVER], **asker))

        return asyncio.run(run()), world


def test_servers_that_the_pillar_names_are_asked_instead_of_those_of_delegation() -> None:
    inside, outside = HEAD + "x TXT inside\n", HEAD + "x TXT outside\n"
    servers = {"127.0.1.1": Behaviour({"a.test": inside}), "127.0.1.2": Behaviour({"a.test": outside})}
    said, world = asked(servers, lambda asker: asker.all("x.a.test", "TXT"), own=["a.test"], servers=["127.0.1.2"])
    assert said == [Said("127.0.1.2", "has", ("outside",))]
    assert {address for address, *_ in world.asked} == {"127.0.1.2"}
    said, _ = asked(servers, lambda asker: asker.all("x.a.test", "TXT"))
    assert [each.values for each in said] == [("inside",)]


def test_an_address_that_there_is_no_way_to_is_not_asked_and_makes_nothing_unknown() -> None:
    zone = HEAD + "x TXT here\nns AAAA fe80::1\n"  # of no interface, so of no way
    said, _ = asked({"127.0.1.1": Behaviour({"a.test": zone})}, lambda asker: asker.all("x.a.test", "TXT"))
    assert sorted(each.state for each in said) == ["has", "unasked"]
    assert found.combined(said, lambda _: ("ok", "seen"), ("missing", "")) == ("ok", "seen")


def test_every_address_of_a_server_is_asked_by_both_versions_of_ip() -> None:
    old, new = HEAD + "ns AAAA ::1\nx TXT old\n", HEAD + "ns AAAA ::1\nx TXT new\n"
    running = {"127.0.1.1": Behaviour({"a.test": new}), "::1": Behaviour({"a.test": old})}
    said, _ = asked(running, lambda asker: asker.all("x.a.test", "TXT"))
    assert {each.server: each.values for each in said} == {
        "ns.a.test. (127.0.1.1)": ("new",),
        "ns.a.test. (::1)": ("old",),
    }


def test_a_question_goes_to_each_server_once() -> None:
    servers = {"127.0.1.1": Behaviour({"a.test": HEAD + "x TXT here\n"})}

    async def twice(asker: Asker) -> None:
        await asyncio.gather(*(asker.all("x.a.test", "TXT") for _ in range(5)))

    _, world = asked(servers, twice)
    assert [each[1:] for each in world.asked if each[0] == "127.0.1.1"] == [("udp", "x.a.test.", "TXT")]


def test_where_the_time_is_up_nothing_is_missing() -> None:
    with served({"127.0.1.1": Behaviour({"a.test": HEAD})}) as world:
        way = comparison.Way([RESOLVER], port=world.port, seconds=0)
        result = comparison.compared(Wanted(("a.test",), (), ("203.0.113.5",), "", "", False), way, ["spf", "mx"])
    assert {each.state for each in result.findings} == {"unknown"}
    assert not comparison.failed(result)


# --- SPF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "result", "lookups"),
    [
        ("v=spf1 a/24 -all", "pass", 1),
        ("v=spf1 mx//64 mx/24 -all", "pass", 2),
        ("v=spf1 redirect=r.a.test", "pass", 1),
        ("v=spf1 include:r.a.test -all", "pass", 1),
        ("v=spf1 include:no.a.test ~all", "softfail", 1),
        ("v=spf1 exists:r.a.test -all", "fail", 1),
        ("v=spf1 exists:mx.a.test -all", "pass", 1),
        ("v=spf1 exp=e.a.test ip6:2001:db8::/32 -all", "fail", 0),
        ("v=spf1 exists:%{i}.a.test ip4:203.0.113.5 -all", "pass", 1),
        ("v=spf1 -exists:%{i}.a.test ip4:203.0.113.5 -all", "unknown", 1),
        ("v=spf1 ptr ~all", "unknown", 1),
        ("v=spf1 ip4:203.0.113.5/33", "permerror", 0),
        ("v=spf1 ip4:2001:db8::1", "permerror", 0),
        ("v=spf1 include -all", "permerror", 0),
        ("v=spf1 all:x", "permerror", 0),
        ("v=spf1 redirect=r.a.test redirect=r.a.test", "permerror", 0),
        ("v=spf1 mx:many.a.test -all", "permerror", 1),
        ("V=SPF1 A:MX.A.TEST -ALL", "fail", 1),
        ("v=spf1", "neutral", 0),
    ],
)
def test_an_address_is_judged_as_receivers_do(record: str, result: str, lookups: int) -> None:
    zone = HEAD + "@ A 203.0.113.9\n@ MX 1 mx\nmx A 203.0.113.7\n"
    zone += 'r TXT "v=spf1 ip4:203.0.113.0/24 -all"\nno TXT "v=spf1 -all"\n'
    zone += "".join(f"many MX 1 m{number}\n" for number in range(11))
    judged, _ = asked(
        {"127.0.1.1": Behaviour({"a.test": zone})},
        lambda asker: spf.Judge(asker, "203.0.113.5").judged(record, "a.test"),
    )
    assert (judged.result, judged.lookups) == (result, lookups), judged.why


# --- what is printed -----------------------------------------------------------------------------------------------


@pytest.fixture
def needed(tmp_path: Path) -> Wanted:
    public = keys.generate_key(str(tmp_path / "key"))
    key = Key("a.test", "s1", "key", public)
    return Wanted(("a.test",), (key,), ("203.0.113.5", "2001:db8::5"), "", "relay.a.test", False)


def test_a_zone_file_of_it_is_read_as_one_and_the_lines_are_the_same_in_one_piece(needed: Wanted) -> None:
    text, lines = printed.written(needed, "zone"), printed.written(needed, "lines")
    assert isinstance(text, str)
    assert isinstance(lines, str)
    zone = dns.zone.from_text(f"$TTL 60\n{text}", ".", relativize=False, check_origin=False)
    read = set()
    for name, _, data in zone.iterate_rdatas():
        value = b"".join(data.strings).decode() if hasattr(data, "strings") else data.to_text()
        assert all(len(each) <= 255 for each in getattr(data, "strings", ()))
        read.add(f"{name} {dns.rdatatype.to_text(data.rdtype)} {value}")
    assert read == set(lines.splitlines())
    assert "a.test. TXT v=spf1 ip4:203.0.113.5 ip6:2001:db8::5 ~all" in read
    assert "5.113.0.203.in-addr.arpa. PTR relay.a.test." in read
    data = printed.written(needed, "data")
    assert [f"{each['name']} {each['type']} {each['value']}" for each in data] == lines.splitlines()  # type: ignore[index]


def test_what_is_not_known_is_left_out_in_as_many_words(needed: Wanted) -> None:
    text = printed.written(needed._replace(addresses=(), no_addresses="nobody knows", hostname=""), "zone")
    assert "; SPF and PTR are left out: nobody knows" in text
    assert "v=spf1" not in text
    with pytest.raises(RelayError, match="no such file"):
        printed.written(needed._replace(keys=(Key("a.test", "s1", "key", "", "key: no such file"),)), "zone")
    with pytest.raises(RelayError, match=r"^json: there are zone, lines, data"):
        printed.written(needed, "json")


# --- what a person calls -------------------------------------------------------------------------------------------


def test_the_module_counts_tells_the_worst_first_and_fails_where_something_is_wrong(tmp_path: Path, site: Site) -> None:
    site["dns"] = {"addresses": ["203.0.113.5"], "servers": ["127.0.1.250"]}
    modules = minion(tmp_path, site)
    answer = modules["smtpout_dns.check"]("domain01.dom", kinds="spf,mx", seconds=0.2, resolver="127.0.1.250")
    assert answer["counts"] == {"spf": {"unknown": 1}, "mx": {"unknown": 1}}
    assert [(each["state"], each["names"]) for each in answer["found"]] == [("unknown", ["domain01.dom."])] * 2
    assert "retcode" not in modules.pack["__context__"]
    with pytest.raises(CommandExecutionError, match=r"^arc: there are dkim, spf"):
        modules["smtpout_dns.check"](kinds="arc")
    with pytest.raises(CommandExecutionError, match=r"domain01\.dom\.default\.private"):
        modules["smtpout_dns.records"]()


def test_what_many_names_have_alike_is_told_once_the_worst_first() -> None:
    findings = [found.Finding("dkim", f"d{each}", f"n{each}", "unknown", "silent") for each in range(3)]
    findings += [found.Finding("spf", "d", "d.", "ok", "fine"), found.Finding("mx", "d", "d.", "missing", "none")]
    result = comparison.Compared(findings, {}, 5, 0.24)
    assert comparison.told(result) == {
        "counts": {"dkim": {"unknown": 3}, "spf": {"ok": 1}, "mx": {"missing": 1}},
        "silent": {},
        "questions": 5,
        "seconds": 0.2,
        "found": [
            {"state": "missing", "kind": "mx", "names": ["d."], "seen": "none"},
            {"state": "unknown", "kind": "dkim", "names": ["n0", "n1", "n2"], "seen": "silent"},
        ],
    }
    assert len(comparison.told(result, everything=True)["found"]) == 3
    assert comparison.failed(result)


# --- what the watch keeps ------------------------------------------------------------------------------------------


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where a comparison is left; what is compared finds one missing record and one that isn't known."""
    findings = [
        found.Finding("mx", "d.test", "d.test.", "missing", "no MX record"),
        found.Finding("spf", "d.test", "d.test.", "unknown", "silent"),
    ]
    result = comparison.Compared(findings, {}, 7, 1.5)
    monkeypatch.setattr(comparison, "compared", lambda _wanted, _way: result)
    return str(tmp_path / "dns.json")


def test_the_watch_compares_as_often_as_the_site_wants_and_not_at_all_without(
    left: str, site: Site, settings: Settings
) -> None:
    lines: list[str] = []
    kept.renew(settings(site), left, lines.append)
    assert (lines, kept.read(left)) == ([], None)
    wants = settings(site | {"dns": {"hours": 24}})
    for _ in range(2):
        kept.renew(wants, left, lines.append)
        assert lines == ["DNS was compared: 7 questions in 1.5 s, 2 findings"]
    assert Path(left).stat().st_mode & 0o777 == 0o600
    aged(left, 25)
    kept.renew(wants, left, lines.append)
    assert len(lines) == 2


def test_verify_tells_what_the_last_comparison_found_and_how_old_it_is(
    left: str, site: Site, settings: Settings
) -> None:
    with pytest.raises(Doubt, match=r"^none was made since the host has booted"):
        kept.seen(24, left)
    kept.renew(settings(site | {"dns": {"hours": 24}}), left, print)
    aged(left, 3)
    with pytest.raises(Doubt) as doubt:
        kept.seen(24, left)
    assert str(doubt.value).splitlines() == [
        "3.0 hours ago, 1 records were wrong or missing:",
        "d.test. mx missing: no MX record",
        "d.test. spf unknown: silent",
        "`smtpout_dns.check` compares now",
    ]
    aged(left, 80)
    with pytest.raises(Doubt, match=r"^the last comparison is 8[03] hours old, and there is one every 24$"):
        kept.seen(24, left)
    Path(left).write_text(json.dumps({"at": time.time(), "found": [], "counts": {"mx": {"ok": 2}, "spf": {"ok": 2}}}))
    assert kept.seen(24, left) == "0.0 hours ago 4 records were as they should be"


def aged(left: str, hours: float) -> None:
    known = json.loads(Path(left).read_text())
    Path(left).write_text(json.dumps(known | {"at": time.time() - hours * 3600}))


def test_what_keeps_the_watch_from_comparing_is_said_and_fails_nothing(
    left: str, site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> None:
        raise RelayError("dnspython is missing")

    monkeypatch.setattr(comparison, "compared", raises)
    lines: list[str] = []
    kept.renew(settings(site | {"dns": {"hours": 24}}), left, lines.append)
    assert lines == ["DNS was not compared: dnspython is missing"]
