"""Addresses that the pillar leads elsewhere, and those that have to be taken whatever the directory has."""

from __future__ import annotations

from typing import Any

# Of each domain that mail is taken for (RFC 5321, 4.5.1; RFC 2142, 4), and of the relay itself.
HAVE_TO_BE = ("postmaster", "abuse")
OF_THE_RELAY = (*HAVE_TO_BE, "root", "mailer-daemon")


def aliases(site: dict[str, Any]) -> dict[str, str]:
    """Return what the pillar leads elsewhere, as virtual(5) has it: its aliases, and the relay's own mail.

    A name without a domain is one of the relay's own: what cron writes to, and Postfix's notices (notify_classes).

    :param site: the site's, in one form.
    """
    administrators = ", ".join(site["administrators"])
    own = dict.fromkeys(OF_THE_RELAY if administrators else (), administrators)
    return own | {address.lower(): ", ".join(to) for address, to in site["aliases"].items()}


def named(site: dict[str, Any]) -> list[tuple[str, str]]:
    """Return whom of the site's domains the pillar leads mail to, each with the key that names them.

    :param site: the site's, in one form.
    """
    led = {"administrators": site["administrators"]} | {f"aliases:{each}": to for each, to in site["aliases"].items()}
    return [(key, each) for key, to in led.items() for each in to if each.rpartition("@")[2].lower() in site["domains"]]


def circle(site: dict[str, Any], address: str, administrators: set[str]) -> list[str]:
    """Return the addresses by which an alias leads back to itself, cleanup(8) never coming to an end; or none.

    An alias that names itself beside others keeps a copy, and ends there.

    :param site: the site's, or its pillar over the schema's defaults.
    :param address: the alias.
    :param administrators: whose mail goes to the administrators, unless it is an alias.
    """
    leads = {alias.lower(): [to.lower() for to in own] for alias, own in site["aliases"].items()}
    leads = {name: [to.lower() for to in site["administrators"]] for name in administrators} | leads
    ways: list[list[str]] = [[address.lower()]]
    known: set[str] = set()
    while ways:
        way = ways.pop()
        for to in leads.get(way[-1], ()):
            if to == way[0] != way[-1]:
                return [*way, to]
            if to not in {*known, way[-1]}:
                known.add(to)
                ways.append([*way, to])
    return []


def shared(site: dict[str, Any]) -> dict[str, str]:
    """Return who else sends with an address than those who have it in the directory (smtpd_sender_login_maps).

    :param site: the site's, in one form.
    """
    return {address.lower(): ", ".join(logins) for address, logins in site["shared_addresses"].items()}
