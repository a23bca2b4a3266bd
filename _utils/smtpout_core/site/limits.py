"""Limits of what logins and clients send: what follows from the pillar's ``limits``, and from those of ``clients``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smtpout_core.site.clients import LIMITED

SOCKET = "/run/smtpout-policy.sock"
"""Where smtpd(8) asks; systemd makes it, for Postfix's user alone."""
CLASS = "logins_limited"
"""The class of restrictions (postconf(5), smtpd_restriction_classes) that asks: of logins, and of nobody else."""


def of_logins(limits: Mapping[str, Any]) -> bool:
    """Tell whether a site limits any login.

    :param limits: what stands below ``smtpout:limits``.
    """
    return bool(limits.get("messages") or limits.get("recipients") or limits.get("exceptions"))


def of_clients(clients: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the clients that a site limits.

    :param clients: what stands below ``smtpout:clients``, or what was made of it.
    """
    return [each for each in clients if each.get("limit")]


def derived(limits: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the limits of a site, their exceptions by names as they are compared.

    :param limits: as of :func:`of_logins`.
    :param clients: as of :func:`of_clients`.
    """
    limited = [{"networks": list(each["networks"]), "messages": each["limit"]} for each in of_clients(clients)]
    return {
        "enabled": of_logins(limits) or bool(limited),
        "of_logins": of_logins(limits),
        "of_clients": limited,
        "clients_class": LIMITED,
        "exceptions": {name.lower(): dict(own) for name, own in limits["exceptions"].items()},
        "socket": SOCKET,
        "class": CLASS,
    }
