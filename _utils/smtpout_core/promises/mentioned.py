"""Whom a site's own options and tables name: what holds for them alone shows only where they are asked as.

A table that rewrites one address, a filter that spares one network or login: whoever else is posed as meets neither.
"""

from __future__ import annotations

import ipaddress
import json
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from smtpout_core.daemons.postfix import named
from smtpout_core.site.rules.postfix import made_by

ADDRESS = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")  # as most are; plain in an LDAP filter
NETWORK = re.compile(r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?:/\d{1,3})?")
LITERAL = re.compile(r"\^?([\w@.-]+)\$?")
LARGEST = 1 << 20  # bytes of a table that is looked through
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def addresses(settings: dict[str, Any]) -> list[str]:
    """Return addresses of the site's domains that Postfix's own parameters and tables name; of no secret table.

    :param settings: the site's.
    """
    domains = {*settings["domains"], *settings["signed_domains"]}
    found = dict.fromkeys(each.lower() for each in ADDRESS.findall(_text(settings)))
    return [each for each in found if each.rpartition("@")[2] in domains]


def networks(settings: dict[str, Any]) -> list[Network]:
    """Return networks and addresses that they name, or the scanner's options, and that aren't loopback.

    :param settings: the site's.
    """
    found: dict[Network, None] = {}
    for each in NETWORK.findall(_text(settings) + json.dumps(settings["clamav"]["milter"]["options"])):
        try:
            network = ipaddress.ip_network(each, strict=False)
        except ValueError:
            continue
        if not (network.is_loopback or network.is_unspecified or network.is_multicast):
            found[network] = None
    return list(found)


def logins(settings: dict[str, Any]) -> list[str]:
    """Return the logins that the scanner is to spare (clamav-milter.conf(5), SkipAuthenticated), of an expression none.

    :param settings: the site's.
    """
    spared = LITERAL.fullmatch(str(settings["clamav"]["milter"]["options"].get("SkipAuthenticated") or ""))
    return [spared[1]] if spared else []


def _text(settings: dict[str, Any]) -> str:
    """Return what a site says natively to Postfix, in its pillar and in files of its own, as one text."""
    postfix = settings["postfix"]
    tables = [table["entries"] for name, table in postfix["maps"].items() if not (made_by(name) or table["secret"])]
    own = {table["path"] for table in postfix["maps"].values()}
    texts = [_read(Path(path)) for path in named.tables(postfix) if path not in own]
    said = json.dumps([postfix["main"], postfix["master"], tables, texts], default=str, ensure_ascii=False)
    return re.sub(r"\\+\.", ".", said)  # as an expression has them: usuario01@domain01\.dom


def _read(path: Path) -> str:
    """Return a file that anybody may read; an empty text of others, which hold passwords, and of what is no table."""
    with suppress(OSError):
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size <= LARGEST:
            return path.read_text(encoding="utf-8", errors="replace")
    return ""
