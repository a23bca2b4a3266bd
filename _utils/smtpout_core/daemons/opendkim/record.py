"""Write, look up and read the DNS records of DKIM keys.

:depends: ``dnspython`` for :func:`published`, looked for when it is used
"""

from __future__ import annotations

import base64
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from smtpout_core import packages
from smtpout_core.errors import RelayError


def name(domain: str, selector: str) -> str:
    """Return the name of a key's record (RFC 6376, section 3.6.2.1).

    :param domain: What the key signs as.
    :param selector: likewise.
    """
    return f"{selector}._domainkey.{domain}."


def value(public: str, restrict: bool = False) -> str:
    """Return the value of a key's record, in one piece (RFC 6376, section 3.6.1).

    :param public: The public key, base64 of its DER form.
    :param restrict: Say that the key is for mail only (``s=email``).
    """
    return "v=DKIM1; h=sha256; k=rsa; " + ("s=email; " if restrict else "") + f"p={public}"


def zone_text(domain: str, selector: str, value: str) -> str:
    """Return a record as a zone file has it, in strings of at most 255 bytes (RFC 1035, section 3.3).

    :param domain: What the key signs as.
    :param selector: likewise.
    :param value: The record's value, in one piece.
    """
    return text(name(domain, selector), value)


def text(where: str, value: str) -> str:
    """Return a TXT record as a zone file has it, in strings of at most 255 bytes (RFC 1035, section 3.3).

    :param where: its name.
    :param value: in one piece. A key begins a string of its own.
    """
    head, mark, key = value.partition("p=") if value.startswith("v=DKIM1") else ("", "", value)
    strings = [*filter(None, [head]), *((mark + key)[start : start + 255] for start in range(0, len(mark + key), 255))]
    quoted = "\n\t".join(f'"{string}"' for string in strings)
    return f"{where} IN TXT ( {quoted} )"


def joined(record: str) -> str:
    """Return a record's value in one piece, be it given so or in zone-file form.

    :param record: The value, or the zone file's text.
    """
    return ("".join(re.findall(r'"([^"]*)"', record)) or record.strip()).replace("\\;", ";")


def public_key(domain: str, selector: str, record: str) -> str:
    """Return the public key that a record holds, base64 of its DER form.

    :param domain: What the key signs as.
    :param selector: likewise.
    :param record: The record's value, or its text in zone-file form.
    :raises RelayError: as :func:`held`.
    """
    return held(name(domain, selector), joined(record))


def held(where: str, text: str) -> str:
    """Return the public key that a record holds as DNS has it, base64 of its DER form.

    :param where: the record's name.
    :param text: its value, in one piece.
    :raises RelayError: with the reason where a receiver would not verify mail with it: a tag twice, revoked, no key in
        it, not RSA, not for mail, not for SHA-256 (RFC 6376, sections 3.2 and 3.6.1).
    """
    tags = tags_of(text)
    if tags is None:
        raise RelayError(f"{where}: the record has a tag twice: {text}")
    for tag, usable in {"v": ["DKIM1"], "k": ["rsa"], "h": ["sha256"], "s": ["email", "*"]}.items():
        if tag in tags and not set(usable) & set(tags[tag].split(":")):
            raise RelayError(f"{where}: the record says {tag}={tags[tag]}, not {tag}={usable[0]}")
    if tags.get("p") == "":
        raise RelayError(f"{where}: the key is revoked (p= is empty)")
    try:
        key = serialization.load_der_public_key(base64.b64decode(tags["p"], validate=True))
    except (KeyError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise RelayError(f"{where}: the record holds no readable RSA key: {text}")
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(key.public_bytes(*form)).decode()


def tags_of(text: str) -> dict[str, str] | None:
    """Return a record's tags, without the blanks in them; None where one is there twice (RFC 6376, section 3.2)."""
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    tags = {tag.strip(): "".join(content.split()) for tag, _, content in pairs}
    return tags if len(tags) == len(pairs) else None


def published(domain: str, selector: str, nameserver: str | None = None, port: int = 53, timeout: float = 5) -> str:
    """Return the value of the record that DNS has for a key.

    :param domain: What the key signs as.
    :param selector: likewise.
    :param nameserver: IP address and port of the server to ask. Default: the system's resolver.
    :param port: likewise.
    :param timeout: Seconds for all attempts together.
    :raises RelayError: DNS has no such record, has several (RFC 6376, section 3.6.2.2: receivers may take
        any), or doesn't answer.
    """
    resolvers = packages.imported("dns.resolver", "dnspython")
    failures = packages.imported("dns.exception", "dnspython")
    where = name(domain, selector)
    try:
        resolver = resolvers.Resolver(configure=nameserver is None)
        if nameserver is not None:
            resolver.nameservers, resolver.port = [nameserver], port
        answer = resolver.resolve(where, "TXT", lifetime=timeout)
    except (resolvers.NXDOMAIN, resolvers.NoAnswer):
        raise RelayError(f"{where}: DNS has no such TXT record") from None
    except (failures.DNSException, ValueError) as error:  # ValueError: the nameserver is no IP address
        raise RelayError(f"{where}: DNS gave no answer: {error}") from error
    if len(answer) > 1:
        raise RelayError(f"{where}: DNS has {len(answer)} TXT records; receivers may take any of them")
    return b"".join(answer[0].strings).decode("ascii", "replace")
