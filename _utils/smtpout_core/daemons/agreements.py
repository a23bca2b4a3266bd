"""What two daemons' files have to agree on, compared in the files as they are about to be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from smtpout_core.daemons.postfix import conf, smtp
from smtpout_core.errors import RelayError

CONSEQUENCES = {"clamav": "unscanned", "opendkim": "unsigned"}


def compared(staged: Mapping[str, str], settings: dict[str, Any]) -> list[str]:
    """Return where two daemons don't agree.

    :param staged: staged path by live path.
    :param settings: the site's.
    """
    try:
        return list(_milters(staged, settings))
    except RelayError:  # what can't be read, the daemon's own check has said
        return []


def _milters(staged: Mapping[str, str], settings: dict[str, Any]) -> Iterator[str]:
    """Yield the services that mail comes in by and that leave out a filter which the site has."""
    directory = os.path.dirname(staged[os.path.join(settings["postfix"]["directory"], "main.cf")])
    everywhere = conf.values(directory, "smtpd_milters")["smtpd_milters"]
    for service in conf.services(directory):
        if str(service) in (smtp.SERVERS, *smtp.USERS):
            asked = re.split(r"[\s,{}]+", service.options.get("smtpd_milters", everywhere))
            for milter in settings["milters"]:
                if milter["socket"] not in asked:
                    where = f"master:{service}" if "smtpd_milters" in service.options else "main"
                    yield (
                        f"smtpout:postfix:{where}: smtpd_milters leaves out {milter['socket']}: mail would pass "
                        f"{CONSEQUENCES[milter['name']]}; add it, or set smtpout:{milter['name']}:enabled to false"
                    )
