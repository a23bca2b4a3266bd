"""postmap.built: tables hold what they should, whatever happened to them before."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix is not installed")

INDEXED = {"hash": ".db", "lmdb": ".lmdb", "cdb": ".cdb"}
OWNER = f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"
BEFORE = {"kept.example": "smtp:kept", "gone.example": "smtp:gone", "moved.example": "smtp:here"}
AFTER = {"kept.example": "smtp:kept", "moved.example": "smtp:there", "new.example": "smtp:new"}
DIFFERENCE = {
    "added": {"new.example": "smtp:new"},
    "removed": {"gone.example": "smtp:gone"},
    "changed": {"moved.example": {"old": "smtp:here", "new": "smtp:there"}},
}


class Table:
    """One table of one type, with a main.cf of its own."""

    def __init__(self, modules: Any, states: Any, folder: Path, type: str) -> None:
        self.modules, self.states, self.folder, self.type = modules, states, folder, type
        self.path = folder / "transport"
        self.database = folder / f"transport{INDEXED[type]}"
        config = folder / "config"
        config.mkdir()
        (config / "main.cf").write_text("compatibility_level = 3.6\n")
        # Postfix rereads a main.cf younger than 2 s until it isn't.
        os.utime(config / "main.cf", (time.time() - 3,) * 2)
        self.own = {"config_directory": str(config)}
        self.own["user"], self.own["group"] = OWNER.split(":")

    def built(self, entries: Any = None, *, test: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"type": self.type, **self.own, **arguments}
        return self.states("postmap.built", test=test, name=str(self.path), entries=entries, **given)

    def dump(self, **arguments: Any) -> dict[str, str]:
        how = {"config_directory": self.own["config_directory"], **arguments}
        return self.modules["postmap.dump"](str(self.path), self.type, **how)

    def snapshot(self) -> dict[str, Any]:
        """Return all that a test run must leave as it is."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            status = path.stat()
            found[str(path)] = (
                status.st_ino,
                status.st_mode,
                status.st_uid,
                status.st_mtime_ns,
                status.st_ctime_ns,
                path.read_bytes() if path.is_file() else b"",
            )
        return found

    def predicted_and_applied(self, entries: Any = None, **arguments: Any) -> dict[str, Any]:
        """Return the changes of an apply; test mode must predict them and touch nothing, a second apply have none."""
        before = self.snapshot()
        predicted = self.built(entries, test=True, **arguments)
        assert self.snapshot() == before
        applied = self.built(entries, **arguments)
        assert applied["result"] is True, applied["comment"]
        assert predicted["changes"] == applied["changes"]
        assert predicted["result"] is (None if applied["changes"] else True)
        for test in (True, False):
            again = self.built(entries, test=test, **arguments)
            assert (again["result"], again["changes"]) == (True, {}), again
        return applied["changes"]


@pytest.fixture(params=list(INDEXED))
def table(request: pytest.FixtureRequest, modules: Any, states: Any, tmp_path: Path) -> Table:
    return Table(modules, states, tmp_path, request.param)


@pytest.fixture
def lmdb(modules: Any, states: Any, tmp_path: Path) -> Table:
    return Table(modules, states, tmp_path, "lmdb")


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def test_a_new_table_is_built(table: Table) -> None:
    target = f"{OWNER} 0644"
    assert table.predicted_and_applied(AFTER) == {
        "added": AFTER,
        "files": {str(file): {"old": "missing", "new": target} for file in (table.path, table.database)},
    }
    assert table.dump() == AFTER


def test_keys_are_added_removed_and_changed(table: Table) -> None:
    table.built(BEFORE)
    assert table.predicted_and_applied(AFTER) == DIFFERENCE
    assert table.dump() == AFTER


def test_a_database_that_went_stale_is_rebuilt(table: Table) -> None:
    """As after a build that failed once: the text is right, and older than the database."""
    table.built(BEFORE)
    database = table.database.read_bytes()
    table.built(AFTER)
    table.database.write_bytes(database)
    assert table.predicted_and_applied(AFTER) == DIFFERENCE


def test_a_missing_database_is_rebuilt(table: Table) -> None:
    table.built(AFTER)
    table.database.unlink()
    changes = table.predicted_and_applied(AFTER)
    assert changes["added"] == AFTER
    assert list(changes["files"]) == [str(table.database)]


@pytest.mark.parametrize("length", [0, 1, 2500, 6000])
def test_a_truncated_database_is_rebuilt(table: Table, length: int) -> None:
    entries = {f"domain{number}.example": "smtp:relay" for number in range(500)}
    table.built(entries)
    os.truncate(table.database, length)
    changes = table.predicted_and_applied(entries)
    assert changes["files"] == {str(table.database): {"old": f"{OWNER} 0644, unreadable", "new": f"{OWNER} 0644"}}
    assert table.dump() == entries


def test_a_database_of_another_type_is_rebuilt(table: Table) -> None:
    table.built(AFTER, type="btree")
    (table.folder / "transport.db").rename(table.database)
    changes = table.predicted_and_applied(AFTER)
    assert "unreadable" in changes["files"][str(table.database)]["old"]
    assert table.dump() == AFTER


def test_a_table_that_too_many_can_read_is_closed(table: Table) -> None:
    table.built(AFTER, mode="0644")
    change = {"old": f"{OWNER} 0644", "new": f"{OWNER} 0600"}
    changes = table.predicted_and_applied(AFTER, mode="0600")
    assert changes == {"files": {str(table.path): change, str(table.database): change}}
    assert (mode(table.path), mode(table.database)) == ("0600", "0600")


def test_a_database_alone_that_too_many_can_read_is_closed(table: Table) -> None:
    table.built(AFTER, mode="0600")
    table.database.chmod(0o644)
    assert list(table.predicted_and_applied(AFTER, mode="0600")["files"]) == [str(table.database)]
    assert mode(table.database) == "0600"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_is_put_right(table: Table) -> None:
    table.built(AFTER)
    os.chown(table.database, pwd.getpwnam("nobody").pw_uid, 0)
    assert table.predicted_and_applied(AFTER) == {
        "files": {str(table.database): {"old": "nobody:root 0644", "new": "root:root 0644"}}
    }


def test_an_edited_text_is_put_right(table: Table) -> None:
    table.built(AFTER)
    right = table.path.read_text()
    table.path.write_text(right + "edited.example\tsmtp:by.hand\n")
    assert table.predicted_and_applied(AFTER) == {
        "files": {str(table.path): {"old": f"{OWNER} 0644, other text", "new": f"{OWNER} 0644"}}
    }
    assert table.path.read_text() == right


def test_an_empty_table_is_built(table: Table) -> None:
    table.built(BEFORE)
    assert table.predicted_and_applied({}) == {"removed": BEFORE}
    assert table.dump() == {}


def test_case_and_order_alone_change_no_lookup(table: Table) -> None:
    table.built({"Example.ORG": "smtp:a", "example.net": "smtp:b"})
    changes = table.predicted_and_applied([["example.net", "smtp:b"], ["example.org", "smtp:a"]])
    assert list(changes) == ["files"]


def test_rules_in_another_order_are_another_table(lmdb: Table) -> None:
    rules = [["192.0.2.0/28", "OK"], ["192.0.2.0/24", "REJECT"]]
    assert lmdb.predicted_and_applied(rules, type="cidr")["added"] == dict(rules)
    changes = lmdb.predicted_and_applied(rules[::-1], type="cidr")
    assert changes == {"files": {str(lmdb.path): {"old": f"{OWNER} 0644, other text", "new": f"{OWNER} 0644"}}}


# a text that is not ours as the source


def test_a_source_is_built_and_left_alone(table: Table) -> None:
    text = "# by hand\npostmaster: root\nRoot: admin,\n  second\n"
    table.path.write_text(text)
    changes = table.predicted_and_applied(program="postalias")
    assert changes["added"] == {"postmaster": "root", "root": "admin, second"}
    assert list(changes["files"]) == [str(table.database)]
    table.path.write_text(text.replace("admin", "postmaster"))
    changes = table.predicted_and_applied(program="postalias")
    assert changes == {"changed": {"root": {"old": "admin, second", "new": "postmaster, second"}}}
    assert table.path.read_text().startswith("# by hand")


def test_a_source_that_too_many_can_read_is_closed(table: Table) -> None:
    table.path.write_text("[relay.example] user:secret\n")
    table.predicted_and_applied(mode="0600")
    assert (mode(table.path), mode(table.database)) == ("0600", "0600")


def test_a_missing_source_fails_but_may_still_come_in_test_mode(table: Table) -> None:
    ret = table.built()
    assert ret["result"] is False
    assert "No such file" in ret["comment"]
    assert table.built(test=True)["result"] is None


# what a reader sees


@pytest.mark.parametrize("test", [True, False])
def test_values_are_masked_on_request(lmdb: Table, test: bool) -> None:
    lmdb.built(BEFORE)
    ret = lmdb.built(AFTER, mask=True, test=test)
    asterisks = "*" * 10
    assert ret["changes"] == {
        "added": {"new.example": asterisks},
        "removed": {"gone.example": asterisks},
        "changed": {"moved.example": {"old": asterisks, "new": asterisks}},
    }
    assert "smtp:" not in str(ret)


def test_a_hundred_thousand_changes_are_cut_short(table: Table) -> None:
    entries = {f"user{number:06}@example.org": "smtp:relay" for number in range(100_000)}
    begin = time.monotonic()
    changes = table.predicted_and_applied(entries)
    assert time.monotonic() - begin < 60
    assert list(changes["added"]) == list(entries)[:50]
    assert changes["more"] == {"added": 99_950}


@pytest.mark.parametrize("test", [True, False])
def test_the_comment_counts(lmdb: Table, test: bool) -> None:
    lmdb.built(BEFORE)
    comment = lmdb.built(AFTER, test=test)["comment"]
    said = "would be built" if test else "was built"
    assert comment == f"lmdb:{lmdb.path} {said}: 1 added, 1 removed, 1 changed"


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    "entries", [{"two words": "secret"}, {"Twice": "secret", "twice": "secret"}, {"k" * 600: "secret"}]
)
def test_a_table_that_cannot_be_built_fails_and_stays(lmdb: Table, entries: dict[str, str], test: bool) -> None:
    lmdb.built(BEFORE)
    before = lmdb.snapshot()
    ret = lmdb.built(entries, test=test)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "secret" not in ret["comment"]
    assert lmdb.dump() == BEFORE
    after = lmdb.snapshot()
    assert after == before


# before Postfix is installed


@pytest.fixture
def no_postfix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)


@pytest.mark.usefixtures("no_postfix")
def test_without_postfix_test_mode_predicts_all_of_a_new_table(table: Table) -> None:
    ret = table.built({"New.Example": "smtp:new"}, test=True)
    assert ret["result"] is None
    assert ret["changes"]["added"] == {"new.example": "smtp:new"}


def test_without_postfix_test_mode_compares_the_texts(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.built(BEFORE)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    ret = table.built(AFTER, test=True)
    assert (ret["result"], ret["changes"]) == (None, DIFFERENCE)
    assert table.built({"two words": "x"}, test=True)["result"] is False


@pytest.mark.usefixtures("no_postfix")
def test_without_postfix_an_apply_fails(table: Table) -> None:
    ret = table.built(AFTER)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "postmap is not installed" in ret["comment"]


@pytest.mark.parametrize("type", ["hash", "lmdb"])
def test_a_hosts_own_aliases_are_built_as_newaliases_does(modules: Any, states: Any, tmp_path: Path, type: str) -> None:
    table = Table(modules, states, tmp_path, type)
    table.path.write_text("www-data: root\nWWW-data: admin\nempty:\npostmaster: root\n", encoding="utf-8")
    predicted = table.built(program="postalias", test=True)
    assert predicted["result"] is None, predicted["comment"]
    done = table.built(program="postalias")
    assert (done["result"], done["changes"]) == (True, predicted["changes"])
    assert table.dump(program="postalias") == {"www-data": "root", "postmaster": "root"}
    again = table.built(program="postalias")
    assert (again["result"], again["changes"]) == (True, {})
    for said in (predicted, done, again):
        assert "the same as 'www-data'" in said["warnings"][0]
        assert str(table.path) in said["warnings"][0]
