"""Ask systemd about units and act on them, in few processes and with nothing glossed over.

Salt's own ``service`` functions ask several times for one answer, and report success where ``systemctl`` exists but
systemd is not running. Here one ``systemctl show`` tells all that a change needs to know, and a host without systemd is
an error.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from smtpout_core import command, files
from smtpout_core.change import parts
from smtpout_core.errors import RelayError, os_errors_told

# A static unit has no [Install] section and an alias is enabled by its other name: there is nothing to enable.
ENABLED = ("enabled", "static", "alias")
RUNNING = ("active", "reloading")
# systemd starts a daemon again and again (the units say Restart=): one that died so often won't come up.
RESTARTS = 3
HOLD = b"""# Put here by smtpout: what a package configures serves nobody. An apply takes this away, or smtpout.clean.
[Unit]
ConditionPathExists=!/
"""
PROPERTIES = "ActiveState,SubState,UnitFileState,NeedDaemonReload,NRestarts,InvocationID"
SYSV_STOPPED = "/etc/rc[2-5].d/K[0-9][0-9]{}"
TIMEOUT = 600  # seconds; clamd loads its signatures before it is ready, and systemd's own limits come first


class Status(NamedTuple):
    """How the units of a daemon are."""

    running: bool
    dead: bool  # stopped or failed, and systemd isn't about to start it, or has done so in vain
    enabled: bool
    outdated: bool  # a unit file changed since systemd read it
    state: str  # in systemd's words, such as "active (running)"
    life: str  # another one after each start


def status(units: Sequence[str], working: str | None = None) -> Status:
    """Tell whether a daemon runs, whether it starts at boot, and whether systemd has read its unit files.

    :param units: those that are enabled, started and stopped: one, or a socket and its service.
    :param working: the unit whose processes count, where it is another one.
    :raises RelayError: systemd isn't running.
    """
    return statuses([(units, working)])[0]


def statuses(daemons: Sequence[tuple[Sequence[str], str | None]]) -> list[Status]:
    """Tell of each of several daemons what ``status`` tells of one, in one question.

    :param daemons: units and working unit of each.
    :raises RelayError: systemd isn't running.
    """
    every = list(
        dict.fromkeys(unit for units, working in daemons for unit in (*units, *([working] if working else [])))
    )
    shown = dict(zip(every, _shown(every), strict=True)) if every else {}
    return [_status([shown[unit] for unit in units], shown[working] if working else None) for units, working in daemons]


def _status(shown: Sequence[Mapping[str, str]], working: Mapping[str, str] | None) -> Status:
    """Return the status of a daemon, of its units' properties and those of the unit whose processes count."""
    counted = [working] if working else shown
    slowest = next((each for each in counted if each["ActiveState"] not in RUNNING), counted[-1])
    running = slowest["ActiveState"] in RUNNING
    return Status(
        running,
        dead=slowest["ActiveState"] in ("inactive", "failed")
        or (not running and int(slowest.get("NRestarts") or 0) >= RESTARTS),  # a socket has no such property
        enabled=all(each["UnitFileState"] in ENABLED for each in shown),
        outdated=any(each["NeedDaemonReload"] == "yes" for each in (*shown, *counted)),
        state=f"{slowest['ActiveState']} ({slowest['SubState']})",
        life=" ".join(each.get("InvocationID", "") for each in counted),
    )


def each(units: Sequence[str]) -> dict[str, dict[str, bool | None]]:
    """Return of each unit whether it is ``enabled`` (None: there is nothing to enable) and ``running``.

    :raises RelayError: systemd isn't running.
    """
    shown = dict(zip(units, _shown(units), strict=True)) if units else {}
    return {
        unit: {
            "enabled": None if one["UnitFileState"] in ("static", "alias") else one["UnitFileState"] == "enabled",
            "running": one["ActiveState"] in RUNNING,
        }
        for unit, one in shown.items()
    }


def half_disabled(unit: str) -> bool:
    """Tell whether a unit's SysV script starts in no runlevel, as ``disable`` leaves it when it is killed in its midst.

    systemctl(1) hands the script's links to update-rc.d(8) before it touches its own, and says nothing of them.

    :param unit: with its suffix or without.
    """
    return bool(glob.glob(SYSV_STOPPED.format(glob.escape(unit.removesuffix(".service")))))


def act(verb: str, units: Sequence[str] = ()) -> None:
    """Have systemd do something, and wait until it is done.

    :param verb: ``start``, ``stop``, ``reload``, ``restart``, ``enable``, ``disable``, ``reset-failed``,
        ``daemon-reload``.
    :raises RelayError: systemd's own words, when it doesn't work.
    """
    _systemctl(verb, *units)


def wait_until_serving(
    units: Sequence[str], working: str | None, probe: Callable[[], None], seconds: float = 30
) -> None:
    """Wait until a daemon runs and answers its probe.

    :param probe: raises RelayError as long as the daemon doesn't serve.
    :raises RelayError: why it doesn't serve, after this time, or at once if the daemon has stopped.
    """
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        now = status(units, working)
        try:
            if not now.running:
                raise RelayError(f"{working or units[-1]} is {now.state}.")
            probe()
            return
        except RelayError:
            if now.dead or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 1)


def hold(units: Iterable[str]) -> None:
    """Keep units that aren't there yet from starting when their package comes, and at boot.

    :param units: those that an apply configures, and sets free; smtpout's own come with no package.
    """
    for unit in (each for each in units if not each.startswith("smtpout-")):
        path = parts.hold_path(unit)
        if _shown([unit], "LoadState")[0]["LoadState"] == "not-found" and not os.path.exists(path):
            with os_errors_told():
                files.write(path, HOLD, 0o644)


def release(units: Iterable[str]) -> list[str]:
    """Set free what is held, and return which.

    :param units: as for ``hold``.
    """
    held = [unit for unit in units if os.path.exists(parts.hold_path(unit))]
    for unit in held:
        with os_errors_told():
            os.unlink(parts.hold_path(unit))
    if held:
        act("daemon-reload")
    return held


def journal(units: Sequence[str], since: float = 0, lines: int = 15) -> str:
    """Return the last lines that units have written.

    :param since: seconds since 1970: nothing older is returned.
    :param lines: how many at most.
    """
    names = [f"--unit={name}" for name in units]
    argv = ["journalctl", "--quiet", "--no-pager", *names, f"--since=@{since:.6f}", "--output=cat"]
    # Not by --lines: together with --since that is the first ones for systemd 252 (Debian 12).
    return "\n".join(command.run(argv).output.strip().splitlines()[-lines:])


def _shown(units: Sequence[str], properties: str = PROPERTIES) -> list[dict[str, str]]:
    """Return systemd's properties of units, in their order."""
    done = command.run(["systemctl", "show", f"--property={properties}", *units])
    # One paragraph a unit, in the order asked for. In a chroot systemctl ignores the question and exits with 0.
    shown = [
        dict(line.split("=", 1) for line in part.splitlines() if "=" in line)
        for part in done.output.strip().split("\n\n")
    ]
    if done.status != 0 or len(shown) != len(units) or not all(shown):
        raise RelayError(f"systemd does not run here, so nothing can be said about {units[-1]}.")
    return shown


def _systemctl(*arguments: str) -> None:
    done = command.run(["systemctl", *arguments], timeout=TIMEOUT)
    if done.status != 0:
        said = (done.said or done.output).strip()
        if masked := re.search(r"Unit (?:file )?(?:\S*/)?(\S+) is masked", said):
            said += f" Somebody keeps it from running: `systemctl unmask {masked[1]}`, and apply again."
        raise RelayError(f"systemctl {' '.join(arguments)}: {said}")
