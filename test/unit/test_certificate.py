"""A relay without a certificate gets one that mail clients can use, and keeps every other."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from salt.exceptions import CommandExecutionError
from smtpout_core.daemons.postfix import certificate, check
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.host import Host
from smtpout_core.verify import ageing

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a certificate's file is root's")

HOST = "mail.domain01.dom"

ENCRYPTED = subprocess.run(
    ["openssl", "genrsa", "-aes256", "-passout", "pass:x", "2048"], capture_output=True, text=True, check=True
).stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "self-signed.pem"


def brought(path: Path, name: str = HOST) -> dict[str, Any] | None:
    """Have the part in place, and return why it was made; None where it stayed as it was."""
    part = certificate.SelfMade(str(path), name)
    reason = part.difference({})
    for each, content in part.contents("").items():
        Path(each).write_bytes(content.data)
        Path(each).chmod(content.mode)
    assert part.wanted == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (part.paths == ()) is not certificate.info(str(path))["self_made"]
    return reason


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


# --- what a site without a certificate gets ------------------------------------------------------------------------


def test_a_missing_certificate_is_made_and_then_stays(path: Path) -> None:
    assert brought(path) == {"old": "absent", "new": f"self-signed for {HOST}"}
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert brought(path) is None
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("days", "mode", "name", "reason"),
    [
        (20, 0o600, HOST, "holds until "),
        (825, 0o600, "other.domain01.dom", f"self-signed for {HOST}"),
        (825, 0o644, HOST, "readable by others: mode 0644, root:root"),
    ],
)
def test_a_self_made_one_is_renewed_when_it_is_no_longer_right(
    modules: Any, path: Path, days: int, mode: int, name: str, reason: str
) -> None:
    modules["smtpout_certificate.create_self_signed"](str(path), HOST, days=days)
    path.chmod(mode)
    made = brought(path, name)
    assert made
    assert made["old"].startswith(reason)
    assert path.stat().st_mode & 0o777 == 0o600
    assert brought(path, name) is None


def test_an_administrators_certificate_is_never_touched(path: Path) -> None:
    own_certificate(path, subject="/CN=other.dom", days=1)
    before = path.read_bytes()
    assert brought(path) is None
    assert path.read_bytes() == before


def test_a_file_without_a_certificate_is_said(path: Path) -> None:
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(RelayError, match=str(path)):
        brought(path)
    assert path.read_text(encoding="utf-8") == "precious"


def ends(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Have every certificate end in so many days."""
    told = {"days_left": days, "not_after": "2026-11-23T02:58:27+00:00"}
    monkeypatch.setattr(certificate, "info", lambda _path: told)


@pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix isn't installed")
@pytest.mark.parametrize(("named", "refused"), [("live", False), ("other", True)])
def test_a_certificate_that_has_ended_is_refused_where_it_is_newly_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, refused: bool
) -> None:
    ends(monkeypatch, -1)
    for directory, name in (("etc", "live"), ("staged", named)):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "master.cf").touch()
        (tmp_path / f"{name}.pem").touch()
        text = f"compatibility_level = 3.6\nsmtpd_tls_chain_files = {tmp_path}/{name}.pem\n"
        (tmp_path / directory / "main.cf").write_text(text, encoding="utf-8")
    said = list(check.expired(f"{tmp_path}/staged", f"{tmp_path}/etc"))
    assert [f"the certificate in {tmp_path}/other.pem ended on" in line for line in said] == [True] * refused


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.parent, ": No such file or directory"),
        (lambda path: path.write_text("nothing\n"), ": no certificate in PEM form"),
        (lambda path: path.write_text(Path(f"{path}.cert").read_text()), ": no private key that fits "),
        (lambda path: path.write_text(ENCRYPTED + Path(f"{path}.cert").read_text()), ": no private key that fits "),
        (lambda path: path.write_bytes(certificate.self_signed(HOST, days=0)), " ended on "),
        (own_certificate, None),
    ],
    ids=["missing", "none", "without its key", "with an encrypted key", "ended", "right"],
)
def test_before_postfix_is_there_a_dry_run_looks_at_the_sites_certificate_itself(
    tmp_path: Path, settings: Settings, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch, make: Any, said: Any
) -> None:
    path = tmp_path / "relay.pem"
    own_certificate(path)
    path.unlink()
    make(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = settings(site | {"tls": {"chain_file": str(path)}})
    asked, complaints = check.check({"/etc/postfix/main.cf": "/nowhere/main.cf"}, found, Host(test=True)), []
    with pytest.raises(NotInstalledError, match="postconf"):
        complaints += asked
    assert [line.startswith("smtpout:tls:chain_file: ") and said in line for line in complaints] == [True] * bool(said)


@pytest.mark.parametrize(("days", "said"), [(-1, " ended on "), (9, ", in 9 days; renew it"), (60, None)])
def test_verify_warns_of_a_certificate_a_month_before_its_end(
    monkeypatch: pytest.MonkeyPatch, days: int, said: str | None
) -> None:
    ends(monkeypatch, days)
    served = [("/etc/site/relay.pem", certificate.info("/etc/site/relay.pem"))]
    if said is None:
        assert ageing._certificate_ends(served, 30).startswith("/etc/site/relay.pem until ")
    else:
        with pytest.raises(ageing.Doubt, match=said):
            ageing._certificate_ends(served, 30)
