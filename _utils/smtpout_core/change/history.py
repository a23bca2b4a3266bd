"""The wholes that proved themselves, one after the other: what each changed, and how two of them differ."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from smtpout_core import files
from smtpout_core.change import masks
from smtpout_core.change.memory import Memory
from smtpout_core.change.plan import Step
from smtpout_core.errors import RelayError

Generation = Mapping[str, Any]

NOWHERE = "/dev/null"


def held(steps: Iterable[Step], digests: Mapping[str, str | None]) -> dict[str, dict[str, str]]:
    """Return how each file of a whole lies on the disk: ``digest``, ``mode``, ``owner``, and what of it is ``secret``.

    :param steps: of the daemons that are wanted.
    :param digests: of their files, by path; None for one that isn't there.
    """
    secret = {path: part.secret for step in steps for part in step.parts for path in part.paths}
    found = {}
    for path in sorted(secret):
        if digest := digests.get(path):
            status = os.stat(path)
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            found[path] = {
                "digest": digest,
                "mode": mode,
                "owner": files.owner(status.st_uid, status.st_gid),
                "secret": secret[path],
            }
    return found


def read(steps: Iterable[Step]) -> dict[str, str]:
    """Return the digests of what daemons read and others write, and of the keys that they use, by path.

    :param steps: of the daemons that are wanted.
    """
    steps = list(steps)
    found = {path: step.wanted["read"].get(path) for step in steps for path in step.daemon.reads}
    used = files.plain(path for step in steps for path in step.daemon.uses)
    return {path: known for path, known in {**found, **{key: files.digest(key) for key in used}}.items() if known}


def listed(memory: Memory) -> list[dict[str, dict[str, Any]]]:
    """Return the generations that are kept, the newest first, each below its number.

    :return: of each ``time``, ``cause`` (a sentence), ``changed`` (files and more, by daemon), ``digest``.
    """
    return [
        {
            str(generation["number"]): {
                "time": generation["time"],
                "cause": _cause(generation["cause"]),
                "changed": generation["changed"],
                "digest": generation["digest"],
            }
        }
        for generation in reversed(memory.generations())
    ]


def difference(memory: Memory, first: Any, second: Any = None) -> dict[str, Any]:
    """Return how the files of two generations differ.

    :param first: the number of one.
    :param second: that of the other; None for the last.
    :return: ``between`` which, ``came`` and ``gone`` (paths that only one of them has), and ``how`` files differ: a
        unified diff by path, secrets masked; of what is only read, no more than that it does.
    :raises RelayError: a number isn't kept; which are.
    """
    kept = {generation["number"]: generation for generation in memory.generations()}
    old = _chosen(kept, first)
    new = _chosen(kept, max(kept) if second is None else second)
    had, has = old["files"], new["files"]
    return {
        "between": " and ".join(f"{each['number']} of {each['time']}" for each in (old, new)),
        "came": sorted(has.keys() - had.keys()),
        "gone": sorted(had.keys() - has.keys()),
        "how": {
            path: _difference(memory, path, old, new)
            for path in sorted(had.keys() | has.keys())
            if had.get(path) != has.get(path)
        }
        | _read_otherwise(old, new),
    }


def _read_otherwise(old: Generation, new: Generation) -> dict[str, str]:
    """Tell which files of others' differ; nothing where a generation is from before they were known."""
    had, has = old.get("read"), new.get("read")
    if had is None or has is None:
        return {}
    return {
        path: "another one (no copy is kept)" if path in had and path in has else "read by one of them alone"
        for path in sorted(had.keys() | has.keys())
        if had.get(path) != has.get(path)
    }


def _cause(cause: Mapping[str, str]) -> str:
    job = f", job {cause['job']}" if "job" in cause else ""
    return f"{cause.get('who', 'somebody')} ran {cause.get('ran', 'something')}{job}"


def _chosen(kept: Mapping[int, Generation], number: Any) -> Generation:
    if not kept:
        raise RelayError("No generation is kept: nothing was applied to this host, or it was undone.")
    if isinstance(number, bool) or not str(number).isdecimal() or int(number) not in kept:
        raise RelayError(f"{number!r} is no generation that is kept; these are: {', '.join(map(str, kept))}.")
    return kept[int(number)]


def _difference(memory: Memory, path: str, old: Generation, new: Generation) -> str:
    had, has = old["files"].get(path), new["files"].get(path)
    there = [each for each in (had, has) if each]
    secret = min((each["secret"] for each in there), key=masks.STRICTEST.index)
    before, after = (f"{path} ({each['number']})" if file else NOWHERE for each, file in ((old, had), (new, has)))
    said = [f"{key} {had[key]} -> {has[key]}" for key in ("mode", "owner") if had and has and had[key] != has[key]]
    if had and has and had["digest"] == has["digest"]:
        return "\n".join(said)
    if secret == masks.ALL:
        return "\n".join([*said, "a private key (not shown)"])
    was, now = (memory.text(each["number"], path) or "" for each in (old, new))
    return "\n".join([*said, masks.unified(was, now, secret, before, after)])
