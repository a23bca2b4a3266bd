"""A site of three pretend daemons with two wholes, a process that is killed, and a host that loses its power."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretend_daemons import NEW, OLD, Host, Member
from smtpout_core.change.parts import Daemon
from smtpout_core.errors import RelayError

Work = Callable[[], Any]
World = dict[str, Any]


class Site:
    """A host with an old whole and a new one that differ in everything that a change can be about.

    The old one has a daemon more, a filter, and a file in place of one of the distribution's; the new one has a file in
    a new folder, a drop-in for a unit, and a membership.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        (host.etc / "filter").mkdir()
        (host.etc / "filter/filter.cf").write_text("the distribution's filter\n")
        (host.etc / "relay/extra.cf").write_text("the distribution's\n")
        hold = host.root / "systemd/relay.service.d/00-smtpout-hold.conf"
        hold.parent.mkdir()
        hold.write_text("held until it is configured\n")
        host.template("unit", "[Service]\nRestart=always\n")
        self.bare = host.world()
        hold.unlink()  # an apply takes it away; smtpout's states put it there, and clean does
        self.unmade = host.world()
        hold.write_text("held until it is configured\n")

    def old(self) -> None:
        """Want the old whole."""
        host = self.host
        sieve = Daemon("filter", units=("filter",), files=(host.file("filter/filter.cf", "milter"),))
        extra = host.file("relay/extra.cf", "ldap", mode="0600")
        host.pillar = dict(OLD)
        host.want(sieve, host.milter, replace(host.relay, files=(*host.relay.files, extra)))

    def new(self, **changes: str) -> None:
        """Want the new whole, with changes to its pillar."""
        host = self.host
        drop_in = replace(host.file("", "unit"), path=f"{host.root}/systemd/milter.service.d/smtpout.conf")
        milter = replace(host.milter, files=(*host.milter.files, drop_in), settings=(Member(host.groups, "relay"),))
        host.pillar = {**NEW, **changes}
        host.want(milter, replace(host.relay, files=(*host.relay.files, host.file("relay/deep/new.cf", "ldap"))))

    def brought(self, want: Work) -> World:
        """Apply what is wanted and return how the host is then."""
        want()
        self.host.apply()
        return self.host.world()

    def both(self, **changes: str) -> tuple[World, World, World]:
        """Return how the host is with the old whole, after an apply of the new one, and with the old one after that."""
        old = self.brought(self.old)
        start = self.kept("start")
        self.apply(lambda: self.new(**changes))()
        new = self.host.world()
        back = self.brought(self.old)
        self.again(start)
        return old, new, back

    def told(self) -> str:
        """Return the daemons that have met something of a change that isn't done; none where there is none."""
        return self.host.text("state/change/told") if (self.host.state / "change/begun").exists() else ""

    def apply(self, want: Work) -> Work:
        """Return what applies a whole, and minds no refusal."""

        def work() -> None:
            want()
            with suppress(RelayError):
                self.host.apply()

        return work

    def unmake(self) -> None:
        """Undo all of it."""
        self.host.transaction().unmake()

    def generation(self) -> int:
        """Return the number of the whole that counts."""
        record = self.host.state / "whole.json"
        return json.loads(record.read_text())["generation"] if record.exists() else 0

    def tidy(self) -> None:
        """See that nothing of a killed run is left."""
        left = [path for path in self.host.root.rglob("*") if ".smtpout-" in path.name]
        assert left == []
        assert not (self.host.state / "change").exists()
        numbers = [int(path.name) for path in (self.host.state / "generations").glob("*")]
        assert max(numbers, default=0) <= self.generation() or self.host.world() == self.unmade

    # --- kills and boots --------------------------------------------------------------------------------------------

    def killed(self, at: int, work: Work) -> bool:
        """Work in a process that dies at its nth change of files or units; False if it gets through."""

        def counted(number: int) -> None:
            if number == at:
                os.kill(os.getpid(), signal.SIGKILL)

        return self._counting(counted, work) == signal.SIGKILL

    def first(self, work: Work, seen: Callable[[], object]) -> int:
        """Return the first change of a work before which this is seen of the host; the work ends there."""
        found = self.host.root.with_name("found")
        found.unlink(missing_ok=True)

        def counted(number: int) -> None:
            if seen():
                found.write_text(str(number))
                os._exit(0)

        self._counting(counted, work)
        return int(found.read_text())

    def _counting(self, counted: Callable[[int], None], work: Work) -> int:
        """Work in a process that says before each of its changes the how maniest it is; return how it ended."""
        child = os.fork()
        if child == 0:
            self._count(counted)
            try:
                work()
            finally:
                os._exit(0)
        return os.waitpid(child, 0)[1]

    def _count(self, counted: Callable[[int], None]) -> None:
        # The folders of what is being checked are many, and all alike.
        own = re.compile(f"{self.host.root}/(etc|systemd|groups|state/(?!staging|change/kept/.*/))")
        numbers = itertools.count()

        def watched(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*arguments: Any, **named: Any) -> Any:
                paths = " ".join(map(str, arguments))
                if own.search(paths) or ("systemctl" in paths and "show" not in paths):
                    counted(next(numbers))
                return function(*arguments, **named)

            return wrapper

        for name in ("rename", "link", "unlink", "mkdir", "rmdir"):
            setattr(os, name, watched(getattr(os, name)))
        shutil.rmtree = watched(shutil.rmtree)
        subprocess.Popen = watched(subprocess.Popen)  # type: ignore[misc, assignment]

    def kept(self, name: str) -> Path:
        """Return a copy of all that there is, for ``again``."""
        place = self.host.root.with_name(name)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run(["cp", "-a", self.host.root, place], check=True)
        return place

    def again(self, place: Path) -> None:
        """Have everything as it was when the copy was made."""
        script = 'rm -rf "$2" && cp -a "$1" "$2"'
        subprocess.run(["sh", "-c", script, "sh", place, self.host.root], check=True)

    def boot(self) -> None:
        """Lose power, and start again as systemd would: what is to be put back first, then what is enabled."""
        for unit in (self.host.root / "units").glob("*.active"):
            unit.write_text("inactive\n")
        for name in ("running", "started"):
            shutil.rmtree(self.host.root / name)
            (self.host.root / name).mkdir()
        if (self.host.state / "change/begun").exists():
            assert self.host.text("units/smtpout-restore.service.enabled") == "enabled\n"
            subprocess.run(["sh", self.host.state / "restore", self.host.state / "change", "boot"], check=True)
        self.start()

    def start(self) -> None:
        """Start what is enabled."""
        for enabled in (self.host.root / "units").glob("*.enabled"):
            if enabled.read_text() == "enabled\n" and not enabled.name.startswith("smtpout"):
                subprocess.run(["systemctl", "start", enabled.name.removesuffix(".enabled")], check=True)


def kills(site: Site, work: Work, prepare: Work = lambda: None, *, told: bool = False, step: int = 1) -> Iterator[int]:
    """Kill work at each of its changes in turn; each time the host is as it was to begin with.

    :param prepare: what is done before.
    :param told: leave out those before a daemon has met anything of the change.
    :param step: at every so manieth change; at each with EVERY_KILL in the environment.
    """
    start = site.kept("begin")
    prepare()
    first = at = site.first(work, site.told) if told else 0
    site.again(start)
    prepare()
    while site.killed(at, work):
        yield at
        site.again(start)
        prepare()
        at += 1 if "EVERY_KILL" in os.environ else step
    site.again(start)
    assert at - first > 8
