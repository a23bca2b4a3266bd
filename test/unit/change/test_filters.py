"""How values come into configuration files."""

from __future__ import annotations

import pytest
from smtpout_core.change import filters
from smtpout_core.errors import RelayError

MAIN = """\
# who
myhostname = a.example
biff = no

# how much
message_size_limit = 10
"""


def test_a_template_without_options_stays_as_it_is() -> None:
    assert filters.overridden(MAIN, {}, " = ") == MAIN


def test_an_option_of_the_site_stands_where_the_template_has_it() -> None:
    text = filters.overridden(MAIN, {"biff": True}, " = ")
    assert text == MAIN.replace("biff = no", "biff = yes")


def test_an_option_set_to_null_is_left_out() -> None:
    assert "biff" not in filters.overridden(MAIN, {"biff": None}, " = ")


def test_an_option_that_the_template_lacks_is_added_at_the_end() -> None:
    text = filters.overridden(MAIN, {"relayhost": ""}, " = ")
    assert text.endswith("\n\n# From the site's pillar.\nrelayhost =\n")


def test_a_list_replaces_all_lines_of_its_name() -> None:
    text = "DatabaseMirror a\nDatabaseMirror b\nBytecode yes\n"
    result = filters.overridden(text, {"DatabaseMirror": ["c", "d"]})
    assert result == "DatabaseMirror c\nDatabaseMirror d\nBytecode yes\n"


def test_an_option_that_the_installed_version_does_not_know_is_left_out() -> None:
    text = "SafeBrowsing yes\nBytecode yes\n"
    assert filters.overridden(text, {}, " ", ["SafeBrowsing"]) == "Bytecode yes\n"


def test_a_name_is_matched_whole() -> None:
    text = filters.overridden("smtpd_tls_auth_only = yes\n", {"smtpd_tls_auth": "x"}, " = ")
    assert text.startswith("smtpd_tls_auth_only = yes\n")


@pytest.mark.parametrize("break_", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_line_ends_where_the_daemons_end_it_and_nowhere_else(break_: str) -> None:
    text = f"ldap_bind_pw: a{break_}ldap_filter: uid=*\nldap_filter: uid=%u\n"
    assert filters.overridden(text, {"ldap_filter": "mail=%u"}, ": ") == text.replace("uid=%u", "mail=%u")


@pytest.mark.parametrize("value", ["a\nrelayhost = evil", "a\r\nb", "a\0b"])
def test_a_value_that_would_open_a_second_parameter_is_refused(value: str) -> None:
    with pytest.raises(RelayError, match="more than one line"):
        filters.overridden(MAIN, {"biff": value}, " = ")


def test_a_service_has_its_columns_and_its_options_below() -> None:
    service = {"private": "n", "command": "smtpd", "options": {"smtpd_tls_wrappermode": True, "gone": None}}
    lines = filters.master_cf({"465/inet": service}).splitlines()
    assert lines[0].split() == ["465", "inet", "n", "-", "n", "-", "-", "smtpd"]
    assert lines[1:] == ["  -o { smtpd_tls_wrappermode = yes }"]
