"""A daemon's configuration applied as one set: rendered, checked by its own parser, swapped, activated, probed.

A set is live whole or not at all. What a daemon was last activated with is remembered, and every run compares with
that, so a run that died between the swap and the restart is finished by the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, NamedTuple

from salt.exceptions import CommandExecutionError, CommandNotFoundError

DONE = {
    "start": "started",
    "reload": "reloaded",
    "restart": "restarted",
    "enable": "enabled",
    "stop": "stopped",
    "disable": "disabled",
}
UNITS = "/etc/systemd/"


class _Daemon(NamedTuple):
    """A daemon's name, its units, and how one tells that it serves."""

    name: str
    services: list[str]
    unit: str | None
    can_reload: bool
    probe: tuple[str | None, dict[str, Any] | None, float]


class _Plan(NamedTuple):
    """What a run has to do; nothing if there are no changes."""

    files: list[dict[str, Any]]  # to be written
    orphans: list[str]  # files to be put back as they were before smtpout
    maps: list[dict[str, Any]]  # to be built
    actions: list[str]  # of systemd: start, reload or restart, and enable
    changes: dict[str, Any]
    record: dict[str, Any]  # what the daemon then runs with
    served: bool  # whether the daemon serves now, or did when it was last activated
    size: int  # how many files and maps there are in all


def managed(
    name: str,
    daemon: str,
    files: list[dict[str, Any]] | None = None,
    maps: list[dict[str, Any]] | None = None,
    check: str | None = None,
    check_args: dict[str, Any] | None = None,
    service: str | list[str] | None = None,
    unit: str | None = None,
    reload: bool = True,
    restart_on: dict[str, Any] | None = None,
    watch_files: list[str] | None = None,
    follows: list[str] | None = None,
    probe: str | None = None,
    probe_args: dict[str, Any] | None = None,
    probe_timeout: float = 30,
) -> dict[str, Any]:
    """A daemon runs with these files and maps, and serves; else it runs with those it had before.

    .. code-block:: yaml

        Postfix runs the site's configuration:
          config_set.managed:
            - daemon: postfix
            - files:
                - {name: /etc/postfix/main.cf, source: salt://smtpout/postfix/main.cf.jinja}
            - check: postfix_config.check
            - service: postfix
            - probe: postfix_config.probe

    Test mode renders, compares and checks as well, and writes nothing.

    :param name: the state's sentence.
    :param daemon: the set's name, under which the host remembers it.
    :param files: as ``config_set.render`` takes them. One that an earlier run wrote and that is no longer listed is put
        back as it was before smtpout.
    :param maps: as ``config_set.tables`` takes them.
    :param check: an execution function that returns a list of complaints, called with ``staged``: for each file and map
        of the set its path aside, by its live path.
    :param check_args: its other arguments.
    :param service: the unit to enable, start, reload and restart, or a list of them.
    :param unit: the unit whose processes count, where it is another one.
    :param reload: whether the daemon can reload.
    :param restart_on: any data by name (packages, groups): what changes of it needs a restart.
    :param watch_files: files that the daemon reads and others write, such as certificates.
    :param follows: other sets: once one of them has been activated, this daemon is restarted.
    :param probe: an execution function that raises CommandExecutionError as long as the daemon doesn't serve.
    :param probe_args: its arguments.
    :param probe_timeout: seconds that the daemon has to begin to serve.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    test = __opts__["test"]
    target = _Daemon(daemon, _listed(service), unit, reload, (probe, probe_args, probe_timeout))
    try:
        with _locked(daemon, test):
            rendered, tables = __salt__["config_set.render"](files or []), __salt__["config_set.tables"](maps or [])
            wanted = _wanted(rendered, tables, watch_files or [], restart_on or {}, follows or [])
            plan = _plan(target, rendered, tables, wanted)
            if plan.changes:
                note = _check(daemon, rendered, tables, check, check_args) if check else ""
                if not test:
                    _apply(target, plan)
                ret.update(result=None if test else True, changes=plan.changes, comment=_summary(target, plan) + note)
            else:
                if not test:
                    _finish(daemon, plan.record)
                ret["comment"] = _summary(target, plan)
    except (CommandExecutionError, CommandNotFoundError) as error:
        ret.update(result=False, changes={}, comment=str(error))
    return ret


def absent(
    name: str,
    daemon: str,
    files: list[str],
    maps: list[dict[str, Any]] | None = None,
    service: str | list[str] | None = None,
) -> dict[str, Any]:
    """A set is undone: its daemon is stopped and disabled, its files are as they were before smtpout.

    A file that smtpout has not written stays, whatever its name.

    .. code-block:: yaml

        Postfix has its original configuration again:
          config_set.absent:
            - daemon: postfix
            - files: [/etc/postfix/main.cf, /etc/postfix/master.cf]
            - service: postfix

    :param name: the state's sentence.
    :param daemon: the set's name.
    :param files: paths of files, besides those that the host remembers of the set.
    :param maps: ``name`` and ``type`` of maps, likewise.
    :param service: the unit to stop and disable, or a list of them.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": f"{daemon}'s set is undone."}
    test = __opts__["test"]
    try:
        with _locked(daemon, test):
            built = [path for table in maps or [] for path in __salt__["postmap.files"](table["name"], table["type"])]
            written = __salt__["config_swap.written"](daemon, [*files, *built])
            changes = __salt__["config_swap.undone"](written)
            services, actions = _listed(service), []
            if services and __salt__["config_swap.recall"](daemon):
                now = __salt__["systemd_unit.status"](services)
                actions = [verb for verb, due in (("stop", now["running"]), ("disable", now["enabled"])) if due]
            if actions:
                changes["service"] = " and ".join(DONE[action] for action in actions)
            if not test:
                _take_back(daemon, services, actions, [path for path in changes if path != "service"])
            if changes:
                ret.update(result=None if test else True, changes=changes)
                ret["comment"] = f"{daemon}'s set would be undone." if test else f"{daemon}'s set was undone."
    except (CommandExecutionError, CommandNotFoundError) as error:
        ret.update(result=False, changes={}, comment=str(error))
    return ret


def _listed(service: str | list[str] | None) -> list[str]:
    return [service] if isinstance(service, str) else list(service or [])


@contextmanager
def _locked(daemon: str, test: bool) -> Iterator[None]:
    descriptor = __salt__["config_swap.lock"](daemon, test=test)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, default=str).encode()).hexdigest()


def _wanted(
    rendered: list[dict[str, Any]],
    tables: list[dict[str, Any]],
    watch_files: list[str],
    restart_on: dict[str, Any],
    follows: list[str],
) -> dict[str, Any]:
    """Say what the daemon should have been activated with: the record's content but for its time."""
    stamps = {other: __salt__["config_swap.recall"](other).get("activated") for other in follows}
    # In test mode a set that would be activated leaves no record.
    stamps |= {other: "pending" for other in __context__.get("config_set.pending", ()) if other in stamps}
    return {
        "paths": [*(file["name"] for file in rendered), *(path for table in tables for path in table["paths"])],
        "read": {
            **{entry["name"]: _digest(entry["text"]) for entry in rendered},
            **{table["name"]: _digest([table["type"], table["entries"]]) for table in tables},
            **__salt__["config_swap.digests"](watch_files),
        },
        "restart_on": {key: _digest(value) for key, value in restart_on.items()},
        "follows": stamps,
    }


def _plan(
    target: _Daemon, rendered: list[dict[str, Any]], tables: list[dict[str, Any]], wanted: dict[str, Any]
) -> _Plan:
    """Compare the host and its record with what is wanted."""
    record = __salt__["config_swap.recall"](target.name)
    orphans = __salt__["config_swap.orphans"](target.name, wanted["paths"])
    changes: dict[str, Any] = __salt__["config_set.compare"](rendered) | __salt__["config_swap.undone"](orphans)
    for table in tables:
        if change := _built(table) if __opts__["test"] else __salt__["config_set.map_differs"](table):
            changes[table["name"]] = change

    unread = sorted(changes.keys() | _differing(wanted["read"], record.get("read", {})))
    now = __salt__["systemd_unit.status"](target.services, target.unit) if target.services else None
    heavy = {file["name"] for file in rendered if file["activate"] == "restart"} | set(orphans)
    action, reasons = _action(unread, heavy if target.can_reload else set(unread), wanted, record, now)
    actions = [action] if action else []
    if now and not now["enabled"]:
        actions.append("enable")
    if actions:
        changes["service"] = _words(actions, reasons)
    if now and actions and (now["outdated"] or any(path.startswith(UNITS) for path in unread)):
        actions.insert(0, "daemon-reload")
    activated = record.get("activated")
    if unread or action or not record:
        activated = datetime.now(timezone.utc).isoformat()
        if __opts__["test"]:
            __context__.setdefault("config_set.pending", []).append(target.name)
    return _Plan(
        files=[file for file in rendered if file["name"] in changes],
        orphans=[path for path in orphans if path in changes],
        maps=[table for table in tables if table["name"] in changes],
        actions=actions,
        changes=changes,
        record={**wanted, "activated": activated},
        served=bool(record) or bool(now and now["running"]),
        size=len(rendered) + len(orphans) + len(tables),
    )


def _differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def _action(
    unread: list[str],
    heavy: set[str],
    wanted: dict[str, Any],
    record: dict[str, Any],
    now: dict[str, Any] | None,
) -> tuple[str | None, list[str]]:
    """Return the lightest action that makes a daemon read what it hasn't, and what asks for a restart if that does."""
    if now is None:
        return None, []
    if not now["running"]:
        return "start", []
    if not record:
        return "restart", ["first configuration"]
    reasons = [os.path.basename(path) for path in unread if path in heavy]
    reasons += sorted(_differing(wanted["restart_on"], record["restart_on"]))
    reasons += [f"{other} was activated" for other in sorted(_differing(wanted["follows"], record["follows"]))]
    if reasons:
        return "restart", reasons
    return "reload" if unread else None, []


def _words(actions: list[str], reasons: list[str]) -> str:
    done = " and ".join(DONE[action] for action in actions)
    return f"{done} ({', '.join(reasons)})" if reasons else done


def _built(table: dict[str, Any]) -> dict[str, Any]:
    """Build a map, or tell in test mode what that would change."""
    result = __states__["postmap.built"](
        table["name"], table["type"], table["entries"], mask=table["secret"], **table["options"]
    )
    if result["result"] is False:
        raise CommandExecutionError(result["comment"])
    return result["changes"]


def _check(
    daemon: str,
    rendered: list[dict[str, Any]],
    tables: list[dict[str, Any]],
    check: str,
    check_args: dict[str, Any] | None,
) -> str:
    """Have the set checked by its daemon's parser; return a note if that can't be done yet."""
    test = __opts__["test"]
    try:
        complaints = __salt__["config_set.complaints"](rendered, tables, check, check_args, test=test)
    except CommandNotFoundError as error:
        if not test:
            raise
        return f" Not checked: {error}"  # its package is installed by a state before this one
    if complaints:
        lines = "".join(f"\n  {line}" for line in complaints)
        raise CommandExecutionError(f"{daemon} refuses the new configuration; nothing was changed:{lines}")
    return ""


def _apply(target: _Daemon, plan: _Plan) -> None:
    """Put a set in place and have the daemon serve with it; else bring back what was there."""
    began, activated = time.time(), False
    paths = [file["name"] for file in plan.files] + [path for table in plan.maps for path in table["paths"]]
    try:
        __salt__["config_swap.back_up"](target.name, paths + plan.orphans)
        for table in plan.maps:  # before the main.cf that names them
            plan.changes[table["name"]] = _built(table)
        __salt__["config_swap.swap"](plan.files, plan.orphans)
        for action in plan.actions:
            activated = activated or action in ("start", "reload", "restart")
            _act(target, action)
    except Exception as error:  # whatever it is, the old set has to come back
        lines = [str(error), *_roll_back(target, plan, activated, began)]
        raise CommandExecutionError("\n".join(lines)) from error
    _finish(target.name, plan.record)


def _act(target: _Daemon, action: str) -> None:
    if action == "daemon-reload":
        __salt__["systemd_unit.act"](action)
        return
    # restart also starts, and where a running dummy unit stands before a stopped one (Debian 12), start does nothing.
    __salt__["systemd_unit.act"]("restart" if action == "start" else action, target.services)
    if action != "enable":
        __salt__["systemd_unit.wait_until_serving"](target.services, target.unit, *target.probe)


def _roll_back(target: _Daemon, plan: _Plan, activated: bool, began: float) -> list[str]:
    """Bring the old set back, have the daemon serve with it if it did, and say how that went."""
    said, trouble = [], "could not be put back"
    try:
        if activated:
            words = __salt__["systemd_unit.journal"](target.services, target.unit, since=began)
            said = ["Its log:", *(f"  {line}" for line in words.splitlines())] if words else []
            if not plan.served:
                __salt__["systemd_unit.act"]("stop", target.services)
        __salt__["config_swap.restore"](target.name)
        trouble = "does not serve either"
        if not activated:
            return [*said, f"{target.name}'s configuration is as it was before."]
        if "daemon-reload" in plan.actions:
            _act(target, "daemon-reload")
        if not plan.served:
            return [*said, f"{target.name} is stopped, and its configuration as it was before."]
        # A daemon that has failed a few times in a row is not started again before its counter is reset.
        __salt__["systemd_unit.act"]("reset-failed", target.services)
        _act(target, "restart")
    except (CommandExecutionError, CommandNotFoundError) as error:
        return [*said, f"The old configuration {trouble}: {error}"]
    return [*said, "The old configuration serves again."]


def _finish(daemon: str, record: dict[str, Any]) -> None:
    """Clear up, also after an earlier run that was killed, and write down what the daemon runs with."""
    __salt__["config_swap.settle"](daemon)
    if record != __salt__["config_swap.recall"](daemon):
        __salt__["config_swap.remember"](daemon, record)


def _summary(target: _Daemon, plan: _Plan) -> str:
    """Say in a line what was done, or would be."""
    size = f"{plan.size} {'file' if plan.size == 1 else 'files'}"
    if not plan.changes:
        held = f"{size} as they should be" if plan.size else ""
        runs = f"{target.name} runs{' with them' if plan.size else ''}" if target.services else ""
        return f"{'; '.join(filter(None, [held, runs]))}."
    would, be = ("would change", "would be ") if __opts__["test"] else ("changed", "")
    changed = len(plan.files) + len(plan.orphans) + len(plan.maps)
    parts = [f"{changed} of {size} {would}"] if changed else []
    if "service" in plan.changes:
        parts.append(f"{target.name} {be}{plan.changes['service']}")
    return f"{'; '.join(parts)}."


def _take_back(daemon: str, services: list[str], actions: list[str], paths: list[str]) -> None:
    """Stop a daemon, and put its files back."""
    for action in actions:
        __salt__["systemd_unit.act"](action, services)
    __salt__["config_swap.undo"](daemon, paths)
    if services and any(path.startswith(UNITS) for path in paths):
        __salt__["systemd_unit.act"]("daemon-reload")
