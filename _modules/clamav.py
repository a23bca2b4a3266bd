"""Ask clamd over its own protocol, and ClamAV what its installed version knows.

The work is done in :mod:`smtpout_core.daemons.clamav`.
"""

from __future__ import annotations

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons import clamav as daemons

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def ping(socket: str, timeout: float = 10) -> bool:
    """Return True when a clamd answers.

    Where systemd holds the socket, clamd takes connections while it loads its signatures, and answers when it has them.

    CLI Example:

    .. code-block:: bash

        salt-call clamav.ping unix:/run/clamav/clamd.ctl

    :param socket: ``unix:PATH`` or ``tcp:HOST:PORT``, as in ``ClamdSocket`` of clamav-milter.conf.
    :param timeout: Seconds to wait for the answer.
    :raises CommandExecutionError: nothing listens, the socket may not be used, or no ``PONG`` comes in time.
    """
    return daemons.ping(socket, timeout)


@_told
def instream(socket: str, data: bytes | str, timeout: float = 60) -> str | None:
    """Return the name of the virus that clamd finds in the data, or None. Nothing is written to disk by the caller.

    CLI Example:

    .. code-block:: bash

        salt-call clamav.instream unix:/run/clamav/clamd.ctl 'a text'

    :param socket: ``unix:PATH`` or ``tcp:HOST:PORT``.
    :param data: What is scanned; ``StreamMaxLength`` of clamd.conf bounds it.
    :param timeout: Seconds to wait for the verdict.
    :raises CommandExecutionError: as ``ping``, and when clamd can't scan the data.
    """
    return daemons.instream(socket, data, timeout)


@_told
def known_options(program: str) -> list[str]:
    """Return the options that the installed version knows, without deprecated ones.

    clamd 1.4 refuses to start with an option that it doesn't know; freshclam ignores a deprecated one with a warning.

    CLI Example:

    .. code-block:: bash

        salt-call clamav.known_options freshclam

    :param program: ``clamd``, ``freshclam`` or ``clamav-milter``.
    :raises CommandNotFoundError: clamconf isn't installed.
    """
    return daemons.known_options(program)
