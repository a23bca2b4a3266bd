"""Prove that the directory serves the relay as the site says."""

from __future__ import annotations

from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.directory import ask


def reachable(name: str) -> dict[str, Any]:
    """
    Prove that every server of ``smtpout:directory`` serves, and that account, base, filters and attribute are right.

    Only reads, in test mode too.

    .. code-block:: yaml

        The directory serves the relay:
          directory.reachable

    name
        Name of the state.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        servers = ask.check(__salt__["smtpout.settings"]())
        ret["comment"] = f"Account, base, filters and attribute are right on {', '.join(servers)}."
    except errors.NotInstalledError as err:
        ret.update(result=bool(__opts__["test"]), comment=f"Not asked: {err}" if __opts__["test"] else str(err))
    except errors.RelayError as err:
        ret.update(result=False, comment=str(err))
    return ret
