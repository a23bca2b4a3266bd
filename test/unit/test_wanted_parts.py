"""What Postfix and freshclam need besides rendered files: lookup tables, memberships, signatures."""

from __future__ import annotations

import grp
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from minions import Settings
from smtpout_core import files
from smtpout_core.change import plan
from smtpout_core.change.parts import Daemon
from smtpout_core.change.staging import staged
from smtpout_core.daemons import clamav, groups
from smtpout_core.daemons.clamav.signatures import Signatures
from smtpout_core.daemons.groups import Membership
from smtpout_core.daemons.postfix import daemon, maps
from smtpout_core.daemons.postfix.table import Table
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.host import Host

ENTRIES = {"example.org": "smtp:[192.0.2.1]:25", "Example.NET": "smtp:[192.0.2.2]:25"}


def put(table: Table, root: Path) -> None:
    """Put a table in place as an apply does."""
    with staged([table], Host(test=True, cache_dir=str(root))) as stage:
        for path, content in stage.contents.items():
            Path(path).write_bytes(content.data)
            Path(path).chmod(content.mode)


def test_a_table_is_made_aside_with_its_database_and_then_differs_no_more(tmp_path: Path) -> None:
    table = Table(f"{tmp_path}/transport", "lmdb", ENTRIES)
    assert table.paths == (f"{tmp_path}/transport", f"{tmp_path}/transport.lmdb")
    assert (table.difference({}) or {})["added"] == {key.lower(): value for key, value in ENTRIES.items()}
    put(table, tmp_path)
    assert maps.dump(table.path, "lmdb") == {key.lower(): value for key, value in ENTRIES.items()}
    assert table.difference({}) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["transport", "transport.lmdb"]


def test_a_table_that_somebody_has_edited_or_opened_up_differs(tmp_path: Path) -> None:
    table = Table(f"{tmp_path}/transport", "lmdb", ENTRIES)
    put(table, tmp_path)
    Path(table.path).chmod(0o666)
    assert [*(table.difference({}) or {})["files"]] == [table.path]
    put(table, tmp_path)
    maps.build(table.path, "lmdb", {"example.org": "smtp:[192.0.2.9]:25"})
    assert [*(table.difference({}) or {})] == ["added", "changed"]


def test_a_table_whose_text_is_a_link_is_looked_at_where_it_leads(tmp_path: Path) -> None:
    table = Table(f"{tmp_path}/transport", "lmdb", ENTRIES)
    put(table, tmp_path)
    elsewhere = Path(table.path).rename(tmp_path / "elsewhere")
    Path(table.path).symlink_to(elsewhere)
    assert table.difference({}) is None
    assert table.difference(brought(table)["disk"]) is None
    elsewhere.write_text("example.org smtp:[192.0.2.9]:25\n")
    assert table.difference({}) is not None


def test_an_authority_that_postfixs_user_can_not_read_is_refused(settings: Settings, site: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        authority = Path(folder, "ca.pem")
        authority.write_text("an authority")
        site["directory"] |= {"servers": ["ldaps://127.0.0.1/"], "ca_file": str(authority)}
        made = settings(site)
        made["postfix"]["user"] = "nobody"
        [postfix] = [each for each in daemon.described(made, Host()) if each.name == "postfix"]
        [trial] = [each for each in postfix.trials if "authorities" in each.name]
        for mode, readable in ((0o700, False), (0o755, True)):
            Path(folder).chmod(mode)
            if readable:
                trial.ask()
                continue
            with pytest.raises(RelayError, match=f"^smtpout:directory:ca_file: nobody can't read {authority}"):
                trial.ask()


def brought(table: Table) -> dict[str, Any]:
    """Return what a host remembers of a daemon that was brought with a table."""
    return {"read": {table.path: table.wanted}, "disk": {path: files.digest(path) for path in table.paths}}


def test_a_table_that_lies_as_it_was_built_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(f"{tmp_path}/transport", "lmdb", ENTRIES)
    put(table, tmp_path)
    record = brought(table)
    daemon = Daemon("postfix", parts=(table,))
    monkeypatch.setattr(maps, "preview", lambda *_, **__: pytest.fail("it is built"))
    assert plan.step(daemon, [table], record, ()).due == []
    Path(table.path).chmod(0o666)
    assert [*plan.step(daemon, [table], record, ()).changes[table.path]] == ["files"]
    Path(table.path).chmod(0o644)
    Path(f"{table.path}.lmdb").unlink()
    with pytest.raises(pytest.fail.Exception):
        plan.step(daemon, [table], record, ())


@pytest.mark.parametrize("type", ["lmdb", "regexp"])
def test_a_table_of_other_entries_or_in_another_order_differs(tmp_path: Path, type: str) -> None:
    entries = {"/^a/": "1", "/^b/": "2"}
    table = Table(f"{tmp_path}/table", type, entries)
    put(table, tmp_path)
    record = brought(table)
    for other in ({"/^b/": "2", "/^a/": "1"}, {"/^a/": "1", "/^b/": "3"}, {"/^a/": "1"}):
        wanted = Table(table.path, type, other)
        assert plan.step(Daemon("postfix", parts=(wanted,)), [wanted], record, ()).due == [wanted]


def test_a_table_that_postfix_cannot_read_any_more_differs(tmp_path: Path) -> None:
    table = Table(f"{tmp_path}/transport", "lmdb", ENTRIES)
    put(table, tmp_path)
    Path(f"{table.path}.lmdb").write_bytes(b"of another release")
    record = brought(table)
    assert [*plan.step(Daemon("postfix", parts=(table,)), [table], record, ()).changes[table.path]] == [
        "added",
        "files",
    ]


def test_a_secret_tables_values_are_shown_to_nobody(tmp_path: Path) -> None:
    table = Table(f"{tmp_path}/passwords", "lmdb", {"[192.0.2.1]": "user:hunter2"}, secret=True)
    assert "hunter2" not in str(table.difference({}))
    put(table, tmp_path)
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in table.paths} == {0o600}


def test_a_table_that_cannot_be_built_is_refused_by_its_own_path(tmp_path: Path) -> None:
    table = Table(f"{tmp_path}/t", "lmdb", {"a key\nof two lines": "x"})
    with pytest.raises(RelayError, match=f"^lmdb:{tmp_path}/t: "), staged([table], Host(test=True)):
        pass


def test_before_postfix_is_there_the_text_tells_what_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    entries = {"example.org": "x"}
    assert (Table(f"{tmp_path}/t", "lmdb", entries, bare=True).difference({}) or {})["added"] == entries
    with pytest.raises(NotInstalledError):
        Table(f"{tmp_path}/t", "lmdb", entries).difference({})


@pytest.fixture
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of a group's members, which gpasswd writes: the machine's own groups stay as they are."""
    file = tmp_path / "members"
    file.write_text("")
    program = tmp_path / "gpasswd"
    program.write_text(f'#!/bin/sh\ncase $1 in --add) echo "$2" >{file} ;; *) : >{file} ;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def getgrnam(name: str) -> Any:
        if name != "sasl":
            raise KeyError(name)
        return SimpleNamespace(gr_mem=file.read_text().split())

    monkeypatch.setattr(grp, "getgrnam", getgrnam)
    return file


def test_a_user_is_put_into_a_group_and_taken_out_on_the_way_back(members: Path) -> None:
    membership = Membership("postfix", "sasl")
    assert membership.differences() == {"sasl": {"old": "", "new": "postfix"}}
    back = membership.undoing()
    membership.bring()
    assert (members.read_text().split(), membership.differences()) == (["postfix"], {})
    groups.undo(back)
    assert membership.differences() != {}


@pytest.mark.usefixtures("members")
def test_a_group_that_is_not_there_is_named() -> None:
    membership = Membership("postfix", "nobodys")
    assert [*membership.differences()] == ["nobodys"]  # the package that brings it comes before
    with pytest.raises(RelayError, match="postfix could not be put into nobodys: are user and group there"):
        membership.bring()


def test_signatures_that_are_missing_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"exclude": ["main", "daily", "bytecode"], "urls": ["http://mirror.example/site.ndb"]}
    facts = {"options": {}, "configuration": "/etc/freshclam.conf"}
    site = {"clamav": {"freshclam": facts, "signatures": source, "database_directory": str(tmp_path)}}
    signatures, asked = Signatures(site), []
    assert signatures.differences() == {"signatures": {"old": "no site.ndb", "new": "fetched"}}
    monkeypatch.setattr(clamav, "update_signatures", asked.append)
    with pytest.raises(RelayError, match=r"(?s)still there is no site.ndb\n.*smtpout:clamav:signatures"):
        signatures.bring()
    (tmp_path / "site.ndb").touch()
    signatures.bring()
    assert (asked, signatures.differences()) == (["/etc/freshclam.conf"], {})
