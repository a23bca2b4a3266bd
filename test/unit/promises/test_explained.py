"""What would become of a message is told with what decides it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, real  # type: ignore[attr-defined]
from smtpout_core.errors import RelayError
from smtpout_core.promises import explained

pytestmark = real
OUTSIDE = "someone@[198.51.100.25]"


@pytest.fixture
def explain(site: Callable[..., Site]) -> Callable[..., dict[str, Any]]:
    def asked(*words: str, **named: str) -> dict[str, Any]:
        made = site()
        with made.staged() as where:
            return explained.explained(made.settings, where, *words, **named)

    return asked


def test_a_user_s_message(explain: Callable[..., dict[str, Any]]) -> None:
    found = explain("203.0.113.9", "usuario01@domain01.dom", OUTSIDE, login="usuario01")
    assert found["answer"].startswith("the message is answered 250 ")
    assert "permit_sasl_authenticated in smtpd_sender_restrictions lets it pass" in found["decided"]
    assert any(line.startswith("smtpd_sender_login_maps: ") and line.endswith(": usuario01") for line in found["found"])
    assert found["leaves"] == [f"by smtp:[198.51.100.25] for {OUTSIDE}"]
    assert found["signed"] == ["default._domainkey.domain01.dom"]


def test_a_stranger_s_message_with_the_table_that_refuses_it(explain: Callable[..., dict[str, Any]]) -> None:
    found = explain("203.0.113.9", "president@domain01.dom", "usuario01@domain01.dom")
    assert found["answer"].startswith("RCPT is answered 554 5.7.1 <president@domain01.dom>: Sender address rejected")
    assert found["decided"] == ["check_sender_access in smtpd_sender_restrictions refuses it"]
    assert any(line.endswith("own_domains has domain01.dom: REJECT log in to send from this domain") for line in
               found["found"])  # fmt: skip
    assert "leaves" not in found


def test_a_file_by_a_program_on_the_relay(
    explain: Callable[..., dict[str, Any]], delivery: str, tmp_path: Path
) -> None:
    (tmp_path / "mail").write_bytes(b"From: root@domain02.dom\r\nSubject: x\r\n\r\nA line.\r\n")
    found = explain("sendmail", "root@domain02.dom", "usuario01@domain01.dom", path=str(tmp_path / "mail"))
    assert found["leaves"] == [f"by {delivery} for usuario01@domain01.dom"]
    assert found["signed"] == ["default._domainkey.domain02.dom"]


@pytest.mark.parametrize(
    ("words", "named", "says"),
    [
        (("mail.example", "", OUTSIDE), {}, "'mail.example' is no address; right would be 203.0.113.9, or sendmail"),
        (("203.0.113.9", "", OUTSIDE), {"service": "25/inet"}, "master.cf has no service 25/inet; it has smtp/inet"),
        (("203.0.113.9", "", OUTSIDE), {"path": "/nowhere/mail"}, "/nowhere/mail: No such file or directory"),
    ],
)
def test_what_can_not_be_asked_is_told(
    explain: Callable[..., dict[str, Any]], words: tuple[str, ...], named: dict[str, str], says: str
) -> None:
    with pytest.raises(RelayError, match=says):
        explain(*words, **named)
