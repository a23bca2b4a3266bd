"""Make, publish and try the keys that OpenDKIM signs with (:mod:`smtpout_core.daemons.opendkim.keys`).

:depends: ``dkimpy`` for :func:`test_signature`, ``dnspython`` for what asks DNS; each is looked for when it is used
"""

from __future__ import annotations

from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.opendkim import keys

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def generate_key(path: str, bits: int = 2048, user: str = "root", group: str = "root") -> str:
    """Make an RSA private key in a new file, mode 0600, and return its public key (the ``p=`` of its record).

    CLI Example:

    .. code-block:: bash

        salt-call opendkim.generate_key /etc/opendkim/keys/domain01.dom.s2027.private user=opendkim group=opendkim

    :param path: The new file. What is there already stays, and is an error.
    :param bits: Size of the key, 1024 to 4096 (RFC 8301). 2048 signs nineteen times as fast as 4096.
    :param user: Who owns the file: the user the daemon runs as, which opens it for every message.
    :param group: likewise.
    :raises CommandExecutionError: the size is out of bounds, the file exists or can't be written.
    """
    return keys.generate_key(path, bits, user, group)


@_told
def key_info(path: str) -> dict[str, Any]:
    """Return the size (``bits``) and the public key (``public``, the ``p=`` of its record) of a private key.

    CLI Example:

    .. code-block:: bash

        salt-call opendkim.key_info /etc/opendkim/keys/domain01.dom.default.private

    :param path: The file, in PKCS#8 or the traditional PEM form; OpenDKIM reads both.
    :raises CommandExecutionError: there is no usable RSA private key.
    """
    return keys.key_info(path)


@_told
def public_record(path: str, domain: str, selector: str, restrict: bool = False, value_only: bool = False) -> str:
    """Return the TXT record to publish for a private key, as a zone file has it, in strings of at most 255 bytes.

    CLI Example:

    .. code-block:: bash

        salt-call opendkim.public_record /etc/opendkim/keys/domain01.dom.default.private domain01.dom default

    :param path: The private key.
    :param domain: What the key signs as; the record's name is ``selector._domainkey.domain``.
    :param selector: likewise.
    :param restrict: Say that the key is for mail only (``s=email``), as ``opendkim-genkey --restrict`` does.
    :param value_only: Return the value alone, unquoted and in one piece, as the forms of many DNS providers want it.
    :raises CommandExecutionError: there is no usable RSA private key.
    """
    return keys.public_record(path, domain, selector, restrict, value_only)


@_told
def public_records() -> str:
    """Return the records to publish for all of the site's keys, as a zone file has them.

    CLI Example:

    .. code-block:: bash

        salt-call --local opendkim.public_records | sed -n 's/^    //p'     # without Salt's indentation

    :raises CommandExecutionError: a key isn't there yet, or the pillar isn't right.
    """
    return keys.public_records(__salt__["smtpout.settings"]())


@_told
def key_matches_record(
    path: str,
    domain: str,
    selector: str,
    record: str | None = None,
    nameserver: str | None = None,
    port: int = 53,
    timeout: float = 5,
) -> bool:
    """Return whether a record verifies what a private key signs; False where it holds another key.

    CLI Example:

    .. code-block:: bash

        salt-call opendkim.key_matches_record /etc/opendkim/keys/domain01.dom.default.private domain01.dom default

    :param path: The private key.
    :param domain: What the key signs as.
    :param selector: likewise.
    :param record: The record's value, or its text in zone-file form. Default: what DNS answers.
    :param nameserver: IP address and port of the server to ask. Default: the system's resolver.
    :param port: likewise.
    :param timeout: Seconds for all attempts together.
    :raises CommandExecutionError: there is no usable private key, or no one record that is usable: none, several,
        revoked, unreadable, not for mail (:mod:`smtpout_core.daemons.opendkim.record` says which).
    """
    return keys.key_matches_record(path, domain, selector, record, nameserver, port, timeout)


@_told
def test_signature(
    path: str,
    domain: str,
    selector: str,
    record: str | None = None,
    nameserver: str | None = None,
    port: int = 53,
    timeout: float = 5,
) -> bool:
    """Sign a message with a private key and verify it as a receiver would; return True.

    With ``record``, a record is tried before it is published.

    CLI Example:

    .. code-block:: bash

        salt-call opendkim.test_signature /etc/opendkim/keys/domain01.dom.default.private domain01.dom default

    :param path: As in :func:`key_matches_record`.
    :param domain: likewise.
    :param selector: likewise.
    :param record: likewise.
    :param nameserver: likewise.
    :param port: likewise.
    :param timeout: likewise.
    :raises CommandExecutionError: with the reason where the signature doesn't verify.
    """
    return keys.test_signature(path, domain, selector, record, nameserver, port, timeout)
