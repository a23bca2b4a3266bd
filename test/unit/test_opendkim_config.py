"""OpenDKIM's configuration is refused before it is live, also where the daemon's own check is content."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from smtpout_core.daemons.opendkim.check import complaints
from smtpout_core.errors import NotInstalledError

pytestmark = pytest.mark.skipif(not shutil.which("opendkim"), reason="opendkim isn't installed")

Check = Callable[..., list[str]]

KEY_TABLE = "default._domainkey.domain01.dom domain01.dom:default:{key}\n"
SIGNING_TABLE = "# who signs with what\ndomain01.dom default._domainkey.domain01.dom\n"
HOSTS = "127.0.0.1\n172.16.11.0/24\n"
CONFIG = """\
PidFile /run/opendkim/opendkim.pid
Mode sv
UserID root:root
Socket local:/run/opendkim/opendkim.sock
UMask 007   # the group is Postfix's way in
KeyTable file:{staged}/KeyTable
SigningTable file:{staged}/SigningTable
InternalHosts file:{staged}/TrustedHosts
"""


@pytest.fixture
def check(modules: Any, tmp_path: Path) -> Check:
    """Return a function that stages a configuration, of which a test may change a text, and checks it."""
    key = tmp_path / "key"
    modules["opendkim.generate_key"](str(key), bits=1024)

    def run(config: str = CONFIG, **tables: str) -> list[str]:
        texts = {"KeyTable": KEY_TABLE, "SigningTable": SIGNING_TABLE, "TrustedHosts": HOSTS} | tables
        staged = {"/etc/opendkim.conf": str(tmp_path / "opendkim.conf")}
        (tmp_path / "opendkim.conf").write_text(config.format(staged=tmp_path), encoding="utf-8")
        for name, text in texts.items():
            (tmp_path / name).write_text(text.format(key=key), encoding="utf-8")
            staged[f"/etc/opendkim/{name}"] = str(tmp_path / name)
        return complaints(staged, "/etc/opendkim.conf")

    return run


def test_a_right_configuration_has_no_complaints(check: Check) -> None:
    assert check() == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("Sokcet local:/x", "unrecognized parameter"),
        ("MinimumKeyBits many", "illegal value"),
        ("Canonicalization loose/looser", "unknown canonicalization"),
        ("UserID nosuchuser", "UserID nosuchuser: no such user or group"),
        ("UserID nobody:nosuchgroup", "UserID nobody:nosuchgroup: no such user or group"),
        ("Socket /run/opendkim.sock", "Socket /run/opendkim.sock: must be local:/PATH or inet:PORT@HOST"),
        ("Socket", "required value missing"),
    ],
)
def test_an_option_that_is_wrong_is_named(check: Check, line: str, complaint: str) -> None:
    (said,) = check(CONFIG + line + "\n")
    assert complaint in said


def test_a_complaint_names_the_live_file_not_the_staged_one(check: Check) -> None:
    (said,) = check(CONFIG + "Nonsense 1\n")
    assert said == "opendkim: /etc/opendkim.conf: configuration error at line 9: unrecognized parameter"
    (said,) = check(CONFIG.replace("TrustedHosts", "TrustedHost"))
    assert "No such file" in said


def test_a_configuration_without_a_socket_is_refused(check: Check) -> None:
    assert check(CONFIG.replace("Socket", "#")) == ["Socket none: must be local:/PATH or inet:PORT@HOST"]


@pytest.mark.parametrize("socket", ["inet:8891@localhost", "inet:8891", "inet6:8891@[::1]", "unix:/run/x.sock"])
def test_each_form_of_a_socket_is_accepted(check: Check, socket: str) -> None:
    assert check(CONFIG.replace("local:/run/opendkim/opendkim.sock", socket)) == []


def test_a_signing_entry_without_its_key_entry_is_named(check: Check) -> None:
    (said,) = check(SigningTable="domain01.dom\tdefault._domainkey.domain02.dom\n")
    assert said.startswith("SigningTable: domain01.dom: default._domainkey.domain02.dom isn't in KeyTable")


def test_a_signing_entry_may_name_the_signer(check: Check) -> None:
    assert check(SigningTable="domain01.dom default._domainkey.domain01.dom:%\n") == []


@pytest.mark.parametrize("entry", ["domain01.dom:default", "domain01.dom", "", "domain01.dom::{key}"])
def test_a_key_entry_that_lacks_a_field_is_named(check: Check, entry: str) -> None:
    (said,) = check(KeyTable=f"default._domainkey.domain01.dom {entry}\n")
    assert said.startswith("KeyTable: default._domainkey.domain01.dom: must be followed by domain:selector:path")


def test_a_key_that_is_not_there_is_named(check: Check) -> None:
    (said,) = check(KeyTable=KEY_TABLE.format(key="/nonexistent.private"))
    assert "/nonexistent.private isn't there" in said


def test_a_dry_run_minds_no_key_that_is_still_to_be_made(check: Check, tmp_path: Path) -> None:
    check(KeyTable=KEY_TABLE.format(key="/nonexistent.private"))
    staged = {"/etc/opendkim.conf": str(tmp_path / "opendkim.conf")}
    assert complaints(staged, "/etc/opendkim.conf", ["/nonexistent.private"]) == []


def test_a_machine_without_opendkim_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(NotInstalledError, match="opendkim is not installed"):
        complaints({"/etc/opendkim.conf": "/nonexistent"}, "/etc/opendkim.conf")


@pytest.mark.parametrize("way", ["folder", "file"])
def test_a_key_that_the_daemons_user_cannot_reach_is_refused_with_what_is_in_the_way(
    check: Check, tmp_path: Path, way: str
) -> None:
    for folder in tmp_path.parents:
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o700 if way == "folder" else 0o711)
    config = CONFIG.replace("UserID root:root", "UserID nobody:nogroup")
    (said,) = check(config)
    what = f"the folder {tmp_path} is closed to it" if way == "folder" else "the file is closed to it"
    reads = f"smtpout:opendkim:domains:domain01.dom:key_file: nobody can't read {tmp_path}/key: {what}"
    assert said.startswith(reads)
    shutil.chown(tmp_path / "key", "nobody")
    tmp_path.chmod(0o711)
    assert check(config) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_ten_thousand_keys_that_are_not_there_or_out_of_reach_are_told_within_seconds(
    check: Check, tmp_path: Path, dry_run: bool
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    keys = [str(tmp_path / f"closed/{number}.private") for number in range(10_000)]
    if not dry_run:
        for key in keys:
            os.link(tmp_path / "key", key)
    names = [f"s._domainkey.d{number}.dom" for number in range(10_000)]
    table = "".join(f"{name} {name[13:]}:s:{key}\n" for name, key in zip(names, keys, strict=True))
    check(CONFIG.replace("UserID root:root", "UserID nobody:nogroup"), KeyTable=table, SigningTable="")
    staged = {"/etc/opendkim.conf": str(tmp_path / "opendkim.conf")}
    start = time.process_time()
    said = complaints(staged, "/etc/opendkim.conf", set(keys) if dry_run else ())
    assert time.process_time() - start < 5
    assert len(said) == (0 if dry_run else 10_000)
