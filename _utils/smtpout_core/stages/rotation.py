"""When a domain's key is due to be changed by the calendar, and what the next one is called.

Domains take turns: each has a day of its own in a period, by its name, so that a thousand of them aren't due at once.
"""

from __future__ import annotations

import datetime as dt
import hashlib

MONTHS = {"monthly": 1, "quarterly": 3, "half-yearly": 6, "yearly": 12}
DAY = 86400


def due(domain: str, rotate: str, now: int) -> tuple[str, int]:
    """Return the selector of the period that a domain is in, as ``s202610``, and when that began for it.

    A period begins with its first month; for a domain, up to its length later.

    :param rotate: one of ``MONTHS``.
    :param now: seconds since 1970.
    """
    months = MONTHS[rotate]
    today = dt.datetime.fromtimestamp(now, dt.timezone.utc)
    number = (today.year * 12 + today.month - 1) // months
    for each in (number, number - 1):
        begin = _begin(each * months) + turn(domain, months)
        if begin <= now or each != number:
            break
    year, month = divmod(each * months, 12)
    return f"s{year}{month + 1:02d}", begin


def turn(domain: str, months: int) -> int:
    """Return how many seconds after a period's begin a domain's turn is: whole days, the same in each period."""
    number = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8], "big")
    return number % (28 * months) * DAY


def _begin(months: int) -> int:
    """Return when a month begins, UTC.

    :param months: since the year 0.
    """
    year, month = divmod(months, 12)
    return int(dt.datetime(year, month + 1, 1, tzinfo=dt.timezone.utc).timestamp())
