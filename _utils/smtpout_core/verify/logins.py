"""What saslauthd is asked."""

from __future__ import annotations

from typing import Any

from smtpout_core.daemons import saslauthd


def daemon(settings: dict[str, Any]) -> str:
    """Return where saslauthd answers."""
    path = f"{settings['saslauthd']['socket_directory']}/mux"
    saslauthd.ping(path)
    return path
