"""The records that a site's mail needs, as a zone file has them, as forms on the web want them, and as data."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

from smtpout_core.daemons.opendkim import record
from smtpout_core.dns.wanted import Wanted
from smtpout_core.errors import RelayError

FORMS = ("zone", "lines", "data")


class Printed(NamedTuple):
    """A record to publish, its value in one piece, and what to know before it is."""

    name: str
    type: str
    value: str
    note: str = ""


def printed(wanted: Wanted) -> list[Printed]:
    """Return the records to publish; of SPF and DMARC such as a domain has that has none yet.

    :raises RelayError: a key isn't there yet.
    """
    if faults := [key.fault for key in wanted.keys if key.fault]:
        raise RelayError("\n".join(faults))
    found = [
        Printed(record.name(key.domain, key.selector), "TXT", record.value(key.public, wanted.restrict))
        for key in wanted.keys
    ]
    for domain in wanted.domains:
        if wanted.addresses:
            terms = " ".join(f"ip{ipaddress.ip_address(each).version}:{each}" for each in wanted.addresses)
            note = "where there is one, its addresses go into it: two are an error (RFC 7208, 4.5)"
            found.append(Printed(f"{domain}.", "TXT", f"v=spf1 {terms} ~all", note))
        note = "where there is none, here or above: p=none asks receivers for nothing"
        found.append(Printed(f"_dmarc.{domain}.", "TXT", "v=DMARC1; p=none", note))
    if wanted.hostname:
        for address in wanted.addresses:
            kind = "AAAA" if ":" in address else "A"
            found.append(Printed(f"{wanted.hostname}.", kind, address))
            note = "whoever gives out the address publishes it"
            name = ipaddress.ip_address(address).reverse_pointer
            found.append(Printed(f"{name}.", "PTR", f"{wanted.hostname}.", note))
    return found


def written(wanted: Wanted, form: str) -> str | list[dict[str, Any]]:
    """Return the records in one of the forms.

    :param form: ``zone``, a zone file's text; ``lines``, name, type and value, each record a line with blanks between,
        its value in one piece and unquoted; ``data``, a mapping each.
    :raises RelayError: there is no such form, or a key isn't there yet.
    """
    if form not in FORMS:
        raise RelayError(f"{form}: there are {', '.join(FORMS)}")
    records = printed(wanted)
    if form == "data":
        return [each._asdict() for each in records]
    without = [] if wanted.addresses else [f"; SPF and PTR are left out: {wanted.no_addresses}"]
    if form == "lines":
        return "\n".join([*(f"{each.name} {each.type} {each.value}" for each in records), *without])
    lines = without
    for each in records:
        lines += [f"; {each.note}"] if each.note else []
        lines.append(
            record.text(each.name, each.value) if each.type == "TXT" else f"{each.name} IN {each.type} {each.value}"
        )
    return "\n".join(lines)
