"""Make, protect and publish the keys that OpenDKIM signs with.

Keys are RSA, made in this process with ``cryptography`` (which comes with Salt): no shell, and no moment in which
another user could read one. A key's file is opened without following a link, since its directory belongs to the
daemon's user, who could otherwise point root at any file of the machine.

:depends: ``dkimpy`` for :func:`test_signature`, ``dnspython`` for what asks DNS; each is looked for when it is used
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from smtpout_core import files, packages
from smtpout_core.daemons.opendkim import proofs
from smtpout_core.daemons.opendkim import record as records
from smtpout_core.errors import RelayError
from smtpout_core.site import private_key

# RFC 8301, section 3.2: signers use 1024 bits at least, verifiers have to handle 1024 to 4096.
LEAST_BITS, MOST_BITS = 1024, 4096


def generate_key(path: str, bits: int = 2048, user: str = "root", group: str = "root") -> str:
    """Make an RSA private key in a new file, mode 0600, and return its public key (the ``p=`` of its record).

    :param path: The new file. What is there already stays, and is an error.
    :param bits: Size of the key, 1024 to 4096 (RFC 8301). 2048 signs nineteen times as fast as 4096.
    :param user: Who owns the file: the user the daemon runs as, which opens it for every message.
    :param group: likewise.
    :raises RelayError: the size is out of bounds, the file exists or can't be written.
    """
    return generate_keys([path], bits, user, group)[path]


def generate_keys(paths: Sequence[str], bits: int = 2048, user: str = "root", group: str = "root") -> dict[str, str]:
    """Make an RSA private key in each of several new files, on all cores, and return the public key of each path.

    :param paths: The new files.
    :param bits: As in :func:`generate_key`, which also says what is raised. All others are made before one that fails
        raises.
    :param user: likewise.
    :param group: likewise.
    """
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise RelayError(
            f"{bits} bits: a DKIM key has {LEAST_BITS} to {MOST_BITS} bits; signers must not use fewer and verifiers "
            "need not handle more (RFC 8301)"
        )

    files.ids(user, group)  # before the work
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def generate(path: str) -> str:
        _refuse_existing(path)
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        _create(path, key.private_bytes(*form), user, group)
        return _public(key)

    # OpenSSL works without Python's lock: 30 ms a key instead of 53 on two cores. Executor.map would cancel what waits.
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        made = {path: cores.submit(generate, path) for path in paths}
    return {path: key.result() for path, key in made.items()}


def install_key(settings: dict[str, Any], path: str, domain: str, user: str = "root", group: str = "root") -> str:
    """Write the private key that pillar gives for a domain to a new file, mode 0600, and return its public key.

    The key itself is no argument: arguments end up in process lists, logs and job returns.

    :param path: As in :func:`generate_key`.
    :param user: likewise.
    :param group: likewise.
    :param domain: Whose key: ``smtpout:opendkim:domains:DOMAIN:private_key``.
    :raises RelayError: pillar has no usable key, or the file exists or can't be written.
    """
    text, key = _pillar_key(settings, domain)
    _create(path, text, user, group)
    return _public(key)


def key_info(path: str) -> dict[str, Any]:
    """Return the size (``bits``) and the public key (``public``, the ``p=`` of its record) of a private key.

    :param path: The file, in PKCS#8 or the traditional PEM form; OpenDKIM reads both.
    :raises RelayError: there is no usable RSA private key.
    """
    with _opened(path) as file:
        key = _load(file.read(), path)
    return {"bits": key.key_size, "public": _public(key)}


def inspected(
    wanted: Mapping[str, Mapping[str, Any]], settings: dict[str, Any], proven: proofs.Proofs
) -> dict[str, dict[str, Any]]:
    """Return the size (``bits``) and the ``access`` (as ``mode 0600, opendkim:opendkim``) of each key that is there.

    :param wanted: by path, as the settings' ``signing_keys``; one ``from_pillar`` has to be the pillar's.
    :param settings: the site's.
    :param proven: which of them were found usable before; it gets those that are found now.
    :raises RelayError: a line each for files that hold no usable key, or another than pillar gives.
    """
    owner = functools.cache(files.owner)  # most have the same
    found: dict[str, dict[str, Any]] = {}
    problems = []
    for path, key in wanted.items():
        try:
            given = _pillar_text(settings, key["domain"]) if key.get("from_pillar") else b""
            if not os.path.lexists(path):
                if given:
                    _load(given, _place(key["domain"]))
                continue
            status = os.lstat(path)
            bits = proven.bits(path, status, given) or _proved(path, key["domain"], given, proven)
        except RelayError as error:
            problems.append(str(error))
        else:
            access = f"mode {stat.S_IMODE(status.st_mode):04o}, {owner(status.st_uid, status.st_gid)}"
            found[path] = {"bits": bits, "access": access}
    if problems:
        raise RelayError("\n".join(problems))
    return found


def _proved(path: str, domain: str, given: bytes, proven: proofs.Proofs) -> int:
    """Read a key, remember that it is usable, and the pillar's where that gives one, and return its size."""
    with _opened(path) as file:
        status = os.fstat(file.fileno())  # before it is read: what changes it afterwards shows
        key = _load(file.read(), path)
    if given and _public(_load(given, _place(domain))) != _public(key):
        raise RelayError(
            f"{path}: another key than {_place(domain)}, and a private key is never overwritten: give the new key a "
            "selector of its own, or move this file away"
        )
    proven.keep(path, status, given, key.key_size)
    return key.key_size


def protect_key(path: str, user: str = "root", group: str = "root") -> None:
    """Give a private key's file to its owner alone: mode 0600.

    OpenDKIM refuses, and answers 451 to every message, what others can read (``RequireSafeKeys``, opendkim.conf(5)).

    :param path: The file. One that holds no private key stays as it is, and is an error.
    :param user: Who shall own it.
    :param group: likewise.
    :raises RelayError: there is no usable RSA private key, or no such user or group.
    """
    uid, gid = files.ids(user, group)
    with _opened(path) as file:
        _load(file.read(), path)
        os.fchmod(file.fileno(), 0o600)
        os.fchown(file.fileno(), uid, gid)


def public_record(path: str, domain: str, selector: str, restrict: bool = False, value_only: bool = False) -> str:
    """Return the TXT record to publish for a private key, as a zone file has it, in strings of at most 255 bytes.

    :param path: The private key.
    :param domain: What the key signs as; the record's name is ``selector._domainkey.domain``.
    :param selector: likewise.
    :param restrict: Say that the key is for mail only (``s=email``), as ``opendkim-genkey --restrict`` does.
    :param value_only: Return the value alone, unquoted and in one piece, as the forms of many DNS providers want it.
    :raises RelayError: there is no usable RSA private key.
    """
    value = records.value(key_info(path)["public"], restrict)
    return value if value_only else records.zone_text(domain, selector, value)


def public_records(settings: dict[str, Any]) -> str:
    """Return the records to publish for all of the site's keys, as a zone file has them.

    :raises RelayError: a key isn't there yet, or the pillar isn't right.
    """
    signing = _signing(settings)
    keys = [(key["path"], key["domain"], key["selector"]) for key in signing["keys"]]
    return "\n".join(public_record(*key, signing["restrict"]) for key in keys)


def key_matches_record(
    path: str,
    domain: str,
    selector: str,
    record: str | None = None,
    nameserver: str | None = None,
    port: int = 53,
    timeout: float = 5,
) -> bool:
    """Return whether a record verifies what a private key signs; False where it holds another key.

    :param path: The private key.
    :param domain: What the key signs as.
    :param selector: likewise.
    :param record: The record's value, or its text in zone-file form. Default: what DNS answers.
    :param nameserver: IP address and port of the server to ask. Default: the system's resolver.
    :param port: likewise.
    :param timeout: Seconds for all attempts together.
    :raises RelayError: there is no usable private key, or no one record that is usable: none, several,
        revoked, unreadable, not for mail (:mod:`smtpout_core.daemons.opendkim.record` says which).
    """
    if record is None:  # quotation marks in what DNS has are published with it, and no receiver takes them off
        value = records.published(domain, selector, nameserver, port, timeout)
        return records.held(records.name(domain, selector), value) == key_info(path)["public"]
    return records.public_key(domain, selector, record) == key_info(path)["public"]


def test_signature(
    path: str,
    domain: str,
    selector: str,
    record: str | None = None,
    nameserver: str | None = None,
    port: int = 53,
    timeout: float = 5,
) -> bool:
    """Sign a message with a private key and verify it as a receiver would; return True.

    With ``record``, a record is tried before it is published.

    :param path: As in :func:`key_matches_record`.
    :param domain: likewise.
    :param selector: likewise.
    :param record: likewise.
    :param nameserver: likewise.
    :param port: likewise.
    :param timeout: likewise.
    :raises RelayError: with the reason where the signature doesn't verify.
    """
    dkim = packages.imported("dkim", "dkimpy")
    if record is None:
        record = records.published(domain, selector, nameserver, port, timeout)
    name, value = records.name(domain, selector), records.joined(record)
    if not key_matches_record(path, domain, selector, value):
        raise RelayError(f"{name}: the record holds another key than {path}")
    message = f"From: postmaster@{domain}\r\nTo: postmaster@{domain}\r\nSubject: DKIM\r\n\r\nA test.\r\n".encode()
    with _opened(path) as file:
        pem = file.read()
    try:
        signature = dkim.sign(message, selector.encode(), domain.encode(), pem)
        verified = dkim.verify(signature + message, dnsfunc=lambda *_, **__: value.encode())
    except dkim.DKIMException as error:
        raise RelayError(f"{name}: {error}") from error
    if not verified:
        raise RelayError(f"{name}: what {path} signs doesn't verify with this record: {value}")
    return True


def _create(path: str, text: bytes, user: str, group: str) -> None:
    """Write a private key to a new file, in a folder that is there."""
    uid, gid = files.ids(user, group)
    _refuse_existing(path)
    try:
        os.stat(os.path.dirname(path))  # it gets its owner from the state, and isn't made on the way
        files.create(path, text, 0o600, uid, gid)
    except FileExistsError:
        _refuse_existing(path)
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}") from error


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise RelayError(f"{path} exists; a private key is never overwritten")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """Give a regular file to read; the last part of its path may be no link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "is a symbolic link; name the key itself" if error.errno == errno.ELOOP else error.strerror
        raise RelayError(f"{path}: {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RelayError(f"{path}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _load(pem: bytes, source: str) -> rsa.RSAPrivateKey:
    """Return the RSA private key of a PEM text that came from ``source``."""
    try:
        key = private_key.read(pem)
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_BITS and private_key.whole(key):
            return key
    except TypeError:
        raise RelayError(f"{source}: the private key has a passphrase, which OpenDKIM can't give") from None
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise RelayError(f"{source}: not a usable RSA private key of {LEAST_BITS} bits or more (RFC 8301)")


def _public(key: rsa.RSAPrivateKey) -> str:
    """Return the public key as a record's ``p=`` has it."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(key.public_key().public_bytes(*form)).decode()


def _signing(settings: dict[str, Any]) -> dict[str, Any]:
    """Return OpenDKIM's part of the site's settings."""
    if not settings["valid"]:
        raise RelayError("\n".join(settings["errors"]))
    signing: dict[str, Any] = settings["opendkim"]
    return signing


def _place(domain: str) -> str:
    return f"smtpout:opendkim:domains:{domain}:private_key"


def _pillar_text(settings: dict[str, Any], domain: str) -> bytes:
    """Return the key that pillar gives for ``domain``, as a file has it."""
    keys = _signing(settings)["private_keys"]
    if domain not in keys:
        raise RelayError(f"{_place(domain)}: missing")
    return f"{keys[domain].strip()}\n".encode()


def _pillar_key(settings: dict[str, Any], domain: str) -> tuple[bytes, rsa.RSAPrivateKey]:
    """Return the key that pillar gives for ``domain``: as text, and loaded."""
    text = _pillar_text(settings, domain)
    return text, _load(text, _place(domain))
