"""What of a secret file is shown."""

from __future__ import annotations

import pytest
from smtpout_core.change import masks


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("bind_pw = hunter2", "bind_pw = (secret)"),
        ("ldap_bind_pw: hunter2", "ldap_bind_pw: (secret)"),
        ("HTTPProxyPassword hunter2 hunter2", "HTTPProxyPassword (secret)"),
        ("server_host = ldap://a.example", "server_host = ldap://a.example"),
        ("PrivateMirror https://user:hun@ter2@a.example/b", "PrivateMirror https://(secret)@a.example/b"),
        ("DatabaseCustomURL https://a.example/b?x=hunter2", "DatabaseCustomURL https://a.example/b?(secret)"),
        ("bind_pw =", "bind_pw ="),
        ("# bind_pw = hunter2", "(secret)"),
        ("  hunter2 goes on here", "(secret)"),
        ("hunter2", "(secret)"),
        ("bind_pw = hunter2\x0cldap_filter: hunter2", "bind_pw = (secret)"),
        ("bind_pw = hunter2\u2028ldap_filter: hunter2", "bind_pw = (secret)"),
    ],
)
def test_the_options_that_are_no_secret_are_shown(line: str, shown: str) -> None:
    assert masks.masked(f"scope = sub\n{line}\n", masks.OPTIONS) == f"scope = sub\n{shown}\n"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("[192.0.2.1]:587 user:hunter2", "[192.0.2.1]:587 (secret)"),
        ("gateway\tuser:hunter2", "gateway\t(secret)"),
        ("# old user:hunter2", "(secret)"),
        ("  user:hunter2", "(secret)"),
    ],
)
def test_no_value_of_a_secret_table_is_shown(line: str, shown: str) -> None:
    assert masks.masked(f"{line}\n", masks.VALUES) == f"{shown}\n"


def test_nothing_of_a_private_key_is_shown() -> None:
    assert masks.masked("-----BEGIN PRIVATE KEY-----\nkey = hunter2\n", masks.ALL) == "(secret)\n(secret)\n"


def test_what_is_no_text_is_not_shown() -> None:
    assert masks.unified("a\0b", "a\0c", "", "a", "b") == "another database (not shown)"
