"""Whether what stays on the relay gets to somebody: in a trial local(8) is its sink, so its way is followed by hand.

By local(8): aliases first, of which each may name others, then a user of the host, and what is done with one's mail.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from typing import NamedTuple

from smtpout_core.daemons.postfix import conf, maps
from smtpout_core.errors import RelayError

DEEP = 10
"""Aliases that lead to another each: more are a circle."""
WANTED = (
    "alias_maps", "allow_mail_to_commands", "allow_mail_to_files", "mail_spool_directory", "home_mailbox",
    "mailbox_command", "mailbox_command_maps", "mailbox_transport", "mailbox_transport_maps", "fallback_transport",
    "fallback_transport_maps", "luser_relay", "recipient_delimiter", "owner_request_special",
)  # fmt: skip
WHOLE = ("postmaster", "mailer-daemon", "double-bounce")
"""Names that have no extension, whatever marks one."""
ELSEWHERE = ("mailbox_transport", "mailbox_transport_maps")
"""By which another service has the mail, whoever it is for; those of :data:`UNKNOWN` for whom the host doesn't know."""
UNKNOWN = ("fallback_transport", "fallback_transport_maps", "luser_relay")
OWN = ("home_mailbox", "mailbox_command", "mailbox_command_maps")
"""By which a user's mail is somewhere else than in the common folder."""


class Local(NamedTuple):
    """A service of local(8): the parameters that it goes by, and what gives a table's answer for a key."""

    said: Mapping[str, str]
    answer: Callable[[str, str], str]

    def fault(self, name: str) -> str:
        """Return why mail to a name gets to nobody; an empty text where it does, or goes on.

        :param name: a recipient's, without its domain.
        """
        try:
            return self._fault(name.lower())
        except RelayError as unread:
            return f"aliases can't be looked up: {unread}"

    def _fault(self, name: str, alias: bool = True, depth: int = DEEP) -> str:
        if not depth:
            return f"aliases lead in a circle, to {name}"
        user = self._user(name)
        tables = maps.named(self.said["alias_maps"]) if alias else ()
        for table in tables:
            if to := self.answer(table, name) or self.answer(table, user):
                faults = [self._to(each, depth) for each in maps.named(to)]
                return "" if not all(faults) else faults[0]
        if any(self.said[each] for each in ELSEWHERE):
            return ""
        try:
            pwd.getpwnam(user)
        except KeyError:
            return "" if any(self.said[each] for each in UNKNOWN) else f"this host has no user {user!r}"
        spool = self.said["mail_spool_directory"]
        return "" if any(self.said[each] for each in OWN) or os.path.isdir(spool) else f"there is no folder {spool}"

    def _user(self, name: str) -> str:
        """Return a name without its extension (postconf(5), recipient_delimiter and owner_request_special)."""
        marks = self.said["recipient_delimiter"]
        special = "-" in marks and self.said["owner_request_special"] == "yes"
        if name in WHOLE or (special and (name.startswith("owner-") or name.endswith("-request"))):
            return name
        cut = min((place for place in map(name.find, marks) if place >= 0), default=0)
        return name[:cut] if cut else name

    def _to(self, target: str, depth: int) -> str:
        """Return why mail to what an alias names gets to nobody (aliases(5))."""
        for mark, parameter in (("|", "allow_mail_to_commands"), ("/", "allow_mail_to_files")):
            if target.strip('"').startswith(mark):
                allowed = "alias" in self.said[parameter]
                return "" if allowed else f"{parameter} has no aliases, and one leads to {target}"
        if "@" in target or target.startswith(":include:"):
            return ""
        return self._fault(target.lstrip("\\").lower(), not target.startswith("\\"), depth - 1)


def services(config: str, answer: Callable[[str, str], str]) -> dict[str, Local]:
    """Return the services of local(8), by name.

    :param config: the directory of the configuration.
    :param answer: gives what a table of it has for a key.
    """
    main = conf.values(config, *WANTED)
    return {
        each.name: Local({name: {**main, **each.options}[name] for name in WANTED}, answer)
        for each in conf.services(config)
        if each.program == "local"
    }
