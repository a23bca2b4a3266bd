"""Read and check Postfix lookup tables (:mod:`smtpout_core.daemons.postfix.maps`).

A table is named the way Postfix names it: by its type (``lmdb``, ``hash``, ``cidr`` ...) and the path of its text,
without the suffix of the database beside it. Aliases are a table too, with ``program="postalias"``.

:depends: Postfix 3.2 or later, ``postmap`` and ``postalias`` in PATH
"""

from __future__ import annotations

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import maps

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def dump(path: str, type: str, *, config_directory: str | None = None, program: str = "postmap") -> dict[str, str]:
    """Return what is in a table: in its database where it has one, with the keys in lower case as Postfix stores them.

    CLI Example:

    .. code-block:: bash

        salt-call postmap.dump /etc/postfix/transport_maps lmdb

    :param path: the text of the table, absolute, without the suffix of the database
    :param type: ``hash``, ``btree``, ``lmdb``, ``cdb`` (a text and a database), ``cidr``, ``pcre``, ``regexp``,
        ``texthash`` (a text)
    :param config_directory: the folder of main.cf where it isn't Postfix's default
    :param program: ``postmap``, or ``postalias`` for aliases
    :raises CommandExecutionError: the table is missing or unreadable.
    :raises CommandNotFoundError: there is no Postfix.
    """
    return maps.dump(path, type, config_directory=config_directory, program=program)


@_told
def query(
    path: str, type: str, key: str, *, config_directory: str | None = None, program: str = "postmap"
) -> str | None:
    """Return what Postfix finds in a table under exactly this key, None when that is nothing.

    CLI Example:

    .. code-block:: bash

        salt-call postmap.query /etc/postfix/transport_maps lmdb domain01.dom

    :param path: as in ``postmap.dump``
    :param type: likewise.
    :param config_directory: likewise.
    :param program: likewise.
    :param key: one line of text
    :raises CommandExecutionError: the table is missing or unreadable.
    :raises CommandNotFoundError: there is no Postfix.
    """
    return maps.query(path, type, key, config_directory=config_directory, program=program)


@_told
def check(
    path: str, type: str, entries: maps.Entries = None, *, config_directory: str | None = None, program: str = "postmap"
) -> list[str]:
    """Return the complaints about a table, none if it can be built.

    They are keys that it can't hold, missing values, duplicates after case folding, malformed lines, and what
    postmap says on stderr while it builds a copy.

    CLI Example:

    .. code-block:: bash

        salt-call postmap.check /etc/aliases lmdb program=postalias

    :param path: as in ``postmap.dump``; nothing is written at ``path``
    :param type: likewise.
    :param entries: a dict, or a list of [key, value] pairs. Default, what its text has.
    :param config_directory: likewise.
    :param program: likewise.
    :raises CommandExecutionError: there is nothing to check.
    :raises CommandNotFoundError: there is no Postfix.
    """
    return maps.check(path, type, entries, config_directory=config_directory, program=program)
