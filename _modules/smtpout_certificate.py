"""Make a mail server's own certificate where none is given, and tell what is in one.

The work is done in :mod:`smtpout_core.daemons.postfix.certificate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import certificate

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def create_self_signed(path: str, common_name: str, names: Sequence[str] = (), days: int = 825) -> dict[str, Any]:
    """Make a private key and its self-signed certificate, in one file for ``smtpd_tls_chain_files``; return its info.

    The file has the key first, then the certificate (postconf(5)), and mode 0600, root's. It appears whole, by rename,
    in a folder that is made where it is missing.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_certificate.create_self_signed /etc/postfix/self-signed.pem mail.domain01.dom

    :param path: The file. A certificate made here before is replaced; anything else that is there stays, and is an
        error.
    :param common_name: The server's name.
    :param names: More names that clients know the server by.
    :param days: How long it holds. Apple's systems trust none that holds longer than 825 days
        (support.apple.com/HT210176).
    :raises CommandExecutionError: another file is there, a name is none, or the file can't be written.
    """
    return certificate.create_self_signed(path, common_name, names, days)


@_told
def info(path: str) -> dict[str, Any]:
    """Return what a certificate says.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_certificate.info /etc/postfix/tls/self-made.pem

    :param path: A file with PEM texts; the first certificate in it, the server's, is told about.
    The result has ``subject``, ``names`` (sorted), ``not_after`` (UTC, as in 2028-02-26T09:00:00+00:00), ``days_left``,
    ``self_signed`` and ``self_made`` (by :func:`create_self_signed`).

    :raises CommandExecutionError: no certificate can be read.
    """
    return certificate.info(path)
