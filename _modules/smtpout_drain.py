"""Drain a relay for maintenance or for good, and have it serve again.

New clients are sent away with 421, on which they come again or go elsewhere; who has a session goes on until it ends;
what programs on the relay hand to sendmail(1), or to a loopback address, is still taken. A drain outlives applies, ways
back and reboots until it is ended: an apply meanwhile changes what it has to, and says so.

The work is done in :mod:`smtpout_core.daemons.postfix`, by ``draining``, ``handover`` and ``rescue``.
"""

from __future__ import annotations

from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors, host, verify
from smtpout_core.change.transaction import Transaction
from smtpout_core.daemons import descriptions
from smtpout_core.daemons.postfix import draining, handover
from smtpout_core.daemons.postfix import rescue as rescuing

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def start(reason: str = "") -> dict[str, Any]:
    """Send new clients away with 421 from now on, on each port that strangers reach.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_drain.start reason='new kernel'

    What a run that was cut short has left is undone first. Again, it finishes what was cut short.

    :param reason: why, for whoever looks later.
    :return: as of :func:`status`.
    :raises CommandExecutionError: it isn't drained, or not at each port, and why.
    """
    site = _right()
    _recovered()
    return draining.start(site, _host(), host.who(), str(reason))


@_told
def status() -> dict[str, Any]:
    """Return whether the relay is drained, and what is left on it.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_drain.status

    :return: ``drained`` (``since``, ``by``, ``reason``; null where it isn't), how many ``sessions`` are open, how many
        messages of each kind are in the ``queue`` and leave by themselves, and how many are ``held``, which don't: by
        a ``block`` of an account, by the scanner (``quarantine``), by ``others``; and ``said``, what to know.
    """
    return draining.status(_right(), _host())


@_told
def finish(seconds: float = 300) -> dict[str, Any]:
    """Wait until sessions have ended and mail has left, trying what waits every ten seconds.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_drain.finish seconds=60

    A session may idle for five minutes (``smtpd_timeout``). What is held is left alone.

    :param seconds: after which what is left is told. Nothing is ended by force.
    :return: as of :func:`status`, ``empty`` (whether nothing is left but what is held) and the ``reasons`` why
        recipients wait, how many each. Where it isn't empty, salt-call's exit status is 1.
    :raises CommandExecutionError: the relay isn't drained.
    """
    return _left(draining.finish(_right(), _host(), float(seconds)))


@_told
def hand_over(nexthop: str, seconds: float = 300) -> dict[str, Any]:
    """Hand what is left in the queue over to another relay, then go back to the site's own routes.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_drain.hand_over 172.16.11.97

    The other relay has to relay for this host (``smtpout:networks`` there), which is asked first. It scans and signs
    once more, and its queue's lifetime begins anew. Meanwhile nothing bounces: what it refuses stays. So does what is
    on hold, mail for the relay itself, and mail that a rule of the site's own leads elsewhere (FILTER in access(5)).

    :param nexthop: as of ``relayhost`` (postconf(5)): an address, ``[relay2.domain01.dom]:25``.
    :param seconds: after which what is left stays here.
    :return: as of :func:`finish`, and how many messages have ``left``. Where it isn't empty, salt-call's exit status
        is 1.
    :raises CommandExecutionError: the relay isn't drained or doesn't run, or the other one wouldn't relay for it.
    """
    site = _right()
    _recovered()
    return _left(handover.hand_over(site, _host(), nexthop, float(seconds)))


@_told
def rescue(spool: str) -> dict[str, Any]:
    """Take over the queue of a dead relay, from its disk, into this relay's Postfix, which is stopped and has no mail.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_drain.rescue /mnt/var/spool/postfix

    Nothing is taken twice: a marker in that folder says that it was. What was cut short is finished by the same call.
    Then start Postfix: what is on hold stays so, all other mail is tried at once.

    :param spool: that relay's queue folder: its disk's, mounted, or a copy with owners and modes.
    :return: how many ``messages`` were taken over, ``held`` of them, ``unfinished`` ones that were not (nobody was told
        that they are taken), and what was ``left`` there, by folder.
    :raises CommandExecutionError: it isn't one, somebody has it, or this relay's Postfix runs or has mail.
    """
    site = _right()
    _recovered()
    return rescuing.rescue(site, _host(), spool)


@_told
def ready(force: bool = False) -> dict[str, Any]:
    """Take new sessions again, once the relay has shown that it does what the site says.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_drain.ready

    Asked are the running daemons, as an apply does at its end; then each port, as a client from elsewhere would.

    :param force: take sessions though the relay doesn't do what it should.
    :return: as of :func:`status`.
    :raises CommandExecutionError: it doesn't, and stays drained; or a port doesn't serve.
    """
    site = _right()
    _recovered()
    failing = {} if force or draining.stopped(site) else verify.failing(site)
    failing.pop(verify.SESSIONS, None)  # a drain that was cut short: that it is mended shows below
    if failing:
        said = "\n".join(f"  {check}: {seen}" for check, seen in failing.items())
        raise CommandExecutionError(f"The relay doesn't do what it should, and stays drained (force=True):\n{said}")
    return draining.ready(site, _host())


def _left(found: dict[str, Any]) -> dict[str, Any]:
    """Return what was found; where something is left, as a failure."""
    if not found["empty"]:
        __context__["retcode"] = 1
    return found


def _recovered() -> None:
    """Undo what a run that was cut short has left: its way back would bring files from before the drain."""
    Transaction(_host(), descriptions.ways()).recover()


def _right() -> dict[str, Any]:
    """Return the site's settings."""
    settings: dict[str, Any] = __salt__["smtpout.settings"]()
    if not settings["valid"]:
        raise CommandExecutionError("\n".join(settings["errors"]))
    return settings


def _host() -> host.Host:
    return host.minion(__opts__, __grains__, __salt__["cp.cache_file"], __context__.get(host.SALTENV))
