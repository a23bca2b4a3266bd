"""Limits of what logins and clients send: that they mean something, and that nothing hides them."""

from __future__ import annotations

from typing import Any

from smtpout_core.site import clients, limits
from smtpout_core.site.rules.finding import Found, Rule, Site

KINDS = ("messages", "recipients")
NATIVE = ("smtpd_data_restrictions", "smtpd_restriction_classes")
"""Parameters that ask for them; with a value of the site's own nobody would be asked."""


def _of_a_day(site: Site, _facts: dict[str, Any]) -> Found:
    """An hour's limit beyond a day's is never met."""
    own = {f"exceptions:{name}:": each for name, each in site["limits"]["exceptions"].items()}
    for path, each in {"": site["limits"], **own}.items():
        for kind in KINDS:
            most = each.get(kind, {})
            if most.get("hour", 0) > most.get("day", most.get("hour", 0)):
                told = f"is more than in a day, {most['day']}, so it would never be met; lower it or leave it out"
                yield f"limits:{path}{kind}:hour", most["hour"], told


def _alike(site: Site, _facts: dict[str, Any]) -> Found:
    """Names are compared without case."""
    first: dict[str, str] = {}
    for name in site["limits"]["exceptions"]:
        earlier = first.setdefault(name.lower(), name)
        if earlier != name:
            yield (
                f"limits:exceptions:{name}",
                name,
                f"is the same login as smtpout:limits:exceptions:{earlier}; remove one",
            )


def _nobody_to_ask(site: Site, facts: dict[str, Any]) -> Found:
    """The service is written for a Python that old distributions don't have."""
    for path in _given(site) if "python" not in facts["limits"] else ():
        yield path, None, "can't be had on this platform, whose Python is too old or unknown; remove it"


def _native(site: Site, _facts: dict[str, Any]) -> Found:
    main = site["postfix"]["main"]
    for path in _given(site)[:1]:
        for name in (*NATIVE, limits.CLASS if path == "limits" else clients.LIMITED):
            if name in main and not isinstance(main[name], dict):
                yield f"postfix:main:{name}", main[name], f"hides what smtpout:{path} says; use prepend or append"


def _given(site: Site) -> list[str]:
    """Return where the site has limits."""
    numbers = [number for number, each in enumerate(site["clients"]) if each.get("limit")]
    return [*(["limits"] if limits.of_logins(site["limits"]) else []), *(f"clients:{each}:limit" for each in numbers)]


RULES: list[Rule] = [
    (_of_a_day, ("limits",)),
    (_alike, ("limits",)),
    (_nobody_to_ask, ("limits", "clients")),
    (_native, ("limits", "clients", "postfix:main")),
]
