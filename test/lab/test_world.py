"""A domain of the world that the pillar names is asked before a change and after; nobody in it gets a message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.breaking import systemctl
from lab.checks import verify
from lab.conftest import Applied
from lab.whole import SITE, changed

PROMISE = "Servers that mail is handed on to take it"
CHECK = "mail gets out"


@pytest.fixture
def named(on_bookworm: Applied) -> Iterator[Applied]:
    """Return the relay of a site that names a domain of the world; afterwards it is the one of pillar.example again."""
    on_bookworm.lab.host("outside").run(["sh", "-c", "find /srv/mail -type f -delete"])
    applied(on_bookworm, "the world named")
    yield on_bookworm
    on_bookworm.lab.set_pillar(changed({}))
    on_bookworm.apply("the world forgotten")
    assert on_bookworm.failed("the world forgotten") == {}


def applied(relay: Applied, step: str, outside: str = "outside.example", **change: Any) -> str:
    """Apply the example with a domain of the world named; return what the site's state says, and warns of."""
    relay.lab.set_pillar(changed({"verify": {"outside": outside}, **change}))
    said = relay.apply(step)[SITE]
    return "\n".join([said["comment"], *said.get("warnings", [])])


def warned(relay: Applied) -> dict[str, str]:
    return {each["check"]: each["seen"] for each in verify(relay.lab, "warning")}


def test_a_domain_that_is_named_is_asked_and_gets_no_message(named: Applied) -> None:
    assert named.failed("the world named") == {}
    assert CHECK not in warned(named)
    outside = named.lab.host("outside")
    sessions = outside.run(["journalctl", "--no-pager", "--output=cat", "--grep=^disconnect from"]).stdout.splitlines()
    assert any(" mail=1 rcpt=1 " in each and " data=" not in each for each in sessions), sessions
    assert not outside.run(["find", "/srv/mail", "-type", "f"]).stdout


def test_one_that_is_newly_named_and_does_not_answer_is_refused(named: Applied) -> None:
    said = applied(named, "nobody there", "nobody.invalid")
    assert SITE in named.failed("nobody there")
    assert f"{PROMISE}: that would be broken." in said
    assert "smtp:nobody.invalid doesn't take it: " in said
    assert "smtpout:verify:outside" in said.partition("Look at ")[2]


def test_one_that_has_answered_and_is_silent_is_told_and_holds_up_no_change(named: Applied) -> None:
    systemctl("stop", "postfix@-", host="outside")(named.lab)
    try:
        assert "smtp:outside.example:25 doesn't take mail, which waits in the queue: " in warned(named)[CHECK]
        said = applied(named, "silent", postfix={"main": {"delay_warning_time": "5h"}})
        assert named.failed("silent") == {}
        assert f"Broken before this change as well: {PROMISE}:" in said
        assert verify(named.lab, "failed") == []
    finally:
        systemctl("start", "postfix@-", host="outside")(named.lab)
    assert CHECK not in warned(named)
