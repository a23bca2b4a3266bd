"""The relay's limits: how much, how often, how long, and what a stranger learns by asking again and again.

Postfix counts by address, so each test that reaches a limit has an address of its own.
"""

from __future__ import annotations

import pytest

from lab import mail, raw
from lab.conftest import Applied
from lab.lab import CLIENT
from lab.raw import GREETING, UNTIL_CLOSED, Step
from lab.test_abuse import plain

HELLO: list[str | Step] = [GREETING, "EHLO mx.stranger.example"]
ENVELOPE = ["MAIL FROM:<a@stranger.example>", "RCPT TO:<usuario01@domain01.dom>"]
LIMIT = 25 * 1024 * 1024
LINE = "x" * 1022 + "\r\n"


def test_an_eleventh_connection_of_one_address_is_turned_away(example: Applied) -> None:
    seen = raw.sessions(example.lab, "198.51.100.101", [[GREETING]] * 11)
    assert [replies[0].code for replies in seen] == [220] * 10 + [421], seen
    assert raw.session(example.lab, raw.stranger(), GREETING)[0].code == 220  # the others' turn


def test_a_sixty_first_connection_within_a_minute_is_turned_away(example: Applied) -> None:
    seen = raw.sessions(example.lab, "198.51.100.102", [[GREETING, Step("QUIT\r\n", replies=UNTIL_CLOSED)]] * 61)
    assert [replies[0].code for replies in seen] == [220] * 60 + [421], seen[-2:]


def test_the_sites_own_servers_may_connect_as_often_as_they_need(example: Applied) -> None:
    seen = raw.sessions(example.lab, CLIENT, [[GREETING]] * 12)
    assert [replies[0].code for replies in seen] == [220] * 12, seen


def test_a_sixty_first_login_within_a_minute_is_not_checked(example: Applied) -> None:
    guesses = ["EHLO mx.stranger.example", *[plain("", "nobody", f"guess{number}") for number in range(9)]]
    seen = raw.sessions(example.lab, "198.51.100.103", [guesses] * 7, entry=mail.USERS)
    codes = [reply.code for replies in seen for reply in replies if reply.step > 0]
    assert codes == [535] * 60 + [450] * 3, seen[-1]


def test_who_guesses_passwords_is_slowed_down(example: Applied) -> None:
    guesses = [plain("", "nobody", f"guess{number}") for number in range(25)]
    replies = raw.session(
        example.lab, "198.51.100.104", "EHLO mx.stranger.example", *guesses, entry=mail.USERS
    )  # fmt: skip
    answers = [reply for reply in replies if reply.code == 535]
    assert len(answers) == 25, replies
    assert all(reply.seconds >= 1 for reply in answers[10:]), answers


def test_who_guesses_recipients_is_slowed_down(example: Applied) -> None:
    # RCPT tells who exists, and has to: an unknown recipient is refused, not bounced. This is what bounds the asking.
    guesses = [f"RCPT TO:<nobody{number}@domain01.dom>" for number in range(25)]
    replies = raw.session(example.lab, "198.51.100.105", *HELLO, "MAIL FROM:<a@stranger.example>", *guesses)
    answers = [reply for reply in replies if reply.code == 550]
    assert len(answers) == 25, replies
    assert all(reply.seconds >= 1 for reply in answers[10:]), answers


def test_more_headers_than_the_signer_keeps_are_refused_and_not_put_off(example: Applied) -> None:
    header = Step("X-Filler: " + "y" * 900 + "\r\n", times=1200, replies=0)
    replies = raw.session(example.lab, raw.stranger(), *HELLO, *ENVELOPE, "DATA", header, Step("\r\n.\r\n"))
    assert replies[-1].code == 550, replies


def test_a_refused_login_does_not_say_whether_the_user_exists(example: Applied) -> None:
    users = ["usuario01", "usuario03", "nobody"]  # one that works, a disabled one, none
    seen = raw.session(
        example.lab, raw.stranger(),
        "EHLO mx.stranger.example", *[plain("", user, "wrong") for user in users], entry=mail.USERS,
    )  # fmt: skip
    assert {(reply.code, reply.text) for reply in seen[1:]} == {(535, seen[-1].text)}, seen
    assert len(seen) == 4, seen


def test_a_two_hundred_and_first_recipient_has_to_wait_for_another_message(example: Applied) -> None:
    many = Step("RCPT TO:<usuario01@domain01.dom>\r\n", times=201, replies=201)
    replies = raw.session(example.lab, raw.stranger(), *HELLO, "MAIL FROM:<a@stranger.example>", many)
    assert [reply.code for reply in replies[3:]] == [250] * 200 + [452], replies[-2:]


@pytest.mark.parametrize("size", ["26214401", "99999999999999999999", "-1", "1e9"])
def test_a_message_that_says_it_is_too_large_is_refused_before_it_is_sent(example: Applied, size: str) -> None:
    replies = raw.session(example.lab, raw.stranger(), *HELLO, f"MAIL FROM:<a@stranger.example> SIZE={size}")
    assert replies[-1].code in (501, 552), replies


@pytest.mark.parametrize("declared", ["", " SIZE=1000"], ids=["nothing said", "a lie told"])
def test_a_message_that_is_too_large_is_refused(example: Applied, declared: str) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, f"MAIL FROM:<a@stranger.example>{declared}", "RCPT TO:<usuario01@domain01.dom>", "DATA",
        Step("Subject: large\r\n\r\n", replies=0), Step(LINE, times=LIMIT // len(LINE) + 1, replies=0),
        Step(".\r\n"), "NOOP",
    )  # fmt: skip
    assert [reply.code for reply in replies[-2:]] == [552, 250], replies


def test_a_chunk_that_is_too_large_is_refused(example: Applied) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, *ENVELOPE, Step(f"BDAT {LIMIT + 1} LAST\r\n", replies=0), Step("x", times=LIMIT + 1), "NOOP",
    )  # fmt: skip
    assert [reply.code for reply in replies[-2:]] == [552, 250], replies


def test_chunks_that_are_too_large_together_are_refused(example: Applied) -> None:
    half = f"BDAT {LIMIT // 2 + 1}"
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, *ENVELOPE, Step(f"{half}\r\n", replies=0), Step("x", times=LIMIT // 2 + 1),
        Step(f"{half} LAST\r\n", replies=0), Step("x", times=LIMIT // 2 + 1), "NOOP",
    )  # fmt: skip
    assert [reply.code for reply in replies[-3:]] == [250, 552, 250], replies


def test_a_line_longer_than_smtp_allows_leaves_as_it_came(example: Applied) -> None:
    sent = mail.compose("a@stranger.example", "usuario01@domain01.dom")
    text = raw.wire(sent).replace("Subject: ", "Subject: " + "s" * 50_000 + " ") + "y" * 1_000_000
    replies = raw.session(
        example.lab, raw.stranger(), *HELLO, *ENVELOPE, "DATA", Step(f"{text}\r\n.\r\n"), "QUIT"
    )  # fmt: skip
    assert raw.queued(replies) == 1, replies
    (copy,) = mail.arrived(example.lab.host("delivery"), sent)  # broken, no signature in it would verify
    assert "y" * 1_000_000 in copy.get_content()
