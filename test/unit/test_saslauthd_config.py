"""What saslauthd.conf can hold, and the mistakes in it that saslauthd keeps quiet about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slapd_server import saslauthd_conf
from smtpout_core.daemons import saslauthd

CONFIG = "/etc/saslauthd.conf"


class TestComplaints:
    """What saslauthd itself would keep quiet about."""

    @pytest.fixture
    def complaints(self, tmp_path: Path) -> Callable[..., list[str]]:
        def check(**options: str) -> list[str]:
            return text(saslauthd_conf("ldap://127.0.0.1/", **options))

        def text(content: str) -> list[str]:
            staged = tmp_path / "staged.conf"
            staged.write_text(content, encoding="utf-8", newline="")
            return saslauthd.complaints({CONFIG: str(staged)}, CONFIG)

        check.text = text  # type: ignore[attr-defined]
        return check

    def test_the_recipes_file_is_right(self, complaints: Any) -> None:
        recipe = (
            "ldap_servers: ldap://172.16.11.63:389/\nldap_version: 3\nldap_auth_method: bind\n"
            "ldap_bind_dn: cn=correoapp,ou=mailapps,dc=domain01,dc=dom\nldap_bind_pw: Pass2016Mail\n"
            "ldap_search_base: dc=domain01,dc=dom\nldap_filter: sAMAccountName=%U\nldap_scope: sub\n"
        )
        assert complaints.text(recipe) == []

    def test_comments_and_blank_lines_are_none_of_its_business(self, complaints: Any) -> None:
        assert complaints.text("\n  # ldap_bogus: x\n\t\n" + saslauthd_conf("ldaps://a.example ldap://b.example")) == []

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("ldap_sevrers", "x", "saslauthd knows no option ldap_sevrers"),
            ("ldap_start_tls", "True", "ldap_start_tls is 'True'; saslauthd understands yes and no"),
            ("ldap_tls_check_peer", "Yes", "in small letters only"),
            ("ldap_timeout", "ten", "ldap_timeout is 'ten', which is not a whole number"),
            ("ldap_scope", "subtree", "right would be one of sub, one, base"),
            ("ldap_version", "4", "right would be one of 3, 2"),
            ("ldap_servers", "172.16.11.63", "right would be ldap://, ldaps:// or ldapi:// and a host"),
            ("ldap_filter", "uid=usuario01", "neither %u nor %U"),
            ("ldap_filter", "uid=100%%u", "neither %u nor %U"),
            ("ldap_group_filter", "x" * 128, "ldap_group_filter has 128 bytes; saslauthd cuts it after 127"),
        ],
    )
    def test_each_fault_is_named(self, complaints: Any, option: str, value: str, said: str) -> None:
        (complaint,) = complaints(**{option: value})
        assert complaint.startswith("/etc/saslauthd.conf:")
        assert said in complaint

    def test_starttls_on_an_ldaps_server_is_a_fault(self, complaints: Any) -> None:
        (complaint,) = complaints(ldap_servers="ldap://a.example ldaps://b.example", ldap_start_tls="yes")
        assert "ldap_start_tls is for ldap:// servers" in complaint

    def test_an_option_given_twice_is_a_fault(self, complaints: Any) -> None:
        (complaint,) = complaints.text(saslauthd_conf("ldap://127.0.0.1/") + "LDAP_SCOPE: sub\nldap_scope: one\n")
        assert ":8: ldap_scope is here a second time" in complaint

    def test_a_line_that_is_none_is_a_fault_and_a_secret_stays_one(self, complaints: Any) -> None:
        said = complaints.text(saslauthd_conf("ldap://127.0.0.1/", ldap_bind_pw="Secret-1" * 20) + "ldap_scope sub\n")
        assert len(said) == 2
        assert "not an option, a colon and a value" in said[1]
        assert "Secret-1" not in "".join(said)
