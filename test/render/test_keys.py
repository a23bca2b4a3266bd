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
