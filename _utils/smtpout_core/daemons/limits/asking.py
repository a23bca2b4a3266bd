"""Ask the policy service how it is: what a probe, ``smtpout.verify`` and the watch do. Nothing is counted by it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from smtpout_core import sockets
from smtpout_core.daemons.limits import daemon
from smtpout_core.daemons.limits.policy import STATUS
from smtpout_core.errors import Doubt, RelayError

PASSES = "until it is back, mail passes uncounted"


def ping(socket: str, timeout: float = 3) -> dict[str, Any]:
    """Return what the service says of itself: ``limits``, ``accounts``, ``over`` and ``trouble``.

    :param socket: where it listens.
    :param timeout: seconds.
    :raises RelayError: it doesn't answer, or not as it should.
    """
    said = {
        TimeoutError: f"{socket} doesn't answer within {timeout:.0f} s; {PASSES}",
        EOFError: f"{socket} ends the connection; {PASSES}",
        OSError: f"{socket} can't be reached; {PASSES}",
    }
    with sockets.conversation(socket, timeout, said) as talk:
        talk.send(f"request={STATUS}\n\n".encode())
        answer = talk.receive_to(b"\n\n")
    try:
        status = json.loads(answer.removeprefix(b"action="))
    except ValueError:
        raise RelayError(f"{socket} answers otherwise than the formula's own service") from None
    return dict(status)


def seen(settings: dict[str, Any]) -> str:
    """Return how many logins and clients are counted; raise where nobody counts, or by other limits than the site's.

    :param settings: the site's.
    :raises Doubt: it counts, and something troubles it.
    """
    status = ping(settings["limits"]["socket"])
    if status["limits"] != hashlib.sha256(daemon.known(settings)).hexdigest():
        raise RelayError("it counts by other limits than the pillar's")
    if status["trouble"]:
        raise Doubt("\n".join(status["trouble"]))
    kinds = {"accounts": ("accounts", "over")} if settings["limits"]["of_logins"] else {}
    kinds |= {"entries of clients": ("clients", "clients_over")} if settings["limits"]["of_clients"] else {}
    return "; ".join(
        f"{status[counted]} {kind} have sent today, {status[over]} of them more than they may"
        for kind, (counted, over) in kinds.items()
    )
