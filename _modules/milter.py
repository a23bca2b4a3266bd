"""Ask a mail filter (milter) whether it serves (:mod:`smtpout_core.daemons.milter`)."""

from __future__ import annotations

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons import milter

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def probe(socket: str, timeout: float = 5) -> dict[str, int]:
    """Greet a milter as an MTA does, and return what it answers: ``version``, ``actions`` and ``steps``.

    A milter may accept connections long before it serves them, or when it no longer does; only the answer tells.

    CLI Example:

    .. code-block:: bash

        salt-call --local milter.probe unix:/run/opendkim/opendkim.sock

    :param socket: Where the milter listens: ``unix:/path`` or ``local:/path``; ``inet:port@host`` as milters write it,
        or ``inet:host:port`` as Postfix does; ``inet6:`` likewise, an address in brackets.
    :param timeout: Seconds for connection and answer together.
    :raises CommandExecutionError: saying which: no such socket, nobody listens, not allowed, no answer in time, no
        milter.
    """
    return milter.probe(socket, timeout)
