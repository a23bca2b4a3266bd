"""Forty faults in hand-made zones, each told by its name, and nothing besides it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dns_servers import RESOLVER, Behaviour, served
from smtpout_core.daemons.opendkim import keys, record
from smtpout_core.dns import comparison, sts
from smtpout_core.dns.found import ABSENT, OK
from smtpout_core.dns.wanted import Key, Wanted
from smtpout_core.errors import RelayError

DOMAIN, ADDRESS, RELAY = "d.test", "203.0.113.5", "relay.d.test"
SERVERS = ("127.0.1.1", "127.0.1.2", "127.0.1.3")
OTHER = "127.0.1.9"
HEAD = "$TTL 60\n@ SOA ns1.d.test. h.d.test. 1 3600 600 86400 60\n"
NS = "@ NS ns1.d.test.\n@ NS ns2.d.test.\n@ NS ns3.d.test.\n"
DELEGATED = "@ NS ns.other.test.\n"

GOOD = {
    "ns": NS,
    "hosts": "ns1 A 127.0.1.1\nns2 A 127.0.1.2\nns3 A 127.0.1.3\nmx A 203.0.113.9\n",
    "relay": f"relay A {ADDRESS}\n",
    "mx": "@ MX 10 mx\n",
    "spf": '@ TXT "v=spf1 ip4:203.0.113.5 -all"\n',
    "dkim": "s1._domainkey TXT {key}\n",
    "dmarc": '_dmarc TXT "v=DMARC1; p=none; rua=mailto:dmarc@d.test"\n',
    "tls-rpt": '_smtp._tls TXT "v=TLSRPTv1; rua=mailto:tls@d.test"\n',
    "mta-sts": '_mta-sts TXT "v=STSv1; id=20261101"\n',
    "more": "",
}
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mx.d.test\r\nmax_age: 604800\r\n"


class Fault(NamedTuple):
    """What differs from a good site, and what is told of it.

    :param told: kind, state and words of each finding that isn't good.
    :param zone: parts of the domain's zone instead of those of ``GOOD``.
    :param alone: such parts, on the third server only.
    :param how: how the third server is.
    :param zones: other zones, that a server of their own has.
    """

    told: set[tuple[str, str, str]]
    zone: Mapping[str, str] = {}
    alone: Mapping[str, str] | None = None
    how: Behaviour = Behaviour()
    zones: Mapping[str, str] = {}
    reverse: str = f"5 PTR {RELAY}.\n"
    policy: str | RelayError = POLICY
    broken: tuple[str, ...] = ()


def txt(name: str, *strings: str) -> str:
    quoted = " ".join(f'"{each}"' for each in strings)
    return f"{name} TXT {quoted}\n"


def spf(text: str, told: str, state: str = "wrong", **more: Any) -> Fault:
    return Fault({("spf", state, told)}, zone={"spf": txt("@", text)}, **more)


def chain(count: int) -> str:
    """Return as many names, of which each is SPF's and lets a network of nobody's pass."""
    return "".join(txt(f"i{number}", f"v=spf1 ip4:192.0.2.{number} -all") for number in range(count))


def including(count: int) -> str:
    return " ".join(f"include:i{number}.d.test" for number in range(count))


def everywhere(state: str, words: str) -> set[tuple[str, str, str]]:
    """Return what is told where one server of three is of no use; of the relay's address others tell."""
    return {(kind, state, words) for kind in ("dkim", "spf", "dmarc", "mta-sts", "tls-rpt", "mx", "helo")}


FAULTS = {
    "nothing": Fault(set()),
    # --- DKIM
    "no key": Fault({("dkim", "missing", "no such record")}, zone={"dkim": ""}),
    "another key": Fault({("dkim", "wrong", "another key than")}, zone={"dkim": "s1._domainkey TXT {other}\n"}),
    "key revoked": Fault({("dkim", "wrong", "revoked")}, zone={"dkim": txt("s1._domainkey", "v=DKIM1; p=")}),
    "two keys": Fault(
        {("dkim", "wrong", "2 TXT records")},
        zone={"dkim": GOOD["dkim"] + "s1._domainkey TXT {other}\n"},
    ),
    "key cut short": Fault({("dkim", "wrong", "no readable RSA key")}, zone={"dkim": "s1._domainkey TXT {short}\n"}),
    "key in quotation marks": Fault(
        {("dkim", "wrong", "the record says k=")}, zone={"dkim": "s1._domainkey TXT {quoted}\n"}
    ),
    "key with a backslash": Fault(
        {("dkim", "wrong", "the record says v=")}, zone={"dkim": "s1._domainkey TXT {slash}\n"}
    ),
    "key a tag twice": Fault({("dkim", "wrong", "a tag twice")}, zone={"dkim": "s1._domainkey TXT {twice}\n"}),
    "key for a test": Fault({("dkim", "warning", "t=y")}, zone={"dkim": "s1._domainkey TXT {test}\n"}),
    "key for SHA-1": Fault({("dkim", "wrong", "h=sha1")}, zone={"dkim": "s1._domainkey TXT {sha1}\n"}),
    "one server lacks the key": Fault(
        {("dkim", "wrong", "ns3.d.test. (127.0.1.3): missing, no such record")}, alone={"dkim": ""}
    ),
    "one server has an old key": Fault(
        {("dkim", "wrong", "ns3.d.test. (127.0.1.3): wrong, another key")},
        alone={"dkim": "s1._domainkey TXT {other}\n"},
    ),
    "wildcard": Fault(
        {("dkim", "wrong", "a wildcard record answers for every selector")},
        zone={"dkim": "", "more": txt("*", "v=spf1 -all")},
    ),
    "CNAME to a key": Fault(
        set(),
        zone={"dkim": "s1._domainkey CNAME k.other.test.\n"},
        zones={"other.test": HEAD + DELEGATED + f"ns A {OTHER}\nk TXT {{key}}\n"},
    ),
    "CNAME to another key": Fault(
        {("dkim", "wrong", "another key than")},
        zone={"dkim": "s1._domainkey CNAME k.other.test.\n"},
        zones={"other.test": HEAD + DELEGATED + f"ns A {OTHER}\nk TXT {{other}}\n"},
    ),
    "CNAME to nothing": Fault(
        {("dkim", "missing", "s1._domainkey.d.test. leads to none")},
        zone={"dkim": "s1._domainkey CNAME gone\n"},
    ),
    "CNAME loop": Fault(
        {("dkim", "wrong", "has a CNAME loop: s1._domainkey.d.test. -> a.d.test. -> s1._domainkey.d.test.")},
        zone={"dkim": "s1._domainkey CNAME a\na CNAME s1._domainkey\n"},
    ),
    "CNAME to where nobody answers": Fault(
        {("dkim", "unknown", "nowhere.test. isn't known: the resolver 127.0.1.53 answers SERVFAIL")},
        zone={"dkim": "s1._domainkey CNAME k.nowhere.test.\n"},
        broken=("nowhere.test",),
    ),
    "_domainkey delegated": Fault(
        set(),
        zone={"dkim": "_domainkey NS ns.other.test.\n"},
        zones={
            "other.test": f"{HEAD}{DELEGATED}ns A {OTHER}\n",
            "_domainkey.d.test": HEAD + DELEGATED + "s1 TXT {key}\n",
        },
    ),
    "_domainkey delegated, no key there": Fault(
        {("dkim", "missing", "no such record")},
        zone={"dkim": "_domainkey NS ns.other.test.\n"},
        zones={"other.test": f"{HEAD}{DELEGATED}ns A {OTHER}\n", "_domainkey.d.test": HEAD + DELEGATED},
    ),
    # --- SPF
    "no SPF": Fault({("spf", "missing", "no SPF record")}, zone={"spf": txt("@", "another record")}),
    "two SPF": Fault(
        {("spf", "wrong", "2 SPF records, which is a permanent error")},
        zone={"spf": GOOD["spf"] + txt("@", "v=spf1 mx -all")},
    ),
    "SPF without the relay": spf("v=spf1 mx -all", f"mail from {ADDRESS} gets fail"),
    "SPF neutral": spf("v=spf1 ip4:203.0.113.8/31 ?all", f"mail from {ADDRESS} gets neutral"),
    "SPF after -all": spf("v=spf1 -all ip4:203.0.113.5", f"mail from {ADDRESS} gets fail"),
    "look-up 11": spf("", "look-up 11; 10 are allowed")._replace(
        zone={"spf": txt("@", f"v=spf1 {including(11)} ip4:203.0.113.5 -all"), "more": chain(11)}
    ),
    "look-up 11 after the relay's address": spf(
        "", "permanent error, include:i10.d.test is look-up 11", "warning"
    )._replace(zone={"spf": txt("@", f"v=spf1 ip4:203.0.113.5 {including(11)} -all"), "more": chain(11)}),
    "look-up 9": spf("", "9 look-ups of 10", "warning")._replace(
        zone={"spf": txt("@", f"v=spf1 ip4:203.0.113.5 {including(9)} -all"), "more": chain(9)}
    ),
    "third void look-up": spf(
        "v=spf1 a:no1.d.test a:no2.d.test a:no3.d.test ip4:203.0.113.5 -all",
        "no3.d.test is look-up 3 that finds nothing",
    ),
    "split string without a blank": Fault(
        {("spf", "wrong", "ip4:203.0.113.4ip4:203.0.113.5 is no term of SPF's")},
        zone={"spf": txt("@", "v=spf1 ip4:203.0.113.4", "ip4:203.0.113.5 -all")},
    ),
    "SPF misspelt": spf("v=spf1 ipv4:203.0.113.5 -all", "ipv4:203.0.113.5 is no term"),
    "SPF of another beginning": spf("v=spf1; ip4:203.0.113.5 -all", 'it begins with "v=spf1 "'),
    "SPF includes who has none": spf("v=spf1 include:mx.d.test ip4:203.0.113.5 -all", "mx.d.test has no SPF record"),
    "SPF includes itself": spf("v=spf1 include:d.test -all", "d.test -> d.test is a loop"),
    "SPF lets everybody pass": spf("v=spf1 +all", "+all lets everybody send", "warning"),
    "SPF by a macro": spf("v=spf1 exists:%{i}.ok.d.test -all", "depends on the message", "unknown"),
    "SPF includes where nobody answers": spf(
        "v=spf1 include:nowhere.test -all", f"whether {ADDRESS} passes isn't known", "unknown", broken=("nowhere.test",)
    ),
    "one server has an old SPF": Fault(
        {("spf", "warning", "servers differ")}, alone={"spf": txt("@", "v=spf1 ip4:203.0.113.0/24 -all")}
    ),
    # --- DMARC, TLS-RPT, MTA-STS
    "no DMARC": Fault({("dmarc", "missing", "no DMARC record")}, zone={"dmarc": ""}),
    "two DMARC": Fault(
        {("dmarc", "wrong", "2 DMARC records")}, zone={"dmarc": GOOD["dmarc"] + txt("_dmarc", "v=DMARC1; p=reject")}
    ),
    "DMARC without a policy": Fault({("dmarc", "wrong", "p= is none of")}, zone={"dmarc": txt("_dmarc", "v=DMARC1")}),
    "DMARC reports to who takes none": Fault(
        {("dmarc", "warning", "r@reports.example gets no reports")},
        zone={"dmarc": txt("_dmarc", "v=DMARC1; p=none; rua=mailto:r@reports.example")},
    ),
    "two TLS-RPT": Fault(
        {("tls-rpt", "wrong", "2 TLS-RPT records")},
        zone={"tls-rpt": GOOD["tls-rpt"] + txt("_smtp._tls", "v=TLSRPTv1; rua=mailto:b@d.test")},
    ),
    "TLS-RPT without mailto": Fault(
        {("tls-rpt", "wrong", "rua= has tls@d.test")}, zone={"tls-rpt": txt("_smtp._tls", "v=TLSRPTv1; rua=tls@d.test")}
    ),
    "MTA-STS without an id": Fault({("mta-sts", "wrong", "id= is no")}, zone={"mta-sts": txt("_mta-sts", "v=STSv1;")}),
    "MTA-STS of another MX": Fault(
        {("mta-sts", "wrong", "doesn't name the MX mx.d.test")}, policy=POLICY.replace("mx.d.test", "*.mail.d.test")
    ),
    "MTA-STS without a policy": Fault({("mta-sts", "wrong", "answers 404")}, policy=RelayError("mta-sts answers 404")),
    "MTA-STS that can't be reached": Fault(
        {("mta-sts", "unknown", "no way")}, policy=sts.UnfetchedError("there is no way")
    ),
    # --- MX, PTR, HELO
    "no MX": Fault({("mx", "missing", "nowhere to go")}, zone={"mx": ""}),
    "MX without an address": Fault(
        {("mx", "wrong", "gone.d.test. has no address")},
        zone={"mx": "@ MX 10 mx\n@ MX 20 gone\n"},
        policy=POLICY.replace("mx: mx.d.test", "mx: *.d.test"),
    ),
    "MX is a CNAME": Fault(
        {("mx", "warning", "mx.d.test. is a CNAME")},
        zone={"hosts": GOOD["hosts"].replace("mx A 203.0.113.9", "mx CNAME m\nm A 203.0.113.9")},
    ),
    "MX is an address": Fault(
        {("mx", "wrong", "203.0.113.9. is an address")},
        zone={"mx": "@ MX 10 203.0.113.9.\n"},
        policy=POLICY.replace("mx: mx.d.test", "mx: 203.0.113.9"),
    ),
    "null MX": Fault(
        {("mx", "warning", "a null MX")}, zone={"mx": "@ MX 0 .\n"}, policy="version: STSv1\nmode: none\nmax_age: 1"
    ),
    "no PTR": Fault({("ptr", "missing", f"{ADDRESS} has no name")}, reverse=""),
    "PTR of another name": Fault(
        {("ptr", "warning", f"the relay says {RELAY} in HELO")},
        reverse="5 PTR static5.d.test.\n",
        zone={"more": f"static5 A {ADDRESS}\n"},
    ),
    "PTR that leads elsewhere": Fault(
        {("ptr", "wrong", "mx.d.test. hasn't the address")}, reverse="5 PTR mx.d.test.\n"
    ),
    "relay without an address": Fault(
        {("helo", "missing", "no A record"), ("ptr", "wrong", "hasn't the address")}, zone={"relay": ""}
    ),
    "HELO that SPF refuses": Fault(
        {("helo", "wrong", f"mail from {ADDRESS} gets fail")},
        zone={"relay": GOOD["relay"] + txt("relay", "v=spf1 -all")},
    ),
    # --- servers
    "a silent server": Fault(everywhere("unknown", "2 of 3 servers have answered"), how=Behaviour(silent=True)),
    "a lame server": Fault(everywhere("unknown", "answers REFUSED"), how=Behaviour(rcode="REFUSED")),
    "a broken server": Fault(everywhere("unknown", "answers SERVFAIL"), how=Behaviour(rcode="SERVFAIL")),
    "a server without authority": Fault(
        everywhere("unknown", "without authority (lame)"), how=Behaviour(authority=False)
    ),
    "a server without an address": Fault(
        everywhere("unknown", "ns4.d.test. has no address (lame)"), zone={"ns": NS + "@ NS ns4.d.test.\n"}
    ),
    "a server without TCP": Fault(
        {("dkim", "unknown", "ns3.d.test. (127.0.1.3) doesn't answer by TCP")}, how=Behaviour(most=300, tcp=False)
    ),
    "long answers by TCP": Fault(set(), how=Behaviour(most=300)),
    "no zone at all": Fault(
        {
            *everywhere("unknown", "isn't known: the resolver 127.0.1.53 answers SERVFAIL"),
            ("ptr", "unknown", "SERVFAIL"),
        },
        broken=("d.test",),
    ),
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the key's path, and the values of records of it and of another, as zone files have them."""
    folder: Path = tmp_path_factory.mktemp("keys")
    public = keys.generate_key(str(folder / "key"))
    value, other = record.value(public), record.value(keys.generate_key(str(folder / "other")))

    def strings(text: str) -> str:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        return " ".join(f'"{text[start : start + 200]}"' for start in range(0, len(text), 200))

    return {
        "path": str(folder / "key"),
        "public": public,
        "key": strings(value),
        "other": strings(other),
        "short": strings(value[:200]),
        "quoted": strings(f'v=DKIM1; k="rsa"; p={public}'),
        "slash": strings(value.replace(";", "\\;")),
        "twice": strings(value + "; k=rsa"),
        "test": strings(f"v=DKIM1; t=y:s; p={public}"),
        "sha1": strings(value.replace("sha256", "sha1")),
    }


def zone(parts: Mapping[str, str], key: Mapping[str, str]) -> str:
    text = HEAD + "".join({**GOOD, **parts}.values())
    for name, value in key.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_by_its_name_and_none_besides(
    name: str, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[name]

    def fetch(_: str) -> str:
        if isinstance(fault.policy, RelayError):
            raise fault.policy
        return fault.policy

    monkeypatch.setitem(
        comparison.OF_DOMAINS, "mta-sts", lambda asker, wanted, domain: sts.mta_sts(asker, wanted, domain, fetch)
    )
    reverse = HEAD + DELEGATED + fault.reverse
    good, third = zone(fault.zone, key), zone({**fault.zone, **(fault.alone or {})}, key)
    servers = {address: Behaviour({DOMAIN: good}) for address in SERVERS[:2]}
    servers[SERVERS[2]] = Behaviour(
        {DOMAIN: third}, fault.how.silent, fault.how.rcode, fault.how.authority, fault.how.most, fault.how.tcp
    )
    others = {"other.test": f"{HEAD}{DELEGATED}ns A {OTHER}\n", "reports.example": HEAD + DELEGATED, **fault.zones}
    servers[OTHER] = Behaviour(
        {"113.0.203.in-addr.arpa": reverse} | {apex: text.format(**key) for apex, text in others.items()}
    )
    wanted = Wanted((DOMAIN,), (Key(DOMAIN, "s1", key["path"], key["public"]),), (ADDRESS,), "", RELAY, False)
    with served(servers, fault.broken) as world:
        result = comparison.compared(wanted, comparison.Way([RESOLVER], port=world.port, seconds=30))
    assert name != "nothing" or {each.state for each in result.findings} == {OK}
    told = [each for each in result.findings if each.state not in (OK, ABSENT)]
    unnamed = [
        each
        for each in told
        if not any((each.kind, each.state) == (kind, state) and words in each.seen for kind, state, words in fault.told)
    ]
    assert unnamed == [], unnamed
    assert {each.kind for each in told} == {kind for kind, _, _ in fault.told}
