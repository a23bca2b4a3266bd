"""Block an account at once, and take that back: for a stolen password, or a program that went wild.

Nothing is applied, and no daemon is restarted: the next recipient of the account's is refused, in sessions too that
were open before, on each port, in every form of its login. A block outlives applies and reboots until it is taken back.
The work is done in :mod:`smtpout_core.daemons.postfix.blocking`.
"""

from __future__ import annotations

from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors, host
from smtpout_core.daemons.postfix import blocking

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def block(login: str, reason: str = "") -> dict[str, Any]:
    """Refuse all mail of an account from now on, and put on hold what it has in the queue.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_account.block usuario01 reason='its password was phished'

    Its user still logs in, and is told with each message that the account is blocked: a refused login would have mail
    programs ask for a password. What programs on the relay hand to sendmail(1) has no login.

    :param login: any form of it: the account's name, its principal name, its address, as users may log in.
    :param reason: why, for whoever looks later.
    :return: ``blocked`` (the forms, as the directory has them), ``held`` (how many messages this has put on hold) and
        ``said`` (what to know: that the directory doesn't know it, say).
    :raises CommandExecutionError: it isn't blocked, or not on every port, and why.
    """
    return blocking.block(_right(), login, str(reason), host.who())


@_told
def unblock(login: str) -> dict[str, Any]:
    """Take the mail of an account again, and let go the messages that its block has put on hold, and no others.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_account.unblock usuario01

    Look at what is held first, and delete what isn't its user's own (``postqueue -p``, ``postsuper -d ID``).

    :param login: any form of it.
    :return: ``unblocked`` (the forms), ``released`` (how many messages) and ``said``.
    :raises CommandExecutionError: it isn't blocked, or by the pillar alone.
    """
    return blocking.unblock(_right(), login)


@_told
def blocked() -> list[dict[str, Any]]:
    """Return who is blocked, by command and by the pillar.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_account.blocked

    :return: of each ``login`` and ``by`` (who did it, or the pillar's key); of one blocked by command ``since``,
        ``days``, ``names`` (the forms), ``reason`` and how many messages are ``held``, too.
    :raises CommandExecutionError: what is remembered can't be read.
    """
    return blocking.listed(_right())


def _right() -> dict[str, Any]:
    """Return the site's settings."""
    settings: dict[str, Any] = __salt__["smtpout.settings"]()
    if not settings["valid"]:
        raise CommandExecutionError("\n".join(settings["errors"]))
    return settings
