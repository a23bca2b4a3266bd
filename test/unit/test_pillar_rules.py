"""Rules across keys: what is right by itself and wrong beside another key is refused, and nothing else is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from minions import Settings

PEM = "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n"


def main(**parameters: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these parameters into postfix:main."""
    return lambda site: site.update(postfix={"main": parameters})


def master(**services: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these services into postfix:master."""
    return lambda site: site.update(postfix={"master": {name.replace("_", "/"): own for name, own in services.items()}})


def maps(**tables: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these maps into postfix:maps."""
    return lambda site: site.update(postfix={"maps": tables})


def shared(**addresses: Any) -> Callable[[dict[str, Any]], None]:
    """Return what has others send with these addresses."""
    return lambda site: site.update(shared_addresses=addresses)


def directory(**keys: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these keys into directory."""
    return lambda site: site["directory"].update(keys)


def own_header(**opendkim: Any) -> Callable[[dict[str, Any]], None]:
    """Return what has users' From: be their own, with these keys in opendkim."""
    return lambda site: (site["directory"].update(senders="own_header"), site.update(opendkim=opendkim))[1]


def room(name: str, **keys: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these keys in place of a section."""
    return lambda site: site.update({name: keys})


def room_of(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what gives a key at the top this value."""
    return lambda site: site.update({name: value})


def aliases(**led: Any) -> Callable[[dict[str, Any]], None]:
    """Return what leads these addresses elsewhere."""
    return lambda site: site.update(aliases=led)


CONTRADICTIONS: dict[str, list[tuple[Callable[[dict[str, Any]], Any], str]]] = {
    "a proxy before the directory": [
        (
            directory(servers=["ldap://dc1.example", "ldap://dc2.example"], start_tls=True, proxy=True),
            "smtpout:directory:proxy: true can't be had: HAProxy can't begin TLS within LDAP",
        ),
        (directory(servers=["ldaps://192.0.2.1", "ldaps://dc2.example"], proxy=True), "write the name"),
        (directory(servers=["ldapi://%2Frun%2Fldap"], proxy=True), "is a server on this host"),
        (
            lambda s: (s["directory"].update(proxy=True), s.update(saslauthd={"options": {"ldap_tls_key": "/k"}})),
            "smtpout:saslauthd:options has ldap_tls_key, which is about the way to the directory",
        ),
    ],
    "dns": [
        (
            lambda site: site.update(dns={"hours": 24}, watch={"enabled": False}),
            "smtpout:dns:hours: 24 and smtpout:watch:enabled: false don't go together: it compares",
        ),
    ],
    "domains": [
        (room("domains"), "smtpout:domains"),
        (
            lambda s: s["domains"].append("DOMAIN01.dom"),
            'smtpout:domains:2: "DOMAIN01.dom" is the same domain as smtpout:domains:0',
        ),
        (
            lambda s: s["delivery"].update(
                domains={"domain02.dom": "smtp:a.example", "Domain02.dom": "smtp:b.example"}
            ),
            "smtpout:delivery:domains:Domain02.dom",
        ),
        (lambda s: s["delivery"].update(domains={"domain03.dom": "smtp:x"}), "did you mean domain0"),
        (lambda s: s.update(hostname="domain01.dom"), 'smtpout:hostname: "domain01.dom" is one of smtpout:domains'),
    ],
    "what can't be scanned": [
        (
            room("clamav", on_unscannable="Quarantine"),
            'smtpout:clamav:on_unscannable: "Quarantine" isn\'t what is done with infected mail',
        ),
        (room("clamav", on_unscannable="Quarantine"), "Accept, or Reject, as smtpout:clamav:on_infected says"),
        (room("clamav", on_infected="Defer", on_unscannable="Reject"), "right is Accept"),
    ],
    "addresses": [
        (
            room_of("administrators", ["Postmaster@domain01.dom"]),
            'smtpout:administrators:0: "Postmaster@domain01.dom" is one of those whose mail they get',
        ),
        (aliases(**{"a@elsewhere.dom": ["b@domain01.dom"]}), "smtpout:aliases:a@elsewhere.dom: "),
        (aliases(**{"A@domain01.dom": ["a@domain01.dom"]}), "leads to itself; remove it"),
        (
            aliases(**{"a@domain01.dom": ["b@domain01.dom"], "A@domain01.dom": ["c@domain01.dom"]}),
            "smtpout:aliases:A@domain01.dom: ",
        ),
        (
            aliases(**{"a@domain01.dom": ["x@domain01.dom", "B@domain01.dom"], "b@domain01.dom": ["a@domain01.dom"]}),
            "leads back to itself (a@domain01.dom to b@domain01.dom to a@domain01.dom); have it end at somebody",
        ),
        (
            lambda s: s.update(administrators=["it@domain01.dom"], aliases={"it@domain01.dom": ["abuse@domain02.dom"]}),
            "leads back to itself (it@domain01.dom to abuse@domain02.dom to it@domain01.dom)",
        ),
    ],
    "promises": [
        (
            lambda s: (s.update(promises={"users_send_as_themselves": True}), s["directory"].update(senders="any")),
            "smtpout:promises:users_send_as_themselves: true and smtpout:directory:senders: any don't go together",
        ),
        (
            lambda s: (s.update(promises={"authors_are_users": True}), s["directory"].update(senders="any")),
            "smtpout:promises:authors_are_users: true and smtpout:directory:senders: any don't go together",
        ),
        (
            lambda s: s.update(promises={"viruses_are_stopped": True}, clamav={"on_infected": "Accept"}),
            "smtpout:clamav:on_infected: Accept",
        ),
        (room("promises", strangers_do_not_rely=False), "did you mean strangers_do_not_relay"),
    ],
    "networks": [
        (lambda s: s.update(networks=["0.0.0.0/0"]), "strangers could send"),
        (lambda s: s.update(networks=["::/0"]), "smtpout:networks:0"),
        (lambda s: s.update(networks=["0.0.0.0/1"]), "smtpout:networks:0"),
        (lambda s: s.update(networks=["2000::/3"]), "smtpout:networks:0"),
        (lambda s: s.update(networks=[f"{first}.0.0.0/8" for first in range(256)]), "together they hold 0.0.0.0/0"),
        (lambda s: s["opendkim"].update(trusted_hosts=["0.0.0.0/0"]), "smtpout:opendkim:trusted_hosts:0"),
        (main(mynetworks="127.0.0.0/8, 0.0.0.0/0"), "smtpout:postfix:main:mynetworks"),
        (main(mynetworks="[::]/0"), "smtpout:postfix:main:mynetworks"),
    ],
    "directory": [
        (directory(start_tls=True, servers=["ldaps://a.example"]), "smtpout:directory:servers:0"),
        (directory(ca_file="/etc/ssl/ca.pem"), "is not encrypted, although smtpout:directory:ca_file"),
        (directory(servers=["ldap://a.example", "LDAP://a.example/"]), "repeats smtpout:directory:servers:0"),
        (directory(servers=[f"ldap://{n}.example" for n in range(100)]), "more than 1023 bytes"),
        (directory(login="(cn=%u)"), "smtpout:directory:login_attribute: missing"),
        (directory(login="(cn=%s)", senders="any"), "neither %u nor %U"),
        (
            directory(login="(|(cn=%u)(mail=%u))", login_attribute=["cn", "uid", "mail"]),
            'smtpout:directory:login_attribute:1: "uid" isn\'t what smtpout:directory:login compares',
        ),
        (directory(login="uid", login_attribute="mail"), 'smtpout:directory:login_attribute: "mail" isn\'t what'),
        (
            directory(login="(|(cn=%u)(mail=%u))", login_attribute="cn"),
            "smtpout:directory:login_attribute: lacks mail: users log in with that, too",
        ),
        (
            directory(login=["account_name", "mail"], login_attribute=["sAMAccountName"]),
            "right is [sAMAccountName, mail]",
        ),
        (
            lambda s: (s.update(shared_addresses={"a@domain01.dom": ["b"]}), s["directory"].update(senders="any")),
            "smtpout:shared_addresses: has no effect beside smtpout:directory:senders: any",
        ),
        (directory(senders="any", delegates="group_members"), "smtpout:directory:delegates: has no effect beside"),
        (directory(senders="any", delegates="publicDelegates"), "smtpout:directory:delegates: has no effect beside"),
        (directory(delegates=["none", "publicDelegates"]), "smtpout:directory:delegates"),
        (directory(delegates="public delegates"), "is not none, group_members, an attribute's name"),
        (
            shared(**{"A@domain01.dom": ["b"], "a@domain01.dom": ["c"]}),
            "smtpout:shared_addresses:a@domain01.dom: is the same address as smtpout:shared_addresses:A@domain01.dom",
        ),
        (shared(**{"a@elsewhere.dom": ["b"]}), "smtpout:shared_addresses:a@elsewhere.dom: is of none of"),
        (
            shared(**{"a@domain01.dom": ["b", "b@domain01.dom"]}),
            'smtpout:shared_addresses:a@domain01.dom:1: "b@domain01.dom" has an @, and users log in with account_name',
        ),
        (
            directory(any_author=["secretary"]),
            "smtpout:directory:any_author: has no effect without smtpout:directory:senders: own_header",
        ),
        (
            directory(senders="own_header", any_author=["ana", "a@b.dom"]),
            'smtpout:directory:any_author:1: "a@b.dom" has an @, and users log in with account_name',
        ),
        (directory(login="(cn=%u)", senders="own_header"), "smtpout:directory:login_attribute: missing"),
        (directory(recipients="(mail=*)"), "smtpout:directory:recipients"),
        (directory(recipients="(mail=%s%r)"), "only saslauthd knows"),
        (directory(login="mail"), "smtpout:verify:user"),
        (directory(login=["mail", "upn"]), "has no @, and users log in with mail or upn"),
        (lambda s: s["verify"].update(user="a@b"), "smtpout:verify:user"),
        (lambda s: s["verify"].pop("password"), "smtpout:verify:password: missing"),
        (lambda s: s["verify"].pop("user"), "smtpout:verify:user: missing"),
    ],
    "delivery": [
        (room("delivery", nexthop="smtp:[127.0.0.1]:25"), "is this relay itself"),
        (room("delivery", nexthop="[localhost]"), "is this relay itself"),
        (room("delivery", nexthop="smtp:vm-172-16-11-95.cloud0.hc.mycompany.dom"), "is this relay itself"),
        (room("delivery", nexthop="smtp:[ipv6:::1]:587"), "is this relay itself"),
        (room("delivery", nexthop="smpt:[192.0.2.1]"), "wants the transport smpt"),
        (room("delivery", nexthop="smtp:a.example", domains={"domain01.dom": "[127.0.0.1]"}), "domains:domain01.dom"),
    ],
    "services": [
        (master(cleanup_unix=None), "smtpout:postfix:master:cleanup/unix: removed"),
        (master(**{"10025_inet": {}}), "smtpout:postfix:master:10025/inet:command: missing"),
        (master(**{"25_inet": {"command": "smtpd"}}), "port 25 is taken by the service smtp/inet"),
        (master(**{"127.0.0.1:587_inet": {"command": "smtpd"}}), "port 587 is taken"),
        (room("clamav", socket="inet:587@127.0.0.1"), "port 587 is taken by smtpout:clamav:socket"),
        (main(myhostname="other.example"), "smtpout:postfix:main:myhostname"),
        (main(smtpd_banner="hello"), "smtpout:postfix:main:smtpd_banner"),
        (
            main(smtpd_tls_cert_file="/etc/ssl/a.pem"),
            '"/etc/ssl/a.pem" has no effect beside smtpd_tls_chain_files; set smtpout:tls:chain_file',
        ),
        (main(smtpd_enforce_tls=True), "smtpout:postfix:main:smtpd_enforce_tls: true has no effect beside smtpd_tls_"),
        (main(mynetworks_style="host"), "set smtpout:networks"),
        (
            master(submission_inet={"options": {"smtpd_tls_key_file": "/etc/ssl/a.key"}}),
            "smtpout:postfix:master:submission/inet:options:smtpd_tls_key_file",
        ),
        (main(mailbox_size_limit=1000), "smtpout:postfix:main:mailbox_size_limit: 1000"),
    ],
    "certificates": [
        (room("tls", chain_file="/a", chain=PEM), "smtpout:tls:chain: (secret) and smtpout:tls:chain_file don't go"),
        (room("tls", chain="-----BEGIN CERTIFICATE-----\n"), "smtpout:tls:chain: (secret) is not the private key"),
        (room("tls", chain_file="relay.pem"), "smtpout:tls:chain_file: "),
        (room("tls", names={"a.dom": {}}), "smtpout:tls:names:a.dom:chain_file: missing; name a PEM file"),
        (
            room("tls", names={"a.dom": {"chain_file": "/a", "chain": PEM}}),
            "smtpout:tls:names:a.dom:chain: (secret) and smtpout:tls:names:a.dom:chain_file don't go together",
        ),
        (
            room("tls", names={"a.dom": {"chain_file": "/a"}, "A.dom": {"chain_file": "/a"}}),
            "smtpout:tls:names:A.dom: repeats smtpout:tls:names:a.dom",
        ),
        (room("tls", names={"a b": {"chain_file": "/a"}}), "smtpout:tls:names:a b"),
        (maps(tls_names={"entries": {"a": "b"}}), "smtpout:tls:names makes it"),
    ],
    "old devices": [
        (
            room("authentication", old_devices_port=587),
            "smtpout:authentication:old_devices_port: port 587 is taken by the service submission/inet",
        ),
        (
            room("authentication", old_devices_port=25),
            "smtpout:authentication:old_devices_port: port 25 is taken by the service smtp/inet",
        ),
        (
            room("authentication", old_devices_port=2587, submission=False),
            "smtpout:authentication:old_devices_port: 2587 needs smtpout:authentication:submission, which is false",
        ),
        (room("authentication", old_devices_port=0), "smtpout:authentication:old_devices_port: 0"),
        (
            lambda s: s.update(authentication={"old_devices_port": 2587}, clamav={"socket": "inet:2587@127.0.0.1"}),
            "smtpout:authentication:old_devices_port: port 2587 is taken by smtpout:clamav:socket",
        ),
        (
            lambda s: s.update(
                authentication={"old_devices_port": 2587},
                postfix={"master": {"127.0.0.1:2587/inet": {"command": "smtpd"}}},
            ),
            "smtpout:postfix:master:127.0.0.1:2587/inet: port 2587 is taken by the service 2587/inet",
        ),
        (master(**{"old-devices_inet": {}}), "smtpout:postfix:master:old-devices/inet:command: missing"),
    ],
    "maps": [
        (maps(transport_maps={"entries": {"a": "b"}}), "smtpout:delivery makes it"),
        (maps(own_domains={"entries": {"a": "b"}}), "smtpout:domains makes it"),
        (maps(sasl={"entries": {"a": "b"}}), "smtpout:postfix:maps:sasl"),
        (maps(x={"entries": {"a b": "c"}}), "smtpout:postfix:maps:x:entries: key 'a b'"),
        (maps(x={"entries": {"a": "b", "A": "c"}}), "the same as 'a'"),
    ],
    "scanner": [
        (room("clamav", socket="inet:8891@127.0.0.1"), "is taken by smtpout:clamav:socket"),
        (
            room("clamav", socket="inet:3310@127.0.0.1", clamd_socket="tcp:127.0.0.1:3310"),
            "smtpout:clamav:clamd_socket",
        ),
        (room("clamav", socket="unix:/run/clamav/clamd.ctl"), "clamd's own socket"),
        (room("clamav", socket="inet:7357@0.0.0.0"), "smtpout:clamav:socket"),
        (room("clamav", on_clean="Blackhole"), "smtpout:clamav:on_clean"),
        (room("clamav", milter={"MilterSocket": "unix:/x"}), "smtpout:clamav:socket says it for all"),
        (room("clamav", signatures={"mirrors": []}), "smtpout:clamav:signatures:mirrors"),
        (room("clamav", signatures={"exclude": ["main", "daily", "bytecode"]}), "smtpout:clamav:signatures:exclude"),
        (room("clamav", milter={"MaxFileSize": "10M"}), "smtpout:postfix:main:message_size_limit"),
        (main(message_size_limit=0), "pass unscanned"),
        (
            room("clamav", clamd={"StreamMaxLength": "10M"}),
            "smtpout:clamav:clamd:StreamMaxLength: 10485760 is below what the milter sends",
        ),
        (room("clamav", clamd={"MaxFileSize": "5M"}), "smtpout:clamav:clamd:MaxFileSize: 5242880 is below message_"),
        (room("clamav", clamd={"MaxScanSize": "5M"}), "smtpout:clamav:clamd:MaxScanSize: 5242880 is below message_"),
    ],
    "signer": [
        (room("opendkim", socket="inet:8891@192.0.2.1"), "smtpout:opendkim:socket"),
        (room("opendkim", options={"socket": "inet:1@localhost"}), "smtpout:opendkim:options:socket"),
        (room("opendkim", options={"KeyTable": "/x"}), "smtpout:opendkim:options:KeyTable"),
        (room("opendkim", selector=".".join(["a" * 60] * 4)), "smtpout:opendkim:selector"),
        (
            room("opendkim", domains={"domain01.dom": {"selector": ".".join(["a" * 60] * 4)}}),
            "smtpout:opendkim:domains:domain01.dom:selector",
        ),
        (
            room("opendkim", domains={"domain01.dom": {"selectors": ["a", {"name": ".".join(["a" * 60] * 4)}]}}),
            "smtpout:opendkim:domains:domain01.dom:selectors:1",
        ),
        (
            room("opendkim", domains={"domain01.dom": {"selectors": ["a", {"name": "a"}]}}),
            'smtpout:opendkim:domains:domain01.dom:selectors: "a" stands there twice',
        ),
        *(
            (
                room("opendkim", domains={"domain01.dom": {"selectors": ["a"], name: value}}),
                f'smtpout:opendkim:domains:domain01.dom:{name}: "{value}" is of one key, and smtpout:opendkim:domains:',
            )
            for name, value in (("selector", "b"), ("key_file", "/etc/k.pem"))
        ),
        (
            room("opendkim", domains={"domain01.dom": {"private_key": PEM.format("MIIE")}}),
            "smtpout:opendkim:domains:domain01.dom:private_key: (secret) can't be read",
        ),
        (
            room(
                "opendkim",
                domains={
                    "domain01.dom": {"key_file": "/etc/k.pem"},
                    "domain02.dom": {"key_file": "/etc/k.pem", "private_key": PEM.format("MIIE")},
                },
            ),
            "is that of smtpout:opendkim:domains:domain01.dom, with another key",
        ),
        (
            own_header(enabled=False),
            'smtpout:directory:senders: "own_header" needs OpenDKIM, and smtpout:opendkim:enabled is false; right',
        ),
        (own_header(on_fail="accept"), 'smtpout:opendkim:on_fail: "accept" has any From: pass while OpenDKIM is down'),
        *(
            (
                own_header(options={name: "/etc/site/own.lua"}),
                f'smtpout:opendkim:options:{name}: "/etc/site/own.lua" has mail pass by the script of smtpout:',
            )
            for name in ("FinalPolicyScript", "setuppolicyscript", "PeerList", "ExemptDomains", "StrictHeaders")
        ),
    ],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(*case, id=f"{name}-{number}")
        for name, cases in CONTRADICTIONS.items()
        for number, case in enumerate(cases)
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    settings: Settings, site: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    site["opendkim"] = {"socket": "inet:8891@localhost"}
    change(site)
    errors = settings(site)["errors"]
    assert any(said in error for error in errors), errors
    assert all(error.startswith("smtpout:") for error in errors)


@pytest.mark.parametrize(
    ("change", "wrong", "contradiction"),
    [
        (lambda s: s["networks"].extend(["a", "0.0.0.0/0"]), "smtpout:networks:2", "smtpout:networks:3"),
        (lambda s: s["networks"].extend([5, "0.0.0.0/0"]), "smtpout:networks:2", "smtpout:networks:3"),
        (main(x={"a": 1}, myhostname="other.example"), "main:x", "smtpout:postfix:main:myhostname"),
        (main(x={"a": 1}, message_size_limit=0), "main:x", "smtpout:postfix:main:message_size_limit"),
        (lambda s: s["verify"].update(user="a@b", password="a\nb"), "verify:password", "smtpout:verify:user"),
        (
            room("clamav", timeout="x", socket="inet:587@127.0.0.1"),
            "smtpout:clamav:timeout",
            "port 587 is taken by smtpout:clamav:socket",
        ),
        (room("clamav", clamd={5: "x", "user": "y"}), "smtpout:clamav:clamd:5", "smtpout:clamav:clamd:user"),
    ],
)
def test_a_contradiction_is_told_beside_what_is_wrong_elsewhere(
    settings: Settings, site: dict[str, Any], change: Callable[[dict[str, Any]], Any], wrong: str, contradiction: str
) -> None:
    change(site)
    errors = settings(site)["errors"]
    assert any(wrong in error for error in errors), errors
    assert any(contradiction in error for error in errors), errors
    assert len(errors) == 2, errors


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(networks=["10.0.0.0/8", "fc00::/7", "2001:db8::/32"]),
        room("delivery", nexthop="smtp:[127.0.0.1]:10026"),
        room("delivery", nexthop="lmtp:unix:/run/lmtp"),
        aliases(**{"a@domain01.dom": ["a@domain01.dom", "b@domain01.dom"], "b@domain01.dom": ["c@domain01.dom"]}),
        room("clamav", on_infected="Quarantine", on_unscannable="Quarantine"),
        directory(start_tls=True, ca_file="/etc/ssl/ca.pem"),
        directory(servers=["ldaps://a.example"], ca_file="/etc/ssl/ca.pem"),
        directory(servers=["ldap://catalog.example:3268/", "ldaps://catalog.example:3269/"]),
        directory(members_of="cn=mail (all),dc=domain01,dc=dom", disabled_accounts="mailboxes"),
        main(smtpd_banner="$myhostname ESMTP"),
        main(smtpd_tls_chain_files=None, smtpd_tls_cert_file="/etc/ssl/a.pem", smtpd_tls_key_file="/etc/ssl/a.key"),
        main(smtp_tls_security_level="", smtp_use_tls=True, smtpd_use_tls=None),
        master(submission_inet={"options": {"smtpd_tls_chain_files": "", "smtpd_tls_cert_file": "/etc/ssl/a.pem"}}),
        master(**{"127.0.0.1:10025_inet": {"command": "smtpd"}, "flush_unix": None}),
        room("clamav", enabled=False, milter={"MaxFileSize": "1M"}),
        room("clamav", clamd={"MaxFileSize": "0", "MaxScanSize": "25M"}),
        room("opendkim", enabled=False, domains={"domain01.dom": {"key_file": "/etc/k.pem"}}),
        lambda s: s.update(authentication={"old_devices_port": 2587}, postfix={"master": {"2587/inet": None}}),
        lambda s: s.update(
            authentication={"old_devices_port": 2587}, postfix={"master": {"2587/inet": {"maxproc": 5}}}
        ),
    ],
)
def test_keys_that_only_look_as_if_they_did_are_not(
    settings: Settings, site: dict[str, Any], change: Callable[[dict[str, Any]], Any]
) -> None:
    change(site)
    assert settings(site)["errors"] == []


MANY = [f"d{number:05}.dom" for number in range(10_000)]
STRANGE = [f"x{number:05}.dom" for number in range(10_000)]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["delivery"].update(domains=dict.fromkeys(STRANGE, "smtp:[192.0.2.1]")),
        room("opendkim", domains={domain: {"selector": "s2026"} for domain in STRANGE}),
        room("opendkim", domains={domain: {"selectr": "s2026"} for domain in MANY}),
        lambda s: s["directory"].update(servers=[f"ldap://{name}{'/' * (len(name) % 2)}" for name in MANY * 2]),
        maps(x={"entries": {f"a {name}": "b" for name in MANY}}),
        lambda s: s.update(networks=["10.0.0.0/24"] * 10_001),
    ],
    ids=["delivery:domains", "opendkim:domains", "keys", "servers", "a map", "networks"],
)
def test_ten_thousand_errors_are_told_within_seconds(
    settings: Settings, site: dict[str, Any], change: Callable[[dict[str, Any]], Any]
) -> None:
    site["domains"] = MANY
    change(site)
    start = time.process_time()
    errors = settings(site)["errors"]
    assert time.process_time() - start < 5
    assert len(errors) >= 10_000


def test_the_nearest_domain_is_named_for_the_first_strange_ones(settings: Settings, site: dict[str, Any]) -> None:
    site["delivery"]["domains"] = {f"domain{number}.dom": "smtp:[192.0.2.1]" for number in range(10, 20)}
    hinted = ["did you mean" in error for error in settings(site)["errors"]]
    assert hinted == [True] * 3 + [False] * 7


def pem(key: rsa.RSAPrivateKey) -> str:
    """Return a private key as the pillar has it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def test_a_thousand_keys_in_the_pillar_are_read_within_seconds(settings: Settings, site: dict[str, Any]) -> None:
    key = pem(rsa.generate_private_key(65537, 2048))
    site["domains"] = MANY[:1_000]
    site["opendkim"] = {"domains": {domain: {"private_key": key} for domain in site["domains"]}}
    start = time.process_time()
    assert settings(site)["errors"] == []
    assert time.process_time() - start < 5  # OpenSSL's own validation took 44 ms a key


@pytest.mark.parametrize("number", ["d", "dmp1", "dmq1", "iqmp"])
def test_a_key_of_which_a_number_is_another_keys_is_refused(
    settings: Settings, site: dict[str, Any], number: str
) -> None:
    one, other = (rsa.generate_private_key(65537, 2048).private_numbers() for _ in range(2))
    numbers = {name: getattr(one, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    numbers[number] = getattr(other, number)
    mixed = rsa.RSAPrivateNumbers(**numbers, public_numbers=one.public_numbers)
    site["opendkim"] = {
        "domains": {"domain01.dom": {"private_key": pem(mixed.private_key(unsafe_skip_rsa_key_validation=True))}}
    }
    (error,) = settings(site)["errors"]
    assert "can't be read" in error
