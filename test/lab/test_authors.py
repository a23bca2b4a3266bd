"""Whom users' messages say they are from: who sends them, where the site wants that, and one author everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from lab import checks, mail
from lab.conftest import Applied
from lab.whole import SITE, changed

OWN, OTHER, OUTSIDE = "usuario01@domain01.dom", "president@domain01.dom", "somebody@outside.example"
SECRETARY = "usuario02"
HEAD = "To: somebody@outside.example\r\nSubject: x\r\nMessage-ID: <{token}@lab.example>\r\n\r\nOne line.\r\n"
ENTRIES = {"587": mail.USERS, "465": mail.USERS_OVER_TLS, "25": mail.Entry(25, "starttls")}

# A From:, and what becomes of it where it has to be the sender's own.
EMPTY = ("", "<>", "The President", '"x <usuario01@domain01.dom>')
ELSEWHERE = (
    f"<{OTHER}>",
    f"{OWN}, {OTHER}",
    f'"{OWN}" <{OTHER}>',
    f"{OWN} <{OTHER}>",
    f'"{OTHER}" <{OWN}>',
    f"{OWN} ({OTHER})",
    f"Staff: {OWN};",
    f"=?utf-8?q?president=40domain01.dom?=\r\n\t<{OWN}>",
)
MINE = (f"<{OWN}>", f"Usuario Uno\r\n\t<{OWN}>", f'"{OWN}" <Usuario01@Domain01.dom>', f"=?utf-8?q?Jos=C3=A9?= <{OWN}>")


@pytest.fixture(scope="module", params=["own", "own_header"])
def relay(request: pytest.FixtureRequest, on_trixie: Applied) -> tuple[Applied, str]:
    """Return the relay of pillar.example, where a user's From: has to be his own, or one."""
    more: dict[str, Any] = {"any_author": [SECRETARY]} if request.param == "own_header" else {}
    on_trixie.lab.set_pillar(changed({"directory": {"senders": request.param, **more}}))
    on_trixie.apply(request.param)
    assert on_trixie.failed(request.param) == {}
    return on_trixie, request.param


def sent(
    applied: Applied, *authors: str, entry: str = "587", user: str = "usuario01", sender: str = OWN, extra: str = ""
) -> mail.Answer:
    """Return the last answer to a message with these From: headers, by a user, or a server of the site's (no user)."""
    head = "".join(f"From: {author}\r\n" for author in authors)
    text = extra + head + HEAD.format(token="authors")
    where = ENTRIES[entry] if user else mail.SERVERS
    answers = mail.session(applied.lab, entry=where, user=user, sender=sender, recipients=[OUTSIDE], message=text)
    assert answers[-1].command == "DATA", answers
    return answers[-1]


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_users_own_from_is_taken(relay: tuple[Applied, str], entry: str) -> None:
    applied, _ = relay
    assert {author: sent(applied, author, entry=entry).code for author in MINE} == dict.fromkeys(MINE, 250)


def test_a_from_that_is_missing_is_completed_and_signed(relay: tuple[Applied, str]) -> None:
    applied, _ = relay
    message = mail.compose("x", OUTSIDE)
    del message["From"]
    answers = mail.session(
        applied.lab, entry=mail.USERS, user="usuario01", sender=OWN, recipients=[OUTSIDE], message=message
    )
    assert answers[-1].code == 250, answers
    (copy,) = mail.arrived(applied.lab.host("outside"), message)
    assert copy["From"] == OWN
    assert "dkim=pass" in copy["Authentication-Results"]


@pytest.mark.parametrize("entry", ["587", "465"])
def test_a_from_without_an_address_is_refused(relay: tuple[Applied, str], entry: str) -> None:
    applied, _ = relay
    seen = {author: sent(applied, author, entry=entry) for author in EMPTY}
    assert {author: answer.code for author, answer in seen.items()} == dict.fromkeys(EMPTY, 550), seen
    assert all("From: has no address" in answer.text for answer in seen.values())


def test_on_25_it_is_where_the_header_counts_whoever_sends_it(relay: tuple[Applied, str]) -> None:
    applied, senders = relay
    codes = {author: sent(applied, author, entry="25").code for author in EMPTY[:3]}
    assert set(codes.values()) == ({550} if senders == "own_header" else {250}), codes
    assert sent(applied, "", user="").code == (550 if senders == "own_header" else 250)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_second_from_is_refused(relay: tuple[Applied, str], entry: str) -> None:
    applied, _ = relay
    answer = sent(applied, OWN, OTHER, entry=entry)
    assert answer.code == 550
    assert "5.7.1 a message has one From: header" in answer.text


@pytest.mark.parametrize("entry", ENTRIES)
def test_anothers_from_is_refused_where_the_header_counts(relay: tuple[Applied, str], entry: str) -> None:
    applied, senders = relay
    seen = {author: sent(applied, author, entry=entry) for author in ELSEWHERE}
    expected = 550 if senders == "own_header" else 250
    assert {author: answer.code for author, answer in seen.items()} == dict.fromkeys(ELSEWHERE, expected), seen
    if senders == "own_header":
        assert all("From:" in answer.text for answer in seen.values()), seen


def test_a_broken_signature_is_no_way_around_it(relay: tuple[Applied, str]) -> None:
    applied, senders = relay
    forged = "boss@partner.example"  # of a domain that isn't signed for, so that signatures are looked at
    code = sent(applied, f"<{forged}>", extra="DKIM-Signature: v=\r\n").code
    assert code == (550 if senders == "own_header" else 250)


@pytest.mark.parametrize("entry", ENTRIES)
def test_without_a_sender_the_from_is_the_users_own(relay: tuple[Applied, str], entry: str) -> None:
    """As read receipts are (RFC 8098, 3); servers of the site's, and bounces, are another's matter."""
    applied, _ = relay
    assert {author: sent(applied, author, entry=entry, sender="").code for author in MINE} == dict.fromkeys(MINE, 250)
    told = f"X-Smtpout-Addresses: {OTHER}\r\n"
    for author, extra in (
        (f"<{OTHER}>", ""),
        (f"<{OTHER}>", told),
        (f"{OWN}, {OTHER}", ""),
        ("<usuario02@domain02.dom>", ""),
    ):
        answer = sent(applied, author, entry=entry, sender="", extra=extra)
        assert (answer.code, "without a sender" in answer.text) == (550, True), (author, answer)
    assert sent(applied, f"<{OTHER}>", user="", sender="").code == 250


def test_what_the_signer_is_told_of_a_user_does_not_leave(relay: tuple[Applied, str]) -> None:
    applied, _ = relay
    message = mail.compose(OWN, OUTSIDE)
    to = [OUTSIDE, "other@outside.example"]
    answers = mail.session(applied.lab, entry=mail.USERS, user="usuario01", recipients=to, message=message)
    assert answers[-1].code == 250, answers
    copies = mail.arrived(applied.lab.host("outside"), message)
    assert all("dkim=pass" in copy["Authentication-Results"] for copy in copies)
    assert [copy["X-Smtpout-Addresses"] for copy in copies] == [None] * len(copies)


def test_who_is_excepted_and_servers_write_as_others(relay: tuple[Applied, str]) -> None:
    applied, _ = relay
    assert sent(applied, f"<{OTHER}>", user=SECRETARY, sender="usuario02@domain02.dom").code == 250
    assert sent(applied, f"<{OTHER}>", user="", sender="app@domain01.dom").code == 250
    assert sent(applied, OWN, OTHER, user="", sender="app@domain01.dom").code == 250


def test_a_second_apply_changes_nothing_and_the_relay_is_right(relay: tuple[Applied, str]) -> None:
    applied, senders = relay
    applied.apply(f"{senders} again")
    assert applied.changed(f"{senders} again") == []
    assert checks.verify(applied.lab, "failed") == []


def test_a_script_with_an_error_in_it_is_refused_before_the_signer_dies_of_it(on_trixie: Applied) -> None:
    relay = on_trixie.lab.host("relay")
    script = "/etc/site/final.lua"
    relay.write(script, "local x =\n", mode="0644")
    on_trixie.lab.set_pillar(changed({"opendkim": {"options": {"FinalPolicyScript": script}}}))
    said = on_trixie.apply("wrong script")[SITE]["comment"]
    assert SITE in on_trixie.failed("wrong script")
    assert f"opendkim: {script}: the script is wrong: OpenDKIM dies of it" in said
    relay.write(script, "return nil\n", mode="0644")
    on_trixie.apply("right script")
    assert on_trixie.failed("right script") == {}
    relay.write(script, 'error("no")\n', mode="0644")  # changed behind the formula's back, and then by it
    on_trixie.apply("wrong again")
    assert "the script is wrong" in on_trixie.failed("wrong again")[SITE]
    assert sent(on_trixie, f"<{OWN}>").code == 250
