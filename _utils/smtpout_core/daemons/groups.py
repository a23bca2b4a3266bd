"""A daemon's user is in the groups whose sockets it uses."""

from __future__ import annotations

import grp
from typing import Any

from smtpout_core import command
from smtpout_core.change.parts import Setting
from smtpout_core.errors import RelayError


class Membership(Setting):
    """A user is in a group. Neither is ever made: packages bring both."""

    kind = "membership"

    def __init__(self, user: str, group: str) -> None:
        self.user, self.group = user, group

    def differences(self) -> dict[str, dict[str, str]]:
        """Return the group, where the user isn't in it, and also where it isn't there yet."""
        return {} if self.user in members(self.group) else {self.group: {"old": "", "new": self.user}}

    def undoing(self) -> dict[str, Any]:
        """Return user and group."""
        return {"user": self.user, "group": self.group}

    def bring(self) -> None:
        """Put the user into the group.

        :raises RelayError: one of the two isn't there, say.
        """
        if self.user in members(self.group):
            return
        done = command.run(["gpasswd", "--add", self.user, self.group])
        if self.user not in members(self.group):
            why = done.said.strip() or "are user and group there?"
            raise RelayError(f"{self.user} could not be put into {self.group}: {why}")


def undo(data: dict[str, Any]) -> None:
    """Take a user out of a group again.

    :param data: as ``Membership.undoing`` returns it.
    :raises RelayError: it doesn't work.
    """
    if data["user"] in members(data["group"]):
        done = command.run(["gpasswd", "--delete", data["user"], data["group"]])
        if data["user"] in members(data["group"]):
            raise RelayError(f"{data['user']} could not be taken out of {data['group']}: {done.said.strip()}")


def members(group: str) -> list[str]:
    """Return a group's members, none where there is no such group yet."""
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return []
