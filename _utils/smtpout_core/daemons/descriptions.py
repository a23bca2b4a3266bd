"""All daemons of a site, each described in its room: a new one is a line here.

Apart from :mod:`smtpout_core.daemons`, so that who asks one daemon doesn't import all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smtpout_core.change.parts import Daemon, Ways
from smtpout_core.daemons import clamav, groups, haproxy, milter, saslauthd
from smtpout_core.daemons.clamav import daemon as clamav_daemon
from smtpout_core.daemons.haproxy import daemon as haproxy_daemon
from smtpout_core.daemons.limits import asking as limits
from smtpout_core.daemons.limits import daemon as limits_daemon
from smtpout_core.daemons.opendkim import daemon as opendkim_daemon
from smtpout_core.daemons.postfix import daemon as postfix_daemon
from smtpout_core.daemons.postfix import blocks, smtp
from smtpout_core.daemons.saslauthd import daemon as saslauthd_daemon
from smtpout_core.daemons.watch import daemon as watch_daemon
from smtpout_core.guard import openings
from smtpout_core.host import Host

DAEMONS: tuple[Callable[[dict[str, Any], Host], list[Daemon]], ...] = (
    haproxy_daemon.described,
    saslauthd_daemon.described,
    clamav_daemon.described,
    opendkim_daemon.described,
    limits_daemon.described,
    postfix_daemon.described,
    openings.described,
    watch_daemon.described,
)
"""In the order of activation: a partner before the one that is told of it."""

PROBES: Mapping[str, Callable[..., object]] = {
    "haproxy": haproxy.settled,
    "saslauthd": saslauthd.ping,
    "clamd": clamav.ping,
    "milter": milter.probe,
    "limits": limits.ping,
    "postfix": smtp.serves,
}
"""How a daemon is asked whether it serves."""

UNDO: Mapping[str, Callable[[dict[str, Any]], None]] = {
    groups.Membership.kind: groups.undo,
    openings.Openings.kind: openings.undo,
    blocks.Kept.kind: lambda _nothing: None,  # who is blocked stays so
    "signatures": lambda _nothing: None,  # what was fetched stays
}
"""How what a daemon needs besides files is taken back."""


def described(settings: dict[str, Any], host: Host) -> list[Daemon]:
    """Return the daemons of a site. One that it has switched off is not among them: its room is undone.

    :param settings: the site's.
    """
    return [daemon for room in DAEMONS for daemon in room(settings, host)]


def ways(labelled: Callable[[Sequence[str]], None] = lambda _paths: None) -> Ways:
    """Return what the transaction is told of these daemons.

    :param labelled: gives files that were put in place the label that the host's policy has for them.
    """
    return Ways(PROBES, UNDO, labelled)
