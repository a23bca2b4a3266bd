"""Check OpenDKIM's configuration.

:depends: ``opendkim``, found in PATH
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import signal
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from smtpout_core import command, files, listener
from smtpout_core.host import Host
from smtpout_core.site import private_key

# Of what the formula writes, what a reload leaves as it was without a word (opendkim(8), SIGUSR1), but for Socket.
START_ONLY = ("PidFile", "Umask", "UserID")

# How it ends, without a word, by a script with an error in it, of syntax or at its first run (seen on 2.11.0).
CRASHED = (-signal.SIGSEGV, 128 + signal.SIGSEGV)

# What the daemon does with mail whose table entry leads nowhere, while its handshake with Postfix succeeds.
CONSEQUENCE = "OpenDKIM would answer 451 to this mail"


def check(staged: Mapping[str, str], settings: dict[str, Any], host: Host) -> list[str]:
    """Return what is wrong with a configuration that isn't live yet, one complaint an item.

    :param staged: where the new text of each live path lies.
    :param settings: the site's.
    :param host: in test mode, keys that a state before this one makes aren't missed.
    :raises NotInstalledError: there is no opendkim.
    """
    opendkim = settings["opendkim"]
    coming = {key["path"] for key in opendkim["signing_keys"]} if host.test else set()
    return complaints(staged, opendkim["configuration"], coming, opendkim["service"])


def start_only(folder: str, name: str) -> dict[str, str]:
    """Return what OpenDKIM takes from its configuration at its start alone, by option.

    :param folder: where that lies.
    :param name: of its file.
    """
    options = _pairs(os.path.join(folder, name))
    return {option: options.get(option.lower(), "") for option in START_ONLY}


def complaints(
    staged: Mapping[str, str], config: str, coming: Collection[str] = (), service: str = "opendkim"
) -> list[str]:
    """Return what is wrong with a configuration that isn't live yet.

    ``opendkim -n`` opens the files of tables, but reads neither their lines nor ``Socket`` nor ``UserID``. Where a
    table refers to nothing, the daemon starts, answers Postfix's handshake, and then 451 to every message; so tables
    are compared here.

    :param staged: where the new text of each live path lies.
    :param config: the live path of the configuration.
    :param coming: keys that aren't missed.
    :param service: the unit whose own processes may have the port.
    :raises NotInstalledError: there is no opendkim.
    """
    run = command.run([command.which("opendkim"), "-n", "-x", staged[config]])
    found = [*run.output.splitlines(), *run.said.splitlines()]
    if run.status in CRASHED and (scripts := set(_scripts(staged[config]))):
        found = [
            f"{' or '.join(sorted(scripts))}: the script is wrong: OpenDKIM dies of it, a running one at its reload"
        ]
    elif run.status and not found:
        found = [f"opendkim -n ended with status {run.status} and said nothing"]
    if not found:
        options = _pairs(staged[config])
        found = [*_unreadable_options(options, service), *_loose_ends(options, coming)]
        if not found:
            found = [*_unreachable(options, coming)]
    for live, aside in staged.items():
        found = [complaint.replace(aside, live) for complaint in found]
    return found


def _scripts(config: str) -> Iterator[str]:
    """Yield the scripts that a configuration names (opendkim.conf(5))."""
    for name, path in _pairs(config).items():
        if name.endswith("policyscript"):
            yield path


def _unreadable_options(options: dict[str, str], service: str) -> Iterator[str]:
    """Yield what keeps OpenDKIM from starting although ``opendkim -n`` is content."""
    socket = options.get("socket", "none")
    if not re.fullmatch(r"(local|unix):/.+|inet6?:\d+(@.+)?", socket):
        yield f"Socket {socket}: must be local:/PATH or inet:PORT@HOST"
    elif taken := listener.socket_conflict(socket, [service]):
        yield f"Socket {socket}: the port is taken by {taken}"
    user, _, group = options.get("userid", "root").partition(":")
    try:
        pwd.getpwnam(user)
        grp.getgrnam(group or "root")
    except KeyError as error:
        yield f"UserID {options['userid']}: no such user or group: {error}"


def _loose_ends(options: dict[str, str], coming: Collection[str]) -> Iterator[str]:
    """Yield the entries of tables that lead nowhere."""
    keys = table(options.get("keytable", ""))
    for name, value in keys.items():
        fields = value.split(":", 2)
        if len(fields) != 3 or not all(fields):
            yield f"KeyTable: {name}: must be followed by domain:selector:path, each once"
        elif _absent(fields[2]) and fields[2] not in coming:
            yield f"KeyTable: {name}: {fields[2]} isn't there ({CONSEQUENCE})"
        elif fields[2].startswith("/") and os.path.exists(fields[2]) and not _is_key(fields[2]):
            yield f"KeyTable: {name}: {fields[2]} is no private key in PEM form ({CONSEQUENCE})"
    for pattern, value in table(options.get("signingtable", "")).items():
        name = value.partition(":")[0]
        if keys and name != "%" and name not in keys:
            yield f"SigningTable: {pattern}: {name} isn't in KeyTable ({CONSEQUENCE})"


def _unreachable(options: dict[str, str], coming: Collection[str]) -> Iterator[str]:
    """Yield the keys that the daemon's user can't read; ``opendkim -n`` reads them as root."""
    user = options.get("userid", "root").partition(":")[0]
    entries = [value.split(":", 2) for value in table(options.get("keytable", "")).values()]
    domains = {path: domain for domain, _, path in entries if path.startswith("/") and os.path.exists(path)}
    closed = functools.cache(functools.partial(files.closed_folder, user=user))  # most keys lie in one
    for path in files.unreadable(list(domains), user):
        folder = closed(os.path.dirname(path))
        if folder or path not in coming:  # mode and owner of a key itself may still be to come
            where = f"the folder {folder} is closed to it" if folder else "the file is closed to it"
            yield (
                f"smtpout:opendkim:domains:{domains[path]}:key_file: {user} can't read {path}: {where}; right is a "
                f"place that it may enter ({CONSEQUENCE})"
            )


def _absent(key: str) -> bool:
    """Return whether a key is a path with nothing there; it may also be the key itself, or have a domain put in."""
    return key.startswith("/") and "%" not in key and not os.path.exists(key)


def _is_key(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            private_key.read(file.read())  # opendkim.keys_present has proved that its numbers are those of a key
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def table(dataset: str) -> dict[str, str]:
    """Return the entries of a table that is a text file (opendkim(8), "DATA SETS"); of any other kind, none.

    :param dataset: as an option names it, or its path.
    """
    match = re.fullmatch(r"(?:refile:|file:)?(/.+)", dataset)
    return _pairs(match[1], lower=False) if match else {}


def _pairs(path: str, lower: bool = True) -> dict[str, str]:
    """Return the lines of a file by their first word; options are written in any case."""
    with open(path, encoding="utf-8") as file:
        lines = [line.partition("#")[0].strip().partition(" ") for line in file.read().replace("\t", " ").split("\n")]
    return {(name.lower() if lower else name): value.strip() for name, _, value in lines if name}
