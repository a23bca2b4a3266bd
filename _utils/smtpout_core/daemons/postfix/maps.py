"""Build, read and check Postfix lookup tables.

A table is named the way Postfix names it: by its type (``lmdb``, ``hash``, ``cidr`` ...) and the path of its text,
without the suffix of the database beside it. Aliases are a table too, with ``program="postalias"``.

Postfix's own ``postmap`` reads and builds the tables, so that keys are folded, quoted and split as the daemons will
see them. What it finds wrong it says on stderr, then exits with 0 (malformed line, duplicate key): whatever it says
about the table counts as failure here.

:depends: Postfix 3.2 or later, ``postmap`` and ``postalias`` in PATH
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from smtpout_core import command, folder
from smtpout_core import files as writer
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.site import map_format

Entries = Mapping[str, Any] | Sequence[Sequence[Any]] | None

TEXT = ("cidr", "pcre", "regexp", "texthash")
TYPES = {"postmap": (*map_format.INDEXED, *TEXT), "postalias": tuple(map_format.INDEXED)}

# Between key and value in what the programs print.
PRINTED = {"postmap": "\t", "postalias": ":\t"}

# postalias adds these for sendmail and NIS; one of them is the time of the build.
ALIAS_BOOKKEEPING = ("@", "YP_LAST_MODIFIED", "YP_MASTER_NAME")

# These warnings of postmap quote the whole line, and with it the password of a password map.
QUOTES_LINE = re.compile(r"(non-UTF-8 input|unbalanced '\"'|must not start with whitespace).*")

SHOWN = 20  # complaints in an error: more than that nobody reads
TIMEOUT = 300  # seconds; 100,000 entries take postmap 0.2


class _Table(NamedTuple):
    """What Postfix knows a table by."""

    path: str
    type: str
    config_directory: str | None
    program: str
    hand_made: bool = False
    """Aliases as the host has them: newaliases warns of a line that it can't take, and builds the others."""

    @property
    def suffix(self) -> str:
        return map_format.INDEXED.get(self.type, "")

    def __str__(self) -> str:
        return f"{self.type}:{self.path}"


def build(
    path: str,
    type: str,
    entries: Entries = None,
    *,
    mode: str = "0644",
    user: str = "root",
    group: str = "root",
    config_directory: str | None = None,
    program: str = "postmap",
) -> list[str]:
    """Build a table aside, put it in place by rename, return the files put in place.

    A lookup meets the whole old or the whole new table, also after a kill: a ``hash`` rebuilt in place is empty for
    a while. Postfix opens the new database by itself, since it sees that its own was unlinked (dict_changed_name()
    in dict.c); the tables without an index it reads at start, they need a reload.

    :param path: the text of the table, absolute, without the suffix of the database
    :param type: ``hash``, ``btree``, ``lmdb``, ``cdb`` (a text and a database), ``cidr``, ``pcre``, ``regexp``,
        ``texthash`` (a text)
    :param entries: a dict, or a list of [key, value] pairs, written to the text in this order. Without it the text that
        is there is the source, and stays as it is.
    :param mode: of the text and the database, an octal string
    :param user: names, the owners of the text and the database
    :param group: likewise.
    :param config_directory: the folder of main.cf where it isn't Postfix's default
    :param program: ``postmap``, or ``postalias`` for aliases
    :raises RelayError: an entry can't be held or postmap complains, and replaces nothing then. Of aliases without
        entries, which are the host's own, only what newaliases would fail of counts.
    :raises NotInstalledError: there is no Postfix.
    """
    table = _table(path, type, config_directory, program, entries)
    text = _sound_text(table, entries)
    access = _access(mode, user, group)
    endings = [*([] if entries is None else [""]), *([table.suffix] if table.suffix else [])]
    try:
        with _workshop(path) as workshop:
            staged = _stage(table, text, workshop)
            if entries is None:
                _give(path, *access)
            # Text first: a death between the two leaves new text beside the old database, which the next run or a
            # postmap by hand completes. The other way round a postmap by hand would bring the old entries back.
            for ending in endings:
                _give(staged.path + ending, *access)
                os.replace(staged.path + ending, path + ending)
    except OSError as error:
        raise RelayError(f"{table}: {error}") from error
    return [path + ending for ending in endings]


def files(path: str, type: str, *, program: str = "postmap") -> list[str]:
    """Return the paths of a table's files: the text and, where there is one, the database, which is what gets read.

    :param path: as in ``build``
    :param type: likewise.
    :param program: likewise.
    :raises RelayError: for a type that has no files, such as ``ldap``.
    """
    _table(path, type, None, program)
    return map_format.files(path, type)


def dump(path: str, type: str, *, config_directory: str | None = None, program: str = "postmap") -> dict[str, str]:
    """Return what is in a table: in its database where it has one, with the keys in lower case as Postfix stores them.

    :param path: as in ``build``
    :param type: likewise.
    :param config_directory: likewise.
    :param program: likewise.
    :raises RelayError: the table is missing or unreadable.
    :raises NotInstalledError: there is no Postfix.
    """
    return _contents(_table(path, type, config_directory, program))


def query(
    path: str, type: str, key: str, *, config_directory: str | None = None, program: str = "postmap"
) -> str | None:
    """Return what Postfix finds in a table under exactly this key, None when that is nothing.

    :param path: as in ``build``
    :param type: likewise.
    :param config_directory: likewise.
    :param program: likewise.
    :param key: one line of text
    :raises RelayError: the table is missing or unreadable.
    :raises NotInstalledError: there is no Postfix.
    """
    table = _table(path, type, config_directory, program)
    if not key or "\n" in key or "\0" in key:
        raise RelayError(f"{key!r} can't be looked up: a key is one line of text")
    # By stdin: a key may begin with a dash, and every user can read argv.
    output, _ = _run(table, "-q", "-", stdin=f"{key}\n")
    return output[len(key + PRINTED[program]) : -1] if output else None


def named(tables: str) -> Iterator[str]:
    """Yield the tables of a list, in which commas and blanks part those that stand in no braces (postconf(5)).

    :param tables: the parameter's value.
    """
    depth, name = 0, ""
    for character in f"{tables} ":
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth or not re.match(r"[,\s]", character):
            name += character
        elif name:
            yield name.removeprefix("proxy:")
            name = ""


def answer(directory: str, table: str, key: str) -> str:
    """Return what a table, as a configuration names it, has for a key; an empty text where it has nothing.

    :param directory: the configuration directory.
    :param table: type and name.
    :param key: as a daemon would ask.
    :raises RelayError: postmap's own words, where it can't be read.
    """
    done = command.run([command.which("postmap"), "-c", directory, "-q", key, table])
    if done.status != 0 and "fatal: " in done.said:  # it warns of parameters that are set twice, say
        raise RelayError(done.said.strip())
    return done.output.strip("\n")


def check(
    path: str, type: str, entries: Entries = None, *, config_directory: str | None = None, program: str = "postmap"
) -> list[str]:
    """Return the complaints about a table, none if it can be built.

    They are keys that it can't hold, missing values, duplicates after case folding, malformed lines, and what
    postmap says on stderr while it builds a copy.

    :param path: as in ``build``; nothing is written at ``path``
    :param type: likewise.
    :param entries: likewise.
    :param config_directory: likewise.
    :param program: likewise.
    :raises RelayError: there is nothing to check.
    :raises NotInstalledError: there is no Postfix.
    """
    table = _table(path, type, config_directory, program)
    text, complaints = _text(table, entries)
    if complaints:
        return complaints
    with folder.private() as aside:
        return _copy(table, text, aside)[1]


def preview(
    path: str, type: str, entries: Entries = None, *, config_directory: str | None = None, program: str = "postmap"
) -> dict[str, Any]:
    """Return what ``build`` with these arguments would make.

    That is the ``text``, and as ``contents`` what ``dump`` reads from a copy built aside. Two builds of one
    source differ byte by byte, and times say nothing after a failed build: only contents can be compared.

    :param path: as in ``build``; nothing is written at ``path``
    :param type: likewise.
    :param entries: likewise.
    :param config_directory: likewise.
    :param program: likewise.
    :raises RelayError: for what ``build`` would refuse.
    :raises NotInstalledError: there is no Postfix.
    """
    table = _table(path, type, config_directory, program, entries)
    text = _sound_text(table, entries)
    with folder.private() as aside:
        return {"text": _decoded(text), "contents": _contents(_stage(table, text, aside))}


def _table(path: str, type: str, config_directory: str | None, program: str, entries: Entries = ()) -> _Table:
    if program not in TYPES:
        raise RelayError(f"{program} builds no table: postmap or postalias does")
    if type not in TYPES[program]:
        raise RelayError(f"{type}:{path} is none that {program} builds: use {', '.join(TYPES[program])}")
    if not os.path.isabs(path):
        raise RelayError(f"{type}:{path}: the path has to be absolute")
    return _Table(path, type, config_directory, program, hand_made=entries is None and program == "postalias")


def _access(mode: str, user: str, group: str) -> tuple[int, int, int]:
    try:
        return int(str(mode).strip("\"'"), 8), *writer.ids(user, group)
    except (RelayError, ValueError) as error:
        raise RelayError(f"no file can have {user}:{group} {mode!r}: {error}") from error


def _decoded(output: bytes) -> str:
    """Return text that Salt can carry, whatever bytes a foreign table holds."""
    return output.decode(errors="backslashreplace")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise RelayError(str(error)) from error


def _text(table: _Table, entries: Entries) -> tuple[bytes, list[str]]:
    """Return the text of a table, from its entries or as it is, and what is wrong with it before postmap sees it."""
    if entries is None:
        text = _read(table.path)
        return text, map_format.parse(_decoded(text), table.type, table.program)["complaints"]
    rendered = map_format.render(entries, table.type, table.program)
    return rendered["text"].encode(), rendered["complaints"]


def _sound_text(table: _Table, entries: Entries) -> bytes:
    text, complaints = _text(table, entries)
    _refuse(table, [] if table.hand_made else complaints)
    return text


def _refuse(table: _Table, complaints: list[str]) -> None:
    if complaints:
        more = [f"and {len(complaints) - SHOWN} more"] if len(complaints) > SHOWN else []
        raise RelayError(f"{table}: {'; '.join([*complaints[:SHOWN], *more])}")


def _contents(table: _Table) -> dict[str, str]:
    if not table.suffix:
        return dict(map_format.parse(_decoded(_read(table.path)), table.type)["entries"])
    if table.type == "cdb":
        pairs = map_format.read_cdb(table.path + table.suffix)
    else:
        # The value is what follows the first tab: a key holds none.
        mark, lines = PRINTED[table.program], _run(table, "-s")[0].split("\n")
        pairs = [(key, value) for key, found, value in (line.partition(mark) for line in lines) if found]
    hidden = ALIAS_BOOKKEEPING if table.program == "postalias" else ()
    return {key: value for key, value in pairs if key not in hidden}


def _run(table: _Table, *arguments: str, stdin: str = "") -> tuple[str, list[str]]:
    """Run postmap or postalias on a table; return its output and its warnings, raise on anything worse."""
    if not shutil.which(table.program):
        raise NotInstalledError(f"{table.program} is not installed: it comes with Postfix")
    where = ["-c", table.config_directory] if table.config_directory else []
    done = command.run([table.program, *where, *arguments, str(table)], input=stdin, timeout=TIMEOUT)
    said = [QUOTES_LINE.sub(r"\1", line) for line in done.said.splitlines()]
    if any("unsupported dictionary type" in line for line in said):
        raise NotInstalledError(f"{table}: Postfix has no {table.type} tables here: {said[-1]}")
    # 1 is also "nothing found"; a signal is how a truncated lmdb ends (SIGBUS).
    if done.status not in (0, 1) or any(re.match(r"\w+: (fatal|error|panic):", line) for line in said):
        raise RelayError(f"{table}: {table.program} failed ({done.status}): {'; '.join(said)}")
    return done.output, said


@contextlib.contextmanager
def _workshop(path: str) -> Iterator[str]:
    """Give a private folder beside a table: on its file system, and with the SELinux type of the place.

    The lock on the folder of the table keeps builders apart, and ends with the process that holds it: whatever is
    found there under the lock was left by a killed one.
    """
    around, name = os.path.split(path)
    lock = os.open(around, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in glob.glob(os.path.join(glob.escape(around), f".{glob.escape(name)}.*.building")):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".building", dir=around) as workshop:
            yield workshop
        os.fsync(lock)
    finally:
        os.close(lock)


def _copy(table: _Table, text: bytes, place: str) -> tuple[_Table, list[str]]:
    """Make a copy of a table in a private folder; return it, and what postmap says about it."""
    copy = table._replace(path=os.path.join(place, os.path.basename(table.path)))
    with open(os.open(copy.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
    # Postfix rereads a texthash up to ten times, 0.3 s apart, while its text is younger than 2 s (dict_thash.c).
    os.utime(copy.path, (time.time() - 3,) * 2)
    try:
        # A table without an index is checked as a lookup loads it.
        said = _run(copy)[1] if table.suffix else _run(copy, "-q", "-", stdin="smtpout\n")[1]
    except NotInstalledError:
        raise
    except RelayError as error:
        said = [str(error)]
    # What doesn't name the copy is about main.cf, or a host without IPv6.
    return copy, [line.replace(copy.path, table.path) for line in dict.fromkeys(said) if copy.path in line]


def _stage(table: _Table, text: bytes, place: str) -> _Table:
    copy, complaints = _copy(table, text, place)
    _refuse(table, [line for line in complaints if not (table.hand_made and ": warning: " in line)])
    return copy


def _give(path: str, mode: int, uid: int, gid: int) -> None:
    """Set owner and mode of a file, and have it on disk before it gets its final name."""
    with open(path, "rb") as file:
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
