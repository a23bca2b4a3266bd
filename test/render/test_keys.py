"""What keys that most sites leave out make of main.cf; that it stays as it was without them, golden files show."""

from __future__ import annotations

from typing import Any

import pytest
from renderer import Renderer
from support import load


@pytest.fixture
def main(renderers: dict[str, Renderer]) -> Any:
    """Return a function that gives main.cf of pillar.example with other keys, on Debian 12, as a mapping."""
    renderer = renderers["debian-12"]

    def made(**keys: Any) -> dict[str, str]:
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


def test_limits_are_a_class_that_logins_alone_meet(main: Any) -> None:
    bare, limits = main(), {"messages": {"hour": 100}}
    made = main(limits=limits)
    how = "timeout=2s, try_limit=1, request_limit=1, default_action=DUNNO"
    assert {name: value for name, value in made.items() if bare.get(name) != value} == {
        "smtpd_data_restrictions": "check_sasl_access static:logins_limited",
        "smtpd_restriction_classes": "logins_limited",
        "logins_limited": f"check_policy_service {{ unix:/run/smtpout-policy.sock, {how} }}",
    }
    both = main(limits=limits, clients=[{"networks": ["172.16.30.0/24"], "senders": ["@domain02.dom"]}])
    assert both["smtpd_restriction_classes"] == "clients_1, logins_limited"
    assert bare.keys() - made.keys() == set()


def test_clients_are_classes_that_their_networks_meet(main: Any) -> None:
    bare = main()
    printer = {"networks": ["172.16.30.0/24"], "senders": ["scanner@domain01.dom"], "tls": True}
    made = main(clients=[printer, {"networks": ["172.16.31.0/24"], "senders": ["@domain02.dom"], "outside": True}])
    says = "check_client_access static:{REJECT from here, send as"
    assert {name: value for name, value in made.items() if bare.get(name) != value} == {
        "smtpd_restriction_classes": "clients_1, clients_2",
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
            "check_sender_access", "check_client_access cidr:/etc/postfix/clients_senders, check_sender_access"
        ),
        "smtpd_relay_restrictions": bare["smtpd_relay_restrictions"].replace(
            "reject_unauth", "check_client_access cidr:/etc/postfix/clients_outside reject_unauth"
        ),
    }
    assert bare.keys() - made.keys() == set()
