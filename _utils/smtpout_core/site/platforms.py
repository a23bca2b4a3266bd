"""What is known of each platform, and which one a minion is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smtpout_core.errors import RelayError
from smtpout_core.site.documents import Documents


def listed(formula: Documents) -> dict[str, Any]:
    """Return the facts of every platform that is known, by its name.

    :param formula: holds ``platforms.yaml``.
    """
    return {name: facts for name, facts in formula["platforms.yaml"].items() if not name.startswith("_")}


def name(formula: Documents, grains: Mapping[str, Any]) -> str:
    """Return a minion's platform as ``platforms.yaml`` names it; of one that isn't listed, what the grains call it.

    :param formula: as for ``listed``.
    :param grains: the minion's.
    """
    names = [str(grains[grain]).lower() for grain in ("os", "osfullname") if grain in grains]
    versions = [str(grains[grain]) for grain in ("osrelease", "osmajorrelease") if grain in grains]
    said = [f"{system}-{version}" for system in names for version in versions]
    known = {system: platform for platform, facts in listed(formula).items() for system in facts["names"]}
    return next((known[system] for system in said if system in known), said[0] if said else "unknown")


def facts(formula: Documents, grains: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a minion's platform.

    :param formula: as for ``listed``.
    :param grains: the minion's.
    :raises RelayError: it isn't listed.
    """
    try:
        return listed(formula)[name(formula, grains)]
    except KeyError as unknown:
        raise RelayError(f"{unknown.args[0]} is no platform that smtpout knows") from None
