"""Nexthops are read as transport(5) has them, and asked for a greeting by the protocol of their program."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from dns import rdata, resolver
from smtpout_core.daemons.postfix import nexthop
from smtpout_core.errors import RelayError


@pytest.mark.parametrize(
    ("written", "program", "read", "shown"),
    [
        ("smtp:[127.0.0.1]:25", "smtp", ("smtp", "127.0.0.1", "25", False), "smtp:[127.0.0.1]:25"),
        ("smtp:[IPv6:::1]", "smtp", ("smtp", "::1", "25", False), "smtp:[::1]:25"),
        ("relay:[a.example]:submission", "smtp", ("relay", "a.example", "submission", False),
         "relay:[a.example]:submission"),
        ("smtp:a.example", "smtp", ("smtp", "a.example", "25", True), "smtp:a.example:25"),
        ("relay:a.example:2525", "smtp", ("relay", "a.example", "2525", True), "relay:a.example:2525"),
        ("lmtp:inet:a.example", "lmtp", ("lmtp", "a.example", "24", False), "lmtp:[a.example]:24"),
        ("box:unix:/run/lmtp", "lmtp", ("box", "/run/lmtp", "0", False), "box:unix:/run/lmtp"),
        ("lmtp:unix:private/box", "lmtp", ("lmtp", "/var/spool/postfix/private/box", "0", False),
         "lmtp:unix:/var/spool/postfix/private/box"),
    ],
)  # fmt: skip
def test_a_nexthop_is_read(written: str, program: str, read: tuple[str, str, str, bool], shown: str) -> None:
    found = nexthop.read(written, program)
    assert (tuple(found), str(found)) == (read, shown)


def test_a_domain_that_takes_no_mail_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    null = rdata.from_text("IN", "MX", "0 .")
    monkeypatch.setattr(resolver, "resolve", lambda *_, **__: [null])
    with pytest.raises(RelayError, match=r"^a\.example takes no mail at all \(a null MX, RFC 7505\)$"):
        nexthop.hosts(nexthop.read("smtp:a.example"))


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the nexthop of a server that says these lines, one to each line that it hears."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as heard:
                for line in request.param:
                    connection.sendall(line)
                    heard.readline()

        threading.Thread(target=serve, daemon=True).start()
        yield f"smtp:[127.0.0.1]:{listening.getsockname()[1]}"


@pytest.mark.parametrize("server", [(b"220 box\r\n", b"250 box\r\n", b"221 bye\r\n")], indirect=True)
@pytest.mark.parametrize("program", ["smtp", "lmtp"])
def test_one_that_greets_serves(server: str, program: str) -> None:
    target = nexthop.read(server, program)
    assert nexthop.ask(target, program, encrypted=False).where == f"127.0.0.1:{target.port}"


@pytest.mark.parametrize(
    ("server", "encrypted", "said"),
    [
        ((b"554 not you\r\n", b"221 bye\r\n"), False, "the greeting is answered 554 not you"),
        ((b"220 box\r\n", b"421 4.3.2 later\r\n", b""), False, "EHLO is answered 421 4.3.2 later"),
        ((b"220 box\r\n", b"250 box\r\n", b"221 bye\r\n"), True, "it offers no STARTTLS, without which it gets no m"),
        ((b"HTTP/1.1 400 Bad Request\r\n", b""), False, "127.0.0.1:"),
    ],
    indirect=["server"],
)
def test_one_that_does_not_is_told(server: str, encrypted: bool, said: str) -> None:
    with pytest.raises(RelayError, match=said):
        nexthop.ask(nexthop.read(server), "smtp", encrypted=encrypted)


@pytest.mark.parametrize(
    "server",
    [(b"220 box\r\n", b"250 box\r\n", b"250 sender\r\n", b"451 4.3.0 no room\r\n", b"221 bye\r\n")],
    indirect=True,
)
def test_one_that_takes_no_users_mail_is_told(server: str) -> None:
    with pytest.raises(RelayError, match=r"RCPT TO:<usuario01@domain01\.dom> is answered 451 4\.3\.0 no room"):
        nexthop.ask(nexthop.read(server), "smtp", encrypted=False, recipient="usuario01@domain01.dom")


def test_nobody_there_is_told() -> None:
    with pytest.raises(RelayError, match=r"^127\.0\.0\.1:1: .*refused"):
        nexthop.ask(nexthop.read("smtp:[127.0.0.1]:1"), "smtp", encrypted=False)


@pytest.mark.parametrize(
    "server", [(b"220 box\r\n", b"250-box\r\n250-8BITMIME\r\n250 SIZE 10240000\r\n", b"221 bye\r\n")], indirect=True
)
def test_what_it_offers_is_known(server: str) -> None:
    assert nexthop.ask(nexthop.read(server), "smtp", encrypted=False).offers == {"8bitmime": "", "size": "10240000"}


@pytest.mark.parametrize(
    ("offers", "limit", "utf8", "told"),
    [
        (
            {"size": "10240000"},
            "26214400",
            "no",
            ["no message of over 10240000 bytes, and message_size_limit is 26214400"],
        ),
        ({"size": "10240000"}, "0", "no", ["no message of over 10240000 bytes, and message_size_limit is 0"]),
        ({"size": "10240000"}, "10240000", "no", []),
        ({"size": "0"}, "0", "no", []),
        ({"size": ""}, "26214400", "no", []),
        ({}, "26214400", "yes", ["no SMTPUTF8, and smtputf8_enable is yes"]),
        ({"smtputf8": ""}, "26214400", "yes", []),
    ],
)
def test_what_clients_are_offered_and_it_has_not_is_told(
    offers: dict[str, str], limit: str, utf8: str, told: list[str]
) -> None:
    assert nexthop.unkept(offers, {"message_size_limit": limit, "smtputf8_enable": utf8}) == told
