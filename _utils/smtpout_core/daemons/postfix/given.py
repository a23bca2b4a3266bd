"""Certificates that an apply puts in place: the relay's own from the pillar, and those of further names.

Postfix finds out what is wrong with one of a further name when a client asks for that, and not before. So it is looked
at here: what can't be served is refused, with the pillar's path, and what is served stays.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smtpout_core.change import masks
from smtpout_core.change.made import Made
from smtpout_core.change.parts import Content
from smtpout_core.daemons.postfix import certificate, maps
from smtpout_core.daemons.postfix.table import Table
from smtpout_core.errors import RelayError

BEGIN = re.compile(rb"^-----BEGIN (?:[A-Z]+ )*(PRIVATE KEY|CERTIFICATE)-----", re.MULTILINE)


class Chain(Made):
    """The relay's own key and certificates, as the pillar gives them."""

    def __init__(self, path: str, pem: str) -> None:
        super().__init__(path, pem.encode, 0o600, masks.ALL)

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:
        """Return how the file differs.

        :raises RelayError: it would be another one that can't be served.
        """
        found = super().difference(placed)
        if found and "content" in found and (said := wrong(self.data)):
            raise RelayError(f"smtpout:tls:chain: {said}")
        return found


class Names(Table):
    """Keys and certificates by the name that a client asks for (SNI), in a table such as ``postmap -F`` builds."""

    def __init__(self, path: str, type: str, given: Mapping[str, Mapping[str, str]], *, bare: bool = False) -> None:
        super().__init__(path, type, {}, secret=True, bare=bare)
        self.secret = masks.ALL
        self.given = given
        self.unread: list[str] = []

    @property
    def wanted(self) -> str:
        """Return the digest of its type and of what it holds."""
        self._read()
        return super().wanted

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return which files aren't there any more; what they held is served on."""
        self._read()
        return tuple(self.unread)

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:
        """Return which names would be ``added``, ``removed`` and ``changed``, and the access of its ``files``."""
        self._read()
        return super().difference(placed)

    def contents(self, folder: str) -> dict[str, Content]:
        """Build it in a folder."""
        self._read()
        return super().contents(folder)

    def _read(self) -> None:
        """Read what each name gets, once.

        :raises RelayError: a line each for what can't be served, and isn't.
        """
        if self.entries:
            return
        entries: dict[str, str] = {}
        problems = []
        for name, own in self.given.items():
            held = served(self.path, self.type, name)
            try:
                pem = own["chain"].encode() if "chain" in own else Path(own["chain_file"]).read_bytes()
            except OSError as error:
                said = f"{key(name, own)}: {own['chain_file']}: {error.strerror}"
                if held:
                    entries[name] = _value(held)
                    self.unread.append(f"{said}; what it held is served on")
                else:
                    problems.append(said)
                continue
            entries[name] = _value(pem)
            if pem != held and (fault := wrong(pem)):
                problems.append(": ".join(filter(None, [key(name, own), own.get("chain_file", ""), fault])))
        if problems:
            raise RelayError("\n".join(problems))
        self.entries = entries


def key(name: str, own: Mapping[str, str]) -> str:
    """Return the pillar's path to what a name gets."""
    return f"smtpout:tls:names:{name}:{'chain' if 'chain' in own else 'chain_file'}"


def served(path: str, type: str, name: str) -> bytes | None:
    """Return the key and the certificates that Postfix serves for a name; None where it has none.

    :param path: of the table.
    :param type: of it.
    """
    try:
        value = maps.query(path, type, name)
    except RelayError:  # not there yet
        return None
    return base64.b64decode(value) if value else None


def wrong(pem: bytes) -> str:
    """Return what keeps a key and its certificates from being served; an empty text where nothing does.

    :param pem: PEM texts, as ``smtpd_tls_chain_files`` and ``tls_server_sni_maps`` take them.
    """
    kinds = BEGIN.findall(pem)
    if b"PRIVATE KEY" in kinds[1:] and kinds[0] == b"CERTIFICATE":
        return "the private key comes after the certificate; right is the key, its certificate, then the chain"
    try:
        info = certificate.told(pem)
    except RelayError as error:
        return str(error)
    if info["days_left"] < 0:
        return f"the certificate ended on {info['not_after']}"
    # The file is in memory alone. A password, or it would ask for one at the terminal.
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, pem)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except OSError as error:
        return f"no private key that fits the certificate: {error.strerror or error}"
    finally:
        os.close(descriptor)
    return ""


def _value(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
