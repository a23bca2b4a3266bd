"""What is asked of DNS, and when."""

from __future__ import annotations

from typing import Any

from smtpout_core.site.rules.finding import Found, Rule, Site


def _by_the_watch(site: Site, facts: dict[str, Any]) -> Found:
    """Nobody else compares between applies."""
    if "hours" in site["dns"]:
        if "python" not in facts["watch"]:
            yield "dns:hours", site["dns"]["hours"], "the watch compares, and this platform has none; leave it out"
        elif not site["watch"]["enabled"]:
            yield "dns:hours", site["dns"]["hours"], "and smtpout:watch:enabled: false don't go together: it compares"


RULES: list[Rule] = [(_by_the_watch, ("dns:hours", "watch:enabled"))]
