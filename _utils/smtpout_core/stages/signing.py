"""What the site's settings come to with what is remembered of its keys: which signs, which others receivers meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smtpout_core.daemons.opendkim import check
from smtpout_core.stages import rotation
from smtpout_core.stages.moves import Rules, Want
from smtpout_core.stages.record import ACTIVE, MADE, PUBLISHED, REMOVED, RETIRED, Key

HOUR, DAY = 3600, 86400


def laid(settings: dict[str, Any], kept: Sequence[Key]) -> dict[str, Any]:
    """Return settings in which what is remembered signs; what the pillar wants signs where nothing is.

    :param settings: the site's; another memory may be laid over them already.
    :param kept: what is remembered.
    """
    if not (kept and settings["valid"] and settings["opendkim"]["enabled"]):
        return settings
    opendkim = settings["opendkim"]
    given = {(key["domain"], key["selector"], key["path"]): key for key in opendkim["wanted_keys"]}
    # A retired key whose file a person has taken away is neither made anew, nor can its record be printed any more.
    there = [key for key in kept if key.stage != REMOVED and (key.stage != RETIRED or os.path.exists(key.path))]
    said = {key.id: given.get((*key.id, key.path)) or entry(key) for key in there}
    active = {key.domain: said[key.id] for key in kept if key.stage == ACTIVE}
    signing = [{**active.get(key["domain"], key), "signs": key["signs"]} for key in opendkim["signing_keys"]]
    known = {(key["domain"], key["selector"]) for key in signing}
    theirs = {key["domain"] for key in signing}  # of a domain that the site has no more, others publish
    keys = [*signing, *(key for each, key in said.items() if each not in known and key["domain"] in theirs)]
    made = {**settings, "opendkim": {**opendkim, "signing_keys": signing, "keys": keys}}
    if settings["selinux"]["active"]:
        label = settings["selinux"]["dkim_key_label"]
        labels = settings["selinux"]["labels"] | {key["path"]: label for key in keys}
        made["selinux"] = {**settings["selinux"], "labels": labels}
    return made


def entry(key: Key) -> dict[str, Any]:
    """Return a key in the form of the settings' ``signing_keys``; one that signs nothing yet, or no more."""
    return {
        "domain": key.domain,
        "selector": key.selector,
        "path": key.path,
        "from_pillar": False,
        "signs": [],
        "most": ACTIVE,
    }


def adopted(
    settings: dict[str, Any], kept: Sequence[Key], tables: Mapping[str, tuple[str, str]], held: Callable[[str], str],
    now: int,
) -> list[Key]:  # fmt: skip
    """Return what is remembered, and as active what signs today for domains of which nothing is.

    :param settings: the site's.
    :param tables: selector and path by which each domain's mail is signed today (:func:`tables_of`).
    :param held: as of ``moves.Facts``.
    """
    known = {key.domain for key in kept}
    found = list(kept)
    for given in settings["opendkim"]["signing_keys"]:
        selector, path = tables.get(given["domain"], ("", ""))
        if given["domain"] not in known and (public := path and held(path)):
            found.append(Key(given["domain"], selector, path, ACTIVE, now, public=public))
    return found


def tables_of(settings: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return by which selector, with which file, each domain's mail is signed by the tables that OpenDKIM reads now."""
    opendkim = settings["opendkim"]
    if not (opendkim["enabled"] and all(map(os.path.isfile, (opendkim["key_table"], opendkim["signing_table"])))):
        return {}
    keys = {}
    for name, value in check.table(opendkim["key_table"]).items():
        domain, selector, path = (*value.split(":", 2), "", "")[:3]
        keys[name] = (domain, selector, path)
    found = {}
    for pattern, name in check.table(opendkim["signing_table"]).items():
        domain, selector, path = keys.get(name, ("", "", ""))
        if path.startswith("/") and pattern.removeprefix("*@") == domain:
            found[domain] = (selector, path)
    return found


def wanted(settings: dict[str, Any], kept: Sequence[Key], now: int) -> dict[str, list[Want]]:
    """Return by domain the keys that the site wants it to have, the one that is to sign first.

    By the pillar's ``selector`` or ``selectors``; by ``rotate``, the key of the period that the domain is in, once that
    began after the present one signed, but for domains whose keys the pillar gives. One that waits for its record isn't
    overtaken by the next.

    :param settings: the site's.
    :param kept: what is remembered, with what was adopted.
    :param now: seconds since 1970.
    """
    opendkim = settings["opendkim"]
    if not opendkim["enabled"]:
        return {}
    found: dict[str, list[Want]] = {}
    for key in opendkim["wanted_keys"]:
        want = Want(key["domain"], key["selector"], key["path"], key["most"], key["given"])
        found.setdefault(key["domain"], []).append(want)
    rotate, by_hand = opendkim.get("rotate"), {key["domain"] for key in opendkim["wanted_keys"] if key["by_hand"]}
    known: dict[str, list[Key]] = {}
    for each in kept if rotate else ():
        known.setdefault(each.domain, []).append(each)
    for domain, keys in known.items():
        if domain in found and domain not in by_hand:
            found[domain] = _rotated(found[domain], keys, rotate, now, opendkim["keys_directory"])
    return found


def _rotated(given: list[Want], keys: Sequence[Key], rotate: str, now: int, directory: str) -> list[Want]:
    active = next((key for key in keys if key.stage == ACTIVE), None)
    if active is None:
        return given
    present = Want(*active.id, active.path)
    waiting = [Want(*key.id, key.path) for key in keys if key.stage in (MADE, PUBLISHED)]
    if waiting:
        return [*waiting, present]
    selector, began = rotation.due(active.domain, rotate, now)
    if began <= active.since or any(key.selector == selector for key in keys):
        return [present]
    return [Want(active.domain, selector, f"{directory}/{active.domain}.{selector}.private"), present]


def rules(settings: dict[str, Any]) -> Rules:
    """Return when a stage is over, by the site's settings."""
    opendkim = settings["opendkim"]
    return Rules(opendkim["gate"], opendkim["hold"] * HOUR, opendkim["retire_days"] * DAY)
