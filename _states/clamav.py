"""Have virus signatures before the scanner starts."""

from __future__ import annotations

from typing import Any

import smtpout_core

smtpout_core.fresh()

from smtpout_core import errors
from smtpout_core.daemons import clamav


def signatures_present(name: str, directory: str, config: str, timeout: float = 1800) -> dict[str, Any]:
    """
    Have every signature database that the site asks for; freshclam fetches them once where one is missing.

    clamd doesn't start without any. Keeping them current is the work of freshclam's own service, which must not run yet
    while this does.

    .. code-block:: yaml

        ClamAV has virus signatures:
          clamav.signatures_present:
            - directory: /var/lib/clamav
            - config: /etc/clamav/freshclam.conf

    name
        Name of the state.
    directory
        The database directory.
    config
        Path of freshclam.conf, which is in place already.
    timeout
        Seconds that freshclam may take.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "All signature databases are there."}
    try:
        settings = __salt__["smtpout.settings"]()
        missing = clamav.missing_databases(settings, directory)
        if not missing:
            return ret
        ret["changes"] = {"signatures": {"old": "missing", "new": "fetched"}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"freshclam would fetch {', '.join(missing)}.")
            return ret
        clamav.update_signatures(config, timeout)
        still_missing = clamav.missing_databases(settings, directory)
        if still_missing:
            raise errors.RelayError(f"freshclam succeeded, and still there is no {', '.join(still_missing)}")
        ret["comment"] = f"freshclam fetched {', '.join(missing)}."
    except errors.RelayError as err:
        ret.update(result=False, changes={}, comment=f"{err}\n{_REMEDY}")
    return ret


_REMEDY = (
    "Let this host reach the mirrors, or name sources that it can reach in smtpout:clamav:signatures (private_mirrors;"
    " or urls and exclude), and apply again. If freshclam's service runs, stop it first."
)
