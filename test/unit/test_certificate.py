"""A relay without a certificate gets one that mail clients can use, and keeps every other."""

from __future__ import annotations

import datetime as dt
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a certificate's file is root's")

HOST = "mail.domain01.dom"

Present = Callable[..., dict[str, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "self-signed.pem"


@pytest.fixture
def present(states: Any, path: Path) -> Present:
    """Return the state, for one file and host."""

    def run(**options: Any) -> dict[str, Any]:
        arguments = {"name": "Postfix has a certificate", "path": str(path), "common_name": HOST} | options
        return states("certificate.self_signed_present", **arguments)

    return run


def own_certificate(path: Path, subject: str = "/CN=mail.domain01.dom", days: int = 10) -> None:
    """Put a self-signed certificate there that an administrator made."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-days", str(days)]
    subprocess.run([*command, "-keyout", str(path), "-out", f"{path}.cert"], check=True, capture_output=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(Path(f"{path}.cert").read_text(encoding="utf-8"))


def test_the_file_is_the_key_then_the_certificate_and_roots_alone(modules: Any, path: Path) -> None:
    before = os.umask(0)
    try:
        modules["smtpout_certificate.create_self_signed"](str(path), HOST)
    finally:
        os.umask(before)
    text = path.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("-----BEGIN")] == [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----",
    ]
    stats = modules["file.stats"](str(path))
    assert (stats["mode"], stats["user"], stats["group"]) == ("0600", "root", "root")
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", [HOST, "smtp.domain01.dom"])
def test_a_client_that_trusts_it_accepts_each_of_its_names(modules: Any, path: Path, name: str) -> None:
    modules["smtpout_certificate.create_self_signed"](str(path), HOST, names=["smtp.domain01.dom"])
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=str(path))
    here, there = socket.socketpair()
    with here, there:
        thread = threading.Thread(target=lambda: server.wrap_socket(there, server_side=True).unwrap(), daemon=True)
        thread.start()
        with client.wrap_socket(here, server_hostname=name) as connection:
            assert connection.version() in ("TLSv1.2", "TLSv1.3")
            connection.unwrap()
        thread.join(5)


def test_a_name_longer_than_a_common_name_may_be_is_among_its_names(modules: Any, path: Path) -> None:
    name = f"{'a' * 63}.{'b' * 63}.dom"
    assert modules["smtpout_certificate.create_self_signed"](str(path), name)["names"] == [name]


@pytest.mark.parametrize("name", ["", "mañana.dom"])
def test_a_name_that_is_none_is_refused(modules: Any, path: Path, name: str) -> None:
    with pytest.raises(CommandExecutionError, match="no certificate for"):
        modules["smtpout_certificate.create_self_signed"](str(path), name)
    assert os.listdir(path.parent) == []


def test_a_file_that_is_something_else_stays(modules: Any, path: Path) -> None:
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(CommandExecutionError, match="no certificate in PEM form"):
        modules["smtpout_certificate.create_self_signed"](str(path), HOST)
    assert path.read_text(encoding="utf-8") == "precious"


def test_info_tells_what_an_administrators_certificate_is(modules: Any, path: Path) -> None:
    own_certificate(path)
    info = modules["smtpout_certificate.info"](str(path))
    left = dt.datetime.fromisoformat(info["not_after"]) - dt.datetime.now(dt.timezone.utc)
    assert info["subject"] == f"CN={HOST}"
    assert info["self_signed"] is True
    assert info["self_made"] is False
    assert left.days == info["days_left"] == 9


# --- the state -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
def test_a_missing_certificate_is_made_and_a_dry_run_tells_the_same(present: Present, path: Path, test: bool) -> None:
    ret = present(names=["smtp.domain01.dom"], test=test)
    assert ret["changes"] == {
        str(path): {"old": "absent", "new": "self-signed for mail.domain01.dom, smtp.domain01.dom"}
    }
    assert ret["result"] is (None if test else True)
    assert path.exists() is not test


def test_a_second_run_changes_nothing(present: Present, path: Path) -> None:
    present()
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    ret = present()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    ("days", "mode", "options", "reason"),
    [
        (20, 0o600, {}, "holds until "),
        (825, 0o600, {"common_name": "other.domain01.dom"}, f"self-signed for {HOST}"),
        (825, 0o644, {}, "readable by others: mode 0644, user root"),
    ],
)
def test_a_self_made_one_is_renewed_when_it_is_no_longer_right(
    present: Present,
    modules: Any,
    path: Path,
    test: bool,
    days: int,
    mode: int,
    options: dict[str, Any],
    reason: str,
) -> None:
    modules["smtpout_certificate.create_self_signed"](str(path), HOST, days=days)
    path.chmod(mode)
    before = path.read_bytes()
    ret = present(test=test, **options)
    assert ret["changes"][str(path)]["old"].startswith(reason)
    assert (path.read_bytes() == before) is test
    if not test:
        assert modules["file.stats"](str(path))["mode"] == "0600"
        assert present(**options)["changes"] == {}


def test_an_administrators_certificate_is_never_touched(present: Present, path: Path) -> None:
    own_certificate(path, subject="/CN=other.dom", days=1)
    before = path.read_bytes()
    ret = present()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "isn't self-made" in ret["comment"]
    assert path.read_bytes() == before


def test_a_file_without_a_certificate_fails_the_state(present: Present, path: Path) -> None:
    path.write_text("precious", encoding="utf-8")
    ret = present()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert str(path) in ret["comment"]


def test_the_private_key_stands_in_no_return(present: Present, path: Path) -> None:
    ret = present()
    assert path.read_text(encoding="utf-8").splitlines()[5] not in str(ret)
