"""Certificates that the pillar gives, and those of further names: in place as Postfix serves them, or refused."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core.change import masks
from smtpout_core.change.staging import staged
from smtpout_core.daemons.postfix import certificate, daemon, given, holding, maps
from smtpout_core.daemons.postfix.given import Chain, Names
from smtpout_core.daemons.watch import daemon as watch
from smtpout_core.errors import RelayError
from smtpout_core.host import Host
from smtpout_core.verify import ageing

pytestmark = pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix isn't installed")

NAME = "smtp.other.dom"
GOOD, OTHER = certificate.self_signed(NAME), certificate.self_signed(NAME)
ENDED = certificate.self_signed(NAME, days=0)
KEY, _, CERTIFICATE = GOOD.partition(b"-----END PRIVATE KEY-----\n")
KEY += b"-----END PRIVATE KEY-----\n"
WRONG = {
    "ended": (ENDED, "the certificate ended on "),
    "another's key": (OTHER.partition(b"-----BEGIN CERT")[0] + CERTIFICATE, "no private key that fits the certificate"),
    "no key": (CERTIFICATE, "no private key that fits the certificate"),
    "no certificate": (KEY, "no certificate in PEM form"),
    "the key last": (CERTIFICATE + KEY, "the private key comes after the certificate"),
    "nothing": (b"", "no certificate in PEM form"),
}
EACH = pytest.mark.parametrize(("pem", "said"), WRONG.values(), ids=WRONG)


def put(part: Chain | Names, root: Path) -> None:
    """Put a part in place as an apply does."""
    with staged([part], Host(test=True, cache_dir=str(root))) as stage:
        for path, content in stage.contents.items():
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_bytes(content.data)
            Path(path).chmod(content.mode)


def names(root: Path, **own: str) -> Names:
    return Names(f"{root}/tls_names", "lmdb", {NAME: own})


def test_what_can_be_served_is_nothing_to_tell() -> None:
    assert given.wrong(GOOD) == ""


@EACH
def test_what_the_pillar_gives_and_can_not_be_served_is_refused(tmp_path: Path, pem: bytes, said: str) -> None:
    with pytest.raises(RelayError, match=f"^smtpout:tls:chain: {said}"):
        Chain(f"{tmp_path}/given.pem", pem.decode()).difference({})


def test_what_the_pillar_gives_is_roots_alone_and_differs_no_more(tmp_path: Path) -> None:
    part = Chain(f"{tmp_path}/given.pem", GOOD.decode())
    assert part.difference({}) == {"content": "new"}
    put(part, tmp_path)
    assert (Path(part.path).read_bytes(), Path(part.path).stat().st_mode & 0o7777) == (GOOD, 0o600)
    assert part.difference({}) is None
    assert part.secret == masks.ALL


def test_one_that_has_ended_since_holds_up_nothing(tmp_path: Path) -> None:
    part, table = Chain(f"{tmp_path}/given.pem", ENDED.decode()), names(tmp_path, chain=ENDED.decode())
    Path(part.path).write_bytes(ENDED)
    Path(part.path).chmod(0o600)
    assert part.difference({}) is None
    maps.build(table.path, "lmdb", {NAME: base64.b64encode(ENDED).decode()}, mode="0600")
    assert table.difference({}) is None


@EACH
@pytest.mark.parametrize("where", ["chain", "chain_file"])
def test_of_a_further_name_likewise(tmp_path: Path, where: str, pem: bytes, said: str) -> None:
    (tmp_path / "own.pem").write_bytes(pem)
    own = {"chain": pem.decode()} if where == "chain" else {"chain_file": f"{tmp_path}/own.pem"}
    place = "" if where == "chain" else f"{tmp_path}/own.pem: "
    with pytest.raises(RelayError, match=f"^smtpout:tls:names:{NAME}:{where}: {place}{said}"):
        names(tmp_path, **own).difference({})


def test_the_table_holds_what_postmap_would_make_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(GOOD)
    table = names(tmp_path, chain_file=f"{tmp_path}/own.pem")
    assert (table.difference({}) or {})["added"] == {NAME: holding.MASK}
    put(table, tmp_path)
    assert [Path(path).stat().st_mode & 0o7777 for path in table.paths] == [0o600, 0o600]
    assert names(tmp_path, chain_file=f"{tmp_path}/own.pem").difference({}) is None
    text = tmp_path / "by_hand"
    text.write_text(f"{NAME} {tmp_path}/own.pem\n")
    subprocess.run(["postmap", "-F", f"lmdb:{text}"], check=True)
    assert maps.dump(str(text), "lmdb") == maps.dump(table.path, "lmdb")


def test_a_file_that_is_another_now_is_taken_and_what_it_holds_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(GOOD)
    before = names(tmp_path, chain_file=f"{tmp_path}/own.pem")
    was = before.wanted
    put(before, tmp_path)
    (tmp_path / "own.pem").write_bytes(OTHER)
    after = names(tmp_path, chain_file=f"{tmp_path}/own.pem")
    assert after.wanted != was
    changed = after.difference({})
    assert changed
    assert [*changed] == ["changed"]
    assert base64.b64encode(OTHER).decode() not in json.dumps(changed)


def test_a_file_that_is_gone_is_told_and_what_it_held_is_served_on(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(GOOD)
    put(names(tmp_path, chain_file=f"{tmp_path}/own.pem"), tmp_path)
    (tmp_path / "own.pem").unlink()
    table = names(tmp_path, chain_file=f"{tmp_path}/own.pem")
    assert table.difference({}) is None
    said = f"smtpout:tls:names:{NAME}:chain_file: {tmp_path}/own.pem: No such file or directory"
    assert table.warnings == (f"{said}; what it held is served on",)
    with pytest.raises(RelayError, match=f"^smtpout:tls:names:{NAME}:chain_file: /nowhere: No such file"):
        Names(f"{tmp_path}/another", "lmdb", {NAME: {"chain_file": "/nowhere"}}).difference({})


def test_verify_looks_at_the_certificates_of_further_names_as_well(
    tmp_path: Path, settings: Settings, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate, "served", lambda _directory: [])
    pem = certificate.self_signed("another.dom", days=9).decode()
    found = settings(site | {"tls": {"names": {NAME: {"chain": pem}}}})
    found["postfix"] |= {"names_map": f"{tmp_path}/tls_names", "map_type": "lmdb"}
    put(names(tmp_path, chain=pem), tmp_path)
    served = ageing._served(found)
    with pytest.raises(ageing.Doubt, match=f"smtpout:tls:names:{NAME} ends on .* in 8 days"):
        ageing._certificate_ends(served, 30)
    with pytest.raises(ageing.Doubt, match=f"smtpout:tls:names:{NAME} is for another.dom, and the relay is {NAME}"):
        ageing._certificate_names(served, "relay.domain01.dom")
    (tmp_path / "own.pem").write_bytes(GOOD)
    (tmp_path / "own.pem").chmod(0o604)
    with pytest.raises(ageing.Doubt, match=r"own\.pem has mode 0604: everybody"):
        ageing._certificate_key(served, {NAME: {"chain_file": f"{tmp_path}/own.pem"}})


def test_the_watch_is_told_no_private_key(settings: Settings, site: dict[str, Any]) -> None:
    chain = GOOD.decode()
    found = settings(site | {"tls": {"chain": chain, "names": {NAME: {"chain": chain}, "b.dom": {"chain_file": "/b"}}}})
    told = watch.known(found, Host())
    assert b"PRIVATE KEY" not in told
    assert json.loads(told)["site"]["tls"] == {"names": {NAME: {}, "b.dom": {"chain_file": "/b"}}}


def test_postfix_gets_both_in_its_directory(settings: Settings, site: dict[str, Any]) -> None:
    found = settings(site | {"tls": {"chain": GOOD.decode(), "names": {"SMTP.Other.dom": {"chain_file": "/b"}}}})
    [postfix] = [each for each in daemon.described(found, Host()) if each.name == "postfix"]
    parts = {part.path: part for part in postfix.parts}
    assert isinstance(parts["/etc/postfix/tls/given.pem"], Chain)
    assert isinstance(parts["/etc/postfix/tls_names"], Names)
    assert [*found["tls"]["names"]] == [NAME]
    assert "/etc/postfix/tls/given.pem" not in postfix.reads
