"""Keep the private keys that OpenDKIM signs with."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors, files, host
from smtpout_core.change.memory import Memory
from smtpout_core.daemons.opendkim import keys as private
from smtpout_core.daemons.opendkim.proofs import Proofs
from smtpout_core.stages import moves, record, turn

# Of what went wrong this much is said: mostly it is one reason.
MOST_NAMED = 5

PUBLISH = "`salt-call --local opendkim.public_records` prints the records to publish."


def keys_present(
    name: str,
    keys: Sequence[dict[str, Any]] | None = None,
    bits: int = 2048,
    user: str = "root",
    group: str = "root",
) -> dict[str, Any]:
    """Make the private keys that are missing, and let nobody but the daemon read those that are there.

    A private key that is there is never replaced: what receivers have of its record would refuse the new one's
    signatures. Before anything is made, every file is looked at, and one that holds no usable key fails the state.

    .. code-block:: yaml

        The site's DKIM keys are there:
          opendkim.keys_present:
            - bits: 2048
            - user: opendkim
            - group: opendkim

    name
        What the state is called in a report.

    keys
        The keys, each ``{domain: ..., selector: ..., path: ...}``; with ``from_pillar: true`` the key isn't made but
        taken from ``smtpout:opendkim:domains:DOMAIN:private_key`` (several servers that share it). Default: those that
        sign, those that receivers may still meet, and those that are to follow, of which ``smtpout:opendkim:batch`` are
        made at once.

    bits
        Size of keys that are made, 1024 to 4096 (RFC 8301). One that is there and smaller stays, and is named in the
        comment.

    user, group
        Who owns the keys: the user the daemon runs as. It opens a key for every message, and refuses one that others
        can read (``RequireSafeKeys``, opendkim.conf(5)). A directory that is missing is made root's, mode 0750, so that
        the daemon reads there and can't put anything in another's place.
    """
    ret: dict[str, Any] = {"name": name, "changes": {}, "result": True, "comment": ""}
    try:
        later = 0
        if keys is None:
            keys, later = _due()
        wanted = {key["path"]: key for key in keys}
        access = f"mode 0600, {user}:{group}"
        from_pillar = any(key.get("from_pillar") for key in keys)
        here = _here()
        proven = Proofs(f"{here.cache_dir}/dkim_keys.json")
        found = private.inspected(wanted, __salt__["smtpout.settings"]() if from_pillar else {}, proven)
        delivered = [path for path in wanted if path not in found and wanted[path].get("from_pillar")]
        missing = [path for path in wanted if path not in found and path not in delivered]
        directories = _absent_directories([*missing, *delivered])
        loose = {path: state["access"] for path, state in found.items() if state["access"] != access}
        ret["changes"] = {
            **{path: {"old": "absent", "new": f"directory, mode 0750, root:{group}"} for path in directories},
            **{path: {"old": "absent", "new": f"key of {bits} bits, {access}"} for path in missing},
            **{path: {"old": "absent", "new": f"key from pillar, {access}"} for path in delivered},
            **{path: {"old": old, "new": access} for path, old in loose.items()},
        }
        if __opts__["test"]:
            ret["result"] = None if ret["changes"] else True
        else:
            proven.write()
            mkdir = __salt__["file.mkdir"]
            tasks: list[Callable[[], Any]] = [partial(mkdir, path, "root", group, "0750") for path in directories]
            tasks += [partial(private.generate_keys, missing, bits, user, group)] if missing else []
            tasks += [partial(_install, path, wanted[path]["domain"], user, group) for path in delivered]
            tasks += [partial(private.protect_key, path, user, group) for path in loose]
            with Memory(here.state_dir).locked():
                files.sweep(wanted)
                _do_all(tasks)
            _note(missing or delivered, "signing keys were made")
            _note(loose, "signing keys got the daemon as their owner")
        made = len(missing) + len(delivered)
        ret["comment"] = "\n".join(_comment(made, len(loose), len(found) - len(loose), _small(found, bits)))
        if later:
            ret["comment"] += f"\n{later} more are made by the next applies (smtpout:opendkim:batch)."
        if __opts__["test"] and not _is_there(user):
            ret["warnings"] = [f"Not checked: that {user} can reach the keys: there is no such user yet."]
    except errors.RelayError as error:
        ret.update(changes={}, result=False, comment=str(error))
    return ret


def stages_planned(name: str) -> dict[str, Any]:
    """Find the stage of each DKIM key that DNS and the time let it be in: made, published, active, retired, removed.

    A new key signs once the servers that have to have its record do (``smtpout:opendkim:gate``, ``hold``); until then
    the old one goes on, and a warning says who lacks it. Nothing is changed: when the site has changed with that,
    ``stages_moved`` remembers it.

    .. code-block:: yaml

        Which keys receivers find is known:
          opendkim.stages_planned

    name
        What the state is called in a report.
    """
    ret: dict[str, Any] = {"name": name, "changes": {}, "result": True, "comment": ""}
    try:
        here = _here()
        mark = record.Record(here.state_dir).mark()
        plan = turn.Turn(__salt__["smtpout.settings"](), here.state_dir, test=here.test).plan()
        __context__[host.STAGES] = (plan.keys, mark)
        ret["comment"] = "\n".join(_said(plan))
        if warnings := [str(note) for note in [*plan.moves, *plan.waits] if note.warns]:
            more = [f"... {len(warnings)} keys in all"] if len(warnings) > MOST_NAMED else []
            ret["warnings"] = [*warnings[:MOST_NAMED], *more, PUBLISH]
    except errors.RelayError as error:
        ret.update(result=False, comment=str(error))
    return ret


def stages_moved(name: str) -> dict[str, Any]:
    """Remember the stages that ``stages_planned`` has found, since the site runs with them now.

    .. code-block:: yaml

        Each domain signs with a key that receivers find:
          opendkim.stages_moved:
            - require:
              - smtpout_site: The site changes as one

    name
        What the state is called in a report.
    """
    ret: dict[str, Any] = {"name": name, "changes": {}, "result": True, "comment": ""}
    try:
        here = _here()
        if host.STAGES not in __context__:
            raise errors.RelayError("Stages were not looked for before this.")
        keys, mark = __context__.pop(host.STAGES)
        kept = record.Record(here.state_dir)
        with Memory(here.state_dir).locked(here.test):
            if kept.mark() != mark:
                raise errors.RelayError("Another run has moved keys meanwhile. Run this again.")
            before = kept.read()
            ret["changes"] = turn.changes(before, keys)
            if keys != before and not here.test:
                kept.write(keys)
        ret["result"] = None if here.test and ret["changes"] else True
        moved = len(ret["changes"])
        ret["comment"] = f"{moved or 'No'} {'keys' if moved != 1 else 'key'} {'would move' if here.test else 'moved'}."
    except errors.RelayError as error:
        ret.update(changes={}, result=False, comment=str(error))
    return ret


def stages_forgotten(name: str) -> dict[str, Any]:
    """Forget how far DKIM keys are that aren't there any more.

    .. code-block:: yaml

        Nothing is remembered of the DKIM keys:
          opendkim.stages_forgotten

    name
        What the state is called in a report.
    """
    ret: dict[str, Any] = {"name": name, "changes": {}, "result": True, "comment": "Nothing is remembered."}
    try:
        here = _here()
        kept = record.Record(here.state_dir)
        if kept.mark():
            ret["changes"] = {str(kept.path): {"old": "there", "new": "absent"}}
            ret["result"], ret["comment"] = None if here.test else True, "What was remembered is forgotten."
            if not here.test:
                with Memory(here.state_dir).locked(), errors.os_errors_told():
                    kept.path.unlink()
    except errors.RelayError as error:
        ret.update(changes={}, result=False, comment=str(error))
    return ret


def _here() -> host.Host:
    return host.minion(__opts__, __grains__, __salt__["cp.cache_file"])


def _said(plan: moves.Plan) -> Iterator[str]:
    """Yield what moves, or would, and what waits."""
    moved = [str(note) for note in plan.moves]
    waits = [str(note) for note in plan.waits]
    for lines in (moved, waits):
        yield from lines[:MOST_NAMED]
        if len(lines) > MOST_NAMED:
            yield f"... {len(lines)} in all; `smtpout_dns.plan` says each"
    if not moved:
        yield "Every key stays in its stage."


def _due() -> tuple[list[dict[str, Any]], int]:
    """Return the keys whose files have to be there now, and how many more come with the next applies."""
    here = _here()
    settings = __salt__["smtpout.settings"]()
    signing = {key["path"] for key in settings["opendkim"]["signing_keys"]}
    due = turn.Turn(settings, here.state_dir).keys()
    follow = [key["path"] for key in due if key["path"] not in signing and not os.path.lexists(key["path"])]
    later = set(follow[settings["opendkim"]["batch"] :])
    return [key for key in due if key["path"] not in later], len(later)


def _note(done: Sized, what: str) -> None:
    """Note for the states that follow what stays, whatever becomes of them."""
    if done:
        __context__.setdefault(host.BROUGHT, []).append(what)


def _is_there(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False


def _install(path: str, domain: str, user: str, group: str) -> None:
    """Write the key that pillar gives."""
    private.install_key(__salt__["smtpout.settings"](), path, domain, user, group)


def _do_all(tasks: Sequence[Callable[[], Any]]) -> None:
    """Do each, also after one that fails; raise with what went wrong, bounded."""
    problems = []
    for task in tasks:
        try:
            task()
        except (errors.RelayError, OSError) as error:  # file.mkdir raises the latter
            problems.append(str(error))
    if problems:
        more = [f"... {len(problems)} errors in all"] if len(problems) > MOST_NAMED else []
        raise errors.RelayError("\n".join(problems[:MOST_NAMED] + more))


def _absent_directories(paths: Sequence[str]) -> list[str]:
    """Return the directories that have to be made for files, the upper ones first."""
    parents = {str(parent) for path in paths for parent in Path(path).parents}
    return sorted(parent for parent in parents if not os.path.lexists(parent))


def _small(found: dict[str, dict[str, Any]], bits: int) -> Iterator[str]:
    """Yield a sentence on each key that is smaller than it would be made today."""
    for path, state in found.items():
        if state["bits"] < bits:
            yield f"{path} has {state['bits']} bits and stays; one of {bits} bits needs a selector of its own."


def _comment(made: int, protected: int, right: int, notes: Iterator[str]) -> Iterator[str]:
    """Yield the sentences that tell what was done, or would be."""
    would = "would be " if __opts__["test"] else ""
    yield f"Keys {would}made: {made}; {would}taken from other users: {protected}; right already: {right}."
    yield from notes
    if made:
        yield PUBLISH
