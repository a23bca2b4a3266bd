"""The site's settings: pillar, defaults and platform facts made into one object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smtpout_core.site import derived, platforms, rules, schema, searches, written
from smtpout_core.site.documents import Documents

Problems = list[dict[str, str | None]]


def made(site: Any, formula: Documents, grains: Mapping[str, Any]) -> dict[str, Any]:
    """Check a site and make the settings of it, or the list of what is wrong with it.

    :param site: what stands below ``smtpout`` in the pillar, whatever that is.
    :param formula: smtpout's own files.
    :param grains: the minion's.
    :return: ``valid`` and ``errors``, one sentence each; where it is valid, all of the settings as well.
    :raises RelayError: the formula isn't whole.
    """
    found, merged = _checked(site, formula)
    known, platform = platforms.listed(formula), platforms.name(formula, grains)
    if platform not in known:
        unknown = f"this platform, {platform}, is none that smtpout knows ({', '.join(known)}); it is refused"
        return {"valid": False, "errors": [*schema.sentences(found), unknown]}
    if found := _all(found, merged, formula, known[platform], grains):
        return {"valid": False, "errors": schema.sentences(found)}
    facts = {**known[platform], "platform": platform}
    return {"valid": True, "errors": [], **derived.derived(merged, facts, formula["postfix/master.yaml"], grains)}


def problems(site: Any, formula: Documents, grains: Mapping[str, Any]) -> Problems:
    """Return what is wrong with a site that need not be this minion's, by pillar path (``schema.problems``).

    :param site: what stands below ``smtpout``.
    :param formula: smtpout's own files.
    :param grains: the minion's.
    :raises RelayError: the minion's platform isn't listed.
    """
    found, merged = _checked(site, formula)
    return _all(found, merged, formula, platforms.facts(formula, grains), grains)


def _checked(site: Any, formula: Documents) -> tuple[Problems, dict[str, Any]]:
    """Return what is wrong with each value, and the site laid over the schema's defaults."""
    said = formula["schema.yaml"]
    return schema.problems(site, said, "smtpout"), written.one_form(derived.merged(schema.defaults(said), site))


def _all(
    found: Problems, merged: dict[str, Any], formula: Documents, facts: dict[str, Any], grains: Mapping[str, Any]
) -> Problems:
    """Return what is wrong with values, and between them."""
    known = {**facts, "services": formula["postfix/master.yaml"], "grains": grains, **searches.presets()}
    return found + rules.problems(merged, known, [str(problem["path"]) for problem in found])
