"""Ask systemd about the units of a daemon and act on them, in few processes and with nothing glossed over.

Salt's own ``service`` functions ask several times for one answer, and report success where ``systemctl`` exists but
systemd is not running. Here one ``systemctl show`` tells all that a configuration set needs to know, and a host without
systemd is an error.
"""

from __future__ import annotations

import time
from typing import Any

from salt.exceptions import CommandExecutionError

# A static unit has no [Install] section and an alias is enabled by its other name: there is nothing to enable.
ENABLED = ("enabled", "static", "alias")
RUNNING = ("active", "reloading")
# systemd starts a daemon again and again (the units say Restart=): one that died so often won't come up.
RESTARTS = 3
PROPERTIES = "ActiveState,SubState,UnitFileState,NeedDaemonReload,NRestarts"
TIMEOUT = 600  # seconds; clamd loads its signatures before it is ready, and systemd's own limits come first


def status(services: list[str], unit: str | None = None) -> dict[str, Any]:
    """Tell whether a daemon runs, whether it starts at boot, and whether systemd has read its unit files.

    CLI Example:

    .. code-block:: bash

        salt-call --local systemd_unit.status '[postfix]' unit=postfix@-

    :param services: the units that are enabled, started and reloaded: one, or a socket and its service.
    :param unit: the unit whose processes count, where it is another one: Debian 12's postfix only pulls in postfix@-.
    :return: ``running``, ``dead`` (stopped or failed, and systemd isn't about to start it, or has done so in vain),
        ``enabled``, ``outdated`` (a unit file changed since systemd read it), and ``state`` in systemd's words, such as
        ``active (running)``.
    :raises CommandExecutionError: systemd isn't running.
    """
    units = [*services, *([unit] if unit and unit not in services else [])]
    try:
        output = _systemctl("show", f"--property={PROPERTIES}", *units)
    except CommandExecutionError:
        output = ""
    # One paragraph a unit, in the order asked for. In a chroot systemctl ignores the question and exits with 0.
    shown = [dict(line.split("=", 1) for line in part.splitlines()) for part in output.strip().split("\n\n")]
    if len(shown) != len(units) or not all("ActiveState" in properties for properties in shown):
        raise CommandExecutionError(f"systemd does not run here, so nothing can be said about {services[-1]}.")
    working = [shown[units.index(unit)]] if unit else shown
    slowest = next((properties for properties in working if properties["ActiveState"] not in RUNNING), working[-1])
    running = slowest["ActiveState"] in RUNNING
    return {
        "running": running,
        "dead": slowest["ActiveState"] in ("inactive", "failed")
        or (not running and int(slowest.get("NRestarts") or 0) >= RESTARTS),  # a socket has no such property
        "enabled": all(properties["UnitFileState"] in ENABLED for properties in shown[: len(services)]),
        "outdated": any(properties["NeedDaemonReload"] == "yes" for properties in shown),
        "state": f"{slowest['ActiveState']} ({slowest['SubState']})",
    }


def act(verb: str, services: list[str] | None = None) -> None:
    """Have systemd do something, and wait until it is done.

    CLI Example:

    .. code-block:: bash

        salt-call --local systemd_unit.act reload '[postfix]'

    :param verb: ``start``, ``stop``, ``reload``, ``restart``, ``enable``, ``disable``, ``reset-failed``,
        ``daemon-reload``.
    :param services: the units, ordered by systemd among themselves; none for ``daemon-reload``.
    :raises CommandExecutionError: systemd's own words, when it doesn't work.
    """
    _systemctl(verb, *(services or []))


def wait_until_serving(
    services: list[str],
    unit: str | None = None,
    probe: str | None = None,
    probe_args: dict[str, Any] | None = None,
    seconds: float = 30,
) -> None:
    """Wait until a daemon runs and answers its probe.

    CLI Example:

    .. code-block:: bash

        salt-call --local systemd_unit.wait_until_serving '[postfix]' probe=postfix_config.probe seconds=10

    :param services: as for ``status``.
    :param unit: as for ``status``.
    :param probe: an execution function that raises CommandExecutionError as long as the daemon doesn't serve.
    :param probe_args: its arguments.
    :param seconds: how long to wait at most.
    :raises CommandExecutionError: why it doesn't serve, after this time, or at once if the daemon has stopped.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        now = status(services, unit)
        try:
            if not now["running"]:
                raise CommandExecutionError(f"{unit or services[-1]} is {now['state']}.")
            if probe:
                __salt__[probe](**(probe_args or {}))
            return
        except CommandExecutionError:
            if now["dead"] or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 1)


def journal(services: list[str], unit: str | None = None, since: float = 0, lines: int = 15) -> str:
    """Return the last lines that a daemon has written.

    CLI Example:

    .. code-block:: bash

        salt-call --local systemd_unit.journal '[postfix]' unit=postfix@- lines=5

    :param services: as for ``status``.
    :param unit: as for ``status``; the lines of all of them are returned.
    :param since: seconds since 1970: nothing older is returned.
    :param lines: how many at most.
    """
    units = [f"--unit={name}" for name in [*services, *([unit] if unit else [])]]
    result = __salt__["cmd.run_all"](
        ["journalctl", "--quiet", "--no-pager", *units, f"--since=@{int(since)}", "--output=cat"],
        python_shell=False,
        ignore_retcode=True,
    )
    # Not by --lines: together with --since that is the first ones for systemd 252 (Debian 12).
    return "\n".join(result["stdout"].strip().splitlines()[-lines:])


def _systemctl(*arguments: str) -> str:
    result = __salt__["cmd.run_all"](
        ["systemctl", *arguments], python_shell=False, ignore_retcode=True, timeout=TIMEOUT
    )
    if result["retcode"] != 0:
        raise CommandExecutionError(f"systemctl {' '.join(arguments)}: {result['stderr'] or result['stdout']}")
    return result["stdout"]
