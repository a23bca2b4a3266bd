"""What a site's mail needs of DNS, as its settings say."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from smtpout_core.daemons.opendkim import keys
from smtpout_core.errors import RelayError

OUTSIDE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Nobody's addresses (RFC 5737, 3849): the way to them is the way to the Internet."""


class Key(NamedTuple):
    """A selector that receivers may meet: one that signs, or one that mail on its way was signed with.

    :param path: the private key's file.
    :param public: base64 of the public key's DER form; empty where ``fault`` says why there is none.
    """

    domain: str
    selector: str
    path: str
    public: str
    fault: str = ""


class Wanted(NamedTuple):
    """What is to be in DNS.

    :param domains: that people send mail from.
    :param keys: every selector that isn't removed; of the relay's own name, too, where it signs with that.
    :param addresses: that mail leaves from; none where ``no_addresses`` says why they aren't known.
    :param hostname: what the relay says in HELO; empty where another server gives mail to the world.
    :param restrict: whether keys are for mail only.
    """

    domains: tuple[str, ...]
    keys: tuple[Key, ...]
    addresses: tuple[str, ...]
    no_addresses: str
    hostname: str
    restrict: bool

    def keys_of(self, domain: str) -> list[Key]:
        """Return the keys that sign as a domain."""
        return [key for key in self.keys if key.domain == domain]


def wanted(settings: dict[str, Any], domains: Collection[str] = ()) -> Wanted:
    """Return what a site needs.

    :param settings: the site's.
    :param domains: those that are wanted. Default, all.
    :raises RelayError: one isn't the site's.
    """
    signing = settings["opendkim"]["keys"] if settings["opendkim"]["enabled"] else []
    senders = [*settings["domains"], *settings["signed_domains"]]
    known = dict.fromkeys([*senders, *(key["domain"] for key in signing)])
    chosen = [domain.lower() for domain in domains] or list(known)
    if others := [domain for domain in chosen if domain not in known]:
        raise RelayError(f"{', '.join(others)}: no domain that the site sends from; smtpout:domains has those")
    smart_host = bool(settings["postfix"]["smart_host"][1])
    addresses, why = _addresses(settings, smart_host)
    return Wanted(
        tuple(domain for domain in chosen if domain in senders),
        tuple(held(key["domain"], key["selector"], key["path"]) for key in signing if key["domain"] in chosen),
        addresses,
        why,
        "" if smart_host else settings["hostname"].lower(),
        settings["opendkim"]["restrict"],
    )


def held(domain: str, selector: str, path: str) -> Key:
    """Return a key with the public half that its file has."""
    try:
        return Key(domain, selector, path, keys.key_info(path)["public"])
    except RelayError as error:
        return Key(domain, selector, path, "", str(error))


def _addresses(settings: dict[str, Any], smart_host: bool) -> tuple[tuple[str, ...], str]:
    """Return which addresses receivers see, and why none where nobody here can know."""
    say = "name them in smtpout:dns:addresses"
    if given := settings["dns"]["addresses"]:
        return tuple(given), ""
    if smart_host:
        return (), f"mail goes out by a smart host, whose addresses receivers see: {say}"
    found = tuple(_of_routes())
    public = tuple(address for address in found if ipaddress.ip_address(address).is_global)
    if public:
        return public, ""
    seen = f"{', '.join(found)} is no public address, so receivers see another" if found else "there is no way out"
    return (), f"{seen}: {say}"


def _of_routes() -> Iterator[str]:
    """Yield the addresses that this host goes to the Internet with; no packet is sent for that."""
    for family, outside in OUTSIDE.items():
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as way:
                way.connect((outside, 25))
                yield way.getsockname()[0]
        except OSError:
            continue
