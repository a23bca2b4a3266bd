"""Whether what stays on the relay gets to somebody, by what local(8) does with aliases, users and their mail."""

from __future__ import annotations

from typing import Any

import pytest
from smtpout_core.errors import RelayError
from smtpout_core.promises import mailboxes

ALIASES = {
    "postmaster": "root",
    "both": "nobody-here, root",
    "neither": "nobody-here, also-not",
    "outside": "somebody@example.com",
    "list": ":include:/etc/list",
    "program": '"|/usr/bin/vacation root"',
    "file": "/var/log/mail",
    "round": "about",
    "about": "round",
    "itself": "\\root",
    "owner-list": "root",
}


def local(**said: Any) -> mailboxes.Local:
    given = dict.fromkeys(mailboxes.WANTED, "")
    given |= {"alias_maps": "hash:/etc/aliases", "mail_spool_directory": "/var/mail", "owner_request_special": "yes"}
    given |= {"allow_mail_to_commands": "alias, forward", "allow_mail_to_files": "alias, forward"}
    return mailboxes.Local(given | said, lambda _, name: ALIASES.get(name, ""))


@pytest.mark.parametrize(
    "name", ["root", "ROOT", "postmaster", "both", "outside", "list", "program", "file", "itself", "owner-list"]
)
def test_mail_gets_to_somebody(name: str) -> None:
    assert local().fault(name) == ""


@pytest.mark.parametrize(
    ("name", "said", "fault"),
    [
        ("nobody-here", {}, "this host has no user 'nobody-here'"),
        ("neither", {}, "this host has no user 'nobody-here'"),
        ("round", {}, "aliases lead in a circle"),
        ("program", {"allow_mail_to_commands": "forward"}, "allow_mail_to_commands has no aliases"),
        ("file", {"allow_mail_to_files": ""}, "allow_mail_to_files has no aliases"),
        ("root", {"mail_spool_directory": "/nowhere"}, "there is no folder /nowhere"),
        ("root", {"recipient_delimiter": "+t"}, "this host has no user 'roo'"),
    ],
)
def test_mail_that_gets_to_nobody_is_told(name: str, said: dict[str, str], fault: str) -> None:
    assert fault in local(**said).fault(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody-here", {"mailbox_transport": "lmtp:unix:/run/lmtp"}),
        ("nobody-here", {"luser_relay": "root"}),
        ("nobody-here", {"fallback_transport_maps": "static:smtp:"}),
        ("root", {"mail_spool_directory": "/nowhere", "home_mailbox": "Maildir/"}),
        ("root+news", {"recipient_delimiter": "+"}),
        ("postmaster", {"recipient_delimiter": "s"}),
        ("owner-list", {"recipient_delimiter": "-"}),
    ],
)
def test_another_way_is_a_way(name: str, said: dict[str, str]) -> None:
    assert local(**said).fault(name) == ""


def test_aliases_that_can_not_be_read_are_told() -> None:
    def broken(*_: str) -> str:
        raise RelayError("no such table")

    assert local()._replace(answer=broken).fault("root") == "aliases can't be looked up: no such table"
