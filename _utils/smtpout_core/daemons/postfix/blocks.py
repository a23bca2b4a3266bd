"""Who is blocked by command: what the relay remembers of each, and the table in which Postfix looks them up.

Both are state of the relay's operation, below ``/var/lib/smtpout/blocked``, for root alone (smtpd(8) opens its tables
before it gives up root). They are part of no generation, so no way back takes a block back.

    logins.json   who, since when, by whom, why, and which messages it put on hold: this counts
    logins.lmdb   the names that are refused; made from it, and written in place
    lock          held by whoever writes

A table that were replaced would be seen by new sessions alone: smtpd(8) keeps what it has opened. LMDB's is written in
place, by transactions, and read anew with each lookup (lmdb_table(5)).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smtpout_core import command, files
from smtpout_core.change.parts import Setting
from smtpout_core.daemons.postfix import conf, maps
from smtpout_core.errors import NotInstalledError, RelayError, os_errors_told
from smtpout_core.guard import selinux
from smtpout_core.site import map_format
from smtpout_core.site.blocked import ANYBODY, CLASS, PARAMETER, TABLE, key

FOLDER_MODE, MODE = 0o700, 0o600


@dataclass
class Block:
    """An account that is blocked by command.

    :param login: as it was given.
    :param names: what it is looked up by, in small letters: each form of its login, as far as they were known.
    :param since: when, in seconds since 1970.
    :param by: who did it.
    :param reason: why, in their words.
    :param held: names of messages in the queue that this has put on hold.
    :param ended: whether it is refused no more, and those messages are about to be let go.
    """

    login: str
    names: list[str]
    since: int
    by: str = ""
    reason: str = ""
    held: list[str] = field(default_factory=list)
    ended: bool = False

    def meets(self, names: Iterable[str]) -> bool:
        """Tell whether one of some names is this account's."""
        return not set(self.names).isdisjoint(map(str.lower, names))


class Blocks:
    """The blocks of a relay.

    :param table: path of the table, without its suffix; what is remembered lies beside it.
    :param type: of the table.
    """

    def __init__(self, table: str = TABLE, type: str = "lmdb") -> None:
        self.table, self.type = table, type
        self.record = Path(f"{table}.json")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Blocks:
        """Return those of a site's relay."""
        return cls(settings["postfix"]["blocked"]["table"], settings["postfix"]["blocked"]["type"])

    @property
    def database(self) -> str:
        """The file that Postfix reads."""
        return map_format.files(self.table, self.type)[-1]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have nobody else write; whoever comes meanwhile, an apply too, waits."""
        folder = Path(self.table).parent
        with os_errors_told(folder):
            for each in (folder.parent, folder):  # whatever the umask
                if not each.exists():
                    each.mkdir(parents=True, exist_ok=True)
                    each.chmod(FOLDER_MODE)
            lock = os.open(folder / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def read(self) -> list[Block]:
        """Return who is blocked, the first one first.

        :raises RelayError: what is remembered can't be read.
        """
        try:
            return [Block(**each) for each in json.loads(self.record.read_bytes())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise RelayError(
                f"{self.record} can't be read, so nobody knows who is blocked by command: {error}. Put it back from a "
                "backup, or remove it and block again whom it named"
            ) from error

    def write(self, blocks: Sequence[Block]) -> None:
        """Remember who is blocked. Call :meth:`bring` afterwards."""
        text = json.dumps([asdict(each) for each in blocks], indent=1).encode() + b"\n"
        with os_errors_told(self.record):
            files.write(self.record, text, MODE)

    def wanted(self) -> dict[str, str]:
        """Return what the table should have: each name, and what has it looked for."""
        names = {key(name): "blocked" for block in self.read() if not block.ended for name in block.names}
        return names | ({ANYBODY: CLASS} if names else {})

    def fault(self) -> str:
        """Return what is wrong with the table; an empty text where nothing is.

        :raises NotInstalledError: there is no Postfix to read it.
        """
        held = self._held()
        if held is None:
            return "unreadable" if os.path.exists(self.database) else "missing"
        wanted = {_folded(name): value for name, value in self.wanted().items()}
        if missing := sorted(wanted.keys() - held.keys()):
            return f"without {', '.join(missing)}"
        if held != wanted:
            return "with others"
        status = os.stat(self.database)
        if stat.S_IMODE(status.st_mode) != MODE or (status.st_uid, status.st_gid) != (0, 0):
            return f"{files.owner(status.st_uid, status.st_gid)} {stat.S_IMODE(status.st_mode):04o}"
        return ""

    def _held(self) -> dict[str, str] | None:
        """Return what the table has; None where it isn't there or can't be read."""
        if not os.path.exists(self.database):
            return None
        try:
            return maps.dump(self.table, self.type)
        except NotInstalledError:
            raise
        except RelayError:
            return None

    def make(self) -> None:
        """Have there be a table that says what is remembered; a new one has to be told Postfix by a restart."""
        if self._held() is None:
            maps.build(self.table, self.type, self.wanted(), mode=f"{MODE:04o}")
        with os_errors_told(self.database):
            os.chown(self.database, 0, 0)
            os.chmod(self.database, MODE)
        self.bring()

    def bring(self) -> None:
        """Have the table say what is remembered, in place: Postfix has it open.

        :raises RelayError: it can't be read; an apply makes it anew.
        """
        held, wanted = self._held(), self.wanted()
        if held is None:
            raise RelayError(f"{self.database} can't be read, so that who logs in is answered 451; apply makes it anew")
        kept = {_folded(name) for name in wanted}
        if new := {name: value for name, value in wanted.items() if held.get(_folded(name)) != value}:
            # The class last: with it the names begin to be looked for.
            self._write("-i", map_format.text(dict(sorted(new.items(), key=lambda each: each[0] == ANYBODY))))
        if gone := [name for name in held if name not in kept]:
            self._write("-d", "".join(f"{name}\n" for name in gone), "-")

    def _write(self, how: str, text: str, *more: str) -> None:
        """Have postmap(1) write in place what it reads."""
        done = command.run([command.which("postmap"), how, *more, f"{self.type}:{self.table}"], input=text)
        if done.status not in (0, 1) or done.said.strip():
            raise RelayError(f"{self.type}:{self.table}: {done.said.strip() or f'postmap ends with {done.status}'}")


def _folded(name: str) -> str:
    """Return a name as Postfix stores it, which folds no letter beyond ASCII where SMTPUTF8 is off."""
    return "".join(each.lower() if each.isascii() else each for each in name)


class Kept(Setting):
    """The table is there, and says who is blocked, before Postfix names it."""

    kind = "blocks"

    def __init__(self, blocks: Blocks, labelled: bool = False) -> None:
        self.blocks, self.labelled = blocks, labelled

    def differences(self) -> dict[str, dict[str, str]]:
        """Return what is wrong with the table, where anything is."""
        try:
            fault = self.blocks.fault()
        except NotInstalledError:  # a state before this one brings Postfix
            fault = "missing"
        return {"blocked accounts": {"old": fault, "new": "as it was blocked by command"}} if fault else {}

    def undoing(self) -> dict[str, Any]:
        """Return nothing: what is blocked stays so, whatever becomes of a change."""
        return {}

    def bring(self) -> None:
        """Make the table, or mend it.

        :raises RelayError: it can't be.
        """
        with self.blocks.locked():
            self.blocks.make()
        if self.labelled:
            selinux.relabel([self.blocks.database])


def not_looked_up(settings: Mapping[str, Any]) -> list[str]:
    """Return the services of the running Postfix whose mail is taken without a look at the table.

    :param settings: the site's.
    :raises RelayError: Postfix's configuration can't be read.
    """
    directory, table = settings["postfix"]["directory"], settings["postfix"]["blocked"]["table"]
    named = re.compile(re.escape(table) + r"(?![\w-])")
    everywhere = conf.values(directory, PARAMETER)[PARAMETER]
    smtpd = [each for each in conf.services(directory) if each.program == "smtpd"]
    return [str(each) for each in smtpd if not named.search(each.options.get(PARAMETER, everywhere))]
