"""What the filters are asked: whether the scanner knows a virus, and whether each milter answers."""

from __future__ import annotations

from typing import Any

from smtpout_core.daemons import clamav, milter
from smtpout_core.errors import RelayError


def scan(settings: dict[str, Any]) -> str:
    """Return the name that the scanner gives the EICAR test file."""
    eicar = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    virus = clamav.instream(f"unix:{settings['clamav']['clamd']['socket']}", eicar, timeout=10)
    if not virus:
        raise RelayError("clamd answers, but does not know the EICAR test virus: are its signatures whole?")
    return virus


def answer(settings: dict[str, Any], room: str) -> str:
    """Return what a milter answers to Postfix's first question."""
    socket = settings[room]["socket"]
    return f"milter protocol {milter.probe(socket)['version']} on {socket}"
