"""Check a configuration of Postfix, and ask whether it serves (:mod:`smtpout_core.daemons.postfix`).

Not called ``postfix``: Salt 3006 and 3007 have a module of that name.
"""

from __future__ import annotations

from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import check as checks
from smtpout_core.daemons.postfix import listen, smtp

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def check(
    staged: dict[str, str],
    directory: str = "/etc/postfix",
    unit: str = "postfix",
    made_before: list[str] | None = None,
) -> list[str]:
    """Return what Postfix has against a configuration, its parser first, then each of its daemons.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.check '{/etc/postfix/main.cf: /etc/postfix/main.cf}'

    ``postconf`` exits with 0 on a misspelt parameter and only warns, so whatever it writes to stderr is a complaint.
    What values are worth shows when a Postfix is started with them aside (``smtpout_core.daemons.postfix.trial``).

    :param staged: staged path by live path; main.cf and master.cf are among them.
    :param directory: the live configuration directory.
    :param unit: the unit whose processes are the running Postfix: they may have the ports.
    :param made_before: files that states before this one make. In test mode what is said against one that isn't there
        yet doesn't count.
    :raises CommandNotFoundError: Postfix isn't installed.
    """
    coming = made_before or [] if __opts__["test"] else []
    return checks.complaints(staged, directory, unit, coming)


@_told
def probe(address: str = "127.0.0.1", port: int = 25, timeout: float = 10) -> dict[str, Any]:
    """Return what the relay answers to a client: its greeting and what it offers.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.probe

    :param address: where to connect.
    :param port: the TCP port.
    :param timeout: seconds to wait for each answer.
    :return: ``{"greeting": "host ESMTP ...", "offers": {"starttls": "", "auth": "PLAIN LOGIN", ...}}``
    :raises CommandExecutionError: nobody listens, or the answer isn't a greeting (RFC 5321, 3.1).
    """
    endpoint = listen.Endpoint(address, port, "smtpd", smtp.SERVERS)
    answer = smtp.greeting(endpoint, timeout)
    smtp.refuse(endpoint, answer)
    return {"greeting": answer.text, "offers": answer.offers}
