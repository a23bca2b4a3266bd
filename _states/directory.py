"""Prove that the directory serves the relay as the site says."""

from __future__ import annotations

from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.directory import ask, servers


def reachable(name: str) -> dict[str, Any]:
    """
    Prove that ``smtpout:directory`` serves, and that account, base, filters and attribute are right.

    One server that serves is enough for mail and logins; of the others it warns.

    Only reads, in test mode too. Where ldap3 is still to come, that asks whether each server takes a connection, and
    checks its certificate.

    .. code-block:: yaml

        The directory serves the relay:
          directory.reachable

    name
        Name of the state.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    settings = __salt__["smtpout.settings"]()
    try:
        try:
            faults = ask.faults(settings)
            serving = [server for server in settings["directory"]["servers"] if server not in faults]
            if not serving:
                raise errors.RelayError("\n".join(faults.values()))
            if faults:
                ret["warnings"] = [*faults.values()]
            ret["comment"] = f"Account, base, filters and attribute are right on {', '.join(serving)}."
        except errors.NotInstalledError as err:
            if not __opts__["test"]:
                raise
            ret["warnings"] = [f"Not checked: account, base, filters and attribute: {err}."]
            ret["comment"] = f"Each server answers: {', '.join(servers.answering(settings))}."
    except errors.RelayError as err:
        ret.update(result=False, comment=str(err))
    return ret
