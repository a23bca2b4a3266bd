"""A host whose systemd is a script: units are files, and a daemon dies of a configuration that says so.

Files, owners, modes, locks and processes are real. The lab's hosts show the same with a real systemd.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import salt.loader
from support import REPOSITORY, minion_opts

# Units live in $HOST/units/NAME.{active,enabled,outdated,masked}.
# A configuration with the word "crash" keeps the daemon from starting.
SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$HOST/calls"
verb=$1; shift
case $verb in
show)
    shift
    separator=
    for unit; do
        printf "$separator"; separator='\\n'
        echo "ActiveState=$(cat "$HOST/units/$unit.active" 2>/dev/null || echo inactive)"
        echo "SubState=whatever"
        echo "UnitFileState=$(cat "$HOST/units/$unit.enabled" 2>/dev/null || echo disabled)"
        echo "NeedDaemonReload=$(cat "$HOST/units/$unit.outdated" 2>/dev/null || echo no)"
    done ;;
restart | reload)
    for unit; do
        if grep -qs crash "$HOST"/etc/*.cf; then
            echo failed >"$HOST/units/$unit.active"
            echo "Job for $unit failed." >&2; exit 1
        fi
        echo active >"$HOST/units/$unit.active"
    done
    mkdir -p "$HOST/running"; cp -p "$HOST"/etc/*.cf "$HOST/running/" ;;
stop) for unit; do echo inactive >"$HOST/units/$unit.active"; done ;;
enable | disable)
    if [ -e "$HOST/units/$1.masked" ]; then echo "Unit $1 is masked." >&2; exit 1; fi
    for unit; do echo "${verb}d" >"$HOST/units/$unit.enabled"; done ;;
esac
"""

JOURNALCTL = """#!/bin/sh
echo "daemon: fatal: bad configuration"
"""

# What a daemon's own module would offer.
PRETEND = """
import os
from pathlib import Path

from salt.exceptions import CommandExecutionError, CommandNotFoundError


def check(staged, missing=False):
    if missing:
        raise CommandNotFoundError("mydaemon is not installed")
    host = Path(os.environ["HOST"])
    found = []
    for live, path in staged.items():
        (host / "staged").mkdir(exist_ok=True)
        text = Path(path).read_text()
        (host / "staged" / Path(live).name).write_text(text)
        found += [f"{path}: {line}: no such parameter" for line in text.splitlines() if "misspelt" in line]
    return found


def probe(path):
    if "deaf" in Path(path).read_text():
        raise CommandExecutionError("127.0.0.1:25 does not answer")
"""

SETTINGS = """
import json
import os


def settings():
    with open(os.environ["HOST"] + "/settings.json") as file:
        return json.load(file)
"""


class Host:
    """A host below a directory: ``apply`` runs config_set.managed on its set of two files and one service."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOST", str(root))
        monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
        self.root = root
        self.etc = root / "etc"
        for directory in ("bin", "etc", "pretend/_modules", "templates", "units"):
            (root / directory).mkdir(parents=True)
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        (root / "pretend/_modules/pretend.py").write_text(PRETEND)
        (root / "pretend/_modules/smtpout.py").write_text(SETTINGS)
        self.template("main.cf", "myhostname = {{ settings.hostname }}\npasswords = {{ context_path }}\n")
        self.template("ldap.cf", "bind_pw = {{ settings.password }}\n")
        self.settings(hostname="relay.example.org", password="hunter2")
        opts = minion_opts(
            root / "minion",
            module_dirs=[str(REPOSITORY), str(root / "pretend")],
            file_roots={"base": [str(root / "templates")]},
            smtpout_state_dir=str(root / "state"),
        )
        self.modules = salt.loader.minion_mods(opts)
        self.states = salt.loader.states(opts, self.modules, salt.loader.utils(opts), None)
        self.set: dict[str, Any] = {
            "daemon": "mydaemon",
            "files": [self.file("main.cf", context={"context_path": str(self.etc / "ldap.cf")}), self.secret_file()],
            "check": "pretend.check",
            "service": "mydaemon",
            "probe": "pretend.probe",
            "probe_args": {"path": str(self.etc / "main.cf")},
            "probe_timeout": 0.2,
        }

    def settings(self, **settings: Any) -> None:
        """Make these the site's settings."""
        (self.root / "settings.json").write_text(json.dumps(settings))

    def template(self, name: str, text: str) -> None:
        """Write a template of the formula."""
        path = self.root / "templates" / f"{name}.jinja"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def file(self, name: str, **settings: Any) -> dict[str, Any]:
        """Describe a file of a set."""
        return {"name": str(self.etc / name), "source": f"salt://{name}.jinja", **settings}

    def secret_file(self) -> dict[str, Any]:
        """Describe the file that holds the password."""
        return self.file("ldap.cf", secret=True, mode="0640", activate="restart")

    def apply(self, *, test: bool = False, **changes: Any) -> dict[str, Any]:
        """Apply the set, with changes to it."""
        return self._state("config_set.managed", test, name="The daemon runs", **{**self.set, **changes})

    def remove(self, *, test: bool = False, **changes: Any) -> dict[str, Any]:
        """Undo the set."""
        arguments = {"daemon": "mydaemon", "files": [str(self.etc / "main.cf")], "service": "mydaemon", **changes}
        return self._state("config_set.absent", test, name="The daemon is gone", **arguments)

    def _state(self, function: str, test: bool, **arguments: Any) -> dict[str, Any]:
        for loader in (self.states, self.modules):
            loader.opts["test"] = loader.pack["__opts__"]["test"] = test
        return self.states[function](**arguments)

    def read(self, name: str) -> str:
        """Return the text of a configuration file."""
        return (self.etc / name).read_text()

    def calls(self) -> list[str]:
        """Return what systemctl was asked to do since the last time, questions left out."""
        calls = self.root / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith("show")]

    def unit(self, state: str, unit: str = "mydaemon") -> None:
        """Have a unit be ``active``, ``failed``, ``inactive``."""
        (self.root / "units" / f"{unit}.active").write_text(state + "\n")

    def snapshot(self, *, times: bool = True) -> dict[str, tuple[Any, ...]]:
        """Return every file of the configuration, the units and the state with content, mode, owner and time."""
        found = {}
        for top in (self.etc, self.root / "state", self.root / "units"):
            for path in [top, *top.rglob("*")] if top.exists() else []:
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                time = status.st_mtime_ns if times else None
                found[str(path)] = (content, status.st_mode, status.st_uid, status.st_gid, time)
        return found

    def killed(self, at: int, work: Callable[[], Any]) -> bool:
        """Work in a process that dies at its nth change of files or units; False if it gets through."""
        # The directories of a set that is being checked are many, and all alike.
        own = re.compile(f"{self.root}/(etc|state/(?!staging/.*/))")

        def run() -> None:
            left = at

            def counted(function: Callable[..., Any]) -> Callable[..., Any]:
                def wrapper(*arguments: Any, **named: Any) -> Any:
                    nonlocal left
                    paths = " ".join(map(str, arguments))
                    left -= "systemctl" in paths or bool(own.search(paths))
                    if left < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*arguments, **named)

                return wrapper

            for name in ("rename", "replace", "unlink", "mkdir", "rmdir"):
                setattr(os, name, counted(getattr(os, name)))
            subprocess.Popen = counted(subprocess.Popen)  # type: ignore[misc, assignment]
            work()
            os._exit(0)

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        process.join(30)
        return process.exitcode == -signal.SIGKILL
