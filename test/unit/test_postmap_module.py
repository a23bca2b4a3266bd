"""Lookup tables as Postfix's own postmap builds and reads them."""

from __future__ import annotations

import contextlib
import grp
import multiprocessing
import os
import pwd
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError
from smtpout_core.daemons.postfix import maps
from smtpout_core.errors import NotInstalledError, RelayError

pytestmark = pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix is not installed")

INDEXED = {"hash": ".db", "btree": ".db", "lmdb": ".lmdb", "cdb": ".cdb"}
SECRET = "hunter2-of-the-relay"
ROUTES = {"example.org": "smtp:[192.0.2.1]:25", "Example.NET": "smtp:relay.example.net:587"}


class Tables:
    """The functions on tables of this test, with a main.cf of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_directory = str(folder / "config")
        Path(self.config_directory).mkdir()
        self.configure("compatibility_level = 3.6\n")

    def configure(self, text: str) -> None:
        """Write a main.cf that is old enough: Postfix rereads one younger than 2 s until it isn't."""
        main_cf = Path(self.config_directory, "main.cf")
        main_cf.write_text(text)
        os.utime(main_cf, (time.time() - 3,) * 2)

    def path(self, name: str = "transport") -> str:
        return str(self.folder / name)

    def __getattr__(self, function: str) -> Callable[..., Any]:
        """Return a function that takes the type first."""

        def call(type: str, *arguments: Any, name: str = "transport", **keywords: Any) -> Any:
            keywords.setdefault("config_directory", self.config_directory)
            return getattr(maps, function)(self.path(name), type, *arguments, **keywords)

        return call


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


@pytest.fixture(params=["hash", "lmdb", "cdb"])
def indexed(request: pytest.FixtureRequest) -> str:
    return request.param


def mode(path: str) -> str:
    return f"{stat.S_IMODE(os.stat(path).st_mode):04o}"


# what a lookup finds


def test_lookups_find_what_was_built_whatever_the_case(tables: Tables, indexed: str) -> None:
    tables.build(indexed, ROUTES)
    assert tables.query(indexed, "example.org") == "smtp:[192.0.2.1]:25"
    assert tables.query(indexed, "EXAMPLE.net") == "smtp:relay.example.net:587"
    assert tables.query(indexed, "elsewhere.example") is None


def test_dump_shows_the_database_and_not_the_text(tables: Tables, indexed: str) -> None:
    tables.build(indexed, ROUTES)
    Path(tables.path()).write_text("example.com\tsmtp:edited.by.hand\n")
    assert tables.dump(indexed) == {
        "example.org": "smtp:[192.0.2.1]:25",
        "example.net": "smtp:relay.example.net:587",
    }


def test_a_table_without_entries_is_empty_and_readable(tables: Tables, indexed: str) -> None:
    tables.build(indexed, {})
    assert tables.dump(indexed) == {}
    assert tables.query(indexed, "example.org") is None


def test_the_text_keeps_the_order_and_says_who_manages_it(tables: Tables) -> None:
    tables.build("lmdb", [["zebra.example", "smtp:z"], ["aardvark.example", "smtp:a"]])
    header, *lines = Path(tables.path()).read_text().splitlines()
    assert header.startswith("# Managed by Salt")
    assert lines == ["zebra.example\tsmtp:z", "aardvark.example\tsmtp:a"]


def test_a_quoted_localpart_is_a_key(tables: Tables, indexed: str) -> None:
    tables.build(indexed, {'"john doe"@example.org': "smtp:one", r'"a\"b"@example.org': "smtp:two"})
    assert tables.query(indexed, '"john doe"@example.org') == "smtp:one"
    assert tables.query(indexed, r'"a\"b"@example.org') == "smtp:two"


def test_a_missing_table_is_no_empty_answer(tables: Tables, indexed: str) -> None:
    with pytest.raises(RelayError, match="No such file"):
        tables.query(indexed, "example.org")
    with pytest.raises(RelayError, match="No such file"):
        tables.dump(indexed)


def test_a_person_asks_a_table_and_builds_none(tables: Tables, modules: Any) -> None:
    tables.build("lmdb", ROUTES)
    assert modules["postmap.query"](tables.path(), "lmdb", "example.org") == ROUTES["example.org"]
    assert modules["postmap.dump"](tables.path(), "lmdb").keys() == {"example.org", "example.net"}
    assert modules["postmap.check"](tables.path(), "lmdb") == []
    with pytest.raises(CommandExecutionError, match="No such file"):
        modules["postmap.dump"](tables.path("elsewhere"), "lmdb")
    assert [name for name in modules if name.startswith("postmap.")] == [
        "postmap.check",
        "postmap.dump",
        "postmap.query",
    ]


# postmap would take a word, a quoted string or an escaped character for a part of the key
KEYS = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters='\\"\n\0\t\v\f\r '), min_size=1, max_size=8),
        st.text("abc @:#", max_size=5).map('"{}"'.format),
        st.sampled_from(['\\"', "\\\\", "\\ "]),
    ),
    min_size=1,
    max_size=4,
).map("".join)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1, max_size=40).filter(
    lambda value: value == value.strip(" \t\n\v\f\r")
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.dictionaries(KEYS, VALUES, max_size=6))
def test_every_accepted_entry_is_found_again(tables: Tables, indexed: str, entries: dict[str, str]) -> None:
    if tables.check(indexed, entries):
        with pytest.raises(RelayError):
            tables.build(indexed, entries)
        return
    tables.build(indexed, entries)
    assert {key: tables.query(indexed, key) for key in entries} == entries
    assert sorted(tables.dump(indexed).values()) == sorted(entries.values())


# what a table can't hold


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"two words": SECRET}, "'two words': not the form of a lmdb key"),
        ({'half"quoted': SECRET}, "not the form"),
        ({"ends\\": SECRET}, "not the form"),
        ({"#comment": SECRET}, "not the form"),
        ({" leading": SECRET}, "not the form"),
        ({"tab\tbed": SECRET}, "'tab.*a tab can't be held"),
        ({"alias:": SECRET}, "'alias:': ends with a colon"),
        ({"": SECRET}, "the key is missing"),
        ({"empty": ""}, "'empty': the value is missing"),
        ({"none": None}, "'none': the value is missing"),
        ({"yes": True}, "'yes': the value is no text, put it in quotes"),
        ({10.1: SECRET}, "10.1: the key is no text, put it in quotes"),
        ({"two": f"{SECRET}\nlines"}, "'two': a newline"),
        ({"nul": f"{SECRET}\0"}, "'nul': .* NUL"),
        ({"padded": f"{SECRET} "}, "'padded': whitespace around the value"),
        ({"\udcff": SECRET}, "not UTF-8"),
        ({"Host": SECRET, "host": SECRET}, "'host': the same as 'Host'"),
        ([["one"]], "list of .key, value. pairs"),
        ([{"one": SECRET}], "list of .key, value. pairs"),
    ],
)
def test_a_refused_entry_is_named_without_its_value(tables: Tables, entries: Any, complaint: str) -> None:
    tables.build("lmdb", {"old": "value"})
    with pytest.raises(RelayError, match=complaint) as refused:
        tables.build("lmdb", entries)
    assert SECRET not in str(refused.value)
    assert tables.check("lmdb", entries)
    assert tables.dump("lmdb") == {"old": "value"}


def test_keys_that_are_one_beyond_ascii_are_refused(tables: Tables, indexed: str) -> None:
    assert "duplicate entry" in "".join(tables.check(indexed, {"Ärger": "1", "ärger": "2"}))
    with pytest.raises(RelayError, match="duplicate entry"):
        tables.build(indexed, {"Ärger": "1", "ärger": "2"})


def test_a_key_too_long_for_lmdb_is_refused_by_the_name_of_the_table(tables: Tables) -> None:
    with pytest.raises(RelayError, match=f"lmdb:{tables.path()}: postmap failed"):
        tables.build("lmdb", {"k" * 600: "value"})
    assert os.listdir(tables.folder) == ["config"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("key value\nlonely\n", "line 2: not a key and a value"),
        (f'a b\n"half {SECRET}\n', "line 2: not a key and a value"),
        (f"  {SECRET} indented\n", "line 1: not a key and a value"),
        ("a 1\nb 2\nA 3\n", "key 'A': the same as 'a'"),
        ("a: 1\n", "line 1: record is in"),
    ],
)
def test_a_malformed_source_is_refused_although_postmap_exits_with_zero(
    tables: Tables, indexed: str, text: str, complaint: str
) -> None:
    Path(tables.path()).write_text(text)
    complaints = "".join(tables.check(indexed))
    assert complaint in complaints
    assert SECRET not in complaints
    with pytest.raises(RelayError):
        tables.build(indexed)
    assert sorted(os.listdir(tables.folder)) == ["config", "transport"]


def test_a_good_source_is_built_and_stays(tables: Tables, indexed: str) -> None:
    text = "# by hand\n\na  1\nb\n  2 and\n  # in between\n\t3\n"
    Path(tables.path()).write_text(text)
    assert tables.build(indexed) == [tables.path() + INDEXED[indexed]]
    assert tables.dump(indexed) == {"a": "1", "b": "2 and\t3"}
    assert Path(tables.path()).read_text() == text


def test_a_faulty_main_cf_is_not_the_fault_of_the_table(tables: Tables) -> None:
    tables.configure("myhostname = one.example\nmyhostname = two.example\n")
    tables.build("lmdb", ROUTES)
    assert tables.check("lmdb", ROUTES) == []


@pytest.mark.parametrize("type", ["ldap", "inline", "dbm", "postgres"])
def test_a_type_without_files_of_its_own_is_refused(tables: Tables, type: str) -> None:
    with pytest.raises(RelayError, match="use hash, btree, lmdb, cdb"):
        tables.build(type, ROUTES)


def test_without_postfix_the_error_says_what_is_missing(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(NotInstalledError, match="postmap is not installed"):
        tables.build("lmdb", ROUTES)


# tables without an index


@pytest.mark.parametrize(
    ("type", "entries", "key", "value"),
    [
        ("texthash", ROUTES, "example.net", "smtp:relay.example.net:587"),
        ("cidr", {"192.0.2.0/24": "OK", "::/0": "REJECT"}, "2001:db8::1", "REJECT"),
        ("regexp", [["/^Subject: a b/", "WARN"], ["!/x/", "REJECT no x"]], "subject: A B", "WARN"),
    ],
)
def test_a_table_without_index_is_its_text(tables: Tables, type: str, entries: Any, key: str, value: str) -> None:
    assert tables.build(type, entries) == [tables.path()]
    assert tables.query(type, key) == value
    assert tables.dump(type) == dict(entries)


@pytest.mark.parametrize(
    ("type", "entries"),
    [
        ("cidr", {"192.0.2.1/8": "OK"}),
        ("regexp", {"/(/": "OK"}),
        ("regexp", {"no pattern": "OK"}),
        ("texthash", {"a b": "c"}),
    ],
)
def test_a_faulty_table_without_index_is_refused(tables: Tables, type: str, entries: Any) -> None:
    with pytest.raises(RelayError):
        tables.build(type, entries)
    assert not os.path.exists(tables.path())


# aliases


def test_aliases_are_looked_up_and_dumped_without_bookkeeping(tables: Tables, indexed: str) -> None:
    aliases = {"Postmaster": "root", "list": ':include:/etc/list, "|/usr/bin/archive --all"'}
    tables.build(indexed, aliases, program="postalias")
    assert Path(tables.path()).read_text().splitlines()[1] == "Postmaster: root"
    assert tables.dump(indexed, program="postalias") == {
        "postmaster": "root",
        "list": ':include:/etc/list, "|/usr/bin/archive --all"',
    }
    assert tables.query(indexed, "list", program="postalias") == aliases["list"]


@pytest.mark.parametrize("key", ["a b", "a@example.org", "a:b", '"a"', "#a", "a,b"])
def test_an_alias_that_is_no_local_name_is_refused(tables: Tables, key: str) -> None:
    with pytest.raises(RelayError, match="a bare local name"):
        tables.build("hash", {key: "root"}, program="postalias")


# who may read it


def test_text_and_database_get_owner_and_mode(tables: Tables, indexed: str) -> None:
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    files = tables.build(indexed, {"[relay.example]": f"user:{SECRET}"}, mode="0600", user=user, group=group)
    assert [mode(file) for file in files] == ["0600", "0600"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_table_can_belong_to_another_user(tables: Tables, indexed: str) -> None:
    for file in tables.build(indexed, ROUTES, mode="0640", user="nobody", group="daemon"):
        status = os.stat(file)
        assert (pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name) == ("nobody", "daemon")
    tables.build(indexed, user="nobody", group="daemon")
    assert tables.dump(indexed)["example.org"] == ROUTES["example.org"]


def test_a_password_map_is_never_readable_while_it_is_built(tables: Tables, indexed: str) -> None:
    """The folder that it is built in is private, and everything in it from its first byte on."""
    seen = set()
    with builder(tables, indexed, [{"[relay.example]": f"user:{SECRET}"}], mode="0600"):
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for folder in tables.folder.glob(".transport.*.building"):
                with contextlib.suppress(FileNotFoundError):
                    seen.add(mode(str(folder)))
                    seen |= {mode(str(file)) for file in folder.iterdir()}
    assert seen == {"0700", "0600"}


# builds that are killed


@contextlib.contextmanager
def builder(tables: Tables, type: str, versions: list[dict[str, str]], **arguments: Any) -> Iterator[int]:
    """Build the versions in turn, in a process group of its own, until killed with all its children."""

    def loop() -> None:
        os.setpgrp()
        while True:
            for version in versions:
                tables.build(type, version, **arguments)

    process = multiprocessing.get_context("fork").Process(target=loop)
    process.start()
    try:
        yield process.pid or 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def test_killed_builds_leave_the_whole_old_or_new_table(tables: Tables, indexed: str) -> None:
    versions = [{f"user{number}@example.org": version for number in range(2000)} for version in ("old", "new")]
    tables.build(indexed, versions[0])
    found = set()
    for attempt in range(12):
        with builder(tables, indexed, versions):
            end = time.monotonic() + 0.1 + 0.013 * attempt
            while time.monotonic() < end:
                found.add(tables.query(indexed, "user1999@example.org"))
        assert tables.dump(indexed) in versions
    assert found <= {"old", "new"}
    tables.build(indexed, versions[1])
    assert tables.dump(indexed) == versions[1]
    assert not list(tables.folder.glob(".transport*")), "what killed builds left is cleared away"


def test_two_builders_do_not_disturb_each_other(tables: Tables, indexed: str) -> None:
    versions = [{f"user{number}@example.org": version for number in range(500)} for version in ("old", "new")]
    tables.build(indexed, versions[0])
    with builder(tables, indexed, versions):
        for _ in range(10):
            tables.build(indexed, versions[0])
            assert tables.dump(indexed) in versions


# size


def test_a_hundred_thousand_entries_take_seconds(tables: Tables, indexed: str) -> None:
    entries = {
        f"user{number}@domain{number % 97}.example": f"smtp:[10.0.0.{number % 256}]:25" for number in range(100_000)
    }
    begin = time.monotonic()
    tables.build(indexed, entries)
    assert tables.dump(indexed) == entries
    assert time.monotonic() - begin < 15
