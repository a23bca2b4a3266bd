"""Ask the directory what Postfix and saslauthd ask it, and say in words which of the site's settings is wrong.

The work is done in :mod:`smtpout_core.directory.ask`. Needs ldap3 in Salt's own Python; without it every function here
raises ``CommandNotFoundError``, which says so.
"""

from __future__ import annotations

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import senders as sending
from smtpout_core.directory import ask

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def check(
    servers: list[str] | None = None,
    base: str | None = None,
    scope: str | None = None,
    bind_dn: str | None = None,
    bind_password: str | None = None,
    start_tls: bool | None = None,
    ca_file: str | None = None,
    timeout: float | None = None,
    login_filter: str | None = None,
    recipient_filter: str | None = None,
    result_attribute: str | None = None,
) -> list[str]:
    """Try the whole of the site's directory settings on every server, and return the servers, which are all fine then.

    Certificates are checked always, against ``ca_file`` or the system's authorities.

    CLI Example:

    .. code-block:: bash

        salt-call smtpout_directory.check

    :param servers: ``ldap://`` and ``ldaps://`` URIs. This and all that follow are by default what
        ``smtpout:directory`` has.
    :param base: The entry below which is searched.
    :param scope: ``sub``, ``one`` or ``base``.
    :param bind_dn: The account that searches.
    :param bind_password: Its password. Don't type it into a command line: it would stand in the process list.
    :param start_tls: Whether an ``ldap://`` connection is encrypted before the password is sent.
    :param ca_file: The authority that the servers' certificates are checked with.
    :param timeout: Seconds for the connection and for each answer.
    :param login_filter: The filter of users who log in, with saslauthd's tokens.
    :param recipient_filter: The filter of addresses that exist, with Postfix's tokens.
    :param result_attribute: The attribute that Postfix asks of a recipient.
    :raises CommandExecutionError: which says of each server which setting is wrong: not reachable, TLS, bind, base, a
        filter, an attribute that no recipient has.
    :raises CommandNotFoundError: ldap3 is missing.
    """
    return ask.check(
        __salt__["smtpout.settings"](),
        servers=servers,
        base=base,
        scope=scope,
        bind_dn=bind_dn,
        bind_password=bind_password,
        start_tls=start_tls,
        ca_file=ca_file,
        timeout=timeout,
        login_filter=login_filter,
        recipient_filter=recipient_filter,
        result_attribute=result_attribute,
    )


@_told
def recipient(address: str) -> list[str] | None:
    """Return what Postfix's recipient map finds for an address, or None where it finds nothing and refuses it.

    Does what ``postmap -q ADDRESS ldap:FILE`` does: the address in small letters and of a domain of the site, tokens of
    ``query_filter`` filled in with RFC 4515 escapes, the values of ``result_attribute`` of all entries; an entry that
    lacks it is not found (ldap_table(5)).

    CLI Example:

    .. code-block:: bash

        salt-call smtpout_directory.recipient usuario01@domain01.dom

    :param address: The whole address.
    :raises CommandExecutionError: no server serves or the filter is malformed.
    """
    return ask.recipient(__salt__["smtpout.settings"](), address)


@_told
def login(user: str) -> str | None:
    """Return the name (DN) of the entry that saslauthd would log in as, or None where it would refuse the user.

    Holds for a saslauthd that runs with ``-r``: without it ``%u`` has lost the part after the ``@``.

    CLI Example:

    .. code-block:: bash

        salt-call smtpout_directory.login usuario01

    :param user: Name as typed into the mail program.
    :raises CommandExecutionError: the filter finds several entries (saslauthd refuses such a user), when it is
        malformed, or when no server serves.
    """
    return ask.login(__salt__["smtpout.settings"](), user)


@_told
def senders(address: str) -> dict[str, list[str]]:
    """Return who may send with an address: by the name that they log in with, where that is said.

    Asked are the tables that Postfix has on this host (``smtpd_sender_login_maps``), in which an extension is left out
    where the whole address has nobody; what is said of why comes from the directory and the pillar.

    CLI Example:

    .. code-block:: bash

        salt-call smtpout_directory.senders usuario01@domain01.dom

    :param address: The whole address.
    :return: nothing where nobody may.
    :raises CommandExecutionError: users send with any address, or a table or the directory can't be asked.
    """
    return sending.owners(__salt__["smtpout.settings"](), address)


@_told
def addresses(login: str) -> dict[str, list[str]]:
    """Return the addresses that a user may send with, and where that is said of each.

    CLI Example:

    .. code-block:: bash

        salt-call smtpout_directory.addresses usuario01

    :param login: The name as typed into the mail program; each form is asked by itself.
    :return: nothing where there are none, or nobody logs in with that name.
    :raises CommandExecutionError: as of ``senders``; two accounts have the name, and nobody logs in with it.
    """
    return sending.addresses(__salt__["smtpout.settings"](), login)
