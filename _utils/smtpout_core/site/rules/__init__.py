"""Rules between keys of the site pillar: what is wrong with a site although each of its values is right by itself.

Each rule keeps an outage, an open relay or a silent hole from being applied. What a single key takes is said in
``smtpout/schema.yaml``. A room has its rules in a module, which is listed here.
"""

from __future__ import annotations

from typing import Any

from smtpout_core.site import schema
from smtpout_core.site.rules import (
    agreed,
    blocked,
    clamav,
    clients,
    directory,
    dns,
    identity,
    limits,
    networks,
    opendkim,
    postfix,
    promises,
    routes,
    tls,
)
from smtpout_core.site.rules.finding import MASKED, Site

ROOMS = (
    identity,
    networks,
    clients,
    blocked,
    directory,
    opendkim,
    agreed,
    clamav,
    postfix,
    routes,
    tls,
    limits,
    dns,
    promises,
)
RULES = [rule for room in ROOMS for rule in room.RULES]


def problems(site: Site, facts: dict[str, Any], broken: list[str]) -> list[dict[str, str | None]]:
    """Return what is wrong between keys of a site, in the form of ``schema.problems``.

    :param site: the pillar's ``smtpout``, laid over the schema's defaults.
    :param facts: the platform's facts, and as ``services`` those of the stock master.cf.
    :param broken: paths at which the schema has found something: a rule that reads what is there, above or below, is
        left out, since it can't judge it. Of a key that ends in a colon it takes the items as they come.
    """
    found = []
    for rule, reads in RULES:
        if not any(_touches(f"smtpout:{key}", path) for key in reads for path in broken):
            for path, value, message in rule(site, facts):
                shown = value if value is None or value == MASKED else schema.shown(value)
                found.append({"path": f"smtpout:{path}", "value": shown, "message": message})
    return found


def _touches(one: str, other: str) -> bool:
    return f"{one}:".startswith(f"{other}:") or f"{other}:".startswith(f"{one}:")
