"""The virus signatures that a site asks for: without any, clamd doesn't start."""

from __future__ import annotations

from typing import Any

from smtpout_core.change.parts import Setting
from smtpout_core.daemons import clamav
from smtpout_core.errors import RelayError

REMEDY = (
    "Let this host reach the mirrors, or name sources that it can reach in smtpout:clamav:signatures (private_mirrors;"
    " or urls and exclude), and apply again. If freshclam's service runs, stop it first."
)


class Signatures(Setting):
    """Every database of them is there; freshclam fetches them once where one is missing.

    Keeping them current is the work of freshclam's own service, which starts after that.
    """

    kind = "signatures"

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def differences(self) -> dict[str, dict[str, str]]:
        """Return the databases that aren't there."""
        missing = self._missing()
        return {"signatures": {"old": f"no {', '.join(missing)}", "new": "fetched"}} if missing else {}

    def undoing(self) -> dict[str, Any]:
        """Return nothing: what was fetched stays."""
        return {}

    def bring(self) -> None:
        """Fetch what is missing, with the freshclam.conf that is in place by now.

        :raises RelayError: freshclam's words, and what can be done.
        """
        try:
            if self._missing():
                clamav.update_signatures(self.settings["clamav"]["freshclam"]["configuration"])
            if missing := self._missing():
                raise RelayError(f"freshclam succeeded, and still there is no {', '.join(missing)}")
        except RelayError as error:
            raise RelayError(f"{error}\n{REMEDY}") from error

    def _missing(self) -> list[str]:
        return clamav.missing_databases(self.settings, self.settings["clamav"]["database_directory"])
