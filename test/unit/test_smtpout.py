"""The site's settings: what the pillar says, what follows from it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import salt.loader
from support import load, minion_opts

Settings = Callable[..., dict[str, Any]]
PEM = "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def site() -> dict[str, Any]:
    """Return the example's site, to be changed at will."""
    return load("default")["smtpout"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return a function that makes the settings of a site on Debian 12."""
    opts = minion_opts(Path(tmp_path_factory.mktemp("minion")))
    opts["grains"] = {"os": "Debian", "osmajorrelease": 12, "fqdn": "relay.example.com"}
    functions = salt.loader.minion_mods(opts)

    def made(site: Any) -> dict[str, Any]:
        functions.opts["pillar"] = functions.pack["__pillar__"] = {"smtpout": site}
        return functions["smtpout.settings"]()

    made.functions = functions  # type: ignore[attr-defined]
    return made


def test_the_example_is_right(settings: Settings, site: dict[str, Any]) -> None:
    assert settings(site)["errors"] == []


def test_every_domain_is_relayed_routed_and_signed(settings: Settings, site: dict[str, Any]) -> None:
    site["domains"].append("domain03.dom")
    made = settings(site)
    assert list(made["postfix"]["maps"]["transport_maps"]["entries"]) == site["domains"]
    assert [key["domain"] for key in made["opendkim"]["signing_keys"]] == site["domains"]


def test_a_domain_may_have_a_nexthop_and_a_selector_of_its_own(settings: Settings, site: dict[str, Any]) -> None:
    site["delivery"]["domains"] = {"domain02.dom": "smtp:other.example:2525"}
    site["opendkim"]["domains"] = {"domain02.dom": {"selector": "s2026"}}
    made = settings(site)
    assert made["postfix"]["maps"]["transport_maps"]["entries"]["domain02.dom"] == "smtp:other.example:2525"
    assert made["opendkim"]["signing_keys"][1]["selector"] == "s2026"
    assert made["opendkim"]["signing_keys"][1]["path"].endswith("/domain02.dom.s2026.private")


@pytest.mark.parametrize(
    ("written", "route"),
    [
        ("[172.16.11.96]:25", "smtp:[172.16.11.96]:25"),
        ("delivery.example", "smtp:delivery.example"),
        ("lmtp:unix:/run/lmtp", "lmtp:unix:/run/lmtp"),
    ],
)
def test_a_nexthop_without_a_transport_goes_by_smtp(
    settings: Settings, site: dict[str, Any], written: str, route: str
) -> None:
    site["delivery"]["nexthop"] = written
    made = settings(site)
    assert made["errors"] == []
    assert set(made["postfix"]["maps"]["transport_maps"]["entries"].values()) == {route}


def test_a_domain_is_the_same_in_either_case(settings: Settings, site: dict[str, Any]) -> None:
    site["domains"] = ["Domain01.dom", "domain02.dom"]
    site["delivery"]["domains"] = {"DOMAIN02.dom": "smtp:other.example:25"}
    made = settings(site)
    routes = made["postfix"]["maps"]["transport_maps"]["entries"]
    assert routes == {"domain01.dom": "smtp:[172.16.11.96]:25", "domain02.dom": "smtp:other.example:25"}


def test_mail_is_scanned_before_it_is_signed(settings: Settings, site: dict[str, Any]) -> None:
    assert [milter["name"] for milter in settings(site)["milters"]] == ["clamav", "opendkim"]


def test_a_milter_that_is_off_is_in_no_chain_and_its_packages_are_not_installed(
    settings: Settings, site: dict[str, Any]
) -> None:
    site["clamav"] = {"enabled": False}
    made = settings(site)
    assert [milter["name"] for milter in made["milters"]] == ["opendkim"]
    assert "clamav-daemon" not in made["packages"]
    assert "clamav" not in made["postfix"]["groups"]


@pytest.mark.parametrize(
    ("written", "connected"),
    [
        ("inet:7357@127.0.0.1", "inet:127.0.0.1:7357"),
        ("inet:8891@localhost", "inet:127.0.0.1:8891"),
        ("unix:/run/clamav/x.ctl", "unix:/run/clamav/x.ctl"),
    ],
)
def test_postfix_connects_where_the_milter_listens(
    settings: Settings, site: dict[str, Any], written: str, connected: str
) -> None:
    site["clamav"] = {"socket": written}
    assert settings(site)["milters"][0]["socket"] == connected


def test_a_service_of_the_site_is_merged_with_the_stock_one(settings: Settings, site: dict[str, Any]) -> None:
    site["postfix"] = {"master": {"smtp/inet": {"maxproc": 50}, "465/inet": None}}
    services = settings(site)["postfix"]["services"]
    assert services["smtp/inet"] == {"private": "n", "command": "smtpd", "maxproc": 50}
    assert "465/inet" not in services


def test_without_a_hostname_the_minions_own_is_used(settings: Settings, site: dict[str, Any]) -> None:
    del site["hostname"]
    assert settings(site)["hostname"] == "relay.example.com"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("domains"), "smtpout:domains"),
        (lambda s: s.update(domain=["a.example"]), "did you mean domains"),
        (lambda s: s.update(networks=["0.0.0.0/0"]), "smtpout:networks:0"),
        (lambda s: s["delivery"].update(domains={"other.dom": "smtp:x"}), "smtpout:delivery:domains:other.dom"),
        (lambda s: s.update(opendkim={"domains": {"other.dom": {}}}), "smtpout:opendkim:domains:other.dom"),
        (lambda s: s["directory"].update(login="(cn=%u)"), "smtpout:directory:login_attribute"),
        (lambda s: s["verify"].pop("password"), "smtpout:verify"),
        (lambda s: s.update(opendkim={"bits": 512}), "smtpout:opendkim:bits"),
        (lambda s: s["directory"].update(bind_password="a\nb"), "smtpout:directory:bind_password"),
    ],
)
def test_what_is_wrong_is_named_by_its_pillar_path(
    settings: Settings, site: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    change(site)
    made = settings(site)
    assert made["valid"] is False
    assert any(said in error for error in made["errors"])


def main(**parameters: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these parameters into postfix:main."""
    return lambda site: site.update(postfix={"main": parameters})


def master(**services: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these services into postfix:master."""
    return lambda site: site.update(postfix={"master": {name.replace("_", "/"): own for name, own in services.items()}})


def maps(**tables: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these maps into postfix:maps."""
    return lambda site: site.update(postfix={"maps": tables})


def directory(**keys: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these keys into directory."""
    return lambda site: site["directory"].update(keys)


def room(name: str, **keys: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts these keys in place of a section."""
    return lambda site: site.update({name: keys})


CONTRADICTIONS: dict[str, list[tuple[Callable[[dict[str, Any]], Any], str]]] = {
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
        (main(mydestination="localhost, domain02.dom"), "smtpout:postfix:main:mydestination"),
        (main(virtual_alias_domains="domain02.dom"), "smtpout:postfix:main:virtual_alias_domains"),
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
        (main(smtpd_relay_restrictions="permit"), "smtpout:postfix:main:smtpd_relay_restrictions"),
        (main(smtpd_relay_restrictions="permit_mynetworks"), "reject_unauth_destination"),
        (main(smtpd_relay_restrictions="permit, reject"), "anyone relay"),
    ],
    "directory": [
        (directory(start_tls=True, servers=["ldaps://a.example"]), "smtpout:directory:servers:0"),
        (directory(ca_file="/etc/ssl/ca.pem"), "is not encrypted, although smtpout:directory:ca_file"),
        (directory(servers=["ldap://a.example", "LDAP://a.example/"]), "repeats smtpout:directory:servers:0"),
        (directory(servers=[f"ldap://{n}.example" for n in range(100)]), "more than 1023 bytes"),
        (directory(login="(cn=%u)"), "smtpout:directory:login_attribute: missing"),
        (directory(login="(cn=%s)", senders="any"), "neither %u nor %U"),
        (directory(recipients="(mail=*)"), "smtpout:directory:recipients"),
        (directory(recipients="(mail=%s%r)"), "only saslauthd knows"),
        (directory(login="mail"), "smtpout:verify:user"),
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
    "tls": [
        (main(smtpd_tls_chain_files=None), "smtpout:postfix:main:smtpd_tls_chain_files"),
        (main(smtpd_tls_chain_files=""), "smtpout:authentication:submission wants TLS"),
        (main(smtpd_tls_security_level="on"), "not one of none, may, encrypt"),
        (main(smtpd_tls_auth_only=False), "smtpout:postfix:main:smtpd_tls_auth_only"),
        (
            lambda s: s.update(
                authentication={"submission": False},
                postfix={"main": {"smtpd_tls_chain_files": None, "smtpd_tls_security_level": "encrypt"}},
            ),
            "smtpd_tls_security_level wants TLS",
        ),
        (
            lambda s: s.update(
                authentication={"submission": False}, postfix={"main": {"smtpd_tls_security_level": None}}
            ),
            "nobody could log in",
        ),
    ],
    "services": [
        (master(cleanup_unix=None), "smtpout:postfix:master:cleanup/unix: removed"),
        (master(**{"10025_inet": {}}), "smtpout:postfix:master:10025/inet:command: missing"),
        (master(**{"25_inet": {"command": "smtpd"}}), "port 25 is taken by the service smtp/inet"),
        (master(**{"127.0.0.1:587_inet": {"command": "smtpd"}}), "port 587 is taken"),
        (room("clamav", socket="inet:587@127.0.0.1"), "port 587 is taken by smtpout:clamav:socket"),
        (main(myhostname="other.example"), "smtpout:postfix:main:myhostname"),
        (main(smtpd_banner="hello"), "smtpout:postfix:main:smtpd_banner"),
        (main(smtpd_milters=""), "smtpout:postfix:main:smtpd_milters: empty"),
        (main(mailbox_size_limit=1000), "smtpout:postfix:main:mailbox_size_limit: 1000"),
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
        (main(x={"a": 1}, smtpd_relay_restrictions="permit"), "main:x", "main:smtpd_relay_restrictions"),
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
        directory(start_tls=True, ca_file="/etc/ssl/ca.pem"),
        directory(servers=["ldaps://a.example"], ca_file="/etc/ssl/ca.pem"),
        main(smtpd_tls_chain_files=None, smtpd_tls_cert_file="/etc/ssl/a.pem"),
        main(smtpd_relay_restrictions="permit_mynetworks, reject_unauth_destination, permit"),
        main(smtpd_banner="$myhostname ESMTP"),
        master(**{"127.0.0.1:10025_inet": {"command": "smtpd"}, "flush_unix": None}),
        room("clamav", enabled=False, milter={"MaxFileSize": "1M"}),
        room("opendkim", enabled=False, domains={"domain01.dom": {"key_file": "/etc/k.pem"}}),
    ],
)
def test_keys_that_only_look_as_if_they_did_are_not(
    settings: Settings, site: dict[str, Any], change: Callable[[dict[str, Any]], Any]
) -> None:
    change(site)
    assert settings(site)["errors"] == []


def test_everything_wrong_is_said_at_once_by_itself_and_between_keys(settings: Settings, site: dict[str, Any]) -> None:
    site["opendkim"] |= {"bits": 512}
    site["networks"] = ["0.0.0.0/0", "nonsense"]
    site["delivery"]["domains"] = {"other.dom": "smtp:x"}
    site["hostname"] = "domain01.dom"
    said = " ".join(settings(site)["errors"])
    for path in ("opendkim:bits", "networks:1", "delivery:domains:other.dom", "hostname"):
        assert f"smtpout:{path}: " in said


def test_an_ipv6_network_stands_in_brackets_as_postfix_wants_it(settings: Settings, site: dict[str, Any]) -> None:
    site["networks"] = ["2001:db8::/32", "192.0.2.0/24", "2001:db9::1"]
    assert settings(site)["postfix"]["trusted_networks"][1:] == ["[2001:db8::]/32", "192.0.2.0/24", "[2001:db9::1]"]


@pytest.mark.parametrize("fqdn", ["localhost", "relay", ""])
def test_a_minion_without_a_qualified_name_needs_one_in_the_pillar(
    settings: Settings, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fqdn: str
) -> None:
    del site["hostname"]
    site["organisation"] = f"named {fqdn or 'nothing'}"
    monkeypatch.setitem(settings.functions.pack["__salt__"].pack["__grains__"], "fqdn", fqdn)  # type: ignore[attr-defined]
    assert any(error.startswith("smtpout:hostname: missing") for error in settings(site)["errors"])


def test_a_secret_is_never_shown_in_an_error(settings: Settings, site: dict[str, Any]) -> None:
    site["directory"]["bind_password"] = "hidden\nsecret"
    assert "hidden" not in " ".join(settings(site)["errors"])


@pytest.mark.parametrize("nothing", [{}, None, [], "text", 7])
def test_a_pillar_that_is_none_at_all_is_refused_in_words(settings: Settings, nothing: Any) -> None:
    assert settings(nothing)["errors"]
