"""Limits of what logins send: what follows from the pillar's ``limits``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SOCKET = "/run/smtpout-policy.sock"
"""Where smtpd(8) asks; systemd makes it, for Postfix's user alone."""
CLASS = "logins_limited"
"""The class of restrictions (postconf(5), smtpd_restriction_classes) that asks: of logins, and of nobody else."""


def enabled(limits: Mapping[str, Any]) -> bool:
    """Tell whether a site limits anybody.

    :param limits: what stands below ``smtpout:limits``.
    """
    return bool(limits.get("messages") or limits.get("recipients") or limits.get("exceptions"))


def derived(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a site, their exceptions by names as they are compared.

    :param limits: as of :func:`enabled`.
    """
    return {
        "enabled": enabled(limits),
        "exceptions": {name.lower(): dict(own) for name, own in limits["exceptions"].items()},
        "socket": SOCKET,
        "class": CLASS,
    }
