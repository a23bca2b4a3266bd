"""Tables and parameters of the formula postfix become the keys of a site that mean the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from minions import minion

PASSWORD = "p4ss:w0rd#1"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEkey\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIEcertificate\n-----END CERTIFICATE-----\n"
NEEDED = {
    "directory": {
        "servers": ["ldaps://directory.example.com"],
        "base": "dc=example,dc=com",
        "bind_dn": "cn=relay,dc=example,dc=com",
        "bind_password": "secret",
    },
    "delivery": {"nexthop": "smtp:[192.0.2.25]:25"},
}
HOP = "smtp:[smtp.example.net]:587"


class Imported:
    """What became of a pillar of that formula, with two domains of the site's."""

    def __init__(
        self, modules: Any, root: Path, config: dict[str, Any], mapping: dict[str, Any] | None = None, **others: Any
    ) -> None:
        tables = {name: f"hash:/etc/postfix/{name}" for name in mapping or {}}
        pillar = {
            "config": {"relay_domains": ["example.com", "example.org"], **tables, **config},
            "mapping": mapping or {},
            **others,
        }
        (root / "theirs.yaml").write_text(yaml.safe_dump({"postfix": pillar}), encoding="utf-8")
        self.said = modules["smtpout.import_pillar"](str(root / "site.sls"), str(root / "theirs.yaml"))
        self.site = yaml.safe_load((root / "site.sls").read_text(encoding="utf-8"))["smtpout"]
        assert not {*self.said["carried"]} & {*self.said["left"]}
        assert PASSWORD not in str(self.said)
        assert "MIIE" not in str(self.said)
        assert modules["smtpout.problems"]({**self.site, **NEEDED}) == []

    @property
    def main(self) -> Any:
        """Return what is left to main.cf itself."""
        return self.site.get("postfix", {}).get("main", {})


Make = Callable[..., Imported]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a minion's functions: none of these pillars is its own."""
    return minion(tmp_path_factory.mktemp("minion"), {})


@pytest.fixture
def imported(modules: Any, tmp_path: Path) -> Make:
    """Return what imports a pillar."""
    return functools.partial(Imported, modules, tmp_path)


LOGIN = {"relayhost": "[smtp.example.net]:587", "smtp_sasl_auth_enable": True}


@pytest.mark.parametrize("key", ["[smtp.example.net]:587", "smtp.example.net", "SMTP.example.net"])
def test_a_smart_host_and_its_login_are_the_default_route(imported: Make, key: str) -> None:
    made = imported(
        {**LOGIN, "smtp_sasl_security_options": "noanonymous"},
        {"smtp_sasl_password_maps": {key: f"account:{PASSWORD}"}},
    )
    assert made.site["routes"] == {"default": {"nexthop": HOP, "user": "account", "password": PASSWORD}}
    assert "postfix" not in made.site
    assert "by TLS alone" in made.said["left"]["postfix:config:smtp_sasl_security_options"]


def test_a_login_that_is_not_used_there_is_not_used_here(imported: Make) -> None:
    made = imported({"relayhost": "smtp.example.net"}, {"smtp_sasl_password_maps": {"smtp.example.net": "a:b"}})
    assert made.site["routes"] == {"default": {"nexthop": "smtp:smtp.example.net"}}
    assert made.main == {"smtp_sasl_password_maps": "lmdb:/etc/postfix/smtp_sasl_password_maps"}


def test_the_login_of_another_server_or_sender_stays_in_its_table(imported: Make) -> None:
    logins = {"smtp.example.net": f"account:{PASSWORD}", "boss@example.com": f"boss:{PASSWORD}", "mx.example.net": "no"}
    made = imported(LOGIN, {"smtp_sasl_password_maps": logins})
    assert made.site["routes"]["default"]["user"] == "account"
    assert made.main == {
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": {"append": "lmdb:/etc/postfix/smtp_sasl_password_maps"},
    }
    table = made.site["postfix"]["maps"]["smtp_sasl_password_maps"]
    assert table["secret"]
    assert table["entries"].keys() == {"boss@example.com", "mx.example.net"}


def test_a_login_in_clear_text_is_not_carried(imported: Make) -> None:
    mapping = {
        "smtp_sasl_password_maps": {"smtp.example.net": f"account:{PASSWORD}"},
        "smtp_tls_policy_maps": {"[smtp.example.net]:587": "may"},
    }
    made = imported(LOGIN, mapping)
    assert "tls" not in made.site["routes"]["default"]
    assert "clear text" in made.said["left"]["postfix:mapping:smtp_tls_policy_maps, [smtp.example.net]:587"]


@pytest.mark.parametrize("relayhost", ["", None, "$mydomain", "smtp.example.net, [not a host]"])
def test_what_names_no_smart_host_is_no_route(imported: Make, relayhost: str | None) -> None:
    made = imported({"relayhost": relayhost})
    assert "routes" not in made.site
    assert made.main == ({"relayhost": relayhost} if relayhost else {})


@pytest.mark.parametrize(
    ("policy", "route"),
    [
        ("encrypt", {"tls": "encrypt"}),
        ("none", {"tls": "none"}),
        ("secure", {"tls": "verified"}),
        ("secure match=nexthop:dot-nexthop", {"tls": "verified"}),
        ("secure match=mx1.partner.example:.partner.example", {"match": ["mx1.partner.example", ".partner.example"]}),
        ("verify match=mx1.partner.example", {"tls": "verified", "match": ["mx1.partner.example"]}),
    ],
)
@pytest.mark.parametrize("key", ["partner.example", ".partner.example"])
def test_tls_of_a_domain_is_its_routes(imported: Make, key: str, policy: str, route: dict[str, Any]) -> None:
    made = imported({}, {"smtp_tls_policy_maps": [{key: policy}]})
    assert made.site["routes"] == {key: {"tls": "verified", **route}}
    assert "postfix" not in made.site


@pytest.mark.parametrize(
    ("key", "policy"),
    [
        ("partner.example", "verify"),
        ("partner.example", "secure match=hostname"),
        ("partner.example", "encrypt protocols=TLSv1.3"),
        ("partner.example", "dane"),
        ("[192.0.2.25]:25", "encrypt"),
        ("example.com", "encrypt"),
    ],
)
def test_tls_that_no_route_can_say_stays_in_its_table(imported: Make, key: str, policy: str) -> None:
    made = imported({}, {"smtp_tls_policy_maps": {key: policy}})
    assert "routes" not in made.site
    assert made.site["postfix"]["maps"]["smtp_tls_policy_maps"]["entries"] == {key: policy}


def test_tls_is_looked_up_by_the_server_where_a_transport_names_one(imported: Make) -> None:
    mapping = {
        "transport_maps": [
            {"example.com": "smtp:[192.0.2.25]:25"},
            {"partner.example": "smtp:[mx.partner.example]"},
            {".partner.example": "smtp:[mx.partner.example]"},
        ],
        "smtp_tls_policy_maps": {"[mx.partner.example]": "secure", "partner.example": "encrypt"},
    }
    made = imported({}, mapping)
    route = {"nexthop": "smtp:[mx.partner.example]", "tls": "verified"}
    assert made.site["routes"] == {"partner.example": route, ".partner.example": route}
    assert made.site["postfix"]["maps"]["smtp_tls_policy_maps"]["entries"] == {"partner.example": "encrypt"}
    assert made.main == {"smtp_tls_policy_maps": {"append": "lmdb:/etc/postfix/smtp_tls_policy_maps"}}


def test_one_route_that_is_wrong_takes_no_other_with_it(imported: Make) -> None:
    entries = {"relay.example.net": "smtp:[192.0.2.8]", "bulk.example": "smtp:[192.0.2.9]"}
    made = imported({"myhostname": "relay.example.net"}, {"transport_maps": entries})
    assert made.site["routes"] == {"bulk.example": {"nexthop": "smtp:[192.0.2.9]"}}
    assert "this relay's own name" in made.said["left"]["postfix:mapping:transport_maps, relay.example.net"]


def test_aliases_of_the_sites_addresses_are_its(imported: Make) -> None:
    entries = {
        "sales@example.com": ["usuario01@example.com", "agency@partner.example"],
        "Info@example.org": "usuario01@example.com usuario02@example.com",
        "usuario01@example.com": "usuario01@example.com",
        "local@example.com": "usuario01",
        "@example.org": "usuario01@example.com",
        "someone@partner.example": "usuario01@example.com",
    }
    made = imported({}, {"virtual_alias_maps": entries})
    assert made.site["aliases"] == {
        "sales@example.com": ["usuario01@example.com", "agency@partner.example"],
        "Info@example.org": ["usuario01@example.com", "usuario02@example.com"],
    }
    kept = made.site["postfix"]["maps"]["virtual_alias_maps"]["entries"]
    assert kept.keys() == {"usuario01@example.com", "local@example.com", "@example.org", "someone@partner.example"}
    assert made.main == {"virtual_alias_maps": {"append": "lmdb:/etc/postfix/virtual_alias_maps"}}


def test_names_of_the_relay_among_them_are_the_administrators(imported: Make) -> None:
    made = imported({}, {"virtual_alias_maps": {"root": "boss@example.com", "Postmaster": "root", "backup": "root"}})
    assert made.site["administrators"] == ["boss@example.com"]
    assert made.site["postfix"]["maps"]["virtual_alias_maps"]["entries"] == {"backup": "root"}


def test_tables_that_variables_name_stand_behind_smtpouts(imported: Make) -> None:
    made = imported({"virtual_alias_maps": "$people"}, {"people": {"root": "usuario01"}})
    assert made.main == {"virtual_alias_maps": {"append": "$people"}, "people": "lmdb:/etc/postfix/people"}


def test_aliases_by_rules_stay_rules(imported: Make) -> None:
    rules = {"virtual_alias_maps": [{"/^sales@/": "usuario01@example.com"}]}
    made = imported({"virtual_alias_maps": "regexp:/etc/postfix/virtual"}, rules)
    assert made.main == {"virtual_alias_maps": {"append": "regexp:/etc/postfix/virtual"}}


@pytest.mark.parametrize(
    "aliases",
    [
        {
            "use_file": True,
            "content": "# who\npostmaster: root\nnobody: /dev/null\nroot: boss@example.com,\n  it@example.com\n",
        },
        {"use_file": False, "present": {"root": "boss@example.com, it@example.com"}},
    ],
)
def test_roots_mail_is_the_administrators(imported: Make, aliases: dict[str, Any]) -> None:
    made = imported({}, aliases=aliases)
    assert made.site["administrators"] == ["boss@example.com", "it@example.com"]
    assert made.said["carried"]["postfix:aliases, root"] == ["smtpout:administrators"]
    assert "/etc/aliases" in made.said["left"]["postfix:aliases"]


@pytest.mark.parametrize(
    "content",
    [
        "postmaster: boss@example.com\n",
        "root: boss@example.com\npostmaster: it@example.com\n",
        "root: boss@example.com, usuario01\n",
        "/.+/  boss@example.com\n",
        "root: boss@example.com, |/usr/bin/procmail\n",
        "root: postmaster\npostmaster: root\n",
    ],
)
def test_other_ways_of_roots_mail_are_the_hosts(imported: Make, content: str) -> None:
    made = imported({}, aliases={"content": content})
    assert "administrators" not in made.site
    told = made.said["left"].get("postfix:aliases, root", "")
    assert ("that of postmaster" in told) is ("it@" in content)


def test_an_address_of_its_own_stays_in_main_cf(imported: Make) -> None:
    """It is for the delivery layer, too, and what routes:default has is not."""
    made = imported({"smtp_bind_address": "192.0.2.9"})
    assert made.main == {"smtp_bind_address": "192.0.2.9"}
    assert "routes" not in made.site


def test_certificates_of_the_pillar_are_chains(imported: Make) -> None:
    made = imported(
        {
            "smtpd_tls_cert_file": "/etc/postfix/ssl/relay.crt",
            "smtpd_tls_key_file": "/etc/postfix/ssl/relay.key",
        },
        {
            "tls_server_sni_maps": {
                "smtp.example.org": ["/etc/postfix/ssl/other.key", "/etc/postfix/ssl/other.crt"],
                "mail.example.org": "/etc/ssl/private/mail.pem",
                "imap.example.org": "/etc/ssl/private/imap.key, /etc/ssl/certs/imap.pem",
                ".example.org": "/etc/ssl/private/any.pem",
            }
        },
        certificates={name: {"public_cert": CERTIFICATE, "private_key": KEY} for name in ("relay", "other")},
    )
    chain = KEY + CERTIFICATE
    assert made.site["tls"] == {
        "chain": chain,
        "names": {
            "smtp.example.org": {"chain": chain},
            "mail.example.org": {"chain_file": "/etc/ssl/private/mail.pem"},
        },
    }
    assert {"postfix:certificates:relay", "postfix:certificates:other"} <= made.said["carried"].keys()
    for name in ("imap.example.org", ".example.org"):
        assert "one file" in made.said["left"][f"postfix:mapping:tls_server_sni_maps, {name}"]
    assert "postfix" not in made.site


def test_a_text_that_is_no_key_is_left_wherever_it_was_named(imported: Make) -> None:
    config = {"smtpd_tls_cert_file": "/etc/postfix/ssl/relay.crt", "smtpd_tls_key_file": "/etc/postfix/ssl/relay.key"}
    made = imported(config, certificates={"relay": {"public_cert": CERTIFICATE, "private_key": PASSWORD}})
    assert "tls" not in made.site
    for theirs in ("config:smtpd_tls_cert_file", "config:smtpd_tls_key_file", "certificates:relay"):
        assert "in PEM form" in made.said["left"][f"postfix:{theirs}"]


def test_who_else_sends_with_an_address_shares_it(imported: Make) -> None:
    entries = {"sales@example.com": "usuario01, usuario02", "@example.org": "boss", "ceo@partner.example": "boss"}
    made = imported({}, {"smtpd_sender_login_maps": entries})
    assert made.site["shared_addresses"] == {"sales@example.com": ["usuario01", "usuario02"]}
    for address in ("@example.org", "ceo@partner.example"):
        assert "single addresses" in made.said["left"][f"postfix:mapping:smtpd_sender_login_maps, {address}"]
    assert "postfix" not in made.site


def test_who_is_refused_by_a_table_is_blocked(imported: Make) -> None:
    made = imported(
        {
            "smtpd_sender_restrictions": "check_sender_access hash:/etc/postfix/senders",
            "smtpd_client_restrictions": "reject_unknown_client_hostname, check_client_access $clients",
            "smtpd_recipient_restrictions": "check_recipient_access ${drops}, permit_mynetworks, reject",
            "clients": "cidr:/etc/postfix/clients",
        },
        {
            "senders": {"newsletter@partner.example": "REJECT no", "sales@partner.example": "550 5.7.1 no"},
            "clients": [{"203.0.113.0/24": "reject"}, {"2001:db8::9": "REJECT"}],
            "drops": {"drop@phisher.example": "REJECT"},
        },
    )
    assert made.site["blocked"] == {
        "senders": ["newsletter@partner.example", "sales@partner.example"],
        "clients": ["203.0.113.0/24", "2001:db8::9"],
        "recipients": ["drop@phisher.example"],
    }
    assert made.main == {
        "smtpd_client_restrictions": "reject_unknown_client_hostname",
        "smtpd_recipient_restrictions": {"append": "permit_mynetworks, reject"},
    }


@pytest.mark.parametrize(
    ("restrictions", "entries"),
    [
        ("permit_mynetworks, check_sender_access $refused", {"a@partner.example": "REJECT"}),
        ("check_sender_access $refused", {"a@partner.example": "REJECT", "b@partner.example": "OK"}),
        ("check_sender_access $refused", {"partner.example": "REJECT"}),
        ("check_sender_access $refused", {"a@partner.example": "REJECT", "b@partner.example": "450 later"}),
        ("check_client_access $refused", {"client.partner.example": "REJECT"}),
        ("check_client_access $refused", {"203.0.113": "REJECT"}),
    ],
)
def test_a_table_that_says_more_stays_one(imported: Make, restrictions: str, entries: dict[str, str]) -> None:
    made = imported({"smtpd_client_restrictions": restrictions}, {"refused": entries})
    assert "blocked" not in made.site
    assert made.site["postfix"]["maps"]["refused"]["entries"] == entries
    assert made.main["smtpd_client_restrictions"] == restrictions
