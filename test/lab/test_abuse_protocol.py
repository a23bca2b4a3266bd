"""Nothing is smuggled through the relay: what one side takes for content, no other takes for commands.

Each test drives the relay byte by byte (raw.py).
"""

from __future__ import annotations

import email.message

import pytest

from lab import mail, raw
from lab.conftest import Applied
from lab.lab import CLIENT
from lab.raw import GREETING, UNTIL_CLOSED, Step

EHLO = "EHLO mx.stranger.example"
HELLO: list[str | Step] = [GREETING, EHLO]
ENVELOPE = ["MAIL FROM:<a@stranger.example>", "RCPT TO:<usuario01@domain01.dom>"]

# What some server somewhere takes for the end of a message; only CR LF . CR LF is (RFC 5321, 4.1.1.4; CVE-2023-51764).
ENDS = ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n\0.\r\n", "\n.\n\r\n.\n", "\r\n.\r\r\n"]


def smuggled(recipient: str, form: str) -> tuple[email.message.EmailMessage, str]:
    """Return a message and the commands that send it, as they'd stand in the content of another.

    :param form: DATA, or BDAT, which no rule of pipelining stops (RFC 3030).
    """
    message = mail.compose("smuggler@stranger.example", recipient)
    text = f"{raw.wire(message)}\r\n"
    sending = f"BDAT {len(text)} LAST\r\n{text}" if form == "BDAT" else f"DATA\r\n{text}.\r\n"
    return message, f"MAIL FROM:<smuggler@stranger.example>\r\nRCPT TO:<{recipient}>\r\n{sending}"


def only_one_arrives(
    example: Applied, sent: email.message.EmailMessage, hidden: email.message.EmailMessage, replies: list[raw.Reply]
) -> None:
    """See that of a message and the one in its content the first arrives, with the other's commands as content."""
    assert raw.queued(replies) == 1, replies
    copies = mail.arrived(example.lab.host("delivery"), sent)
    assert len(copies) == 1
    assert "MAIL FROM:<smuggler@" in copies[0].as_string()
    # A message that came later has arrived: the hidden one had the time.
    later, answers = raw.attempt(example.lab, "usuario01@domain01.dom")
    assert raw.queued(answers) == 1, answers
    assert mail.arrived(example.lab.host("delivery"), later)
    log = example.lab.host("relay").run(["journalctl", "--no-pager", "--output=cat", "--since=-5min"]).stdout
    assert f"message-id={later['Message-ID']}" in log
    assert f"message-id={hidden['Message-ID']}" not in log


@pytest.mark.parametrize("form", ["DATA", "BDAT"])
@pytest.mark.parametrize("address", [None, CLIENT], ids=["a stranger", "a server of the site"])
@pytest.mark.parametrize("end", ENDS, ids=map(repr, ENDS))
def test_no_other_line_end_ends_a_message(example: Applied, end: str, address: str | None, form: str) -> None:
    sent = mail.compose("a@stranger.example", "usuario01@domain01.dom")
    hidden, commands = smuggled("somebody@outside.example" if address else "usuario01@domain01.dom", form)
    content = raw.wire(sent).removesuffix("\r\n") + end + commands
    replies = raw.session(
        example.lab, address or raw.stranger(),
        *HELLO, *ENVELOPE, "DATA", Step(f"{content}\r\n.\r\n"), Step("QUIT\r\n", replies=UNTIL_CLOSED),
    )  # fmt: skip
    only_one_arrives(example, sent, hidden, replies)


def test_the_content_of_a_chunk_is_no_command(example: Applied) -> None:
    sent = mail.compose("a@stranger.example", "usuario01@domain01.dom")
    hidden, commands = smuggled("usuario01@domain01.dom", "DATA")
    content = f"{raw.wire(sent)}\r\n.\r\n{commands}"
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, *ENVELOPE, Step(f"BDAT {len(content)} LAST\r\n{content}"), Step("QUIT\r\n", replies=UNTIL_CLOSED),
    )  # fmt: skip
    only_one_arrives(example, sent, hidden, replies)


@pytest.mark.parametrize(
    "chunk", ["BDAT -1 LAST", "BDAT 99999999999999999999 LAST", "BDAT LAST", "BDAT 0x10 LAST", "BDAT 1 LAST LAST"]
)
def test_a_chunk_of_no_size_ends_the_session(example: Applied, chunk: str) -> None:
    replies = raw.session(example.lab, raw.stranger(), *HELLO, *ENVELOPE, Step(f"{chunk}\r\n", replies=UNTIL_CLOSED))
    assert replies[-2].code // 100 == 5, replies
    assert raw.closed(replies), replies


def test_data_after_a_chunk_is_refused(example: Applied) -> None:
    replies = raw.session(example.lab, raw.stranger(), *HELLO, *ENVELOPE, Step("BDAT 3\r\nabc"), "DATA")
    assert replies[-1].code == 503, replies


def test_no_bare_line_end_leaves_the_relay(example: Applied) -> None:
    # A next server that takes one for a line end would be smuggled to.
    sent = mail.compose("a@stranger.example", "usuario01@domain01.dom")
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, *ENVELOPE, "DATA", Step(f"{raw.wire(sent)}one\r.\rtwo\n.\nthree\r\n.\r\n"), "QUIT",
    )  # fmt: skip
    assert raw.queued(replies) == 1, replies
    host = example.lab.host("delivery")
    assert "two" in mail.arrived(host, sent)[0].get_content()
    path = host.run(["grep", "-rlF", f"Message-ID: {sent['Message-ID']}", "/srv/mail"]).stdout.strip()
    assert host.run(["grep", "-c", "\r", path], check=False).stdout.strip() == "0"


def test_commands_sent_together_where_that_is_allowed_are_obeyed(example: Applied) -> None:
    sent = mail.compose("a@stranger.example", "usuario01@domain01.dom")
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, Step("".join(f"{command}\r\n" for command in [*ENVELOPE, "DATA"]), replies=3),
        Step(f"{raw.wire(sent)}\r\n.\r\nQUIT\r\n", replies=UNTIL_CLOSED),
    )  # fmt: skip
    assert raw.queued(replies) == 1, replies
    assert len(mail.arrived(example.lab.host("delivery"), sent)) == 1


@pytest.mark.parametrize(
    "steps",
    [
        [Step("\r\n".join([EHLO, *ENVELOPE, "DATA", "Subject: early", "", ".", ""]), replies=UNTIL_CLOSED)],
        [GREETING, Step("EHLO mx.stranger.example\r\nMAIL FROM:<a@stranger.example>\r\n", replies=UNTIL_CLOSED)],
        [*HELLO, *ENVELOPE, Step("DATA\r\nSubject: pipelined\r\n\r\n.\r\n", replies=UNTIL_CLOSED)],
        [Step("GET / HTTP/1.1\r\nHost: outside.example\r\n\r\n", replies=UNTIL_CLOSED)],
        [GREETING, Step("GET / HTTP/1.1\r\nHost: outside.example\r\n\r\n", replies=UNTIL_CLOSED)],
        [GREETING, Step("POST / HTTP/1.1\r\n\r\nEHLO x\r\nMAIL FROM:<a@stranger.example>\r\n", replies=UNTIL_CLOSED)],
        [GREETING, Step("CONNECT 198.51.100.10:25 HTTP/1.1\r\n\r\n", replies=UNTIL_CLOSED)],
        [*HELLO, Step("Subject: a browser's form\r\n", replies=UNTIL_CLOSED)],
    ],
    ids=[
        "all before the greeting", "commands after EHLO", "a message after DATA", "HTTP before the greeting",
        "HTTP GET", "SMTP in a browser's POST", "HTTP CONNECT", "a header",
    ],
)  # fmt: skip
def test_who_does_not_wait_for_an_answer_or_speaks_another_language_is_cut_off(
    example: Applied, steps: list[Step | str]
) -> None:
    replies = raw.session(example.lab, raw.stranger(), *steps)
    assert raw.closed(replies), replies
    assert replies[-2].code in (221, 554), replies
    assert not raw.queued(replies), replies


@pytest.mark.parametrize("port", [25, 587])
def test_what_stands_behind_starttls_in_clear_text_is_forgotten(example: Applied, port: int) -> None:
    injected = "STARTTLS\r\nEHLO injected.example\r\nMAIL FROM:<a@stranger.example>\r\n"
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, Step(injected, handshake=True), "NOOP", "RCPT TO:<usuario01@domain01.dom>", entry=mail.Entry(port),
    )  # fmt: skip
    # Forgotten (CVE-2011-0411), or the session ended; never an answer to what was injected.
    assert raw.closed(replies) or [reply.code for reply in replies[-2:]] == [250, 503], replies
    assert not any("sender" in reply.text.lower() or "2.1.0" in reply.text for reply in replies), replies


@pytest.mark.parametrize(
    "command",
    [
        "XCLIENT ADDR=172.16.11.50", "XFORWARD ADDR=172.16.11.50", "ETRN domain01.dom", "ETRN #domain01", "TURN",
        "VRFY usuario01@domain01.dom", "VRFY root", "EXPN root", "SEND FROM:<a@stranger.example>", "DEBUG", "WIZ",
        "X" * 3000, "\0\0\0\0", "\x80\x81\xfe\xff", "MAIL FROM:a b", "MAIL FROM:<" + "a" * 3000 + "@stranger.example>",
    ],
    ids=lambda command: repr(command[:30]),
)  # fmt: skip
def test_a_command_that_is_not_for_strangers_is_refused_and_the_session_goes_on(example: Applied, command: str) -> None:
    replies = raw.session(example.lab, raw.stranger(), *HELLO, command, "NOOP")
    if command.startswith("\x80") and replies[2].code == 221:  # what begins with no letter ends the session, by version
        assert replies[2].text.endswith("Goodbye."), replies  # (smtpd_forbidden_commands, postconf(5))
        return
    assert [reply.code // 100 for reply in replies[2:]] == [5, 2], replies
    assert len(replies) == 4, replies


@pytest.mark.parametrize(
    "recipient", ["a" * 3000 + "@domain01.dom", "usuario01@domain01.dom" + " " * 3000 + "x@y.example"]
)
def test_a_recipient_longer_than_a_line_is_refused_whole(example: Applied, recipient: str) -> None:
    replies = raw.session(
        example.lab, raw.stranger(), *HELLO, "MAIL FROM:<a@stranger.example>", f"RCPT TO:<{recipient}>", "DATA"
    )
    assert [reply.code // 100 for reply in replies[3:]] == [5, 5], replies


def test_what_stands_in_a_line_longer_than_any_buffer_passes_nothing(example: Applied) -> None:
    # Postfix 3.10 takes what follows the 4,096th byte for a line of its own; it is judged as any other.
    hidden = "RCPT TO:<somebody@outside.example>\r\nQUIT\r\n"
    for length in (4096, 100_000):
        replies = raw.session(
            example.lab, raw.stranger(),
            *HELLO, "MAIL FROM:<a@stranger.example>", Step("X" * length + hidden, replies=UNTIL_CLOSED),
        )  # fmt: skip
        assert raw.closed(replies), replies
        assert all(reply.code in (221, 421, 500, 554) for reply in replies[3:-1]), replies


def test_a_bare_line_end_does_not_hide_a_second_command(example: Applied) -> None:
    replies = raw.session(
        example.lab, raw.stranger(),
        *HELLO, "MAIL FROM:<a@stranger.example>",
        Step("RCPT TO:<usuario01@domain01.dom>\rRCPT TO:<somebody@outside.example>\r\n"),
        Step("RCPT TO:<usuario01@domain01.dom>\nRCPT TO:<somebody@outside.example>\r\n", replies=2), "NOOP",
    )  # fmt: skip
    # A bare CR is part of the line; a bare LF ends it, and the second command is judged by itself.
    assert [reply.code for reply in replies[3:]] == [555, 250, 554, 250], replies
