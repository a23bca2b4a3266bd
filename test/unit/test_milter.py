"""A milter serves when it answers the handshake: tried on OpenDKIM itself, and on sockets that answer otherwise."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from smtpout_core.daemons import milter
from smtpout_core.daemons.opendkim import keys
from smtpout_core.errors import RelayError

needs_opendkim = pytest.mark.skipif(not shutil.which("opendkim"), reason="opendkim isn't installed")

Listening = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def opendkim(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that starts OpenDKIM, with nothing to sign, on the socket that it is told."""
    daemons = []

    def start(address: str) -> None:
        config = tmp_path / "opendkim.conf"
        config.write_text(f"Mode v\nSyslog no\nSocket {address}\n", encoding="utf-8")
        daemons.append(subprocess.Popen(["opendkim", "-f", "-x", str(config)]))

    yield start
    for daemon in daemons:
        daemon.kill()
        daemon.wait()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    """Return a function that listens on a socket, treats the first connection as told, and returns the address."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        threads = []

        def start(treat: Callable[[socket.socket], None]) -> str:
            def serve() -> None:
                with listener.accept()[0] as connection:
                    treat(connection)

            threads.append(threading.Thread(target=serve, daemon=True))
            threads[-1].start()
            return f"unix:{tmp_path}/socket"

        yield start
        for thread in threads:
            thread.join(5)


def until_it_serves(probe: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return what a daemon that is just starting answers."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return probe()
        except RelayError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@needs_opendkim
def test_opendkim_on_a_unix_socket_serves(opendkim: Callable[[str], None], tmp_path: Path) -> None:
    opendkim(f"local:{tmp_path}/opendkim.sock")
    answer = until_it_serves(lambda: milter.probe(f"unix:{tmp_path}/opendkim.sock"))
    assert answer["version"] == 6
    assert answer["actions"] & 0x01, "it must be able to add a header"


@needs_opendkim
@pytest.mark.parametrize("form", ["inet:{port}@127.0.0.1", "inet:127.0.0.1:{port}", "inet:{port}@localhost"])
def test_opendkim_on_a_tcp_port_serves(opendkim: Callable[[str], None], form: str) -> None:
    port = free_port()
    opendkim(f"inet:{port}@127.0.0.1")
    assert until_it_serves(lambda: milter.probe(form.format(port=port)))["version"] == 6


@needs_opendkim
def test_opendkim_that_hangs_does_not_serve_although_it_can_be_connected_to(tmp_path: Path) -> None:
    config = tmp_path / "opendkim.conf"
    config.write_text(f"Mode v\nSyslog no\nSocket local:{tmp_path}/opendkim.sock\n", encoding="utf-8")
    with subprocess.Popen(["opendkim", "-f", "-x", str(config)]) as daemon:
        until_it_serves(lambda: milter.probe(f"unix:{tmp_path}/opendkim.sock"))
        daemon.send_signal(19)  # SIGSTOP
        with pytest.raises(RelayError, match=r"no answer within 0\.5 s"):
            milter.probe(f"unix:{tmp_path}/opendkim.sock", timeout=0.5)
        daemon.kill()


@needs_opendkim
@pytest.mark.parametrize(("sender", "signed"), [("a@example.org", True), ("a@example.net", False)])
def test_opendkim_tells_what_it_does_to_a_message(tmp_path: Path, sender: str, signed: bool) -> None:
    key = tmp_path / "key"
    keys.generate_key(str(key))
    config = tmp_path / "opendkim.conf"
    config.write_text(
        f"Mode s\nSyslog no\nSocket local:{tmp_path}/s\nDomain example.org\nSelector s1\nKeyFile {key}\n"
        "InternalHosts 127.0.0.1\nRequireSafeKeys no\n",
        encoding="utf-8",
    )
    with subprocess.Popen(["opendkim", "-f", "-x", str(config)]) as daemon:
        until_it_serves(lambda: milter.probe(f"unix:{tmp_path}/s"))
        headers = {"From": f"<{sender}>", "To": "<b@example.com>", "Subject": "A test"}
        said = milter.treated(f"unix:{tmp_path}/s", "127.0.0.1", (sender, "b@example.com"), headers, b"A test.\r\n")
        daemon.kill()
    assert said.becomes == "accepted"
    assert any(name == "DKIM-Signature" and "d=example.org" in value for name, value in said.headers) is signed


@pytest.mark.parametrize(
    ("answers", "becomes"),
    [([b"c"] * 8 + [b"q", b"c"], "quarantined"), ([b"c", b"c", b"c", b"y550 5.7.1 No\0"], "refused"),
     ([b"c"] * 8 + [b"p", b"t"], "put off"), ([b"a"], "accepted"), ([b"c"] * 7 + [b"s", b"d"], "discarded")],
)  # fmt: skip
def test_what_becomes_of_a_message_is_the_milters_last_word(
    listening: Listening, answers: list[bytes], becomes: str
) -> None:
    def filters(connection: socket.socket) -> None:
        said = [b"O" + struct.pack(">3I", 6, 0, 0), *answers]
        for each in said:
            if each not in (b"p", b"q") and not connection.recv(1 << 16):
                return
            connection.sendall(struct.pack(">I", len(each)) + each)
        connection.recv(1 << 16)

    envelope = ("a@example.org", "b@example.com")
    assert milter.treated(listening(filters), "127.0.0.1", envelope, {"From": "a"}, b"").becomes == becomes


def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match=rf"unix:{tmp_path}/none: No such file"):
        milter.probe(f"unix:{tmp_path}/none")


def test_a_socket_that_a_dead_daemon_left_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "socket"))
    with pytest.raises(RelayError, match="Connection refused"):
        milter.probe(f"unix:{tmp_path}/socket")


def test_a_port_that_nobody_listens_on_is_refused() -> None:
    with pytest.raises(RelayError, match="Connection refused"):
        milter.probe(f"inet:{free_port()}@127.0.0.1")


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP Postfix\r\n", b"\0\0\0\x0dr" + 12 * b"\0"])
def test_what_says_something_else_than_the_handshake_is_no_milter(listening: Listening, greeting: bytes) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(greeting)
        connection.recv(4096)

    with pytest.raises(RelayError, match="no milter"):
        milter.probe(listening(greet))


def test_a_connection_that_is_closed_is_no_answer(listening: Listening) -> None:
    def leave(connection: socket.socket) -> None:
        connection.recv(4096)

    with pytest.raises(RelayError, match="closed without an answer"):
        milter.probe(listening(leave))


def test_an_answer_in_drops_counts_against_one_time_limit(listening: Listening) -> None:
    def drip(connection: socket.socket) -> None:
        try:
            for byte in b"\0\0\0\x0dO" + 12 * b"\0":
                connection.sendall(bytes([byte]))
                time.sleep(0.2)
        except OSError:
            pass

    start = time.monotonic()
    with pytest.raises(RelayError, match=r"no answer within 0\.5 s"):
        milter.probe(listening(drip), timeout=0.5)
    assert time.monotonic() - start < 1


def test_the_milter_is_taken_leave_of(listening: Listening) -> None:
    heard = []

    def filters(connection: socket.socket) -> None:
        heard.append(connection.recv(17))
        connection.sendall(b"\0\0\0\x0dO" + b"\0\0\0\6" + b"\0\0\1\x11" + b"\0\0\0\2")
        heard.append(connection.recv(100))

    address = listening(filters)
    assert milter.probe(address) == {"version": 6, "actions": 0x111, "steps": 2}
    time.sleep(0.1)
    assert heard == [b"\0\0\0\x0dO\0\0\0\6\0\0\1\xff\0\x1f\xff\xff", b"\0\0\0\1Q"]


@pytest.mark.parametrize("address", ["/run/opendkim.sock", "inet:127.0.0.1", "unix:relative", ""])
def test_an_address_that_is_none_is_told_the_right_forms(address: str) -> None:
    with pytest.raises(RelayError, match="not unix:/path"):
        milter.probe(address)
