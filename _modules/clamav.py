"""Ask clamd over its own protocol, check ClamAV's configuration, fetch signatures.

The work is done in :mod:`smtpout_core.daemons.clamav`.
"""

from __future__ import annotations

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors, host
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


@_told
def check_config(staged: dict[str, str], program: str) -> list[str]:
    """Return everything that ClamAV's own parser has against a program's configuration; nothing when it is right.

    Finds unknown and deprecated options, wrong values, what a program can't do without, and a taken port. What else is
    right in the file and wrong on the host, such as a user or a directory, shows when the daemon starts.

    CLI Example:

    .. code-block:: bash

        salt-call clamav.check_config '{/etc/clamav/clamd.conf: /etc/clamav/clamd.conf}' clamd

    :param staged: Where each file of the set stands for the check, by its final path. Looked at is the program's own
        one, which the settings name; not a unit's.
    :param program: ``clamd``, ``freshclam`` or ``clamav-milter``.
    :raises CommandNotFoundError: clamconf isn't installed.
    """
    minion = host.minion(__opts__, __grains__, __salt__["cp.cache_file"])
    return daemons.check(program, staged, __salt__["smtpout.settings"](), minion)


@_told
def missing_databases(directory: str) -> list[str]:
    """Return the signature databases that the site asks for and that aren't there.

    CLI Example:

    .. code-block:: bash

        salt-call clamav.missing_databases /var/lib/clamav

    :param directory: The database directory.
    """
    return daemons.missing_databases(__salt__["smtpout.settings"](), directory)


@_told
def update_signatures(config: str, timeout: float = 1800) -> None:
    """Run freshclam once; what it says goes to Salt's log as it comes.

    freshclam's own service must not run meanwhile: both would want the same lock.

    CLI Example:

    .. code-block:: bash

        salt-call clamav.update_signatures /etc/clamav/freshclam.conf

    :param config: Path of freshclam.conf.
    :param timeout: Seconds after which freshclam is stopped. The official databases have some 300 MB.
    :raises CommandNotFoundError: there is no freshclam.
    :raises CommandExecutionError: what freshclam had to say when it fails, or that it takes too long.
    """
    daemons.update_signatures(config, timeout)
