"""The services of master.cf that a site has before its own are laid over them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

USERS = ("submission/inet", "465/inet")
"""Where users log in."""

PRIVATE = "private-cleanup/unix"
"""What looks at the headers of users' mail, and takes out of it where they write from."""

OLD_DEVICES = "old-devices/inet"
"""Where devices with old TLS do, as ``postfix/master.yaml`` has it; a site's is called by its port."""


def of_old_devices(site: Mapping[str, Any]) -> str | None:
    """Return the service that a site has for devices with old TLS; None where it has none.

    :param site: its settings, or its pillar over the schema's defaults.
    """
    number = site["authentication"].get("old_devices_port")
    return f"{number}/inet" if number else None


def stock(site: Mapping[str, Any], services: Mapping[str, Any]) -> dict[str, Any]:
    """Return the formula's own services, as far as a site has them.

    :param site: as of :func:`of_old_devices`.
    :param services: all of them, from ``postfix/master.yaml``.
    """
    left_out = set() if site["authentication"]["submission"] else {*USERS}
    old = of_old_devices(site)
    named = {(old if name == OLD_DEVICES else name): service for name, service in copy.deepcopy(services).items()}
    found = {name: service for name, service in named.items() if name and name not in left_out}
    if not looks_at_users(site):
        del found[PRIVATE]
        for service in found.values():
            service.get("options", {}).pop("cleanup_service_name", None)
    return found


def looks_at_users(site: Mapping[str, Any]) -> bool:
    """Tell whether the headers of users' mail are looked at: by a cleanup(8) of their own.

    :param site: as of :func:`of_old_devices`.
    """
    users = site["authentication"]["submission"] or of_old_devices(site) is not None
    return bool(users and (site["privacy"]["hide_client"] or site["directory"]["senders"] != "any"))
