"""What can be changed of a host: a daemon, the files that it runs with, and what else has to be so for it."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from smtpout_core.host import Host


class Content(NamedTuple):
    """A file as it is to lie on the disk."""

    data: bytes
    mode: int
    user: str = "root"
    group: str = "root"


class Operated(NamedTuple):
    """What the relay's operation makes of a file's text, whatever the site says: no generation's, and never taken back.

    :param text: returns the text as it is to lie on the disk.
    :param told: what a person should know of it, though nothing fails.
    """

    text: Callable[[str], str]
    told: str


@dataclass(frozen=True)
class File:
    """A file that is rendered from a template of the formula.

    :param path: where it goes.
    :param source: the template, ``salt://...``.
    :param mode: an octal number as text, as "0640".
    :param secret: its content may not be shown, nor be readable by others.
    :param restart: whether it takes a restart to have its daemon read it.
    :param context: names for the template besides ``settings``.
    :param operated: says what the relay's operation makes of it; asked when it is rendered, while nobody changes that.
    """

    path: str
    source: str
    mode: str = "0644"
    user: str = "root"
    group: str = "root"
    secret: bool = False
    restart: bool = False
    context: Mapping[str, Any] = field(default_factory=dict)
    operated: Callable[[], Operated | None] = lambda: None


class Part(ABC):
    """Something that lies in one or more files, and that a daemon has to have read."""

    path: str
    """What it is called, and its first file."""
    secret = ""
    """What of its files may not be shown, as :mod:`~smtpout_core.change.masks` has it; an empty text for nothing."""
    restart = False

    made_from: tuple[str, ...] = ()
    """Files of the host's own that it is made from; they lie aside with it, as they are."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Return all of its files; none where somebody else has put one there, which stays."""
        return (self.path,)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a person should know of it, though nothing fails."""
        return ()

    @property
    @abstractmethod
    def wanted(self) -> str:
        """Return a digest of what its daemon should have read."""

    @abstractmethod
    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:
        """Return how the disk differs from what it should be, for a person; None where it doesn't.

        :param placed: the digests of the files that were put in place last, by path; none where they were made for
            anything else than what is wanted now.
        """

    @abstractmethod
    def contents(self, folder: str) -> dict[str, Content]:
        """Make its files, by path.

        :param folder: a private one, where files may be made on the way.
        :raises RelayError: they can't be made.
        """

    def staged(self, contents: Mapping[str, Content], _redirected: Callable[[bytes], bytes]) -> Mapping[str, Content]:
        """Return its files as they are to be tried aside; a text names the other parts where those lie aside."""
        return contents


class Setting(ABC):
    """Something besides files that a daemon needs, such as a group's member or an opening of the firewall."""

    kind: str

    @abstractmethod
    def differences(self) -> dict[str, dict[str, str]]:
        """Return what is missing or too much, as ``{"old": ..., "new": ...}`` by name."""

    @abstractmethod
    def undoing(self) -> dict[str, Any]:
        """Return what the way back needs to know, as JSON has it; asked before anything is changed."""

    @abstractmethod
    def bring(self) -> None:
        """Make it so."""


class Probe(NamedTuple):
    """How one tells that a daemon serves: the name of a way to ask, and what that is told; kept with the record."""

    way: str
    told: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """Something outside of a daemon's files that has to work for it, tried before anything is changed.

    :param name: what works, as a person reads it.
    :param about: what it depends on, as JSON has it. What has worked and does no longer, although this is the same, has
        failed by itself: it is told, and holds up nothing.
    :param ask: raises RelayError where it doesn't work.
    """

    name: str
    about: Any
    ask: Callable[[], object]


Check = Callable[[Mapping[str, str], Host], Iterable[str]]


@dataclass(frozen=True)
class Daemon:
    """A daemon: said once, read by the states, by clean and by verify.

    :param name: what the host remembers it by, and what a state calls it.
    :param units: what is enabled, started and stopped, a socket before its service.
    :param working: the unit whose processes count, where that is another one (Debian 12's postfix only pulls in
        postfix@-); it is the one that is reloaded.
    :param files: what it is configured by.
    :param parts: maps and other files that aren't rendered.
    :param settings: what else it needs.
    :param check: its own parser: complaints about the files, given where each lies aside.
    :param probes: how one tells that it serves.
    :param trials: what has to work for it.
    :param reads: files that it reads and others write, such as a certificate or an authority.
    :param uses: files that it reads anew each time, such as signing keys: no change of them asks for anything.
    :param follows: daemons after whose activation it has to be restarted.
    :param restart_for: any data by name of which a change needs a restart.
    :param started_with: what it reads at its start alone, by name, of the configuration whose main file lies there.
    :param main: that main file.
    :param reloads: whether it can reload.
    :param ignored: what it logs when it doesn't follow a reload.
    :param astray: says why it doesn't run as it should although nothing differs; None where it does.
    :param patience: seconds that it has to begin to serve.
    """

    name: str
    units: tuple[str, ...] = ()
    working: str | None = None
    files: tuple[File, ...] = ()
    parts: tuple[Part, ...] = ()
    settings: tuple[Setting, ...] = ()
    check: Check | None = None
    probes: tuple[Probe, ...] = ()
    trials: tuple[Trial, ...] = ()
    reads: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    restart_for: Mapping[str, Any] = field(default_factory=dict)
    started_with: Callable[[str], dict[str, str]] | None = None
    main: str = ""
    reloads: bool = True
    ignored: re.Pattern[str] | None = None
    astray: Callable[[], str | None] | None = None
    patience: float = 30

    @property
    def all_units(self) -> tuple[str, ...]:
        """Return its units, and the one whose processes count."""
        return tuple(dict.fromkeys([*self.units, *([self.working] if self.working else [])]))

    @property
    def held_by(self) -> tuple[str, ...]:
        """Return the files that keep its units from starting before their configuration has proved itself."""
        return tuple(hold_path(unit) for unit in self.all_units)


@dataclass(frozen=True)
class Ways:
    """What the transaction is told of the daemons' world, by name.

    :param probes: how a daemon is asked whether it serves; raises RelayError as long as it doesn't.
    :param undo: how a setting is taken back, given what its ``undoing`` returned.
    :param labelled: gives files that were put in place the label that the host's policy has for them.
    """

    probes: Mapping[str, Callable[..., object]]
    undo: Mapping[str, Callable[[dict[str, Any]], None]]
    labelled: Callable[[Sequence[str]], None] = lambda _paths: None

    def probe(self, probes: Iterable[Sequence[Any]]) -> Callable[[], None]:
        """Return what asks a daemon all of its probes, each a way and what that is told."""

        def ask() -> None:
            for way, told in probes:
                self.probes[way](**told)

        return ask


@dataclass(frozen=True)
class Promised:
    """What a trial of files that lie aside has shown.

    :param asked: what the site gave its word on, a digest of each question.
    :param broken: what was seen of each promise that is broken by its sentence: lines, each with its question's digest.
    :param unproven: why a promise could not be asked, by its sentence.
    :param kept: how many are kept.
    :param causes: what most likely broke each, by its sentence.
    :param trial: why there was no trial at all; an empty text where there was one.
    """

    asked: Sequence[str] = ()
    broken: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unproven: Mapping[str, str] = field(default_factory=dict)
    kept: int = 0
    causes: Mapping[str, str] = field(default_factory=dict)
    trial: str = ""


@dataclass(frozen=True)
class Wanted:
    """A whole that is wanted.

    :param daemons: in the order of activation: a partner before the one that is told of it.
    :param promises: asks a trial for what the site promises, given where each file lies aside.
    :param terms: a digest of what it promises by, besides its files: where that is new, they are asked though no file
        changes.
    :param accept_unproven: go on where no trial can be had.
    :param proof: what the running whole fails to do, by name with a sentence each; asked before and after. As
        long as the reason is the same, the sentence is: no process number, time or size is in it.
    :param cause: ``who`` asked for it, what they ``ran``, and as which ``job``, as far as that is known.
    """

    daemons: Sequence[Daemon]
    promises: Callable[[Mapping[str, str]], Promised] = lambda _where: Promised()
    terms: str = ""
    accept_unproven: bool = False
    proof: Callable[[], Mapping[str, str]] = dict
    cause: Mapping[str, str] = field(default_factory=dict)


def hold_path(unit: str) -> str:
    """Return the file that keeps a unit from starting; an apply takes it away, or clean does."""
    name = unit if unit.endswith((".service", ".socket", ".timer")) else f"{unit}.service"
    return f"/etc/systemd/system/{name}.d/00-smtpout-hold.conf"


def digest(data: Any) -> str:
    """Return the SHA-256 of any data that JSON can hold."""
    return hashlib.sha256(json.dumps(data, default=str, sort_keys=True).encode()).hexdigest()
