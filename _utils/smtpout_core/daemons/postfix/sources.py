"""The addresses of this host that mail of single routes leaves from."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

from smtpout_core.change.parts import Trial
from smtpout_core.errors import RelayError


def trials(settings: dict[str, Any]) -> Iterator[Trial]:
    """Yield what tries each address, before mail is to leave from it.

    :param settings: the site's.
    """
    for route in settings["postfix"]["routes"]:
        for number, address in enumerate(route["addresses"]):
            key = f"smtpout:routes:{route['domain']}:addresses:{number}"
            yield Trial(f"{address} is an address of this host", [address], partial(bound, address, key))


def bound(address: str, key: str) -> None:
    """Raise where a connection can't be made from an address.

    :param key: the pillar's, that names it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.bind((address, 0))
    except OSError as error:
        raise RelayError(
            f"{key}: {address} is none of this host's ({error.strerror}): mail would wait; right is one that "
            "`ip address` shows"
        ) from error


def seen(settings: dict[str, Any]) -> str:
    """Return the addresses, each of which the host has.

    :param settings: the site's.
    :raises RelayError: the host hasn't one of them.
    """
    tried = list(trials(settings))
    for trial in tried:
        trial.ask()
    return ", ".join(address for trial in tried for address in trial.about)
