"""Logins are tried with a real saslauthd, which asks a real slapd; a stand-in plays only what no sound daemon does."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from minions import apply, minion
from salt.exceptions import CommandExecutionError
from slapd_server import (
    BASE,
    BIND_PASSWORD,
    PEOPLE,
    USER_PASSWORD,
    Slapd,
    free_port,
    needs_slapd,
    running_slapd,
    saslauthd_conf,
)
from smtpout_core.change import filters
from smtpout_core.daemons import saslauthd

SASLAUTHD = shutil.which("saslauthd", path="/usr/sbin:/usr/bin")
needs_saslauthd = pytest.mark.skipif(SASLAUTHD is None, reason="saslauthd is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

# What a bind password may hold, and a parser might trip over.
PASSWORDS = {
    "comment": "#not # a comment",
    "quotes": "\"it's\" 'quoted'",
    "backslashes": "\\n\\ \\",
    "dollar and percent": "$HOME %u ${x}",
    "blanks inside and behind": "a  b\tc ",
    "not ASCII": "contraseña-пароль-€\xa0",
    "colon": ": ldap_scope: one",
    "longest": "x" * 127,
}


class Daemon:
    """A saslauthd in the foreground, with its socket in a directory of its own."""

    def __init__(self, directory: Path, configuration: str) -> None:
        self.socket = str(directory / "mux")
        (directory / "saslauthd.conf").write_bytes(configuration.encode())
        assert SASLAUTHD
        options = ["-a", "ldap", "-O", str(directory / "saslauthd.conf"), "-m", str(directory), "-n", "0", "-r", "-d"]
        self.process = subprocess.Popen([SASLAUTHD, *options], stderr=subprocess.DEVNULL)
        wait_for(self.socket)

    def stop(self) -> None:
        """End it as a crash would: the socket stays."""
        self.process.kill()
        self.process.wait()


def wait_for(path: str) -> None:
    for _ in range(1000):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(path)
            except OSError:
                time.sleep(0.02)
            else:
                return
    pytest.fail(f"nothing listens on {path}")


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    apps = ""
    for number, password in enumerate([*PASSWORDS.values(), "x" * 128]):
        encoded = base64.b64encode(password.encode()).decode()
        apps += (
            f"\ndn: cn=app{number},ou=mailapps,{BASE}\nobjectClass: organizationalRole\n"
            f"objectClass: simpleSecurityObject\ncn: app{number}\nuserPassword:: {encoded}\n"
        )
    with running_slapd(PEOPLE + apps) as server:
        yield server


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory with a short path: a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sasl-") as path:
        yield Path(path)


@pytest.fixture
def daemon(directory: Path) -> Iterator[Callable[[str], Daemon]]:
    """Return what starts a saslauthd with a configuration; it ends with the test."""
    started = []

    def start(configuration: str) -> Daemon:
        started.append(Daemon(directory, configuration))
        return started[-1]

    yield start
    for running in started:
        running.process.send_signal(signal.SIGCONT)
        running.stop()


@pytest.fixture
def stand_in(directory: Path) -> Iterator[Callable[[bytes], str]]:
    """Return what starts a server that gives each request the same bytes and keeps what it was sent."""
    path = str(directory / "mux")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve(answer: bytes) -> None:
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection:
                    (directory / "request").write_bytes(connection.recv(4096))
                    connection.sendall(answer)

        def start(answer: bytes) -> str:
            threading.Thread(target=serve, args=[answer], daemon=True).start()
            return path

        yield start
        listener.shutdown(socket.SHUT_RDWR)


@needs_slapd
@needs_saslauthd
class TestLogins:
    """What a real daemon answers."""

    def test_the_right_password_is_accepted_and_a_wrong_one_refused(
        self, modules: Any, slapd: Slapd, daemon: Callable[[str], Daemon]
    ) -> None:
        mux = daemon(saslauthd_conf(slapd.uri)).socket
        assert modules["saslauthd.authenticate"]("usuario01", USER_PASSWORD, socket=mux) is True
        assert modules["saslauthd.authenticate"]("usuario01", "wrong", socket=mux) is False
        assert modules["saslauthd.authenticate"]("nobody", USER_PASSWORD, socket=mux) is False
        assert modules["saslauthd.authenticate"]("usuario01", "", socket=mux) is False
        assert modules["saslauthd.authenticate"]("usuario01", "x" * 256, socket=mux) is False

    def test_a_login_with_a_domain_keeps_it(self, modules: Any, slapd: Slapd, daemon: Callable[[str], Daemon]) -> None:
        mux = daemon(saslauthd_conf(slapd.uri, ldap_filter="mail=%u")).socket
        assert modules["saslauthd.authenticate"]("usuario01@domain01.dom", USER_PASSWORD, socket=mux) is True
        assert modules["saslauthd.authenticate"]("usuario01@evil.test", USER_PASSWORD, socket=mux) is False

    def test_the_verify_users_password_need_not_be_given(
        self, slapd: Slapd, daemon: Callable[[str], Daemon], tmp_path: Path
    ) -> None:
        modules = minion(tmp_path, slapd.pillar())
        mux = daemon(saslauthd_conf(slapd.uri)).socket
        assert modules["saslauthd.authenticate"]("usuario01", socket=mux) is True
        with pytest.raises(CommandExecutionError, match="No password is known for usuario02"):
            modules["saslauthd.authenticate"]("usuario02", socket=mux)

    def test_a_password_is_in_no_log(
        self, slapd: Slapd, daemon: Callable[[str], Daemon], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.NOTSET)
        modules = minion(tmp_path, slapd.pillar())
        assert modules["saslauthd.authenticate"]("usuario01", socket=daemon(saslauthd_conf(slapd.uri)).socket) is True
        assert modules["smtpout_directory.check"]() == [slapd.uri]
        assert USER_PASSWORD not in caplog.text
        assert BIND_PASSWORD not in caplog.text

    @pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS)
    def test_a_bind_password_arrives_as_it_was_written(
        self, modules: Any, slapd: Slapd, daemon: Callable[[str], Daemon], password: str
    ) -> None:
        number = list(PASSWORDS.values()).index(password)
        line = filters.overridden("", {"ldap_bind_pw": password}, ": ").splitlines()[-1] + "\n"
        configuration = saslauthd_conf(slapd.uri, ldap_bind_dn=f"cn=app{number},ou=mailapps,{BASE}")
        mux = daemon(configuration.replace("ldap_bind_pw: Pass2016Mail\n", line)).socket
        assert modules["saslauthd.authenticate"]("usuario01", USER_PASSWORD, socket=mux) is True

    def test_the_daemon_cuts_what_is_too_long_for_it(
        self, modules: Any, slapd: Slapd, daemon: Callable[[str], Daemon], directory: Path
    ) -> None:
        bind_dn = f"cn=app{len(PASSWORDS)},ou=mailapps,{BASE}"
        mux = daemon(saslauthd_conf(slapd.uri, ldap_bind_dn=bind_dn, ldap_bind_pw="x" * 128)).socket
        assert modules["saslauthd.authenticate"]("usuario01", USER_PASSWORD, socket=mux) is False
        config = str(directory / "saslauthd.conf")
        assert "128 bytes; saslauthd cuts it after 127" in saslauthd.complaints({config: config}, config)[0]

    def test_the_daemon_says_nothing_of_what_is_complained_of(
        self, modules: Any, slapd: Slapd, daemon: Callable[[str], Daemon], directory: Path
    ) -> None:
        mux = daemon(saslauthd_conf(slapd.uri, ldap_bogus="x", ldap_start_tls="True", ldap_scope="tree")).socket
        assert modules["saslauthd.authenticate"]("usuario01", USER_PASSWORD, socket=mux) is True
        config = str(directory / "saslauthd.conf")
        complaints = saslauthd.complaints({config: config}, config)
        assert [complaint.split(": ", 1)[1].split(";")[0] for complaint in complaints] == [
            "saslauthd knows no option ldap_bogus",
            "ldap_start_tls is 'True'",
            "ldap_scope is 'tree'",
        ]

    def test_ping_answers_at_once_although_the_directory_is_down(
        self, modules: Any, daemon: Callable[[str], Daemon]
    ) -> None:
        mux = daemon(saslauthd_conf(f"ldap://127.0.0.1:{free_port()}")).socket
        assert modules["saslauthd.ping"](mux, timeout=1) is True

    def test_a_daemon_that_hangs_does_not_hang_the_caller(
        self, modules: Any, slapd: Slapd, daemon: Callable[[str], Daemon]
    ) -> None:
        running = daemon(saslauthd_conf(slapd.uri))
        running.process.send_signal(signal.SIGSTOP)
        with pytest.raises(CommandExecutionError, match=r"didn't answer on .* within 0.3 s"):
            modules["saslauthd.ping"](running.socket, timeout=0.3)

    def test_a_daemon_that_died_is_told_from_one_that_never_ran(
        self, modules: Any, slapd: Slapd, daemon: Callable[[str], Daemon], directory: Path
    ) -> None:
        running = daemon(saslauthd_conf(slapd.uri))
        running.stop()
        with pytest.raises(CommandExecutionError, match="Nothing listens on"):
            modules["saslauthd.ping"](running.socket)
        with pytest.raises(CommandExecutionError, match="There is no socket"):
            modules["saslauthd.ping"](str(directory / "other"))


def test_the_request_is_what_postfix_sends(modules: Any, stand_in: Callable[[bytes], str], directory: Path) -> None:
    mux = stand_in(b"\0\2OK")
    assert modules["saslauthd.authenticate"]("user@domain01.dom", "contraseña", socket=mux) is True
    sent = (directory / "request").read_bytes()
    assert sent == b"\0\4user\0\x0bcontrase\xc3\xb1a\0\4smtp\0\x0cdomain01.dom\0\0"


@pytest.mark.parametrize("field", ["user", "password", "service", "realm"])
def test_a_field_that_saslauthd_would_not_take_is_never_sent(modules: Any, field: str) -> None:
    request = {"user": "user", "password": "secret", "service": "smtp", "realm": ""} | {field: "ñ" * 129}
    with pytest.raises(CommandExecutionError, match=f"The {field} has 258 bytes; saslauthd takes 256 at most"):
        modules["saslauthd.authenticate"](**request, socket="/nowhere/mux")


@pytest.mark.parametrize(
    ("answer", "said"),
    [(b"\0\3WTF", "neither OK nor NO"), (b"\0\x09OK", "without a whole answer"), (b"", "without a whole answer")],
    ids=["other", "cut", "none"],
)
def test_an_unexpected_answer_is_an_error_that_holds_no_password(
    modules: Any, stand_in: Callable[[bytes], str], answer: bytes, said: str
) -> None:
    with pytest.raises(CommandExecutionError, match=said) as error:
        modules["saslauthd.authenticate"]("user", "Secret-1", socket=stand_in(answer))
    assert "Secret-1" not in str(error.value)


def test_something_that_lets_everybody_in_fails_the_ping(modules: Any, stand_in: Callable[[bytes], str]) -> None:
    with pytest.raises(CommandExecutionError, match="let an empty user name in"):
        modules["saslauthd.ping"](stand_in(b"\0\2OK"))


@needs_root
def test_a_socket_of_another_group_is_named_as_such(
    modules: Any, stand_in: Callable[[bytes], str], directory: Path
) -> None:
    mux = stand_in(b"\0\2OK")
    directory.chmod(0o710)
    os.seteuid(65534)
    try:
        with pytest.raises(CommandExecutionError, match=f"nobody may not use {mux}"):
            modules["saslauthd.ping"](mux)
    finally:
        os.seteuid(0)


@needs_slapd
@needs_saslauthd
@needs_root
class TestVerified:
    """The state says in plain words which fault it is."""

    @pytest.fixture
    def verified(self, slapd: Slapd, tmp_path: Path, directory: Path) -> Callable[..., dict[str, Any]]:
        directory.chmod(0o755)

        def run(site: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
            arguments = {"socket": str(directory / "mux"), "client": "daemon", "timeout": 6} | arguments
            ret = apply(minion(tmp_path, site or slapd.pillar()), "saslauthd.verified", **arguments)
            assert ret["changes"] == {}
            assert USER_PASSWORD not in ret["comment"]
            return ret

        return run

    @pytest.mark.parametrize("test", [False, True])
    def test_a_login_that_works_is_verified(
        self, verified: Callable[..., Any], slapd: Slapd, daemon: Callable[[str], Daemon], test: bool
    ) -> None:
        daemon(saslauthd_conf(slapd.uri))
        ret = verified(test=test)
        assert ret["result"] is True
        assert ret["comment"] == "saslauthd accepts usuario01 and refuses a wrong password."

    def test_without_a_user_only_the_daemon_is_tried(
        self, verified: Callable[..., Any], slapd: Slapd, daemon: Callable[[str], Daemon]
    ) -> None:
        daemon(saslauthd_conf(slapd.uri))
        ret = verified(slapd.pillar() | {"verify": {}})
        assert ret["result"] is True
        assert "No login was tried" in ret["comment"]

    def test_no_socket(self, verified: Callable[..., Any]) -> None:
        ret = verified()
        assert ret["result"] is False
        assert "There is no socket" in ret["comment"]

    def test_before_saslauthd_is_there_a_dry_run_tries_the_login_at_the_directory(
        self, verified: Callable[..., Any], slapd: Slapd
    ) -> None:
        ret = verified(test=True)
        assert (ret["result"], ret["comment"]) == (True, "The directory itself takes usuario01's login.")
        assert ret["warnings"] == [
            "Not checked: that saslauthd takes it, and no wrong one: saslauthd isn't running yet."
        ]
        ret = verified(slapd.pillar() | {"verify": {"user": "usuario01", "password": "old-P@ssw0rd-1"}}, test=True)
        assert ret["result"] is False
        assert ret["comment"].endswith("is refused: the name or password is wrong")

    def test_before_saslauthd_is_there_a_dry_run_says_what_it_cannot_try(
        self, verified: Callable[..., Any], slapd: Slapd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ret = verified(slapd.pillar() | {"verify": {}}, test=True)
        assert ret["warnings"] == ["Not checked: that saslauthd answers: saslauthd isn't running yet."]
        monkeypatch.setitem(sys.modules, "ldap3", None)
        ret = verified(test=True)
        assert (ret["result"], ret["comment"]) == (True, "")
        assert "Not checked: that usuario01 can log in: saslauthd isn't running yet, and ldap3" in ret["warnings"][0]

    def test_postfix_not_in_the_group(
        self, verified: Callable[..., Any], slapd: Slapd, daemon: Callable[[str], Daemon], directory: Path
    ) -> None:
        daemon(saslauthd_conf(slapd.uri))
        directory.chmod(0o710)
        ret = verified()
        assert ret["result"] is False
        assert "daemon may not use" in ret["comment"]

    def test_the_directory_is_down(
        self, verified: Callable[..., Any], slapd: Slapd, daemon: Callable[[str], Daemon]
    ) -> None:
        dead = f"ldap://127.0.0.1:{free_port()}"
        daemon(saslauthd_conf(dead))
        ret = verified(slapd.pillar(servers=[dead]))
        assert ret["result"] is False
        assert "saslauthd refuses usuario01." in ret["comment"]
        assert f"the directory is at fault: {dead}: port" in ret["comment"]

    def test_the_password_is_wrong(
        self, verified: Callable[..., Any], slapd: Slapd, daemon: Callable[[str], Daemon]
    ) -> None:
        daemon(saslauthd_conf(slapd.uri))
        ret = verified(slapd.pillar() | {"verify": {"user": "usuario01", "password": "old-P@ssw0rd-1"}})
        assert ret["result"] is False
        assert f"The directory itself refuses uid=usuario01,ou=people,{BASE}: " in ret["comment"]
        assert "old-P@ssw0rd-1" not in ret["comment"]

    def test_the_user_is_unknown(
        self, verified: Callable[..., Any], slapd: Slapd, daemon: Callable[[str], Daemon]
    ) -> None:
        daemon(saslauthd_conf(slapd.uri))
        ret = verified(slapd.pillar() | {"verify": {"user": "nobody", "password": "x"}})
        assert ret["result"] is False
        assert "smtpout:directory:login finds no entry for nobody" in ret["comment"]

    def test_a_mechanism_that_lets_everybody_in(self, verified: Callable[..., Any], directory: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "mux"))
            listener.listen()

            def serve() -> None:  # an empty name is refused, as every mechanism does
                for answer in (b"\0\2NO", b"\0\2OK"):
                    connection = listener.accept()[0]
                    connection.recv(4096)
                    connection.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
            Path(directory / "mux").chmod(0o777)
            ret = verified()
        assert ret["result"] is False
        assert "lets usuario01 in with a wrong password" in ret["comment"]
