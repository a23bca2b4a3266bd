"""Build, read and check Postfix lookup tables (:mod:`smtpout_core.daemons.postfix.maps`).

A table is named the way Postfix names it: by its type (``lmdb``, ``hash``, ``cidr`` ...) and the path of its text,
without the suffix of the database beside it. Aliases are a table too, with ``program="postalias"``.

:depends: Postfix 3.2 or later, ``postmap`` and ``postalias`` in PATH
"""

from __future__ import annotations

from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import maps

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def build(
    path: str,
    type: str,
    entries: maps.Entries = None,
    *,
    mode: str = "0644",
    user: str = "root",
    group: str = "root",
    config_directory: str | None = None,
    program: str = "postmap",
) -> list[str]:
    """Build a table aside, put it in place by rename, return the files put in place.

    A lookup meets the whole old or the whole new table, also after a kill: a ``hash`` rebuilt in place is empty for
    a while. Postfix opens the new database by itself, since it sees that its own was unlinked (dict_changed_name()
    in dict.c); the tables without an index it reads at start, they need a reload.

    CLI Example:

    .. code-block:: bash

        salt-call postmap.build /etc/postfix/transport lmdb '{"example.org": "smtp:[192.0.2.1]:25"}'

    :param path: the text of the table, absolute, without the suffix of the database
    :param type: ``hash``, ``btree``, ``lmdb``, ``cdb`` (a text and a database), ``cidr``, ``pcre``, ``regexp``,
        ``texthash`` (a text)
    :param entries: a dict, or a list of [key, value] pairs, written to the text in this order. Without it the text that
        is there is the source, and stays as it is.
    :param mode: of the text and the database, an octal string
    :param user: names, the owners of the text and the database
    :param group: likewise.
    :param config_directory: the folder of main.cf where it isn't Postfix's default
    :param program: ``postmap``, or ``postalias`` for aliases
    :raises CommandExecutionError: an entry can't be held or postmap complains, and replaces nothing then.
    :raises CommandNotFoundError: there is no Postfix.
    """
    return maps.build(
        path, type, entries, mode=mode, user=user, group=group, config_directory=config_directory, program=program
    )


@_told
def files(path: str, type: str, *, program: str = "postmap") -> list[str]:
    """Return the paths of a table's files: the text and, where there is one, the database, which is what gets read.

    CLI Example:

    .. code-block:: bash

        salt-call postmap.files /etc/postfix/transport lmdb

    :param path: as in ``postmap.build``
    :param type: likewise.
    :param program: likewise.
    :raises CommandExecutionError: for a type that has no files, such as ``ldap``.
    """
    return maps.files(path, type, program=program)


@_told
def dump(path: str, type: str, *, config_directory: str | None = None, program: str = "postmap") -> dict[str, str]:
    """Return what is in a table: in its database where it has one, with the keys in lower case as Postfix stores them.

    CLI Example:

    .. code-block:: bash

        salt-call postmap.dump /etc/postfix/transport lmdb

    :param path: as in ``postmap.build``
    :param type: likewise.
    :param config_directory: likewise.
    :param program: likewise.
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

        salt-call postmap.query /etc/postfix/transport lmdb example.org

    :param path: as in ``postmap.build``
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

        salt-call postmap.check /etc/aliases hash program=postalias

    :param path: as in ``postmap.build``; nothing is written at ``path``
    :param type: likewise.
    :param entries: likewise.
    :param config_directory: likewise.
    :param program: likewise.
    :raises CommandExecutionError: there is nothing to check.
    :raises CommandNotFoundError: there is no Postfix.
    """
    return maps.check(path, type, entries, config_directory=config_directory, program=program)


@_told
def preview(
    path: str, type: str, entries: maps.Entries = None, *, config_directory: str | None = None, program: str = "postmap"
) -> dict[str, Any]:
    """Return what ``postmap.build`` with these arguments would make.

    That is the ``text``, and as ``contents`` what ``postmap.dump`` reads from a copy built aside. Two builds of one
    source differ byte by byte, and times say nothing after a failed build: only contents can be compared.

    CLI Example:

    .. code-block:: bash

        salt-call postmap.preview /etc/postfix/transport lmdb '{"example.org": "smtp:[192.0.2.1]:25"}'

    :param path: as in ``postmap.build``; nothing is written at ``path``
    :param type: likewise.
    :param entries: likewise.
    :param config_directory: likewise.
    :param program: likewise.
    :raises CommandExecutionError: for what ``postmap.build`` would refuse.
    :raises CommandNotFoundError: there is no Postfix.
    """
    return maps.preview(path, type, entries, config_directory=config_directory, program=program)
