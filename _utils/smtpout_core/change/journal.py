"""How everything was before a change: written before the first live file is touched, gone when the change is done.

As long as it is there, a change is under way or was cut short, and the way back is always open: for the run itself, for
the next one, and at boot for a unit that runs before the daemons, without Salt. All three put files back by the same
shell script, smtpout's own memory among them. A new whole counts from the moment at which ``begun`` goes. Below the
state directory:

    change/kept/       copies of the files that were there
    change/absent      paths of those that weren't, each with a NUL behind it
    change/enabled     units that started at boot; change/disabled, those that didn't
    change/running     units that ran
    change/begun       the rest, as JSON: it comes last, and makes a whole journal of it
    change/told        daemons whose files may be the new ones, a line each
    change/acted       of those the ones that were started, stopped, reloaded
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smtpout_core import command, files
from smtpout_core.change import units
from smtpout_core.change.memory import ORIGINAL
from smtpout_core.errors import RelayError, os_errors_told

RESTORE = r"""#!/bin/sh
# Made by smtpout. Puts files back as they were before a change of the mail system that was cut short; with "boot" as
# its second argument, before the daemons start, their units, too. The next run of smtpout undoes the rest.
change=$1
[ -e "$change/begun" ] || exit 0
export LC_ALL=C
cd "$change/kept" || exit 1
turn() {    # what isn't so yet: for a unit that has a SysV script, too, it takes half a second (systemd-sysv-install)
    while read -r unit; do
        [ "$(systemctl is-enabled "$unit" 2>/dev/null)" = "$1d" ] || systemctl "$1" "$unit"
    done
}
if [ "$2" = boot ]; then turn disable <../disabled; fi    # while what enabled them is still there
find . ! -type d -exec sh -c '
    same() {
        [ ! -L "$1" ] && [ ! -L "$2" ] && [ -f "$2" ] && cmp -s "$1" "$2" &&
            [ "$(stat -c "%f %u %g" "$1")" = "$(stat -c "%f %u %g" "$2")" ]
    }
    for kept; do
        path=${kept#.}
        rm -f "$path.smtpout-back" "${path%/*}/.${path##*/}.smtpout-"*    # what was on its way into its place
        same "$kept" "$path" && continue
        mkdir -p "${path%/*}" && cp -dp "$kept" "$path.smtpout-back" &&
            mv -fT "$path.smtpout-back" "$path" || { failed=1; continue; }
        if command -v restorecon >/dev/null; then restorecon "$path"; fi    # the copy had the label of its folder
    done
    exit ${failed:-0}' sh {} + || failed=1
xargs -0 sh -c '
    for path; do
        rm -f "${path%/*}/.${path##*/}.smtpout-"*
        if [ -d "$path" ] && [ ! -L "$path" ]; then rmdir "$path" 2>/dev/null
        else rm -f "$path" || failed=1; fi
    done
    exit ${failed:-0}' sh <../absent || failed=1
sync
if [ "$2" = boot ]; then
    systemctl daemon-reload
    turn enable <../enabled
    xargs -r -d '\n' systemctl --no-block start <../running
    [ "$failed" ] || rm -f ../told    # the daemons start with what is there now
fi
exit ${failed:-0}
"""

UNIT = """# Managed by smtpout. A change of the mail system that a reboot cut short is undone before its daemons start.
[Unit]
Description=The mail system's last whole configuration (smtpout)
ConditionPathExists={state}/change/begun
# Not after basic.target: that comes after all sockets, and a daemon's socket is one of those that wait.
DefaultDependencies=no
Conflicts=shutdown.target
RequiresMountsFor={state}
After=local-fs.target
Before={units} shutdown.target

[Service]
Type=oneshot
ExecStart=/bin/sh {state}/restore {state}/change boot

[Install]
WantedBy=multi-user.target
"""
UNIT_PATH = "/etc/systemd/system/smtpout-restore.service"


class Journal:
    """How everything was before the change that is under way."""

    def __init__(self, state_dir: str, unit_path: str = UNIT_PATH) -> None:
        self.state = state_dir
        self.folder = Path(state_dir, "change")
        self.script = Path(state_dir, "restore")
        self.unit = Path(unit_path)

    def begun(self) -> dict[str, Any] | None:
        """Return what was written down of a change that isn't done; None where there is none."""
        try:
            return json.loads((self.folder / "begun").read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RelayError(
                f"{self.folder}/begun: {error}; what was there before is in {self.folder}/kept."
            ) from error

    def begin(
        self, facts: Mapping[str, Any], paths: Iterable[str], states: Mapping[str, Mapping[str, bool | None]]
    ) -> None:
        """Write down how everything is.

        :param facts: what the way back needs to know beside files and units.
        :param paths: files that are about to be written or removed.
        :param states: of each unit whether it is ``enabled`` and ``running``.
        """
        with os_errors_told():
            shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed before it had changed anything
            (self.folder / "kept").mkdir(mode=0o700, parents=True)
            absent: dict[str, None] = {}
            for path in paths:
                for each in (path, path + ORIGINAL):
                    if os.path.lexists(each):
                        files.copy(each, self.kept(each))
                    else:
                        absent.update(dict.fromkeys([each, *map(str, files.missing_parents(each))]))
            lists = {
                "absent": "".join(f"{path}\0" for path in sorted(absent, reverse=True)),  # what is deeper comes first
                "enabled": _lines(unit for unit, state in states.items() if state["enabled"]),
                "disabled": _lines(unit for unit, state in states.items() if state["enabled"] is False),
                "running": _lines(unit for unit, state in states.items() if state["running"]),
            }
            for name, text in lists.items():
                files.write(self.folder / name, text.encode(), 0o600)
            self._make_restorable([*states])
            whole = {**facts, "absent": list(absent), "units": states}
            files.write(self.folder / "begun", json.dumps(whole, indent=1).encode(), 0o600)

    def tell(self, daemon: str) -> None:
        """Write down that a daemon is about to get its new files."""
        self._add("told", daemon)

    def act(self, daemon: str) -> None:
        """Write down that a daemon is about to be acted on."""
        if daemon not in self._listed("acted"):
            self._add("acted", daemon)

    def told(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the daemons that may have met something of the new whole: a file of theirs, or an action.

        :param facts: as ``begun`` returns them; its files have not been put back yet.
        """
        told, acted = self._listed("told"), self._listed("acted")
        paths = {daemon["name"]: daemon["paths"] for daemon in facts["daemons"]}
        return [name for name in told if name in acted or any(map(self._differs, paths.get(name, ())))]

    def _add(self, name: str, line: str) -> None:
        with os_errors_told(), open(self.folder / name, "a", encoding="utf-8") as listed:
            listed.write(f"{line}\n")
            listed.flush()
            os.fsync(listed.fileno())

    def _listed(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def kept(self, path: str) -> str:
        """Return where the copy of a file is that was there."""
        return f"{self.folder}/kept{path}"

    def _differs(self, path: str) -> bool:
        """Tell whether a file isn't as it was."""
        kept = self.kept(path)
        if not os.path.lexists(kept) or not os.path.lexists(path):
            return os.path.lexists(kept) or os.path.lexists(path)
        if os.path.islink(kept) or os.path.islink(path):
            return not (os.path.islink(kept) and os.path.islink(path) and os.readlink(kept) == os.readlink(path))
        return files.digest(kept) != files.digest(path)

    def edited(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the files that somebody else has changed since a run was cut short: neither the old nor the new ones.

        :param facts: as ``begun`` returns them.
        """
        found = []
        for path, new in facts["new"].items():
            known = {
                new,
                facts.get("passing", {}).get(path),
                *(files.digest(self.kept(each)) for each in (path, path + ORIGINAL)),
            }
            if os.path.isfile(path) and not os.path.islink(path) and files.digest(path) not in known:
                found.append(path)
        return found

    def put_files_back(self) -> None:
        """Put each file back as it was.

        :raises RelayError: which couldn't be.
        """
        done = command.run(["sh", str(self.script), str(self.folder)], timeout=600)
        if done.status != 0:
            raise RelayError(done.said.strip() or "not every file could be put back")

    def end(self) -> None:
        """Forget it: the change is done, or undone."""
        with os_errors_told():
            if (self.folder / "begun").exists():
                (self.folder / "begun").unlink()  # from here on it is no journal, whatever is left of it
                files.sync(str(self.folder))
            shutil.rmtree(self.folder, ignore_errors=True)
            files.sweep([self.script, self.unit])

    def remove_unit(self) -> None:
        """Take away what puts things back at boot: nothing of smtpout is left on this host."""
        with os_errors_told():
            if self.unit.exists():
                units.act("disable", [self.unit.name])
                self.unit.unlink()
                units.act("daemon-reload")
            self.script.unlink(missing_ok=True)

    def _make_restorable(self, names: Sequence[str]) -> None:
        """Have the script there, and the unit that calls it at boot."""
        if not self.script.exists() or self.script.read_text(encoding="utf-8") != RESTORE:
            files.write(self.script, RESTORE.encode(), 0o700)
        before = [name if "." in name else f"{name}.service" for name in sorted(names)]
        text = UNIT.format(state=self.state, units=" ".join(before))
        if not names:
            return
        if not self.unit.exists() or self.unit.read_text(encoding="utf-8") != text:
            files.write(self.unit, text.encode(), 0o644)
            units.act("daemon-reload")
        if not units.each([self.unit.name])[self.unit.name]["enabled"]:
            units.act("enable", [self.unit.name])


def _lines(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in names)
