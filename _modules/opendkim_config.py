"""Check OpenDKIM's configuration (:mod:`smtpout_core.daemons.opendkim.check`)."""

from __future__ import annotations

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.opendkim import check as checks

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def check(
    staged: dict[str, str], config: str = "/etc/opendkim.conf", made_before: list[str] | None = None
) -> list[str]:
    """Return what is wrong with a configuration that isn't live yet, one complaint an item.

    ``opendkim -n`` opens the files of tables, but reads neither their lines nor ``Socket`` nor ``UserID``. Where a
    table refers to nothing, the daemon starts, answers Postfix's handshake, and then 451 to every message; so tables
    are compared here.

    CLI Example:

    .. code-block:: bash

        salt-call --local opendkim_config.check '{/etc/opendkim.conf: /tmp/staged/opendkim.conf}'

    :param staged: Where the new text of each live path lies.
    :param config: The live path of the configuration.
    :param made_before: Keys that a state before this one makes: a dry run doesn't miss them.
    :raises CommandNotFoundError: opendkim isn't installed.
    """
    coming = made_before or [] if __opts__["test"] else []
    return checks.complaints(staged, config, coming)
