"""The virus scanner: what it may do, what it knows, what it gets to see."""

from __future__ import annotations

import re
from typing import Any

from smtpout_core.site.rules.finding import MASKED, Found, Rule, Site


def _confined(site: Site, facts: dict[str, Any]) -> Found:
    """What a daemon's AppArmor profile refuses keeps it from starting, or from scanning."""
    for daemon, allowed in facts.get("apparmor", {}).items() if site["apparmor"]["checked"] else ():
        patterns = {name.lower(): globs for name, globs in allowed.items()}
        for name, value in site["clamav"][daemon].items():
            globs = patterns.get(str(name).lower())
            if globs is not None and value is not None and not any(_matches(str(value), each) for each in globs):
                right = f"right is {' or '.join(globs)}" if globs else "right is to leave it out"
                yield (
                    f"clamav:{daemon}:{name}",
                    MASKED if daemon == "freshclam" else value,
                    (
                        f"is not allowed by the package's AppArmor profile; {right}. Where the host has no AppArmor, "
                        "or rules of the site's own allow it, set smtpout:apparmor:checked to false"
                    ),
                )


def _matches(path: str, glob: str) -> bool:
    """Tell whether a path is one that AppArmor's form means: ``*`` stops at a slash, ``**`` doesn't (apparmor.d(5))."""
    pattern = re.escape(glob).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, path) is not None


def _signatures(site: Site, _facts: dict[str, Any]) -> Found:
    """A scanner without signatures doesn't start, and a site without a mirror gets none."""
    sources, options = site["clamav"]["signatures"], site["clamav"]["freshclam"]
    if not site["clamav"]["enabled"]:
        return
    if not {"DatabaseMirror", "PrivateMirror"} & options.keys() and not sources["mirrors"] + sources["private_mirrors"]:
        yield (
            "clamav:signatures:mirrors",
            None,
            "empty; right is a mirror here or in smtpout:clamav:signatures:private_mirrors",
        )
    more = options.keys() & {"DatabaseCustomURL", "ExtraDatabase", "ExcludeDatabase"}
    if {"main", "daily", "bytecode"} <= {*sources["exclude"]} and not sources["urls"] and not more:
        yield (
            "clamav:signatures:exclude",
            None,
            "leaves no database; keep one or name others in smtpout:clamav:signatures:urls",
        )


def _unscannable(site: Site, _facts: dict[str, Any]) -> Found:
    """Clamd reports both alike, and the milter does one thing with them."""
    clamav = site["clamav"]
    if clamav["enabled"] and clamav["on_unscannable"] not in ("Accept", clamav["on_infected"]):
        infected = clamav["on_infected"]
        same = f", or {infected}, as smtpout:clamav:on_infected says" if infected in ("Reject", "Quarantine") else ""
        yield (
            "clamav:on_unscannable",
            clamav["on_unscannable"],
            f"isn't what is done with infected mail, from which the scanner doesn't tell it; right is Accept{same}",
        )


LOOKED_AT = ("MaxFileSize", "MaxScanSize")
"""Options of clamd's by which it takes for clean what is larger; their defaults are 100M and 400M."""


def _sizes(site: Site, _facts: dict[str, Any]) -> Found:
    """clamav-milter lets pass unscanned what is over MaxFileSize, and clamd refuses what is over StreamMaxLength."""
    if not site["clamav"]["enabled"]:
        return
    message = _bytes(site["postfix"]["main"].get("message_size_limit"), 26214400)
    scanned = _bytes(site["clamav"]["milter"].get("MaxFileSize"), 26214400)
    streamed = _bytes(site["clamav"]["clamd"].get("StreamMaxLength"), 104857600)
    if message is None or scanned is None or streamed is None:
        return  # the daemon's own parser says it
    if not 0 < message <= scanned:
        yield (
            "postfix:main:message_size_limit",
            message,
            (
                f"lets messages in that pass unscanned: the milter looks at {scanned} bytes; raise "
                "smtpout:clamav:milter:MaxFileSize or lower this"
            ),
        )
    if scanned > streamed:
        yield "clamav:clamd:StreamMaxLength", streamed, f"is below what the milter sends, {scanned} bytes; raise it"
    for name in LOOKED_AT:
        looked_at = _bytes(site["clamav"]["clamd"].get(name), message)
        if looked_at is not None and 0 < looked_at < message:  # 0 is no limit (clamd.conf(5))
            right = f"is below message_size_limit, {message}: what is over it passes unscanned; raise it"
            yield f"clamav:clamd:{name}", looked_at, right


def _bytes(written: object, default: int) -> int | None:
    """Return a size of ClamAV's, or a number of Postfix's; None for what isn't one."""
    if written is None:
        return default
    parts = re.fullmatch(r"(\d{1,15})([KkMm]?)", str(written))
    return int(parts[1]) * {"": 1, "k": 1024, "m": 1048576}[parts[2].lower()] if parts else None


RULES: list[Rule] = [
    (_unscannable, ("clamav:enabled", "clamav:on_unscannable", "clamav:on_infected")),
    (_confined, ("apparmor:checked", "clamav:clamd:", "clamav:milter:", "clamav:freshclam:")),
    (_signatures, ("clamav:enabled", "clamav:signatures", "clamav:freshclam:")),
    (
        _sizes,
        (
            *("clamav:enabled", "clamav:milter:MaxFileSize", "clamav:clamd:StreamMaxLength"),
            *(f"clamav:clamd:{name}" for name in LOOKED_AT),
            "postfix:main:message_size_limit",
        ),
    ),
]
