"""What the filters are asked: whether the scanner knows a virus, and what each milter does to a message."""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import Any

from smtpout_core.daemons import clamav, milter
from smtpout_core.daemons.clamav import eicar
from smtpout_core.errors import RelayError
from smtpout_core.site.rules.promises import not_promised

STRANGER, HERE = "203.0.113.9", "127.0.0.1"
"""Whose mail is scanned, and whose is signed (RFC 5737)."""


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
        return _stops_a_virus(socket)
    if room == "opendkim" and "mail_is_signed" not in taken_back:
        return _signs(socket, settings["opendkim"]["signing_keys"][0])
    return f"milter protocol {milter.probe(socket)['version']} on {socket}"


def _acts(settings: dict[str, Any]) -> bool:
    """Tell whether a program of the site's runs for each virus (clamav-milter.conf(5)), and would at each look."""
    return "VirusAction" in settings["clamav"]["milter"]["options"]


def _stops_a_virus(socket: str) -> str:
    headers = _headers("") | {"Content-Type": "application/zip", "Content-Transfer-Encoding": "base64"}
    said = milter.treated(socket, STRANGER, "", headers, eicar.ATTACHED.replace(b"\n", b"\r\n"))
    if said.becomes == "accepted":
        raise RelayError(f"{socket} lets the EICAR test virus pass")
    return f"on {socket} the EICAR test virus is {said.becomes}"


def _signs(socket: str, key: dict[str, Any]) -> str:
    domain, selector = key["domain"], key["selector"]
    sender = f"postmaster@{domain}"
    said = milter.treated(socket, HERE, sender, _headers(sender), b"Nobody gets this.\r\n")
    for name, value in said.headers:
        tags = set(re.split(r"[;\s]+", value))
        if name.lower() == "dkim-signature" and {f"d={domain}", f"s={selector}"} <= tags:
            return f"on {socket} mail from {domain} is signed with {selector}"
    raise RelayError(f"on {socket} mail from {domain} is {said.becomes}, and not signed with {selector}")


def _headers(sender: str) -> dict[str, str]:
    address = f"<{sender or 'postmaster@smtpout.invalid'}>"
    return {
        "From": address, "To": address, "Subject": "smtpout looks at the relay", "Date": formatdate(),
        "Message-ID": "<look@smtpout.invalid>", "MIME-Version": "1.0",
    }  # fmt: skip
