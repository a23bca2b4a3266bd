"""The site's settings: what the pillar says, what follows from it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from salt.loader import minion_mods
from support import minion_opts


def test_the_example_is_right(settings: Settings, site: dict[str, Any]) -> None:
    assert settings(site)["errors"] == []


def test_every_domain_is_relayed_routed_and_signed(settings: Settings, site: dict[str, Any]) -> None:
    site["domains"].append("domain03.dom")
    made = settings(site)
    assert list(made["postfix"]["maps"]["transport_maps"]["entries"]) == site["domains"]
    assert [key["domain"] for key in made["opendkim"]["signing_keys"]] == [*site["domains"], site["hostname"]]


def test_the_relays_own_mail_is_signed_by_a_domain_above_its_name_where_there_is_one(
    settings: Settings, site: dict[str, Any]
) -> None:
    keys = settings(site | {"hostname": "Relay.mail.domain02.dom"})["opendkim"]["signing_keys"]
    assert [key["signs"] for key in keys] == [["domain01.dom"], ["domain02.dom", "relay.mail.domain02.dom"]]


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


def test_a_type_of_map_that_has_a_package_of_its_own_brings_it(settings: Settings, site: dict[str, Any]) -> None:
    assert {"postfix-pcre", "postfix-cdb"}.isdisjoint(settings(site)["packages"])
    own = {"map_type": "cdb", "maps": {"headers": {"type": "pcre", "entries": {"/^X-/": "IGNORE"}}}}
    assert {"postfix-pcre", "postfix-cdb"} <= set(settings(site | {"postfix": own})["packages"])


@pytest.mark.parametrize("running", [True, False])
def test_what_selinux_is_told_with_is_installed_where_it_runs(
    tmp_path: Path, site: dict[str, Any], running: bool
) -> None:
    grains = {"os": "AlmaLinux", "osmajorrelease": 9, "fqdn": "relay.example.com", "selinux": {"enabled": running}}
    made = minion_mods(minion_opts(tmp_path, pillar={"smtpout": site}, grains=grains))["smtpout.settings"]()
    assert made["errors"] == []
    assert ("policycoreutils-python-utils" in made["packages"]) == running
    assert "postfix" in made["packages"]


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


def test_old_devices_get_what_users_get_but_for_their_tls(settings: Settings, site: dict[str, Any]) -> None:
    assert not any("old" in name for name in settings(site)["postfix"]["services"])
    services = settings(site | {"authentication": {"old_devices_port": 2587}})["postfix"]["services"]
    users, old = services["submission/inet"]["options"], services["2587/inet"]["options"]
    differing = {name for name in users if users[name] != old[name]}
    assert differing == {
        "syslog_name",
        "smtpd_tls_mandatory_protocols",
        "smtpd_tls_mandatory_ciphers",
        "tls_high_cipherlist",
    }
    assert "old-devices/inet" not in services


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
    networks = settings(site)["postfix"]["trusted_networks"]
    assert networks[2:] == ["[2001:db8::]/32", "192.0.2.0/24", "[2001:db9::1]"]


def test_loopback_is_the_same_to_each_daemon(settings: Settings, site: dict[str, Any]) -> None:
    site["networks"] = ["127.0.0.0/8", "0:0::1/128", "192.0.2.0/24"]
    site["opendkim"]["trusted_hosts"] = []
    made = settings(site)
    assert made["postfix"]["trusted_networks"] == ["127.0.0.0/8", "[::1]/128", "192.0.2.0/24"]
    assert made["opendkim"]["hosts"] == ["127.0.0.0/8", "::1/128", "192.0.2.0/24"]


def test_a_network_is_the_same_in_every_spelling(settings: Settings, site: dict[str, Any]) -> None:
    site["networks"] = ["2001:DB8:0:A::/64", "2001:0db8:0000:0002:0000:0000:0000:0000/64", "2001:db8:0:2::/64"]
    site["opendkim"] |= {"trusted_hosts": ["2001:DB8::0:25", "App.Example.COM"]}
    made = settings(site)
    assert made["errors"] == []
    assert made["postfix"]["trusted_networks"][2:] == ["[2001:db8:0:a::]/64", "[2001:db8:0:2::]/64"]
    assert made["opendkim"]["hosts"][2:] == [
        *("2001:db8:0:a::/64", "2001:db8:0:2::/64"),
        *("2001:db8::25", "app.example.com"),
    ]


def test_a_domain_beyond_ascii_is_the_sites_in_both_forms(settings: Settings, site: dict[str, Any]) -> None:
    site["domains"].append("XN--Espaa-rta.dom")
    made = settings(site)
    assert made["errors"] == []
    for table in ("own_domains", "transport_maps"):
        assert list(made["postfix"]["maps"][table]["entries"])[2:] == ["xn--espaa-rta.dom", "españa.dom"]


def test_a_domain_whose_utf8_form_would_be_another_to_postfix_has_none(
    settings: Settings, site: dict[str, Any]
) -> None:
    site["domains"] = ["xn--strae-oqa.dom", "xn--a.dom"]  # straße, which is folded to strasse, and U+0080
    assert list(settings(site)["postfix"]["maps"]["own_domains"]["entries"]) == site["domains"]


@pytest.mark.parametrize(
    ("room", "section", "option", "value", "said"),
    [
        ("postfix", "main", "compatibility_level", 3.1, "compatibility_level: 3.1 is not text, a whole number"),
        ("postfix", "main", "default_destination_rate_delay", 0.5, "put it in quotes"),
        ("opendkim", "options", "SignatureTTL", 1e3, "SignatureTTL: 1000.0 is not"),
        ("opendkim", "options", "UMask", 18, "UMask: 18 is read as an octal number; put it in quotes, such as '022'"),
        ("clamav", "milter", "milterSocketMode", 432, "milterSocketMode: 432 is read as an octal number"),
        ("clamav", "clamd", "LocalSocketMode", 438, "LocalSocketMode: 438 is read as an octal number"),
    ],
)
def test_a_number_that_yaml_has_changed_is_refused(
    settings: Settings, site: dict[str, Any], room: str, section: str, option: str, value: Any, said: str
) -> None:
    site.setdefault(room, {}).setdefault(section, {})[option] = value
    (error,) = settings(site)["errors"]
    assert error.startswith(f"smtpout:{room}:{section}:{option}: ")
    assert said in error
    assert "put it in quotes" in error


def test_what_is_in_quotes_is_taken_as_it_stands(settings: Settings, site: dict[str, Any]) -> None:
    site["postfix"] = {"main": {"compatibility_level": "3.10"}}
    site.setdefault("opendkim", {})["options"] = {"UMask": "022"}
    made = settings(site)
    assert made["errors"] == []
    assert made["postfix"]["main"]["compatibility_level"] == "3.10"


def test_a_name_that_any_host_may_have_is_refused_in_the_pillar_too(settings: Settings, site: dict[str, Any]) -> None:
    site["hostname"] = "relay.localdomain"
    (error,) = settings(site)["errors"]
    assert error.startswith('smtpout:hostname: "relay.localdomain" is a name that any host may have')


@pytest.mark.parametrize(
    "fqdn", ["localhost", "relay", "", "localhost.localdomain", "vm7.novalocal", "vm7.LocalDomain"]
)
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
