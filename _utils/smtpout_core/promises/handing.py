"""Whether what mail is handed on to takes it: asked by each service's own client, as it is configured.

verify(8) has a probe go there: connection, TLS, login, MAIL and RCPT, and no message. Where to is what the trial has
seen, by a table that comes in front of the site's own routes for probes alone (ADDRESS_VERIFICATION_README).
"""

from __future__ import annotations

import re
import smtplib
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from smtpout_core import command
from smtpout_core.daemons.postfix import aside
from smtpout_core.errors import RelayError

TABLE = "handing"
DOOR = f"{aside.DOOR}handing"
PATIENCE = 10
"""Seconds that a probe may take, to be looked at each second."""
AT_ONCE = 16
BY_THE_RECIPIENT = "in reply to RCPT TO"
"""How smtp(8) says that it got as far as that."""

MAIN = {"address_verify_map": "", "address_verify_sender": "<>", "address_verify_sender_ttl": "0s"}
ASKING = {
    "smtpd_recipient_restrictions": "reject_unverified_recipient",
    "address_verify_poll_count": str(PATIENCE),
    "address_verify_poll_delay": "1s",
    "unverified_recipient_reject_code": "550",
    "unverified_recipient_defer_code": "450",
    "unverified_recipient_reject_reason": "",
    "unverified_recipient_defer_reason": "",
    "unverified_recipient_tempfail_action": "defer",
}


class Handed(NamedTuple):
    """A message that goes on: by which service, to which nexthop, for whom."""

    service: str
    nexthop: str
    recipient: str


def client(service: str) -> str:
    """Return the name of a service's client as it is configured, which its own name is not the name of aside."""
    return f"real-{service}"


def main(map_type: str) -> dict[str, str]:
    """Return the parameters that probes need.

    :param map_type: of tables that postmap(1) makes.
    """
    return MAIN | {"address_verify_transport_maps": f"{map_type}:/tmp/{TABLE}"}


def route(tmp: Path, map_type: str, handed: Iterable[Handed] = ()) -> None:
    """Write where probes go.

    :param tmp: what is /tmp aside.
    :raises RelayError: postmap(1) can't make the table.
    """
    path = tmp.resolve() / TABLE
    lines = [f"{each.recipient.lower()} {client(each.service)}:{each.nexthop}\n" for each in handed]
    path.write_text("".join(lines), encoding="utf-8")
    path.chmod(0o644)
    done = command.run([command.which("postmap"), f"{map_type}:{path}"])
    if done.status != 0:
        raise RelayError(done.said.strip())


def asked(doors: Path, handed: Collection[Handed], domains: Collection[str]) -> Mapping[Handed, str]:
    """Return what keeps mail from being taken, an empty text where nothing does.

    :param doors: the folder of the sockets.
    :param handed: what :func:`route` knows of.
    :param domains: whose recipients are known there. With others, what counts is how far the client gets.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = pool.map(lambda each: _asked(str(doors / DOOR), each.recipient), handed)
    return dict(_faults(zip(handed, said, strict=True), domains))


def with_tls(faults: Mapping[Handed, str], log: Iterable[str]) -> dict[Handed, str]:
    """Return faults, and what was taken without the TLS that was tried.

    A probe goes on in clear text at once, where a message waits for its next turn.

    :param faults: as :func:`asked` returned them.
    :param log: what has been logged since.
    """
    failed, recipients = {}, {}
    for line in log:
        name, _, words = line.partition(": ")
        if words.startswith("Cannot start TLS: "):
            failed[name] = words
        elif match := re.match(r"to=<([^>]*)>", words):
            recipients[name] = match[1]
    said = {recipients[name]: words for name, words in failed.items() if name in recipients}
    return {each: fault or said.get(each.recipient, "") for each, fault in faults.items()}


def _faults(said: Iterable[tuple[Handed, str]], domains: Collection[str]) -> Iterator[tuple[Handed, str]]:
    for each, words in said:
        ours = each.recipient.rpartition("@")[2] in domains
        yield each, words if ours or BY_THE_RECIPIENT not in words else ""


def _asked(door: str, recipient: str) -> str:
    """Return why a recipient isn't taken."""
    try:
        with aside.Session(timeout=2 * PATIENCE) as session:
            session.connect(door)
            session.ehlo("localhost")
            session.docmd("MAIL", "FROM:<>")
            code, text = session.docmd("RCPT", f"TO:<{recipient}>")
    except (OSError, smtplib.SMTPException) as error:
        return f"the probe ends: {error}"
    words = " ".join(text.decode(errors="replace").split())
    return "" if code == 250 else words.partition("Recipient address rejected: ")[2] or f"{code} {words}"
