"""The pace of a trial: its mail leaves at once, and as many messages at a time as there are questions.

But for what a site says and no mail should meet: that shows in the trial as it will afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Of each service that has mail leave, in place of the site's own (postconf(5)).
AT_ONCE = {
    "destination_recipient_limit": "1",
    "destination_rate_delay": "0s",
    "transport_rate_delay": "0s",
    "initial_destination_concurrency": "20",
}
LONG = 60  # seconds between two messages to a destination, beyond which a site's mail waits rather than is throttled
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def hastened(main: str, service: str, others: Sequence[str] = ()) -> dict[str, str]:
    """Return parameters of main.cf by which a service is at once; without those by which the site's mail won't leave.

    :param main: main.cf.
    :param service: its name in master.cf.
    :param others: services of the trial's own that stand for it.
    """
    own = {name: value for name, value in AT_ONCE.items() if not _shows(main, service, name)}
    made = {f"{each}_{name}": value for each in others for name, value in AT_ONCE.items()}
    return made | {f"{service}_{name}": value for name, value in own.items()}


def _shows(main: str, service: str, name: str) -> bool:
    """Tell whether a site's own value has to show here: none that qmgr(8) takes, or a wait that no mail is to have."""
    for prefix in (service, "default"):
        if found := re.findall(rf"(?m)^{re.escape(prefix)}_{name}[ \t]*=[ \t]*(.*)", main):
            value = found[-1].strip()
            number = re.fullmatch(r"(\d+)([smhdw]?)", value)
            if number and name.endswith("_delay"):
                return int(number[1]) * SECONDS[number[2]] > LONG
            return not number and not value.startswith("$")
    return False
