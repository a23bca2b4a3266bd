"""Ask HAProxy how the directory's servers are, and check its configuration with its own parser."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from smtpout_core import command, folder, sockets
from smtpout_core.errors import RelayError

BACKEND = "directory"
"""What the servers of the directory stand below in haproxy.cfg."""
SOCKETS = {"fd@3": "directory", "fd@4": "logins"}
"""What systemd hands over, by its name in haproxy.cfg, and the settings' names of it."""

WORDS = {
    "SOCKERR": "the relay can't even open a connection",
    "L4TOUT": "it takes no connection",
    "L4CON": "it takes no connection",
    "L6TOUT": "TLS isn't answered",
    "L6RSP": "TLS fails: is its certificate right?",
    "L7TOUT": "it takes connections and doesn't answer",
    "L7RSP": "it says that it can't serve now, or speaks no LDAP",
}
"""What the status of a check means (HAProxy's management guide, 9.1, field 36)."""


class Server(NamedTuple):
    """A server as HAProxy sees it: its name, its status, such as ``UP``, and what its last check has met."""

    name: str
    status: str
    check: str

    @property
    def up(self) -> bool:
        """Whether it is asked."""
        return self.status.startswith("UP")

    @property
    def settled(self) -> bool:
        """Whether it is known how it is: not before its first check, nor when the last was otherwise than before."""
        return self.status.startswith("MAINT") or (self.status in ("UP", "DOWN") and self.check not in ("", "INI"))

    @property
    def why(self) -> str:
        """What keeps it from being asked."""
        if self.status.startswith("MAINT"):
            return "its name had no address when HAProxy started; systemctl restart smtpout-haproxy once it has one"
        return WORDS.get(self.check, self.check)


def servers(socket: str, timeout: float = 3) -> list[Server]:
    """Return the servers of the directory.

    :param socket: where HAProxy says how it is (``stats socket``).
    :param timeout: seconds.
    :raises RelayError: it doesn't.
    """
    said = {
        FileNotFoundError: f"There is no socket {socket}: HAProxy isn't running",
        ConnectionRefusedError: f"Nothing listens on {socket}: HAProxy isn't running",
        TimeoutError: f"HAProxy didn't answer on {socket} within {timeout} s",
        EOFError: f"HAProxy closed the connection on {socket} without a whole answer",
        OSError: f"HAProxy can't be asked on {socket}",
    }
    with sockets.conversation(socket, timeout, said) as talk:
        talk.send(b"show stat\n")  # the answer ends with an empty line
        answer = talk.receive_to(b"\n\n").decode("utf-8", "replace")
    rows = csv.DictReader(answer.removeprefix("# ").splitlines())
    # "* " stands before the status of a check while the next one is under way.
    return [
        Server(row["svname"], row["status"], row["check_status"].removeprefix("* "))
        for row in rows
        if row.get("pxname") == BACKEND and row["svname"] not in ("FRONTEND", "BACKEND")
    ]


def settled(socket: str) -> list[Server]:
    """Return the servers as soon as it is known of each how it is: then HAProxy serves.

    :param socket: as of :func:`servers`.
    :raises RelayError: it isn't, or HAProxy doesn't answer.
    """
    found = servers(socket)
    if unknown := [server.name for server in found if not server.settled]:
        raise RelayError(f"HAProxy doesn't know yet how {', '.join(unknown)} is")
    return found


def aside(text: str, facts: Mapping[str, Any], place: str) -> str:
    """Return haproxy.cfg with sockets of its own, which everybody may use.

    :param text: as it is live.
    :param facts: the settings' of HAProxy.
    :param place: the folder that they get.
    """
    for handed, name in SOCKETS.items():
        text = text.replace(f"bind {handed}\n", f"bind unix@{place}/{name} mode 666\n")
    return text.replace(facts["status"], f"{place}/status")


def complaints(staged: Mapping[str, str], configuration: str, facts: Mapping[str, Any]) -> list[str]:
    """Return what HAProxy has against a configuration that isn't live yet.

    :param staged: where the new text of each live path lies.
    :param configuration: the live path.
    :param facts: the settings' of HAProxy.
    :raises NotInstalledError: there is no HAProxy.
    """
    program = command.which(facts["program"])
    with folder.private() as place:
        file = os.path.join(place, "haproxy.cfg")
        text = Path(staged[configuration]).read_text(encoding="utf-8")
        Path(file).write_text(aside(text, facts, place), encoding="utf-8")
        done = command.run([program, "-c", "-f", file])
    if not done.status:  # such as a name without an address is a warning, and no reason to go without HAProxy
        return []
    said = [line.replace(file, configuration) for line in done.said.splitlines() if line.startswith("[ALERT]")]
    found = [line.partition(" : ")[2] or line for line in said]
    return found or [f"haproxy -c ended with status {done.status} and said nothing"]
