"""Private keys: read without what takes long, and whether one is whole, told by its numbers."""

from __future__ import annotations

from typing import Any

import cryptography
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# Debian 12's own has version 38, which knows of no such thing.
UNVALIDATED = {"unsafe_skip_rsa_key_validation": True} if int(cryptography.__version__.partition(".")[0]) > 38 else {}


def read(pem: bytes) -> Any:
    """Return the private key of a PEM text, of whatever kind, as ``load_pem_private_key`` does and raises.

    OpenSSL's own validation of a key's numbers takes 40 ms each.
    """
    return serialization.load_pem_private_key(pem, password=None, **UNVALIDATED)


def whole(key: rsa.RSAPrivateKey) -> bool:
    """Tell whether a key's numbers are those of one key (RFC 8017, 3.2).

    OpenSSL's own validation takes 44 ms a key, since it proves the primes, and a trial signature 1 ms; this, 0.02 ms.

    :param key: read without that validation.
    """
    numbers = key.private_numbers()
    public, product = numbers.public_numbers, numbers.d * numbers.public_numbers.e
    return (
        numbers.p * numbers.q == public.n
        and product % (numbers.p - 1) == product % (numbers.q - 1) == 1
        and (numbers.dmp1, numbers.dmq1) == (numbers.d % (numbers.p - 1), numbers.d % (numbers.q - 1))
        and numbers.iqmp * numbers.q % numbers.p == 1
    )
