"""What daemons have to agree on, and what their files would not say."""

from __future__ import annotations

import re
from typing import Any

from smtpout_core.site.rules.finding import MASKED, Found, Rule, Site

# Options that take an octal number: of 022 YAML makes 18, or 22.
OCTAL = {
    "opendkim:options": {"umask"},
    "clamav:milter": {"miltersocketmode"},
    "clamav:clamd": {"localsocketmode"},
}


# An option that would part a daemon from those that are configured to reach it, and the key that tells them all.
ELSEWHERE: dict[str, dict[str, str | None]] = {
    "opendkim:options": {
        "socket": "smtpout:opendkim:socket",
        "keytable": "smtpout:opendkim:domains",
        "signingtable": "smtpout:opendkim:domains",
        "userid": None,
    },
    "clamav:milter": {"miltersocket": "smtpout:clamav:socket", "clamdsocket": "smtpout:clamav:clamd_socket"},
    "clamav:clamd": {
        "localsocket": None,
        "tcpsocket": "smtpout:clamav:clamd_socket",
        "tcpaddr": "smtpout:clamav:clamd_socket",
        "user": None,
        "databasedirectory": None,
    },
    "clamav:freshclam": {"databasedirectory": None},
    "postfix:main": {"myhostname": "smtpout:hostname"},
}


def _options(site: Site, _facts: dict[str, Any]) -> Found:
    for path, options in ELSEWHERE.items():
        room, section = path.split(":")
        for name, value in site[room][section].items():
            if (folded := str(name).lower()) in options:
                instead = options[folded]
                right = f"{instead} says it for all daemons" if instead else "other daemons rely on the platform's"
                yield f"{path}:{name}", MASKED if section == "freshclam" else value, f"can't be set here: {right}"


def _octal(site: Site, _facts: dict[str, Any]) -> Found:
    """A number has been changed by YAML where it was written as octal, and nobody can tell any more."""
    for path, names in OCTAL.items():
        room, section = path.split(":")
        for name, value in site[room][section].items():
            if str(name).lower() in names and isinstance(value, int) and value > 7:
                yield f"{path}:{name}", value, "is read as an octal number; put it in quotes, such as '022'"


def _sockets(site: Site, facts: dict[str, Any]) -> Found:
    """Nothing can listen where something else does."""
    taken = {f"unix:{facts['clamav']['clamd']['socket']}": "clamd's own socket"}
    if "clamd_socket" in site["clamav"]:
        taken[site["clamav"]["clamd_socket"].rpartition(":")[2]] = "smtpout:clamav:clamd_socket"
    for room, default in (("clamav", facts["clamav"]["milter"]["socket"]), ("opendkim", facts["opendkim"]["socket"])):
        if site[room]["enabled"]:
            socket = site[room].get("socket", default)
            place = socket if socket.startswith("unix:") else re.split("[:@]", socket)[1]
            if place in taken:
                yield f"{room}:socket", socket, f"is taken by {taken[place]}; choose another"
            taken[place] = f"smtpout:{room}:socket"


RULES: list[Rule] = [
    (_options, tuple(f"{path}:" for path in ELSEWHERE)),
    (_octal, tuple(f"{path}:" for path in OCTAL)),
    (_sockets, ("clamav:enabled", "clamav:socket", "clamav:clamd_socket", "opendkim:enabled", "opendkim:socket")),
]
