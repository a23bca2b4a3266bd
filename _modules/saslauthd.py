"""Ask saslauthd itself whether it serves and takes a login (:mod:`smtpout_core.daemons.saslauthd`).

Logins are tried over saslauthd's own socket: testsaslauthd takes the password as an argument, where ``ps`` shows it.
"""

from __future__ import annotations

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons import saslauthd as daemon

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def authenticate(
    user: str,
    password: str | None = None,
    service: str = "smtp",
    realm: str = "",
    socket: str = daemon.SOCKET,
    timeout: float = 10,
) -> bool:
    """Return whether saslauthd accepts a login, asked over its socket as Postfix asks it.

    A user name with ``@`` is parted at the last one into user and realm, as libsasl does before it asks
    (``lib/checkpw.c``, ``saslauthd_verify_password``). saslauthd puts them together again when it runs with ``-r``.

    CLI Example:

    .. code-block:: bash

        salt-call saslauthd.authenticate usuario01

    :param user: Name of the user as typed into the mail program.
    :param password: Default, for the user of ``smtpout:verify`` the password given there. Don't type one into a command
        line: it would stand in the process list and in the shell's history.
    :param service: Name of the service; Postfix says ``smtp``.
    :param realm: Realm, for a name without ``@``.
    :param socket: Path of the daemon's socket.
    :param timeout: Seconds for the whole answer. An unreachable directory takes saslauthd twice ``ldap_timeout``.
    :raises CommandExecutionError: a field is over 256 bytes, when no password is known, when there is no socket,
        nothing listens, the socket may not be used, no answer comes in time, or the answer is neither OK nor NO.
    """
    if password is None:
        password = daemon.verify_password(__salt__["smtpout.settings"](), user)
    return daemon.authenticate(user, password, service, realm, socket, timeout)


@_told
def ping(socket: str = daemon.SOCKET, timeout: float = 10) -> bool:
    """Return True when a saslauthd answers.

    Asks with an empty user name, which the daemon refuses without asking the directory. A connection alone would prove
    nothing: the kernel accepts it for a daemon that hangs.

    CLI Example:

    .. code-block:: bash

        salt-call saslauthd.ping

    :param socket: Path of the daemon's socket.
    :param timeout: Seconds to wait for the answer.
    :raises CommandExecutionError: as in ``authenticate``.
    """
    return daemon.ping(socket, timeout)


@_told
def client_faults(socket: str = daemon.SOCKET, user: str = "postfix") -> list[str]:
    """Return why Postfix could not use saslauthd's socket; nothing when it can.

    root can always connect, so a login tried by Salt doesn't show these faults.

    CLI Example:

    .. code-block:: bash

        salt-call saslauthd.client_faults

    :param socket: Path of the daemon's socket.
    :param user: The user that smtpd runs as (``mail_owner``).
    :raises CommandExecutionError: there is no such user.
    """
    return daemon.client_faults(socket, user)
