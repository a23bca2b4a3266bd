"""What the filters are asked: whether the scanner knows a virus, and what each milter does to a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from typing import Any

from smtpout_core.daemons import clamav, milter
from smtpout_core.daemons.clamav import eicar
from smtpout_core.daemons.postfix.smtp import OUTSIDE
from smtpout_core.errors import RelayError
from smtpout_core.site.rules.promises import not_promised

STRANGER, HERE = "203.0.113.9", "127.0.0.1"
"""Whose mail is scanned, and whose is signed (RFC 5737)."""
DOMAINS, AT_ONCE, SHOWN = 32, 8, 3
"""Domains whose mail is to be signed: how many are asked for, how many at once, and of how many it is said."""
PLAIN = b"Nobody gets this.\r\n"
INFECTED = {"Reject": "refused", "Defer": "put off", "Blackhole": "discarded", "Quarantine": "quarantined"}
"""What becomes of a virus by ``OnInfected`` (clamav-milter.conf(5))."""


def scan(settings: dict[str, Any]) -> str:
    """Return the name that the scanner gives the EICAR test file."""
    virus = clamav.instream(f"unix:{settings['clamav']['clamd']['socket']}", eicar.FILE, timeout=10)
    if not virus:
        raise RelayError("clamd answers, but does not know the EICAR test virus: are its signatures whole?")
    return virus


def answer(settings: dict[str, Any], room: str) -> str:
    """Return what a milter does to the message that it is there for; nobody gets that message."""
    socket, taken_back = settings[room]["socket"], not_promised(settings)
    if room == "clamav" and "viruses_are_stopped" not in taken_back and not _acts(settings):
        return _scans(settings, socket)
    if room == "opendkim" and "mail_is_signed" not in taken_back:
        return _all_sign(socket, settings["opendkim"]["signing_keys"])
    return f"milter protocol {milter.probe(socket)['version']} on {socket}"


def _acts(settings: dict[str, Any]) -> bool:
    """Tell whether a program of the site's runs for each virus (clamav-milter.conf(5)), and would at each look."""
    return "VirusAction" in settings["clamav"]["milter"]["options"]


def _scans(settings: dict[str, Any], socket: str) -> str:
    """Return what becomes of a virus; raise where that isn't what the site wants, or of other mail the same."""
    domain, own = settings["domains"][0], settings["clamav"]["milter"]["options"]
    envelope, headers = (OUTSIDE, f"postmaster@{domain}"), _headers(OUTSIDE)
    harmless = milter.treated(socket, STRANGER, envelope, headers, PLAIN)
    if harmless.becomes != "accepted":
        raise RelayError(f"on {socket} mail without a virus is {harmless.becomes}")
    packed = headers | {"Content-Type": "application/zip", "Content-Transfer-Encoding": "base64"}
    virus = milter.treated(socket, STRANGER, envelope, packed, eicar.ATTACHED.replace(b"\n", b"\r\n"))
    wanted = INFECTED.get(str(own.get("OnInfected", settings["clamav"]["on_infected"])), virus.becomes)
    if virus.becomes in ("accepted", "") or virus.becomes != wanted:
        raise RelayError(f"on {socket} the EICAR test virus is {virus.becomes}, and should be {wanted}")
    return f"on {socket} the EICAR test virus is {virus.becomes}"


def _all_sign(socket: str, keys: Sequence[dict[str, Any]]) -> str:
    """Return of how many domains the mail is signed, so many are asked; a key may be closed to the daemon alone."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        faults = [fault for fault in pool.map(partial(_unsigned, socket), keys[:DOMAINS]) if fault]
    if faults:
        raise RelayError("\n".join(faults[:SHOWN]))
    return f"on {socket} mail is signed, from {len(keys[:DOMAINS])} of {len(keys)} domains as asked"


def _unsigned(socket: str, key: dict[str, Any]) -> str:
    """Return why mail from a key's domain isn't signed with it; an empty text where it is."""
    domain, selector = key["domain"], key["selector"]
    sender = f"postmaster@{domain}"
    said = milter.treated(socket, HERE, (sender, OUTSIDE), _headers(sender), PLAIN)
    for name, value in said.headers:
        tags = set(re.split(r"[;\s]+", value))
        if name.lower() == "dkim-signature" and {f"d={domain}", f"s={selector}"} <= tags:
            return ""
    return f"on {socket} mail from {domain} is {said.becomes}, and not signed with {selector}"


def _headers(sender: str) -> dict[str, str]:
    return {
        "From": f"<{sender}>", "To": f"<{OUTSIDE}>", "Subject": "smtpout looks at the relay", "Date": formatdate(),
        "Message-ID": "<look@smtpout.invalid>", "MIME-Version": "1.0",
    }  # fmt: skip
