"""The state of the signing keys: it makes, protects and installs them, and never replaces one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from smtpout_core import files
from smtpout_core.change.memory import Memory
from smtpout_core.daemons.opendkim import keys as private
from smtpout_core.daemons.opendkim import proofs
from smtpout_core.errors import RelayError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

OWNER = "mode 0600, nobody:nogroup"

Present = Callable[..., dict[str, Any]]


@pytest.fixture
def present(states: Any) -> Present:
    """Return the state with the daemon's user and group given."""

    def run(keys: list[dict[str, Any]] | None, **options: Any) -> dict[str, Any]:
        return states("opendkim.keys_present", name="Keys", keys=keys, user="nobody", group="nogroup", **options)

    return run


@pytest.fixture
def shared_key(modules: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the text of a key that pillar may give."""
    path = tmp_path_factory.mktemp("shared") / "key"
    modules["opendkim.generate_key"](str(path))
    return path.read_text(encoding="utf-8")


def keys_in(directory: Path, *domains: str, **more: Any) -> list[dict[str, Any]]:
    return [{"domain": d, "selector": "s", "path": str(directory / f"{d}.s.private"), **more} for d in domains]


def test_what_a_killed_run_has_left_of_a_key_goes(present: Present, tmp_path: Path) -> None:
    left = tmp_path / f".a.dom.s.private{files.ASIDE}4711"
    others = tmp_path / f".another{files.ASIDE}4711"
    left.write_text("half a key")
    others.write_text("somebody else's")
    assert present(keys_in(tmp_path, "a.dom"))["result"] is True
    assert (left.exists(), others.exists()) == (False, True)


def content(directory: Path) -> dict[str, Any]:
    """Return everything below a directory: text, mode, owner, and when it was last changed."""
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(p): (p.read_bytes(), p.stat().st_mode, p.stat().st_uid, p.stat().st_ctime_ns) for p in found}


def give_pillar(monkeypatch: pytest.MonkeyPatch, modules: Any, private_keys: dict[str, str]) -> None:
    settings = {"valid": True, "opendkim": {"private_keys": private_keys}}
    monkeypatch.setitem(modules, "smtpout.settings", lambda: settings)


@pytest.mark.parametrize("test", [True, False])
def test_missing_keys_are_made_and_a_dry_run_tells_the_same(present: Present, tmp_path: Path, test: bool) -> None:
    keys = keys_in(tmp_path, "a.dom", "b.dom")
    ret = present(keys, test=test)
    assert ret["changes"] == {key["path"]: {"old": "absent", "new": f"key of 2048 bits, {OWNER}"} for key in keys}
    assert ret["result"] is (None if test else True)
    assert "opendkim.public_records" in ret["comment"]

    assert len(os.listdir(tmp_path)) == (0 if test else 2)


def test_while_another_run_is_at_work_no_key_is_made(present: Present, states: Any, tmp_path: Path) -> None:
    keys = keys_in(tmp_path, "a.dom")
    with Memory(states.opts["smtpout_state_dir"]).locked():
        ret = present(keys)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "Another run is changing this relay." in ret["comment"]
    assert not Path(keys[0]["path"]).exists()
    assert present(keys)["result"] is True


def test_a_second_run_changes_nothing(present: Present, tmp_path: Path) -> None:
    keys = keys_in(tmp_path, "a.dom", "b.dom")
    present(keys)
    before = content(tmp_path)
    ret = present(keys)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert content(tmp_path) == before


@pytest.mark.parametrize("test", [True, False])
def test_missing_directories_are_made_so_that_the_daemon_can_read_but_not_write(
    present: Present, modules: Any, tmp_path: Path, test: bool
) -> None:
    keys = keys_in(tmp_path / "opendkim" / "keys", "a.dom")
    ret = present(keys, test=test)
    assert list(ret["changes"]) == [str(tmp_path / "opendkim"), str(tmp_path / "opendkim/keys"), keys[0]["path"]]
    if test:
        assert os.listdir(tmp_path) == []
    else:
        stats = modules["file.stats"](str(tmp_path / "opendkim/keys"))
        assert (stats["mode"], stats["user"], stats["group"]) == ("0750", "root", "nogroup")


@pytest.mark.parametrize("test", [True, False])
def test_a_key_that_others_can_read_is_taken_from_them_and_stays_the_same(
    present: Present, modules: Any, tmp_path: Path, test: bool
) -> None:
    keys = keys_in(tmp_path, "a.dom")
    path = Path(keys[0]["path"])
    modules["opendkim.generate_key"](str(path))
    path.chmod(0o644)
    text = path.read_bytes()
    ret = present(keys, test=test)
    assert ret["changes"] == {str(path): {"old": "mode 0644, root:root", "new": OWNER}}
    assert path.stat().st_mode & 0o777 == (0o644 if test else 0o600)
    assert path.read_bytes() == text
    if not test:
        assert present(keys)["changes"] == {}


@pytest.mark.parametrize("test", [True, False])
def test_files_that_hold_no_key_are_all_named_and_nothing_is_made(present: Present, tmp_path: Path, test: bool) -> None:
    keys = keys_in(tmp_path, "a.dom", "b.dom", "c.dom", "d.dom")
    Path(keys[0]["path"]).write_text("no key", encoding="utf-8")
    Path(keys[1]["path"]).symlink_to("/etc/shadow")
    Path(keys[2]["path"]).mkdir()
    before = content(tmp_path)
    ret = present(keys, test=test)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert [line.split(": ")[0] for line in ret["comment"].splitlines()] == [key["path"] for key in keys[:3]]
    assert content(tmp_path) == before
    assert not Path(keys[3]["path"]).exists()


def test_a_smaller_key_stays_and_is_named(present: Present, modules: Any, tmp_path: Path) -> None:
    keys = keys_in(tmp_path, "a.dom")
    modules["opendkim.generate_key"](keys[0]["path"], bits=1024, user="nobody", group="nogroup")
    ret = present(keys)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert f"{keys[0]['path']} has 1024 bits and stays" in ret["comment"]


def test_domains_may_share_a_file(present: Present, tmp_path: Path) -> None:
    (first,) = keys_in(tmp_path, "a.dom")
    ret = present([first, {**first, "domain": "b.dom"}])
    assert ret["result"] is True
    assert list(ret["changes"]) == [first["path"]]


def test_a_user_that_is_not_there_fails_the_state_but_not_the_dry_run_before_its_package(
    states: Any, tmp_path: Path
) -> None:
    arguments = {"name": "Keys", "keys": keys_in(tmp_path, "a.dom"), "user": "nosuchuser", "group": "nogroup"}
    assert states("opendkim.keys_present", test=True, **arguments)["result"] is None
    ret = states("opendkim.keys_present", **arguments)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "nosuchuser" in ret["comment"]
    assert os.listdir(tmp_path) == []


# --- a key that pillar gives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
def test_a_key_of_the_pillar_is_installed_and_stands_in_no_return_and_no_log(
    present: Present,
    modules: Any,
    shared_key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    test: bool,
) -> None:
    caplog.set_level(logging.NOTSET)
    give_pillar(monkeypatch, modules, {"a.dom": shared_key})
    keys = keys_in(tmp_path, "a.dom", from_pillar=True)
    ret = present(keys, test=test)
    assert ret["changes"] == {keys[0]["path"]: {"old": "absent", "new": f"key from pillar, {OWNER}"}}
    secret = shared_key.splitlines()[5]
    assert secret not in str(ret)
    assert secret not in caplog.text
    if not test:
        assert Path(keys[0]["path"]).read_text(encoding="utf-8") == shared_key
        assert present(keys)["changes"] == {}


def test_another_key_than_the_pillars_is_not_overwritten(
    present: Present, modules: Any, shared_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_pillar(monkeypatch, modules, {"a.dom": shared_key})
    keys = keys_in(tmp_path, "a.dom", from_pillar=True)
    modules["opendkim.generate_key"](keys[0]["path"])
    before = content(tmp_path)
    ret = present(keys)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "another key than smtpout:opendkim:domains:a.dom:private_key" in ret["comment"]
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("private_keys", "reason"),
    [
        ({}, "smtpout:opendkim:domains:a.dom:private_key: missing"),
        ({"a.dom": "no key"}, "smtpout:opendkim:domains:a.dom:private_key: not a usable RSA private key"),
    ],
)
def test_a_pillar_without_a_usable_key_is_named_by_its_path(
    present: Present,
    modules: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    private_keys: dict[str, str],
    reason: str,
) -> None:
    give_pillar(monkeypatch, modules, private_keys)
    ret = present(keys_in(tmp_path, "a.dom", from_pillar=True), test=True)
    assert ret["result"] is False
    assert reason in ret["comment"]


# --- many ----------------------------------------------------------------------------------------------------------


def test_one_key_that_fails_does_not_keep_the_others_from_being_made(tmp_path: Path) -> None:
    # Many more than cores, and the one that fails is among the first: the others still wait when it does.
    paths = [str(tmp_path / f"{number:03}") for number in range(20 * (os.cpu_count() or 1))]
    Path(paths[1]).touch()
    with pytest.raises(RelayError, match=f"{paths[1]} exists"):
        private.generate_keys(paths, bits=1024)
    assert sorted(os.listdir(tmp_path)) == [Path(path).name for path in paths]
    assert [path for path in paths if not Path(path).stat().st_size] == [paths[1]]


def test_one_key_that_fails_does_not_keep_those_of_pillar_from_being_installed(
    present: Present, modules: Any, tmp_path: Path, shared_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_pillar(monkeypatch, modules, {"a.dom": shared_key, "b.dom": shared_key})
    made, first, second = keys_in(tmp_path, "made.dom", "a.dom", "b.dom")
    unwritable = "/proc/none/smtpout.private"  # root, too, makes nothing there
    keys = [made | {"path": unwritable}, first | {"from_pillar": True}, second | {"from_pillar": True}]
    ret = present(keys)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert unwritable in ret["comment"]
    for key in (first, second):
        assert Path(key["path"]).read_text(encoding="utf-8").strip() == shared_key.strip()


def test_ten_thousand_keys_are_looked_at_within_seconds(present: Present, modules: Any, tmp_path: Path) -> None:
    keys = keys_in(tmp_path, *(f"d{number}.dom" for number in range(10_000)))
    modules["opendkim.generate_key"](keys[0]["path"], user="nobody", group="nogroup")
    for key in keys[1:]:
        os.link(keys[0]["path"], key["path"])
    for most in (5, 1):  # at first they are read, 0.06 ms each; then they are known
        time.sleep(proofs.YOUNG)
        start = time.process_time()
        ret = present(keys)
        assert (ret["result"], ret["changes"]) == (True, {})
        assert time.process_time() - start < most


# --- known keys ----------------------------------------------------------------------------------------------------


@pytest.fixture
def known(present: Present, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return two keys that an earlier run has read."""
    monkeypatch.setattr(proofs, "YOUNG", -1)
    keys = keys_in(tmp_path, "a.dom", "b.dom")
    for _ in range(2):
        present(keys)
    return keys


def test_a_key_that_is_known_is_not_read_again(
    present: Present, known: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "_load", lambda *_: pytest.fail("it is read"))
    assert present(known)["comment"] == "Keys made: 0; taken from other users: 0; right already: 2."


@pytest.mark.parametrize("test", [True, False])
def test_a_known_key_that_was_overwritten_or_replaced_is_read_again(
    present: Present, known: list[dict[str, Any]], test: bool
) -> None:
    status = os.stat(known[0]["path"])
    Path(known[0]["path"]).write_bytes(b"x" * status.st_size)
    os.utime(known[0]["path"], ns=(status.st_atime_ns, status.st_mtime_ns))
    os.unlink(known[1]["path"])
    Path(known[1]["path"]).symlink_to("/etc/shadow")
    said = present(known, test=test)
    assert said["result"] is False
    assert [line.split(": ")[0] for line in said["comment"].splitlines()] == [key["path"] for key in known]


def test_a_known_key_that_others_may_read_by_now_is_taken_from_them(
    present: Present, known: list[dict[str, Any]]
) -> None:
    os.chmod(known[0]["path"], 0o644)
    assert present(known)["changes"] == {known[0]["path"]: {"old": "mode 0644, nobody:nogroup", "new": OWNER}}


def test_a_known_key_is_compared_with_another_that_pillar_gives(
    present: Present,
    known: list[dict[str, Any]],
    modules: Any,
    shared_key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [{**key, "from_pillar": True} for key in known]
    texts = {key["domain"]: Path(key["path"]).read_text(encoding="utf-8") for key in keys}
    give_pillar(monkeypatch, modules, texts)
    assert [present(keys)["result"] for _ in range(2)] == [True, True]
    give_pillar(monkeypatch, modules, {**texts, "a.dom": shared_key})
    assert "another key than smtpout:opendkim:domains:a.dom:private_key" in present(keys)["comment"]


def test_a_key_that_has_just_been_written_is_not_known_yet(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch()
    proven = proofs.Proofs(str(tmp_path / "known.json"))
    proven.keep(str(path), path.stat(), b"", 2048)
    assert proven.now == {}


def test_a_dry_run_and_a_broken_record_are_no_matter(
    present: Present, known: list[dict[str, Any]], modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = Path(modules.opts["cachedir"]).rglob("dkim_keys.json")
    record.write_text("{", encoding="utf-8")
    assert present(known, test=True)["result"] is True
    assert record.read_text(encoding="utf-8") == "{"
    assert present(known)["result"] is True
    monkeypatch.setattr(private, "_load", lambda *_: pytest.fail("it is read"))
    assert present(known)["result"] is True
    assert record.stat().st_mode & 0o777 == 0o600


def test_before_opendkim_is_there_a_dry_run_says_that_nobody_knows_whether_it_reaches_the_keys(
    states: Any, present: Present, tmp_path: Path
) -> None:
    keys = keys_in(tmp_path, "a.dom")
    assert "warnings" not in present(keys, test=True)
    ret = states("opendkim.keys_present", name="Keys", keys=keys, user="not-yet", group="not-yet", test=True)
    assert ret["result"] is None
    assert ret["warnings"] == ["Not checked: that not-yet can reach the keys: there is no such user yet."]
