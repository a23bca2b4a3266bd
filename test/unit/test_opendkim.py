"""Signing keys: made once, readable by the daemon alone, and published as receivers need them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dkim
import dns.message
import dns.rcode
import dns.rrset
import dns.zone
import pytest
from salt.exceptions import CommandExecutionError, CommandNotFoundError
from smtpout_core.daemons.opendkim import keys, record
from smtpout_core.errors import RelayError

DOMAIN, SELECTOR = "domain01.dom", "default"
NAME = f"{SELECTOR}._domainkey.{DOMAIN}."

needs_opendkim = pytest.mark.skipif(not shutil.which("opendkim"), reason="opendkim isn't installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

Publish = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def key(modules: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a key's path."""
    path = str(tmp_path_factory.mktemp("keys") / "key")
    modules["opendkim.generate_key"](path)
    return path


@pytest.fixture(scope="session")
def other_key(modules: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return another key's path."""
    path = str(tmp_path_factory.mktemp("keys") / "other")
    modules["opendkim.generate_key"](path)
    return path


@pytest.fixture
def publish() -> Iterator[Publish]:
    """Return a function that starts a DNS server with TXT records, and returns what it takes to ask it."""
    servers = []

    def serve(server: socket.socket, records: list[str]) -> None:
        while True:
            try:
                request, client = server.recvfrom(4096)
            except OSError:
                return
            query = dns.message.from_wire(request)
            answer = dns.message.make_response(query)
            if records:
                quoted = [" ".join(f'"{r[i : i + 255]}"' for i in range(0, len(r), 255)) for r in records]
                answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", *quoted))
            else:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            server.sendto(answer.to_wire(), client)

    def start(*records: str, silent: bool = False) -> dict[str, Any]:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 0))
        servers.append(server)
        if not silent:
            threading.Thread(target=serve, args=(server, list(records)), daemon=True).start()
        return {"nameserver": "127.0.0.1", "port": server.getsockname()[1], "timeout": 2}

    yield start
    for server in servers:
        server.close()


def value(modules: Any, key: str, **options: Any) -> str:
    return modules["opendkim.public_record"](key, DOMAIN, SELECTOR, value_only=True, **options)


# --- making keys ---------------------------------------------------------------------------------------------------


@needs_root
def test_a_new_key_is_readable_by_its_owner_alone_whatever_the_umask(modules: Any, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        modules["opendkim.generate_key"](str(tmp_path / "key"), user="nobody", group="nogroup")
    finally:
        os.umask(before)
    stats = modules["file.stats"](str(tmp_path / "key"))
    assert (stats["mode"], stats["user"], stats["group"]) == ("0600", "nobody", "nogroup")
    assert os.listdir(tmp_path) == ["key"]


def test_a_key_that_is_there_is_never_overwritten(modules: Any, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(CommandExecutionError, match="never overwritten"):
        modules["opendkim.generate_key"](str(path))
    assert path.read_text(encoding="utf-8") == "precious"
    assert os.listdir(tmp_path) == ["key"]


def test_a_link_that_leads_elsewhere_is_not_followed(modules: Any, tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommandExecutionError, match="never overwritten"):
        modules["opendkim.generate_key"](str(tmp_path / "key"))
    with pytest.raises(RelayError, match="symbolic link"):
        keys.protect_key(str(tmp_path / "key"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("bits", [512, 1023, 4097])
def test_a_size_that_verifiers_refuse_is_refused(modules: Any, tmp_path: Path, bits: int) -> None:
    with pytest.raises(CommandExecutionError, match=r"1024 to 4096 bits.*RFC 8301"):
        modules["opendkim.generate_key"](str(tmp_path / "key"), bits=bits)
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_not_there_is_an_error(modules: Any, tmp_path: Path) -> None:
    with pytest.raises(CommandExecutionError, match="none/key: No such file or directory"):
        modules["opendkim.generate_key"](str(tmp_path / "none" / "key"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a usable RSA private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a usable RSA private key"),
        ("{ed25519}", "not a usable RSA private key"),
        ("{encrypted}", "passphrase"),
        ("{short}", "1024 bits or more"),
    ],
)
def test_a_file_without_a_usable_key_is_named(modules: Any, tmp_path: Path, text: str, reason: str) -> None:
    recipes = {
        "{ed25519}": ["-algorithm", "ed25519"],
        "{encrypted}": ["-algorithm", "RSA", "-pass", "pass:x", "-aes256"],
        "{short}": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1000"],
    }
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    if text in recipes:
        subprocess.run(["openssl", "genpkey", *recipes[text], "-out", str(path)], check=True, capture_output=True)
    with pytest.raises(CommandExecutionError, match=f"{path}.*{reason}"):
        modules["opendkim.key_info"](str(path))


def test_a_damaged_key_is_no_usable_key(modules: Any, key: str, tmp_path: Path) -> None:
    lines = Path(key).read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].swapcase()  # the modulus
    path = tmp_path / "key"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(CommandExecutionError, match="not a usable RSA private key"):
        modules["opendkim.key_info"](str(path))


def test_a_key_in_the_traditional_form_is_the_same_key(modules: Any, key: str, tmp_path: Path) -> None:
    old = str(tmp_path / "old")
    subprocess.run(["openssl", "rsa", "-in", key, "-traditional", "-out", old], check=True, capture_output=True)
    assert modules["opendkim.key_info"](old) == modules["opendkim.key_info"](key)


# --- publishing keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1024, 2048, 4096])
def test_a_zone_takes_the_record_in_strings_of_255_bytes(modules: Any, tmp_path: Path, bits: int) -> None:
    public = modules["opendkim.generate_key"](str(tmp_path / "key"), bits=bits)
    text = modules["opendkim.public_record"](str(tmp_path / "key"), DOMAIN, SELECTOR)
    zone = dns.zone.from_text(f"$TTL 60\n{text}\n", origin="dom.", check_origin=False, relativize=False)
    (record,) = zone.find_rdataset(NAME, "TXT")
    assert max(map(len, record.strings)) <= 255
    assert b"".join(record.strings).decode() == f"v=DKIM1; h=sha256; k=rsa; p={public}"


@needs_opendkim
def test_the_record_says_what_opendkim_genkey_says(modules: Any, tmp_path: Path) -> None:
    made = ["opendkim-genkey", "--bits=4096", f"--domain={DOMAIN}", f"--selector={SELECTOR}", "--restrict"]
    subprocess.run(made, cwd=tmp_path, check=True)
    theirs = record.joined((tmp_path / f"{SELECTOR}.txt").read_text(encoding="utf-8"))
    assert value(modules, str(tmp_path / f"{SELECTOR}.private"), restrict=True) == theirs


@needs_opendkim
@pytest.mark.parametrize("restrict", [False, True])
def test_what_opendkim_signs_verifies_with_the_record(modules: Any, key: str, tmp_path: Path, restrict: bool) -> None:
    message = f"From: u@{DOMAIN}\r\nTo: x@other.example\r\nSubject: hi\r\n\r\nhello\r\n"
    for name, text in {
        "KeyTable": f"{NAME} {DOMAIN}:{SELECTOR}:{key}\n",
        "SigningTable": f"{DOMAIN} {NAME}\n",
        "message": message,
        "opendkim.conf": f"Mode s\nSyslog no\nSocket local:{tmp_path}/socket\nKeyTable file:{tmp_path}/KeyTable\n"
        f"SigningTable file:{tmp_path}/SigningTable\nCanonicalization relaxed/relaxed\n"
        "RequireSafeKeys no\n",  # it minds that everyone may write to /tmp
    }.items():
        (tmp_path / name).write_bytes(text.encode())
    command = ["opendkim", "-x", str(tmp_path / "opendkim.conf"), "-t", str(tmp_path / "message")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    signature = said[said.index("DKIM-Signature") :].replace("\n", "\r\n")
    record = value(modules, key, restrict=restrict)
    assert dkim.verify((signature + message).encode(), dnsfunc=lambda *_, **__: record.encode())


def test_all_of_the_sites_records_come_at_once(
    modules: Any, key: str, other_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [{"domain": f"domain0{n}.dom", "selector": "s", "path": path} for n, path in enumerate((key, other_key), 1)]
    settings = {"valid": True, "opendkim": {"keys": keys, "restrict": True}}
    monkeypatch.setitem(modules, "smtpout.settings", lambda: settings)
    text = modules["opendkim.public_records"]()
    zone = dns.zone.from_text(f"$TTL 60\n{text}\n", origin="dom.", check_origin=False, relativize=False)
    assert sorted(map(str, zone)) == ["s._domainkey.domain01.dom.", "s._domainkey.domain02.dom."]
    assert text.count("s=email; ") == 2


# --- comparing keys with records -----------------------------------------------------------------------------------


def test_a_key_matches_its_record_in_either_form(modules: Any, key: str, other_key: str) -> None:
    matches = modules["opendkim.key_matches_record"]
    zone_form = modules["opendkim.public_record"](key, DOMAIN, SELECTOR)
    assert matches(key, DOMAIN, SELECTOR, record=zone_form) is True
    assert matches(key, DOMAIN, SELECTOR, record=value(modules, key).replace("; ", "\\; ")) is True
    assert matches(other_key, DOMAIN, SELECTOR, record=zone_form) is False


def test_a_key_is_compared_with_what_dns_answers(modules: Any, key: str, other_key: str, publish: Publish) -> None:
    matches = modules["opendkim.key_matches_record"]
    dns_server = publish(value(modules, key))
    assert matches(key, DOMAIN, SELECTOR, **dns_server) is True
    assert matches(other_key, DOMAIN, SELECTOR, **dns_server) is False


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([], "DNS has no such TXT record"),
        (["v=DKIM1; p=AAAA", "v=DKIM1; p=BBBB"], "DNS has 2 TXT records"),
        (["v=DKIM1; k=rsa; p="], "revoked"),
        (["v=DKIM1; k=rsa; p=AAAA"], "no readable RSA key"),
        (["v=DKIM1; k=rsa; p=%%%"], "no readable RSA key"),
        (["v=spf1 -all"], "v=spf1-all, not v=DKIM1"),
        (["v=DKIM1; k=ed25519; p=AAAA"], "k=ed25519, not k=rsa"),
        (["v=DKIM1; h=sha1; p=AAAA"], "h=sha1, not h=sha256"),
        (["v=DKIM1; s=tlsrpt; p=AAAA"], "s=tlsrpt, not s=email"),
    ],
)
def test_a_record_that_verifies_nothing_is_told_apart(
    modules: Any, key: str, publish: Publish, records: list[str], reason: str
) -> None:
    with pytest.raises(CommandExecutionError) as error:
        modules["opendkim.key_matches_record"](key, DOMAIN, SELECTOR, **publish(*records))
    assert str(error.value).startswith(NAME)
    assert reason in str(error.value)


def test_a_dns_server_that_is_silent_is_no_answer(modules: Any, key: str, publish: Publish) -> None:
    server = {**publish(silent=True), "timeout": 0.3}
    with pytest.raises(CommandExecutionError, match="DNS gave no answer"):
        modules["opendkim.key_matches_record"](key, DOMAIN, SELECTOR, **server)


def test_a_nameserver_must_be_an_address(modules: Any, key: str) -> None:
    with pytest.raises(CommandExecutionError, match="DNS gave no answer"):
        modules["opendkim.key_matches_record"](key, DOMAIN, SELECTOR, nameserver="not an address")


def test_a_signature_is_tried_with_a_record_not_yet_published(modules: Any, key: str, other_key: str) -> None:
    zone_form = modules["opendkim.public_record"](key, DOMAIN, SELECTOR, restrict=True)
    assert modules["opendkim.test_signature"](key, DOMAIN, SELECTOR, record=zone_form) is True
    with pytest.raises(CommandExecutionError, match="holds another key than"):
        modules["opendkim.test_signature"](other_key, DOMAIN, SELECTOR, record=zone_form)


def test_a_signature_is_tried_with_what_dns_answers(modules: Any, key: str, publish: Publish) -> None:
    assert modules["opendkim.test_signature"](key, DOMAIN, SELECTOR, **publish(value(modules, key))) is True


@pytest.mark.parametrize(
    ("module", "package", "options"), [("dkim", "dkimpy", {"record": "p="}), ("dns.resolver", "dnspython", {})]
)
def test_a_missing_library_is_named_with_its_remedy(
    modules: Any, key: str, monkeypatch: pytest.MonkeyPatch, module: str, package: str, options: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CommandNotFoundError, match=f"^{package} is missing from Salt's Python .* installs it$"):
        modules["opendkim.test_signature"](key, DOMAIN, SELECTOR, **options)
