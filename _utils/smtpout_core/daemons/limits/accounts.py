"""Whose name somebody has logged in with: `usuario01`, `usuario01@domain01.dom` and other forms are one account.

The directory knows, by the search that logs users in. Postfix's own client asks it (ldap_table(5), postmap(1)), once a
name and day. A name that it can't be asked for, or doesn't find, is counted as it is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

PATIENCE = 1.0
"""Seconds that a message waits for an answer; smtpd(8) waits 2 s for ours."""
ENDS = 10.0
"""Seconds after which a question is given up."""
LASTS = 86_400.0
"""Seconds that an answer is good for."""
AGAIN = 60.0
"""Seconds after which a name that nobody was found for is asked for again."""


class Account(NamedTuple):
    """What is counted as one: its name, the shortest of all, and all of them in lower case."""

    name: str
    names: tuple[str, ...]


Ask = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[str]]]]
"""Returns by each of some names all names of its account; those that nobody has are missing. Raises OSError."""


class Accounts:
    """The names that are known.

    :param ask: who is asked; None where the directory can't tell.
    :param moved: is told of a name that was counted as it is, and turned out to be an account's.
    """

    def __init__(self, ask: Ask | None, moved: Callable[[str, str], None] = lambda _name, _account: None) -> None:
        self.ask, self.moved = ask, moved
        self.known: dict[str, tuple[float, Account]] = {}
        self.trouble, self._told_until = "", 0.0
        self._waiting: dict[str, asyncio.Future[Account]] = {}
        self._asking: asyncio.Task[None] | None = None

    def at_once(self, typed: str, now: float) -> Account | None:
        """Return whose name it is where that is known; None where the directory is to be asked.

        :param typed: as the user has typed it.
        :param now: seconds since 1970.
        """
        name = typed.lower()
        if self.ask is None:
            return Account(name, (name,))
        until, account = self.known.get(name, (0.0, None))
        # A clock that was set back makes nothing last for longer.
        return account if account and now < until <= now + LASTS else None

    def troubled(self, now: float) -> str:
        """Return why nobody could be asked of late; an empty text where somebody could, or nobody had to be."""
        return self.trouble if now < self._told_until else ""

    async def found(self, typed: str, now: float) -> Account:
        """Return whose name it is, as soon as that is known; the name itself where that takes too long.

        :param typed: as of :meth:`at_once`.
        """
        name = typed.lower()
        if account := self.at_once(typed, now):
            return account
        future = self._waiting.get(name)
        if future is None:
            future = self._waiting[name] = asyncio.get_running_loop().create_future()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._asked(now))
        try:
            return await asyncio.wait_for(asyncio.shield(future), PATIENCE)
        except asyncio.TimeoutError:
            return self._last(name)

    def _last(self, name: str) -> Account:
        """Return what was known of a name last; the name itself of a new one."""
        return self.known[name][1] if name in self.known else Account(name, (name,))

    async def _asked(self, now: float) -> None:
        """Ask for all names that wait, as long as there are some; many take one program."""
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            answers: Mapping[str, Sequence[str]] = {}
            try:
                if self.ask:
                    answers = await self.ask(list(waiting))
                self.trouble = ""
            except OSError as error:
                self.trouble, self._told_until = str(error), now + AGAIN
            for name, future in waiting.items():
                names = sorted({each.lower() for each in answers.get(name, ())}, key=lambda each: (len(each), each))
                account = Account(names[0], tuple(names)) if names else self._last(name)
                self.known[name] = (now + (LASTS if names else AGAIN), account)
                self.moved(name, account.name)
                if not future.done():
                    future.set_result(account)

    def forget(self, now: float) -> None:
        """Forget what has not been asked for since it no longer holds."""
        for name in [name for name, (until, _) in self.known.items() if not now - LASTS < until <= now + LASTS]:
            del self.known[name]

    def written(self) -> dict[str, list[object]]:
        """Return what is known as JSON has it: by name until when, and all names of its account."""
        return {name: [until, *account.names] for name, (until, account) in self.known.items()}

    def read(self, written: Mapping[str, Sequence[object]]) -> None:
        """Take what was written.

        :raises ValueError: it is nothing of the kind.
        """
        try:
            for name, (until, *names) in written.items():
                made = tuple(str(each) for each in names)
                self.known[name] = (float(until), Account(made[0], made))  # type: ignore[arg-type]  # or it raises
        except (AttributeError, TypeError, IndexError) as error:
            raise ValueError(f"no names: {error}") from error


def by_postmap(table: str) -> Ask:
    """Return who asks a table of Postfix's, that holds all names of an account, with commas between them.

    :param table: type and name, as ``ldap:/etc/...``.
    """

    async def ask(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        program = shutil.which("postmap")
        if not program:
            raise OSError("postmap is not installed")
        pipe = asyncio.subprocess.PIPE
        done = await asyncio.create_subprocess_exec(program, "-q", "-", table, stdin=pipe, stdout=pipe, stderr=pipe)
        keys = "".join(f"{name}\n" for name in names if "\n" not in name)
        try:
            output, said = await asyncio.wait_for(done.communicate(keys.encode(errors="replace")), ENDS)
        except asyncio.TimeoutError:
            raise OSError(f"no answer within {ENDS:.0f} s") from None
        finally:
            with suppress(ProcessLookupError):
                done.kill()
        # It exits with 1 where a name isn't found, and where nothing can be asked.
        if done.returncode and said.strip():
            raise OSError(" ".join(said.decode(errors="replace").split()))
        pairs = (line.split("\t", 1) for line in output.decode(errors="replace").splitlines() if "\t" in line)
        return {name: [each.strip() for each in value.split(",") if each.strip()] for name, value in pairs}

    return ask
