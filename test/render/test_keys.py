"""What keys that most sites leave out make of main.cf; that it stays as it was without them, golden files show."""

from __future__ import annotations

from typing import Any

import pytest
from renderer import Renderer
from support import load


@pytest.fixture
def main(renderers: dict[str, Renderer]) -> Any:
    """Return a function that gives main.cf of pillar.example with other keys, on Debian 12 by default, as a mapping."""

    def made(platform: str = "debian-12", **keys: Any) -> dict[str, str]:
        renderer = renderers[platform]
        pillar = load("default")
        pillar["smtpout"] |= keys
        renderer.use(pillar)
        lines = renderer.files()["/etc/postfix/main.cf"].splitlines()
        pairs = [line.partition(" =") for line in lines if line[:1].isalpha()]
        assert len({name for name, _, _ in pairs}) == len(pairs), "no parameter stands there twice"
        return {name: value.strip() for name, _, value in pairs}

    return made


def test_routes_are_tables_that_main_cf_names(main: Any) -> None:
    bare = main()
    login = {"user": "mycompany", "password": "secret"}
    routed = main(routes={"default": {"nexthop": "relay:[smart.example]:587", **login}})
    assert {name: value for name, value in routed.items() if bare.get(name) != value} == {
        "relayhost": "[smart.example]:587",
        "default_transport": "relay",
        "smtp_tls_policy_maps": "lmdb:/etc/postfix/route_tls",
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": "lmdb:/etc/postfix/route_passwords",
        "smtp_sasl_security_options": "noanonymous, noplaintext",
        "smtp_sasl_tls_security_options": "noanonymous",
    }
    assert bare["relayhost"] == ""
    assert bare.keys() - routed.keys() == set()


def test_a_routes_own_limits_are_parameters_of_its_own_transport(main: Any) -> None:
    bare = main()
    made = main(routes={"partner.dom": {"connections": 2, "addresses": ["192.0.2.7"]}, "default": {"delay": 1}})
    assert {name: value for name, value in made.items() if bare.get(name) != value} == {
        "default_transport": "route-default",
        "route-partner.dom_destination_concurrency_limit": "2",
        "route-default_destination_rate_delay": "1s",
        "smtp_bind_address_enforce": "yes",
    }
    assert bare.keys() - made.keys() == set()
    since_37 = {
        platform: "smtp_bind_address_enforce" in main(platform, routes={"partner.dom": {"addresses": ["192.0.2.7"]}})
        for platform in ("el-8", "el-9", "el-10", "fedora", "amazon-2023", "leap-15.6")
    }
    assert [platform for platform, known in since_37.items() if not known] == ["el-8", "el-9"]


def test_limits_are_a_class_that_logins_alone_meet(main: Any) -> None:
    bare, limits = main(), {"messages": {"hour": 100}}
    made = main(limits=limits)
    how = "timeout=2s, try_limit=1, request_limit=1, default_action=DUNNO"
    assert {name: value for name, value in made.items() if bare.get(name) != value} == {
        "smtpd_data_restrictions": "check_sasl_access static:logins_limited",
        "smtpd_restriction_classes": "users_null_sender, blocked_accounts, logins_limited",
        "logins_limited": f"check_policy_service {{ unix:/run/smtpout-policy.sock, {how} }}",
    }
    both = main(limits=limits, clients=[{"networks": ["172.16.30.0/24"], "senders": ["@domain02.dom"]}])
    assert both["smtpd_restriction_classes"] == "users_null_sender, blocked_accounts, clients_1, logins_limited"
    assert bare.keys() - made.keys() == set()


def test_clients_are_classes_that_their_networks_meet(main: Any) -> None:
    bare = main()
    printer = {"networks": ["172.16.30.0/24"], "senders": ["scanner@domain01.dom"], "tls": True}
    made = main(clients=[printer, {"networks": ["172.16.31.0/24"], "senders": ["@domain02.dom"], "outside": True}])
    says = "check_client_access static:{REJECT from here, send as"
    assert {name: value for name, value in made.items() if bare.get(name) != value} == {
        "smtpd_restriction_classes": "users_null_sender, blocked_accounts, clients_1, clients_2",
        "clients_1": (
            "reject_plaintext_session, check_sender_access lmdb:/etc/postfix/clients_1, "
            f"{says} scanner@domain01.dom only}}"
        ),
        "clients_2": f"check_sender_access lmdb:/etc/postfix/clients_2, {says} @domain02.dom only}}",
        "plaintext_reject_code": "550",
        "local_header_rewrite_clients": (
            f"{bare['local_header_rewrite_clients']}, check_address_map cidr:/etc/postfix/clients_senders"
        ),
        "smtpd_sender_restrictions": bare["smtpd_sender_restrictions"].replace(
            "check_sender_access lmdb",
            "check_client_access cidr:/etc/postfix/clients_senders, check_sender_access lmdb",
        ),
        "smtpd_relay_restrictions": bare["smtpd_relay_restrictions"].replace(
            "reject_unauth", "check_client_access cidr:/etc/postfix/clients_outside reject_unauth"
        ),
    }
    assert bare.keys() - made.keys() == set()
