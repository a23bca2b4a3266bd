"""Make a mail server's own certificate where none is given, and tell what is in one.

The key is RSA with 2048 bits: scanners, printers and old Java clients that send through a relay may know no other kind,
and a signature more or less in a handshake costs 0.3 ms. A self-made certificate hides mail from those who only listen;
who its users trust is for them to say.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from smtpout_core import files
from smtpout_core.change import masks
from smtpout_core.change.parts import Content, Part
from smtpout_core.daemons.postfix import conf
from smtpout_core.errors import RelayError, os_errors_told

# Who a certificate made here says it belongs to: it may be replaced, and no other one may.
MAKER = "smtpout"

RENEWED = 30
"""Days before its end from which a certificate made here is made anew."""

LONGEST_COMMON_NAME = 64  # RFC 5280, ub-common-name; the full names are among the alternative ones


def create_self_signed(path: str, common_name: str, names: Sequence[str] = (), days: int = 825) -> dict[str, Any]:
    """Make a private key and its self-signed certificate, in one file for ``smtpd_tls_chain_files``; return its info.

    The file has the key first, then the certificate (postconf(5)), and mode 0600, root's. It appears whole, by rename,
    in a folder that is made where it is missing.

    :param path: The file. A certificate made here before is replaced; anything else that is there stays, and is an
        error.
    :param common_name: The server's name.
    :param names: More names that clients know the server by.
    :param days: How long it holds. Apple's systems trust none that holds longer than 825 days
        (support.apple.com/HT210176).
    :raises RelayError: another file is there, a name is none, or the file can't be written.
    """
    if os.path.lexists(path) and not info(path)["self_made"]:
        raise RelayError(f"{path} wasn't made by {MAKER}; it stays")
    with os_errors_told():
        files.write(path, self_signed(common_name, names, days), 0o600)
    return info(path)


def self_signed(common_name: str, names: Sequence[str] = (), days: int = 825) -> bytes:
    """Return a private key and its self-signed certificate, as :func:`create_self_signed` writes them.

    :param common_name: likewise, and so ``names`` and ``days``.
    :raises RelayError: a name is none.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate = _self_signed(key, common_name, names, days)
    return key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM)


def info(path: str) -> dict[str, Any]:
    """Return what a certificate says.

    :param path: A file with PEM texts; the first certificate in it, the server's, is told about.
    The result has ``subject``, ``names`` (sorted), ``not_after`` (UTC, as in 2028-02-26T09:00:00+00:00), ``days_left``,
    ``self_signed`` and ``self_made`` (by :func:`create_self_signed`).

    :raises RelayError: no certificate can be read.
    """
    try:
        with open(path, "rb") as file:
            return told(file.read())
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}") from error
    except RelayError as error:
        raise RelayError(f"{path}: {error}") from error


def told(pem: bytes) -> dict[str, Any]:
    """Return what a certificate says, as :func:`info` does of a file's.

    :param pem: PEM texts.
    :raises RelayError: no certificate is among them.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {str(name.value) for name in alternatives}
    except ValueError as error:
        raise RelayError(f"no certificate in PEM form: {error}") from error
    except x509.ExtensionNotFound:
        names = set()
    organisations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    self_signed = certificate.issuer == certificate.subject
    end = _end(certificate)
    left = end - dt.datetime.now(dt.timezone.utc)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "names": sorted(names),
        "not_after": end.isoformat(),
        "days_left": left.days,
        "self_signed": self_signed,
        "self_made": self_signed and [organisation.value for organisation in organisations] == [MAKER],
    }


def _end(certificate: x509.Certificate) -> dt.datetime:
    """Return until when a certificate is good; Debian 12's cryptography (38) has it without a time zone."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=dt.timezone.utc)


def faults(path: str) -> Iterator[str]:
    """Yield what is wrong with a certificate that a site gives, as far as that can be told without Postfix.

    :param path: the file, for ``smtpd_tls_chain_files``.
    """
    try:
        ends = info(path)
        if ends["days_left"] < 0:
            yield f"smtpout:tls:chain_file: the certificate in {path} ended on {ends['not_after']}"
        # A password, or it would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password="")
    except RelayError as error:
        yield f"smtpout:tls:chain_file: {error}"
    except OSError as error:
        yield f"smtpout:tls:chain_file: {path}: no private key that fits the certificate: {error.strerror or error}"


class SelfMade(Part):
    """A certificate for a server's name where it was given none, made anew where it no longer serves.

    Another one that was put there stays as it is.
    """

    secret = masks.ALL

    def __init__(self, path: str, common_name: str) -> None:
        self.path, self.common_name = path, common_name
        self.made = b""

    @property
    def paths(self) -> tuple[str, ...]:
        """Return its file, unless somebody has put another certificate there."""
        return () if self._foreign() else (self.path,)

    @property
    def wanted(self) -> str:
        """Return the digest of the file."""
        return hashlib.sha256(self.made).hexdigest() if self.made else str(files.digest(self.path))

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:  # noqa: ARG002 - it tells
        """Return why it has to be made anew; None where it serves, or isn't smtpout's."""
        reason = "" if self._foreign() else self._reason()
        if not reason:
            return None
        self.made = self_signed(self.common_name)
        return {"old": reason, "new": f"self-signed for {self.common_name}"}

    def contents(self, folder: str) -> dict[str, Content]:  # noqa: ARG002 - made in memory
        """Return the file, where it is to be made."""
        return {self.path: Content(self.made, 0o600)} if self.made else {}

    def _foreign(self) -> bool:
        return os.path.lexists(self.path) and not info(self.path)["self_made"]

    def _reason(self) -> str:
        if not os.path.lexists(self.path):
            return "absent"
        found, status = info(self.path), os.stat(self.path)
        if found["days_left"] < RENEWED:
            return f"holds until {found['not_after']}"
        if found["names"] != [self.common_name]:
            return f"self-signed for {', '.join(found['names'])}"
        if (status.st_mode & 0o7777, status.st_uid) != (0o600, 0):
            return (
                f"readable by others: mode {status.st_mode & 0o7777:04o}, {files.owner(status.st_uid, status.st_gid)}"
            )
        return ""


def _self_signed(key: rsa.RSAPrivateKey, common_name: str, names: Sequence[str], days: int) -> x509.Certificate:
    """Return a server's certificate for ``key``, signed with it."""
    try:
        alternatives = [x509.DNSName(name) for name in dict.fromkeys([common_name, *names])]
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, MAKER),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name[:LONGEST_COMMON_NAME]),
            ]
        )
    except ValueError as error:
        raise RelayError(f"no certificate for {', '.join([common_name, *names])}: {error}") from error
    now = dt.datetime.now(dt.timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,  # for clients without (EC)DHE
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # for clients whose clock is behind
        .not_valid_after(now + dt.timedelta(days=days, hours=-1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def served(directory: str = conf.LIVE) -> list[str]:
    """Return the files of the certificates that a configuration has Postfix serve (smtpd_tls_chain_files).

    :param directory: the configuration directory, staged or live.
    :raises RelayError: postconf can't read it.
    :raises NotInstalledError: there is no Postfix.
    """
    named = conf.values(directory, "smtpd_tls_chain_files")["smtpd_tls_chain_files"]
    return [path for path in re.split(r"[\s,]+", named) if path]
