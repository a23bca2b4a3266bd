"""Hand what is in the queue of a drained relay over to another one.

For that while, Postfix is told of one way for all mail, and that nothing bounces: what the other relay refuses comes
back to the site's own routes. What is on hold stays there. Messages are tried again as they are, not requeued: they
have been scanned and signed, and keep the names under which the log has them.
"""

from __future__ import annotations

import ipaddress
import re
import smtplib
import socket
import time
from pathlib import Path
from typing import Any

from smtpout_core import listener
from smtpout_core.change.passing import passing
from smtpout_core.daemons.postfix import draining, listen, queue, smtp
from smtpout_core.daemons.postfix import nexthop as nexthops
from smtpout_core.daemons.postfix.nexthop import Nexthop
from smtpout_core.errors import RelayError, os_errors_told
from smtpout_core.host import Host

WAY = """
# Put here by smtpout_drain.hand_over while it runs: all mail that isn't local goes there, and nothing of it bounces. Of
# what is set twice the last one counts (postconf(5)).
relayhost = {nexthop}
transport_maps =
sender_dependent_relayhost_maps =
sender_dependent_default_transport_maps =
default_transport = smtp
relay_transport = smtp
smtp_fallback_relay =
defer_transports =
soft_bounce = yes
maximal_queue_lifetime = 100d
bounce_queue_lifetime = 100d
"""
WRITTEN = re.compile(r"\[[\w.:-]+\](?::\w+)?|[\w.-]+(?::\w+)?")
"""A nexthop without a transport (postconf(5), relayhost)."""
EACH = 2.0
"""Seconds between two flushes: Postfix forgets what it couldn't reach with each of them."""


def hand_over(settings: dict[str, Any], host: Host, nexthop: str, seconds: float) -> dict[str, Any]:
    """Hand what is in the queue over to another relay, then go back to the site's own routes.

    :param settings: the site's.
    :param nexthop: as of ``relayhost`` (postconf(5)); an address may be without brackets.
    :param seconds: after which what is left stays here.
    :return: as of :func:`.draining.status`; how many messages have ``left``; ``empty``, whether nothing is left but
        what is held; and the ``reasons`` why recipients wait, how many each.
    :raises RelayError: the relay isn't drained or doesn't run, or the other one wouldn't relay for it.
    """
    draining.drained_or_told()
    if draining.stopped(settings):
        raise RelayError("Postfix doesn't run, so nothing leaves; start it first, it stays drained.")
    where, directory = _right(nexthop), settings["postfix"]["directory"]
    _taken(settings, nexthops.read(f"smtp:{where}"))
    main = Path(directory, "main.cf")
    with draining.alone(host) as memory:
        with os_errors_told():
            text = main.read_bytes() + WAY.format(nexthop=where).encode()
        before = queue.names(directory)
        with passing(memory, "postfix", {str(main): text}, lambda: draining.reload(settings)):
            _left(directory, seconds)
            reasons = queue.waiting(directory).reasons
        after = queue.names(directory)
    found = draining.status(settings, host)
    return {**found, "left": len(before - after), "empty": not after, "reasons": reasons}


def _right(nexthop: object) -> str:
    written = str(nexthop).strip()
    try:
        return f"[{ipaddress.ip_address(written)}]"
    except ValueError:
        pass
    if not WRITTEN.fullmatch(written):
        raise RelayError(f"{nexthop!r} is no nexthop; right is another relay, such as [172.16.11.97]:25")
    return written


def _taken(settings: dict[str, Any], nexthop: Nexthop) -> None:
    """Raise where no host of a nexthop would relay for this host, or where it is this host itself.

    :raises RelayError: what each says.
    """
    local, faults = listener.local_addresses(), []
    ports = {each.port for each in listen.endpoints(settings["postfix"]["directory"])}
    for name in nexthops.hosts(nexthop)[: nexthops.HOSTS]:
        try:
            port = int(nexthop.port) if nexthop.port.isdigit() else socket.getservbyname(nexthop.port)
            addresses = {str(each[4][0]) for each in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)}
            if port in ports and any(each in local or ipaddress.ip_address(each).is_loopback for each in addresses):
                raise RelayError(f"{name}:{port} is this relay; name another one")
            with smtplib.SMTP(name, port, timeout=nexthops.PATIENCE) as client:
                client.ehlo_or_helo_if_needed()
                for words in (f"FROM:<postmaster@{settings['domains'][0]}>", f"TO:<{smtp.OUTSIDE}>"):
                    code, text = client.docmd("MAIL" if words.startswith("FROM") else "RCPT", words)
                    if code != 250:
                        raise smtplib.SMTPResponseException(code, text)
        except (OSError, smtplib.SMTPException) as error:
            faults.append(f"{name}:{nexthop.port}: {smtp.words(error)}")
        else:
            return
    said = "; ".join(faults) or "no host takes its mail"
    raise RelayError(
        f"{nexthop.host} doesn't relay for this host: {said}. On another relay of the site, smtpout:networks has to "
        "have this host's address"
    )


def _left(directory: str, seconds: float) -> None:
    """Have all leave, or as much as does within some seconds."""
    ends, flushes = time.monotonic() + seconds, 0.0
    while queue.names(directory) and (now := time.monotonic()) < ends:
        if now >= flushes:
            queue.flush(directory)
            flushes = now + EACH
        time.sleep(max(0.0, min(draining.LOOK, ends - now)))
