"""Keep a certificate for a mail server that was given none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons.postfix import certificate


def self_signed_present(
    name: str, path: str, common_name: str, names: Sequence[str] = (), renew_days: int = 30
) -> dict[str, Any]:
    """Make sure that there is a certificate for the server's names, and one that holds for a while.

    Renewed is only what this state made itself; another certificate that was put there stays as it is.

    .. code-block:: yaml

        Postfix has a certificate of its own:
          certificate.self_signed_present:
            - path: /etc/postfix/self-signed.pem
            - common_name: mail.domain01.dom

    name
        What the state is called in a report.

    path
        The file, for ``smtpd_tls_chain_files``: private key and certificate.

    common_name
        The server's name.

    names
        More names that clients know the server by.

    renew_days
        How many days before its end it is made anew.
    """
    ret: dict[str, Any] = {"name": name, "changes": {}, "result": True, "comment": ""}
    wanted = sorted({common_name, *names})
    try:
        reason, ret["comment"] = _reason(path, wanted, renew_days)
        if reason:
            ret["changes"] = {path: {"old": reason, "new": f"self-signed for {', '.join(wanted)}"}}
            if __opts__["test"]:
                ret.update(result=None, comment="A certificate would be made.")
            else:
                made = certificate.create_self_signed(path, common_name, names)
                ret["comment"] = f"A certificate was made that holds until {made['not_after']}."
    except errors.RelayError as error:
        ret.update(changes={}, result=False, comment=str(error))
    return ret


def _reason(path: str, wanted: list[str], renew_days: int) -> tuple[str, str]:
    """Return why the certificate has to be made, empty where it stays; and why it stays."""
    if not os.path.lexists(path):
        return "absent", ""
    found = certificate.info(path)
    if not found["self_made"]:
        return "", f"{found['subject']} isn't self-made; it stays (it holds until {found['not_after']})."
    if found["days_left"] < renew_days:
        return f"holds until {found['not_after']}", ""
    if found["names"] != wanted:
        return f"self-signed for {', '.join(found['names'])}", ""
    stats = __salt__["file.stats"](path)
    if (stats["mode"], stats["user"]) != ("0600", "root"):
        return f"readable by others: mode {stats['mode']}, user {stats['user']}", ""
    return "", f"The certificate holds until {found['not_after']}."
