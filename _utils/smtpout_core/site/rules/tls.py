"""The certificates."""

from __future__ import annotations

from typing import Any

from smtpout_core.site.rules.finding import MASKED, Found, Rule, Site


def _sources(site: Site, _facts: dict[str, Any]) -> Found:
    """Each name's key and certificates come from one place."""
    tls = site["tls"]
    written: dict[str, str] = {}
    for name, own in tls["names"].items():
        other = written.setdefault(name.lower(), name)
        if other != name:
            yield f"tls:names:{name}", None, f"repeats smtpout:tls:names:{other}; remove one of them"
        if not own.keys() & {"chain", "chain_file"}:
            yield f"tls:names:{name}:chain_file", None, "missing; name a PEM file, or give chain, its text"
    for path, own in {"tls": tls, **{f"tls:names:{name}": own for name, own in tls["names"].items()}}.items():
        if own.keys() >= {"chain", "chain_file"}:
            yield f"{path}:chain", MASKED, f"and smtpout:{path}:chain_file don't go together; remove one of them"


RULES: list[Rule] = [(_sources, ("tls",))]
