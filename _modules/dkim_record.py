"""Write, look up and read the DNS records of DKIM keys.

:depends: ``dnspython`` for :func:`published`, looked for when it is used
"""

from __future__ import annotations

import base64
import importlib
import re
import sys

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from salt.exceptions import CommandExecutionError


def name(domain: str, selector: str) -> str:
    """Return the name of a key's record (RFC 6376, section 3.6.2.1).

    CLI Example:

    .. code-block:: bash

        salt-call --local dkim_record.name domain01.dom default

    domain, selector
        What the key signs as.
    """
    return f"{selector}._domainkey.{domain}."


def value(public: str, restrict: bool = False) -> str:
    """Return the value of a key's record, in one piece (RFC 6376, section 3.6.1).

    CLI Example:

    .. code-block:: bash

        salt-call --local dkim_record.value MIIBIjANBgkq...

    public
        The public key, base64 of its DER form.

    restrict
        Say that the key is for mail only (``s=email``).
    """
    return "v=DKIM1; h=sha256; k=rsa; " + ("s=email; " if restrict else "") + f"p={public}"


def zone_text(domain: str, selector: str, value: str) -> str:
    """Return a record as a zone file has it, in strings of at most 255 bytes (RFC 1035, section 3.3).

    CLI Example:

    .. code-block:: bash

        salt-call --local dkim_record.zone_text domain01.dom default 'v=DKIM1; k=rsa; p=MIIBIjANBgkq...'

    domain, selector
        What the key signs as.

    value
        The record's value, in one piece.
    """
    head, mark, key = value.partition("p=")
    strings = [head] + [(mark + key)[start : start + 255] for start in range(0, len(mark + key), 255)]
    quoted = "\n\t".join(f'"{string}"' for string in strings)
    return f"{name(domain, selector)} IN TXT ( {quoted} )"


def joined(record: str) -> str:
    """Return a record's value in one piece, be it given so or in zone-file form.

    CLI Example:

    .. code-block:: bash

        salt-call --local dkim_record.joined 'default._domainkey.domain01.dom. IN TXT ( "v=DKIM1; " "p=MIIB..." )'

    record
        The value, or the zone file's text.
    """
    return ("".join(re.findall(r'"([^"]*)"', record)) or record.strip()).replace("\\;", ";")


def public_key(domain: str, selector: str, record: str) -> str:
    """Return the public key that a record holds, base64 of its DER form.

    CLI Example:

    .. code-block:: bash

        salt-call --local dkim_record.public_key domain01.dom default 'v=DKIM1; k=rsa; p=MIIBIjANBgkq...'

    domain, selector
        What the key signs as.

    record
        The record's value, or its text in zone-file form.

    Raises CommandExecutionError with the reason where a receiver would not verify mail with it: revoked, no key in it,
    not RSA, not for mail, not for SHA-256 (RFC 6376, section 3.6.1).
    """
    text = joined(record)
    where = name(domain, selector)
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    tags = {tag.strip(): "".join(content.split()) for tag, _, content in pairs}
    for tag, usable in {"v": ["DKIM1"], "k": ["rsa"], "h": ["sha256"], "s": ["email", "*"]}.items():
        if tag in tags and not set(usable) & set(tags[tag].split(":")):
            raise CommandExecutionError(f"{where}: the record says {tag}={tags[tag]}, not {tag}={usable[0]}")
    if tags.get("p") == "":
        raise CommandExecutionError(f"{where}: the key is revoked (p= is empty)")
    try:
        key = serialization.load_der_public_key(base64.b64decode(tags["p"], validate=True))
    except (KeyError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise CommandExecutionError(f"{where}: the record holds no readable RSA key: {text}")
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(key.public_bytes(*form)).decode()


def published(domain: str, selector: str, nameserver: str | None = None, port: int = 53, timeout: float = 5) -> str:
    """Return the value of the record that DNS has for a key.

    CLI Example:

    .. code-block:: bash

        salt-call --local dkim_record.published domain01.dom default nameserver=172.16.11.53

    domain, selector
        What the key signs as.

    nameserver, port
        IP address and port of the server to ask. Default: the system's resolver.

    timeout
        Seconds for all attempts together.

    Raises CommandExecutionError where DNS has no such record, has several (RFC 6376, section 3.6.2.2: receivers may
    take any), or doesn't answer.
    """
    try:
        resolvers = importlib.import_module("dns.resolver")  # late: a state of the same run may have installed it
        failures = importlib.import_module("dns.exception")
    except ImportError:
        raise CommandExecutionError(
            f"dnspython is missing from Salt's Python ({sys.executable}); "
            "the state `Salt's Python has what the formula needs` installs it"
        ) from None
    where = name(domain, selector)
    try:
        resolver = resolvers.Resolver(configure=nameserver is None)
        if nameserver is not None:
            resolver.nameservers, resolver.port = [nameserver], port
        answer = resolver.resolve(where, "TXT", lifetime=timeout)
    except (resolvers.NXDOMAIN, resolvers.NoAnswer):
        raise CommandExecutionError(f"{where}: DNS has no such TXT record") from None
    except (failures.DNSException, ValueError) as error:  # ValueError: the nameserver is no IP address
        raise CommandExecutionError(f"{where}: DNS gave no answer: {error}") from error
    if len(answer) > 1:
        raise CommandExecutionError(f"{where}: DNS has {len(answer)} TXT records; receivers may take any of them")
    return b"".join(answer[0].strings).decode("ascii", "replace")
