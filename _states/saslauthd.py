"""Try the site's own login, and say in plain words which of the faults it is that SMTP shows alike."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons import saslauthd
from smtpout_core.directory import ask


def verified(
    name: str,
    user: str | None = None,
    socket: str = "/run/saslauthd/mux",
    client: str = "postfix",
    timeout: float = 30,
) -> dict[str, Any]:
    """
    Prove that saslauthd serves Postfix, lets the site's user in, and refuses a wrong password. Changes nothing.

    .. code-block:: yaml

        Users can log in:
          saslauthd.verified

    A wrong password is tried first, since the right one then resets the directory's count of failures. As long as
    saslauthd isn't there, test mode tries the user's at the directory itself.

    name
        Name of the state.
    user
        User that is tried. Default, the one of ``smtpout:verify``, whose password is used; without one only the daemon
        and its socket are tried.
    socket
        Path of the daemon's socket, as smtpd sees it.
    client
        The user that smtpd runs as.
    timeout
        Seconds to wait for one answer.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    settings = __salt__["smtpout.settings"]()
    user = user or settings["verify"].get("user")
    if __opts__["test"] and not Path(socket).exists():
        return {**ret, **_foretold(settings, user)}
    try:
        saslauthd.ping(socket, timeout)
        faults = saslauthd.client_faults(socket, client)
        if user and not faults:
            faults = _login_faults(settings, user, socket, timeout)
        if faults:
            raise errors.RelayError("\n".join(faults))
        ret["comment"] = (
            f"saslauthd accepts {user} and refuses a wrong password."
            if user
            else "saslauthd answers. No login was tried, since smtpout:verify has no user."
        )
    except errors.RelayError as err:
        # What a dry run finds wrong may be what the apply is about to mend.
        ret.update(result=bool(__opts__["test"]), comment=f"Now: {err}" if __opts__["test"] else str(err))
    return ret


def _foretold(settings: dict[str, Any], user: str | None) -> dict[str, Any]:
    """Return what can be said of logins as long as saslauthd isn't there: whether the directory takes the user's."""
    unasked = "saslauthd isn't running yet"
    if not user:
        return {"warnings": [f"Not checked: that saslauthd answers: {unasked}."]}
    try:
        ask.try_login(settings, user, saslauthd.verify_password(settings, user))
    except errors.NotInstalledError as err:
        return {"warnings": [f"Not checked: that {user} can log in: {unasked}, and {err}."]}
    except errors.RelayError as err:
        return {"result": False, "comment": str(err)}
    said = f"The directory itself takes {user}'s login."
    return {"comment": said, "warnings": [f"Not checked: that saslauthd takes it, and no wrong one: {unasked}."]}


def _login_faults(settings: dict[str, Any], user: str, socket: str, timeout: float) -> list[str]:
    """Return what is wrong with logins."""
    right = saslauthd.verify_password(settings, user)
    if saslauthd.authenticate(user, secrets.token_urlsafe(24), socket=socket, timeout=timeout):
        return [f"saslauthd lets {user} in with a wrong password: its mechanism isn't ldap, or ldap_filter is wrong"]
    if saslauthd.authenticate(user, right, socket=socket, timeout=timeout):
        return []
    return [f"saslauthd refuses {user}.", *_directory_faults(settings, user)]


def _directory_faults(settings: dict[str, Any], user: str) -> list[str]:
    """Return why the directory would refuse the user; saslauthd says NO to all of it and Postfix then says 535."""
    try:
        ask.check(settings)
        entry = ask.login(settings, user)
    except errors.RelayError as err:
        return [f"saslauthd answers so too when the directory is at fault: {err}"]
    if entry is None:
        return [f"smtpout:directory:login finds no entry for {user}"]
    try:
        ask.try_login(settings, user, saslauthd.verify_password(settings, user))
    except errors.RelayError as err:
        return [f"The directory itself refuses {entry}: {err}"]
    return [f"The directory itself takes {entry}: saslauthd still has older settings (restart it)"]
