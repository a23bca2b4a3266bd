"""Say what would become of a message, and what decides it: asked of a trial of the running configuration."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smtpout_core.errors import RelayError, os_errors_told
from smtpout_core.promises import chain as chains
from smtpout_core.promises import followed, judged
from smtpout_core.promises.promise import SENDMAIL, SERVERS, SUBMISSION, Content, Question

# What smtpd -v calls the lists of restrictions (smtpd_check.c), and the parameters that hold them.
LISTS = {
    "Client host": "smtpd_client_restrictions",
    "Helo command": "smtpd_helo_restrictions",
    "Sender address": "smtpd_sender_restrictions",
    "Recipient address": "smtpd_relay_restrictions or smtpd_recipient_restrictions",
    "Data command": "smtpd_data_restrictions",
    "End-of-data": "smtpd_end_of_data_restrictions",
}
VERDICTS = {"1": "lets it pass", "2": "refuses it"}
"""Results of a restriction; any other is none (smtpd_check.c)."""

STEP = re.compile(
    r">>> START (?P<list>.+?) RESTRICTIONS <<<"
    r"|generic_checks: name=(?P<check>\S+) status=(?P<status>[12])$"
    r"|maps_find: (?P<title>.+?): (?P<table>\S+)\(0,[^)]*\): (?P<key>.+?) = (?P<value>.*)"
)
LAST_LINES = 0.2  # seconds in which what has been logged is read


def explained(
    settings: dict[str, Any],
    live: Mapping[str, str],
    client: str,
    sender: str,
    recipient: str,
    login: str = "",
    service: str = "",
    path: str = "",
) -> dict[str, Any]:
    """Return what would become of a message, and which restriction and table decides it; nothing is sent.

    :param settings: the site's.
    :param live: where the files of the running configuration lie, by their paths.
    :param client: its address, or ``sendmail`` for a program on the relay.
    :param sender: of the envelope; an empty text is the null sender.
    :param recipient: the whole address.
    :param login: the name that the client has logged in with.
    :param service: by which it comes, as master.cf has it. Default, submission/inet with a login and smtp/inet without.
    :param path: a file with the message (RFC 5322). Default, a line of text from the sender.
    :raises RelayError: the client is no address, or no trial can be had.
    """
    door = SENDMAIL if client == SENDMAIL else service or (SUBMISSION if login else SERVERS)
    address = "127.0.0.1" if client == SENDMAIL else _address(client)
    question = Question(address, door, sender, recipient, content=Content.PLAIN, login=login)
    with os_errors_told(path or "a file"):
        text = Path(path).read_bytes().replace(b"\r\n", b"\n") if path else b""
        with chains.started(settings, live, [address], verbose=True) as chain:
            if door != SENDMAIL and door not in chain.doors:
                raise RelayError(f"master.cf has no service {door}; it has {', '.join(chain.doors)}")
            seen = followed.asked(chain, [question], "", text)[question]
            time.sleep(LAST_LINES)
            logged = [what for who, what in chain.log if who == "smtpd"]
    found: dict[str, Any] = {"asked": str(question), "answer": str(seen.reply)}
    secret = [table["path"] for table in settings["postfix"]["maps"].values() if table["secret"]]
    decided: list[str] = []
    looked_up: list[str] = []
    for kind, line in _steps(logged):
        if not any(place in line for place in secret):
            (decided if kind == "decided" else looked_up).append(line)
    found |= {name: list(dict.fromkeys(lines)) for name, lines in (("decided", decided), ("found", looked_up)) if lines}
    if seen.arrived:
        found["leaves"] = [f"by {each.service}:{each.nexthop} for {each.recipient}" for each in seen.arrived]
        found["signed"] = [judged.named(signer) for signer in judged.signatures(seen.arrived[0].message)] or "by nobody"
    elif seen.reply.taken:
        found["leaves"] = seen.elsewhere or "nothing of it leaves"
    return found


def _address(client: str) -> str:
    try:
        return str(ipaddress.ip_address(client))
    except ValueError:
        raise RelayError(f"{client!r} is no address; right would be 203.0.113.9, or {SENDMAIL}") from None


def _steps(logged: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what decided, and what a table held, in the order of the dialogue."""
    where = ""
    for match in filter(None, map(STEP.match, logged)):
        if match["list"]:
            where = LISTS.get(match["list"], match["list"])
        elif match["check"]:
            yield "decided", f"{match['check']} in {where} {VERDICTS[match['status']]}"
        else:
            title = "" if match["title"] == match["table"] else f"{match['title']}: "
            yield "found", f"{title}{match['table']} has {match['key']}: {match['value']}"
