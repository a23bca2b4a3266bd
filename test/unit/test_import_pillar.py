"""Pillars of the formulas postfix, opendkim and clamav become one of a site.

Their shape is that of those formulas' own examples; the contents are a site's that relays.
"""

from __future__ import annotations

import copy
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from minions import minion
from salt.exceptions import CommandExecutionError

PASSWORD = "p4ss:w0rd#1"

POSTFIX: dict[str, Any] = {
    "manage_master_config": True,
    "enable_service": True,
    "lookup": {"package": "postfix"},
    "config": {
        "myhostname": "relay.example.com",
        "smtpd_banner": "$myhostname ESMTP $mail_name",
        "relay_domains": ["example.com", "example.org"],
        "mynetworks": (
            "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128 [0:0:0:0:0:0:0:1] 192.0.2.0/24, "
            "[2001:DB8:0::]/64 198.51.100.7"
        ),
        "biff": False,
        "relayhost": "",
        "message_size_limit": 20971520,
        "smtpd_relay_restrictions": "permit_mynetworks,\n  permit_sasl_authenticated,\n  reject_unauth_destination\n",
        "smtpd_tls_auth_only": "no",
        "smtpd_sasl_type": "dovecot",
        "smtpd_tls_cert_file": "/etc/postfix/ssl/server-cert.crt",
        "smtpd_tls_session_cache_database": "btree:${data_directory}/smtpd_scache",
        "alias_maps": "hash:/etc/aliases",
        "virtual_mailbox_base": "/home/vmail",
        "smtp_tls_policy_maps": "hash:/etc/postfix/tls_policy",
        "transport_maps": "hash:/etc/postfix/transport",
        "smtp_sasl_password_maps": "proxy:hash:/etc/postfix/sasl_passwd",
        "header_checks": "regexp:/etc/postfix/header.checks",
        "relay_recipient_maps": "hash:/etc/postfix/relay_recipients",
        "smtpd_milters": "inet:127.0.0.1:8891",
    },
    "mapping": {
        "transport_maps": [
            {"example.com": "smtp:[192.0.2.25]:25"},
            {"example.org": "smtp:[192.0.2.26]:25"},
            {"partner.example": "smtp:[203.0.113.9]:25"},
            {"fax@partner.example": "smtp:[203.0.113.10]:25"},
        ],
        "smtp_sasl_password_maps": [{"smtp.example.net": f"account:{PASSWORD}"}],
        "header_checks": {"/^Received: .*10\\./": "IGNORE"},
        "relay_recipient_maps": [{"usuario01@example.com": "OK"}],
        "smpt_tls_policy_maps": [{"example.net": "encrypt"}],
    },
    "aliases": {"use_file": True, "content": "root: postmaster@example.com\n"},
    "certificates": {"server-cert": {"public_cert": "PEM", "private_key": PASSWORD}},
    "master_config": {
        "services": {
            "smtp": {"maxproc": 10, "chroot": False},
            "submission": {
                "enable": True,
                "args": [
                    "-o smtpd_client_restrictions=permit_sasl_authenticated,reject",
                    "-o cleanup_service_name=out",
                ],
            },
            "dnsblog": {"enable": True, "chroot": True},
            "qmgr": {"enable": False},
            "127.0.0.1:10025": {"type": "inet", "private": False, "command": "smtpd"},
            "uucp": {"enable": True},
            "archive": {"command": "pipe", "user": "mail", "argv": "/usr/local/bin/archive", "extras": "${recipient}"},
        }
    },
    "unheard_of": 1,
}

CLAMAV: dict[str, Any] = {
    "clamd": {
        "config": {
            "LogTime": "yes",
            "FixStaleSocket": "yes",
            "LocalSocket": "/var/lib/clamav/clamd.sock",
            "TCPSocket": 3310,
            "MaxThreads": 20,
            "ScanPE": False,
        },
        "service_name": "clamav-daemon",
    },
    "freshclam": {
        "config": {
            "DatabaseMirror": ["db.local.clamav.net", "database.clamav.net"],
            "PrivateMirror": "mirror.example.com",
            "HTTPProxyPassword": PASSWORD,
            "NotifyClamd": "/etc/clamav/clamd.conf",
        }
    },
}

# What none of the three formulas knows.
DIRECTORY = {
    "servers": ["ldaps://directory.example.com"],
    "base": "dc=example,dc=com",
    "bind_dn": "cn=relay,dc=example,dc=com",
    "bind_password": "secret",
}


@pytest.fixture(scope="module")
def opendkim() -> dict[str, Any]:
    """Return a pillar of the formula opendkim, with whole keys."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(*form).decode()
    return {
        "conf": {
            "UserID": "opendkim:opendkim",
            "Mode": "sv",
            "Socket": "inet:8891@localhost",
            "Selector": "s2026",
            "MinimumKeyBits": "1024",
            "SoftwareHeader": "yes",
        },
        "manageKeyTable": True,
        "privateKey": {
            "directory": "/etc/opendkim/keys",
            "key": {
                "example.com": {"s2025": pem, "s2026": pem},
                "example.org": {"mail": "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n"},
            },
        },
    }


class Imported:
    """A converted pillar: what was written, and what was said of it."""

    def __init__(self, root: Path, pillar: dict[str, Any]) -> None:
        self.path = root / "site.sls"
        (root / "theirs.yaml").write_text(yaml.safe_dump(pillar), encoding="utf-8")
        self.modules = minion(root / "minion", {})
        self.said = self.modules["smtpout.import_pillar"](str(self.path), str(root / "theirs.yaml"))
        self.site = yaml.safe_load(self.path.read_text(encoding="utf-8"))["smtpout"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, opendkim: dict[str, Any]) -> Imported:
    """Return what all three pillars together become."""
    pillar = {"postfix": POSTFIX, "opendkim": opendkim, "clamav": CLAMAV}
    return Imported(tmp_path_factory.mktemp("import"), pillar)


def test_the_site_is_right_once_the_directory_is_added(imported: Imported) -> None:
    assert imported.said["missing"] == ["smtpout:directory: missing; must be a mapping"]
    assert imported.modules["smtpout.problems"]({**imported.site, "directory": DIRECTORY}) == []


def test_what_is_a_key_of_the_site_becomes_one(imported: Imported) -> None:
    site = imported.site
    assert site["hostname"] == "relay.example.com"
    assert site["domains"] == ["example.com", "example.org"]
    assert site["networks"] == ["192.0.2.0/24", "2001:db8::/64", "198.51.100.7/32"]
    assert site["delivery"] == {
        "nexthop": "smtp:[192.0.2.25]:25",
        "domains": {"example.org": "smtp:[192.0.2.26]:25"},
    }
    assert site["authentication"] == {"clear_text_on_25": True}
    assert site["clamav"]["signatures"] == {
        "mirrors": ["db.local.clamav.net", "database.clamav.net"],
        "private_mirrors": ["mirror.example.com"],
    }
    assert site["opendkim"]["selector"] == "s2026"
    assert site["opendkim"]["domains"]["example.com"]["selector"] == "s2026"


def test_native_options_are_carried_unless_they_are_the_same(imported: Imported) -> None:
    site, same = imported.site, imported.said["same"]
    main = site["postfix"]["main"]
    assert main["message_size_limit"] == 20971520
    assert main["smtpd_tls_session_cache_database"] == "lmdb:${data_directory}/smtpd_scache"
    assert {f"postfix:config:{name}" for name in ("biff", "relayhost", "alias_maps", "smtpd_relay_restrictions")} <= {
        *same
    }
    assert not main.keys() & {"biff", "relayhost", "alias_maps", "smtpd_relay_restrictions"}
    assert site["clamav"]["clamd"] == {"LogTime": "yes", "MaxThreads": 20}
    assert site["opendkim"]["options"] == {"SoftwareHeader": "yes"}


def test_tables_become_maps_that_main_cf_names(imported: Imported) -> None:
    postfix = imported.site["postfix"]
    assert imported.site["routes"] == {"partner.example": {"nexthop": "smtp:[203.0.113.9]:25"}}
    assert postfix["maps"]["transport"] == {"entries": {"fax@partner.example": "smtp:[203.0.113.10]:25"}}
    assert postfix["main"]["transport_maps"] == {"append": "lmdb:/etc/postfix/transport"}
    assert postfix["maps"]["sasl_passwd"] == {"entries": {"smtp.example.net": f"account:{PASSWORD}"}, "secret": True}
    assert postfix["main"]["smtp_sasl_password_maps"] == "proxy:lmdb:/etc/postfix/sasl_passwd"
    assert postfix["maps"]["header_checks"]["type"] == "regexp"
    assert postfix["main"]["header_checks"] == "regexp:/etc/postfix/header_checks"


def test_services_become_what_differs_from_the_stock_ones(imported: Imported) -> None:
    assert imported.site["postfix"]["master"] == {
        "smtp/inet": {"maxproc": 10},
        "submission/inet": {"options": {"cleanup_service_name": "out"}},
        "dnsblog/unix": {"maxproc": 0, "command": "dnsblog", "chroot": "y"},
        "127.0.0.1:10025/inet": {"private": "n", "command": "smtpd"},
        "archive/unix": {"command": "pipe user=mail argv=/usr/local/bin/archive ${recipient}"},
    }


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        ("postfix:config:smtpd_sasl_type", "saslauthd in smtpout:directory"),
        ("postfix:config:virtual_mailbox_base", "no mailboxes"),
        ("postfix:config:smtpd_tls_cert_file", "smtpout:tls:chain_file"),
        ("postfix:config:smtp_tls_policy_maps", "smtpout:postfix:maps"),
        ("postfix:config:smtpd_milters", "smtpout:clamav and smtpout:opendkim"),
        ("postfix:mapping:smpt_tls_policy_maps", "misspelt"),
        ("postfix:mapping:relay_recipient_maps", "smtpout:directory:recipients"),
        ("postfix:aliases", "/etc/aliases"),
        ("postfix:unheard_of", "no key of that formula"),
        ("postfix:master_config:services:uucp", "smtpout:postfix:master"),
        ("postfix:master_config:services:qmgr", "Postfix needs it"),
        ("postfix:master_config:services:submission:args:0", "users who logged in"),
        ("opendkim:conf:Socket", "smtpout:opendkim:socket"),
        ("opendkim:privateKey:key:example.com:s2025", "s2026 was taken"),
        ("opendkim:privateKey:key:example.org:mail", "not an RSA private key"),
        ("clamav:clamd:config:TCPSocket", "smtpout:clamav:clamd_socket"),
        ("clamav:clamd:config:ScanPE", "default held"),
        ("clamav:clamd:service_name", "the platform's own"),
    ],
)
def test_what_has_no_place_is_left_with_a_reason(imported: Imported, theirs: str, why: str) -> None:
    assert why in imported.said["left"][theirs]


def test_no_key_is_lost_in_silence(imported: Imported, opendkim: dict[str, Any]) -> None:
    told = {path.partition(", ")[0] for part in ("carried", "same", "left") for path in imported.said[part]}
    for section, keys in {
        "postfix": POSTFIX.keys() - {"config", "mapping", "master_config", "manage_master_config"},
        "postfix:config": POSTFIX["config"].keys() - POSTFIX["mapping"].keys(),
        "postfix:mapping": POSTFIX["mapping"].keys(),
        "postfix:master_config:services": POSTFIX["master_config"]["services"].keys(),
        "opendkim": opendkim.keys() - {"conf", "privateKey"},
        "opendkim:conf": opendkim["conf"].keys(),
        "clamav:clamd:config": CLAMAV["clamd"]["config"].keys(),
        "clamav:freshclam:config": CLAMAV["freshclam"]["config"].keys(),
    }.items():
        assert {f"{section}:{key}" for key in keys} <= told


def test_secrets_go_into_the_file_and_nowhere_else(imported: Imported) -> None:
    assert stat.S_IMODE(imported.path.stat().st_mode) == 0o600
    assert PASSWORD in imported.path.read_text(encoding="utf-8")
    assert PASSWORD not in str(imported.said)
    assert "PRIVATE KEY-----\\n" not in str(imported.said)


def test_what_would_open_the_relay_is_not_carried(tmp_path: Path) -> None:
    postfix = copy.deepcopy(POSTFIX)
    postfix["config"] |= {"mynetworks": "192.0.2.0/24 0.0.0.0/0"}
    made = Imported(tmp_path, {"postfix": postfix})
    assert made.site["networks"] == ["192.0.2.0/24"]
    assert "strangers" in made.said["left"]['postfix:config:mynetworks, "0.0.0.0/0"']


def test_the_signed_domains_are_the_sites_where_none_is_relayed(tmp_path: Path, opendkim: dict[str, Any]) -> None:
    assert Imported(tmp_path, {"opendkim": opendkim}).site["domains"] == ["example.com", "example.org"]


def test_the_minions_own_pillar_is_taken(tmp_path: Path) -> None:
    modules = minion(tmp_path, {})
    modules.pack["__pillar__"] = {"clamav": CLAMAV}
    said = modules["smtpout.import_pillar"](str(tmp_path / "site.sls"))
    assert said["carried"]["clamav:clamd:config:MaxThreads"] == ["smtpout:clamav:clamd:MaxThreads"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "site.sls").write_text("mine", encoding="utf-8")
    with pytest.raises(CommandExecutionError, match=r"site\.sls: File exists"):
        Imported(tmp_path, {"clamav": CLAMAV})
    assert (tmp_path / "site.sls").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("pillar", "said"),
    [({}, "nothing to convert"), ({"postfix": ["a"]}, "another form"), ({"clamav": {"clamd": "x"}}, "another form")],
)
def test_what_is_not_theirs_is_told(tmp_path: Path, pillar: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandExecutionError, match=said):
        Imported(tmp_path, pillar)
    assert not (tmp_path / "site.sls").exists()


def test_a_broken_file_is_told_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(f"postfix: {{a: '{PASSWORD}\n", encoding="utf-8")
    with pytest.raises(CommandExecutionError, match="not YAML") as error:
        minion(tmp_path, {})["smtpout.import_pillar"](str(tmp_path / "site.sls"), str(tmp_path / "theirs.yaml"))
    assert PASSWORD not in str(error.value)
