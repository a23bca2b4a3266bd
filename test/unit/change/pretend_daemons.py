"""A host of pretend daemons whose systemd is a script: units are files, and a daemon dies of a file that says so.

Files, owners, modes, locks and processes are real. The relay names its milter's socket; it refuses mail as long as the
milter wasn't started with that one. The lab's hosts show the same with a real systemd and real daemons.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from smtpout_core import host as hosts
from smtpout_core.change import masks, parts, plan
from smtpout_core.change.memory import Memory
from smtpout_core.change.parts import Content, Daemon, File, Part, Probe, Setting, Wanted, Ways
from smtpout_core.change.templates import Templates
from smtpout_core.change.transaction import Outcome, Transaction
from smtpout_core.errors import NotInstalledError, RelayError

# Units live in $HOST/units/NAME.{active,enabled,outdated,masked,life}; what a daemon has read, in $HOST/running/NAME,
# and what it was started with, in $HOST/started/NAME. One with a NAME.stubborn goes on with what it had on reload; one
# with a NAME.limit has died too often to be started.
SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$HOST/calls"
[ "$1" != --no-block ] || shift
verb=$1; shift
known() { value=$2; [ ! -e "$HOST/units/$unit.$1" ] || read -r value <"$HOST/units/$unit.$1"; }
begin() {
    name=${unit%.service}; name=${name%.socket}
    known active inactive
    if [ "$verb" = start ] && [ "$value" = active ]; then return; fi
    if [ -e "$HOST/systemd/$name.service.d/00-smtpout-hold.conf" ]; then
        echo inactive >"$HOST/units/$unit.active"; return    # a condition that isn't met is no failure
    fi
    if [ -e "$HOST/units/$unit.limit" ]; then echo "Start request repeated too quickly." >&2; exit 1; fi
    if grep -qs crash "$HOST/etc/$name/"*.cf; then
        echo failed >"$HOST/units/$unit.active"; echo "Job for $unit failed." >&2; exit 1
    fi
    echo active >"$HOST/units/$unit.active"
    if [ "$verb" = reload ] && [ -e "$HOST/units/$unit.stubborn" ]; then
        echo "warning: socket: ignoring the change" >>"$HOST/log"; return
    fi
    rm -rf "$HOST/running/$name"; cp -a "$HOST/etc/$name" "$HOST/running/$name"
    [ "$verb" != reload ] || return 0
    rm -rf "$HOST/started/$name"; cp -a "$HOST/etc/$name" "$HOST/started/$name"
    known life 0; echo $((value + 1)) >"$HOST/units/$unit.life"
}
case $verb in
show)
    shift
    separator=
    for unit; do
        printf "$separator"; separator='\\n'
        known active inactive; echo "ActiveState=$value"
        echo "SubState=whatever"
        known enabled disabled; echo "UnitFileState=$value"
        known outdated no; echo "NeedDaemonReload=$value"
        known life 0; echo "InvocationID=$value"
    done ;;
start | restart | reload) for unit; do begin; done ;;
stop)
    for unit; do
        echo inactive >"$HOST/units/$unit.active"
        rm -rf "$HOST/running/${unit%.service}" "$HOST/started/${unit%.service}"
    done ;;
is-enabled) unit=$1; known enabled disabled; echo "$value"; [ "$value" != disabled ]; exit ;;
enable | disable)
    for unit; do
        if [ -e "$HOST/units/$unit.masked" ]; then
            echo "Failed to $verb unit: Unit file /etc/systemd/system/$unit.service is masked." >&2
            exit 1
        fi
        echo "${verb}d" >"$HOST/units/$unit.enabled"
    done ;;
reset-failed) for unit; do rm -f "$HOST/units/$unit.limit"; done ;;
daemon-reload) rm -f "$HOST/units/"*.outdated ;;
esac
exit 0
"""

JOURNALCTL = """#!/bin/sh
cat "$HOST/log" 2>/dev/null || echo "daemon: fatal: bad configuration"
"""

OLD = {"hostname": "relay.example.org", "password": "hunter2", "socket": "/run/a"}
NEW = {"hostname": "mx.example.org", "password": "hunter3", "socket": "/run/b"}


class Member(Setting):
    """A line in the file of groups."""

    kind = "member"

    def __init__(self, groups: Path, name: str) -> None:
        self.groups, self.name = groups, name

    def differences(self) -> dict[str, dict[str, str]]:
        return {} if self.name in self.groups.read_text().split() else {"groups": {"old": "", "new": self.name}}

    def undoing(self) -> dict[str, Any]:
        return {"name": self.name}

    def bring(self) -> None:
        self.groups.write_text("".join(f"{name}\n" for name in [*self.groups.read_text().split(), self.name]))


class Key(Part):
    """A private key, which is made once."""

    secret = masks.ALL

    def __init__(self, path: str) -> None:
        self.path = path
        self.data = b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"

    @property
    def wanted(self) -> str:
        return "a key"

    def difference(self, remembered: Mapping[str, str | None]) -> dict[str, str] | None:  # noqa: ARG002
        return None if Path(self.path).exists() else {"old": "absent", "new": "a key"}

    def contents(self, folder: str) -> dict[str, Content]:  # noqa: ARG002
        return {} if Path(self.path).exists() else {self.path: Content(self.data, 0o600)}


class Host:
    """A host below a directory: ``apply`` brings its daemons, the milter before the relay."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOST", str(root))
        monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
        monkeypatch.setattr(os, "fsync", lambda _handle: None)  # no disk is lost here, and it takes most of the time
        monkeypatch.setattr(plan, "UNITS", f"{root}/systemd/")
        monkeypatch.setattr(parts, "hold_path", lambda unit: f"{root}/systemd/{unit}.service.d/00-smtpout-hold.conf")
        self.root, self.etc, self.state = root, root / "etc", root / "state"
        self.groups = root / "groups"
        for folder in ("bin", "etc/milter", "etc/relay", "running", "started", "systemd", "templates", "units"):
            (root / folder).mkdir(parents=True)
        self.groups.write_text("mail\n")
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        self.template("milter", "socket = {{ settings.socket }}\n")
        self.template(
            "main", "myhostname = {{ settings.hostname }}\nmilter = {{ settings.socket }}\npasswords = {{ ldap }}\n"
        )
        self.template("ldap", "bind_pw = {{ settings.password }}\n")
        self.pillar: dict[str, Any] = dict(OLD)
        self.brought: list[str] = []
        self.milter = Daemon(
            "milter",
            units=("milter",),
            files=(self.file("milter/milter.cf", "milter", restart=True),),
            check=self.check,
            probes=(Probe("alive", {"name": "milter"}),),
            patience=0.01,
        )
        self.relay = Daemon(
            "relay",
            units=("relay",),
            files=(self.file("relay/main.cf", "main", context={"ldap": f"{root}/etc/relay/ldap.cf"}), self.secret()),
            check=self.check,
            probes=(Probe("alive", {"name": "relay"}), Probe("partner", {})),
            patience=0.01,
        )
        self.wanted = Wanted([self.milter, self.relay], cause={"who": "a test", "ran": "an apply"})
        self.ways = Ways(probes={"alive": self.alive, "partner": self.partner}, undo={"member": self.undo_member})

    # --- the pretend world ------------------------------------------------------------------------------------------

    def template(self, name: str, text: str) -> None:
        """Write a template of the formula."""
        (self.root / "templates" / f"{name}.jinja").write_text(text)

    def file(self, name: str, source: str, **named: Any) -> File:
        """Describe a file below etc."""
        return File(str(self.etc / name), f"salt://{source}.jinja", **named)

    def secret(self, **named: Any) -> File:
        """Describe the file that holds the password."""
        return self.file("relay/ldap.cf", "ldap", **{"secret": True, "mode": "0640", "restart": True, **named})

    def check(self, staged: Mapping[str, str], _host: hosts.Host) -> list[str]:
        """Complain of what is misspelt."""
        return [
            f"{path}: {line}: no such parameter"
            for path in staged.values()
            for line in Path(path).read_text().splitlines()
            if "misspelt" in line
        ]

    def not_there(self, *_given: Any) -> list[str]:
        """Be a parser that a package has yet to bring."""
        raise NotInstalledError("relayd is not installed")

    def alive(self, name: str) -> None:
        """Be a probe: a daemon answers, unless what it has read says that it is deaf."""
        if any("deaf" in path.read_text() for path in (self.root / "running" / name).glob("*.cf")):
            raise RelayError("127.0.0.1:25 does not answer")

    def partner(self) -> None:
        """Be a probe: the relay takes mail if its milter listens where it is said to."""
        named = re.findall("^milter = (.*)", self.text("running/relay/main.cf"), re.MULTILINE)
        there = re.findall("^socket = (.*)", self.text("started/milter/milter.cf"), re.MULTILINE)
        if named and named != there:
            raise RelayError(f"mail is refused: no milter listens at {named[0]}")

    def undo_member(self, data: Mapping[str, str]) -> None:
        """Be the way back of a membership."""
        names = [name for name in self.groups.read_text().split() if name != data["name"]]
        self.groups.write_text("".join(f"{name}\n" for name in names))

    # --- what a test does -------------------------------------------------------------------------------------------

    def transaction(self, test: bool = False) -> Transaction:
        """Return what changes this host."""
        unit = str(self.root / "systemd/smtpout-restore.service")
        return Transaction(self._host(test), self.ways, unit, self.brought)

    @property
    def memory(self) -> Memory:
        """Return what this host remembers."""
        return Memory(str(self.state))

    def _host(self, test: bool) -> hosts.Host:
        def found(source: str) -> str:
            path = self.root / "templates" / source.removeprefix("salt://")
            return str(path) if path.exists() else ""

        return hosts.Host(
            test=test, state_dir=str(self.state), cache_dir=str(self.root / "cache"), cache_file=found
        )  # fmt: skip

    def apply(self, *, test: bool = False) -> Outcome:
        """Bring what is wanted."""
        return self.transaction(test).bring(self.wanted, Templates(self.pillar, self._host(test)))

    def refused(self, *, test: bool = False) -> str:
        """Return why it can't be brought."""
        with pytest.raises(RelayError) as refusal:
            self.apply(test=test)
        return str(refusal.value)

    def want(self, *daemons: Daemon, **changes: Any) -> None:
        """Want these daemons; those there are, without any."""
        self.wanted = replace(self.wanted, **({"daemons": list(daemons)} if daemons else {}), **changes)

    def changes(self, outcome: Outcome) -> dict[str, Any]:
        """Return what changed, by daemon."""
        return {step.daemon.name: step.changes for step in outcome.changed}

    def calls(self) -> list[str]:
        """Return what systemctl was asked to do since the last time: no questions, counters, nor smtpout's own unit."""
        calls = self.root / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        own = [number for number, line in enumerate(lines) if line == "enable smtpout-restore.service"]
        for number in reversed(own):  # reading it comes before
            del lines[number]
        return [line for line in lines if not line.startswith(("show", "is-enabled", "reset-failed"))]

    def unit(self, name: str, kind: str, value: str) -> None:
        """Have a unit be ``active``, ``enabled``, ``outdated`` ... so and so."""
        (self.root / "units" / f"{name}.{kind}").write_text(f"{value}\n")

    def text(self, name: str) -> str:
        """Return what a file holds; nothing if it isn't there."""
        path = self.root / name
        return path.read_text() if path.exists() else ""

    def snapshot(self, *folders: str, times: bool = True) -> dict[str, tuple[Any, ...]]:
        """Return every file of the host with content, mode, owner and time."""
        found = {}
        for top in [self.root / folder for folder in folders or ("etc", "state", "systemd", "units", "groups")]:
            for path in [top, *sorted(top.rglob("*"))] if top.exists() else []:
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                found[str(path)] = (content, status.st_mode, status.st_uid, status.st_gid,
                                    status.st_mtime_ns if times else None)  # fmt: skip
        return found

    def world(self) -> dict[str, Any]:
        """Return what can be seen of the host: files, what each daemon has read, units, groups."""
        seen = self.snapshot("etc", "running", "started", "systemd", "groups", times=False)
        units = {path.name: path.read_text() for path in (self.root / "units").iterdir()}
        shown = {name: text for name, text in units.items() if not name.endswith(("life", "outdated"))}
        ignored = str(self.root / "systemd/smtpout-restore.service")  # made for the way back, it stays
        return {
            **{path: what for path, what in seen.items() if path != ignored},
            # A unit that was never touched is disabled and inactive.
            **{name: text for name, text in shown.items() if text not in ("disabled\n", "inactive\n") and
               not name.startswith("smtpout")},
        }  # fmt: skip
