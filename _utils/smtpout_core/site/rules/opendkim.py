"""The signing keys."""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from smtpout_core.site import private_key
from smtpout_core.site.rules.finding import MASKED, Found, Rule, Site

UNREADABLE = "can't be read; right is an RSA private key in PEM form, whole and without a passphrase"


def _keys(site: Site, _facts: dict[str, Any]) -> Found:
    """Each domain has one key, its record a name that DNS can hold (RFC 1035, 2.3.4)."""
    signing = site["opendkim"]
    own = {domain.lower(): key for domain, key in signing["domains"].items()}
    written = {domain.lower(): domain for domain in signing["domains"]}
    for domain in (*site["domains"], *site["signed_domains"]):
        selector = own.get(domain.lower(), {}).get("selector", signing["selector"])
        if len(f"{selector}._domainkey.{domain}") > 253:
            path = f"domains:{written[domain.lower()]}:" if "selector" in own.get(domain.lower(), {}) else ""
            yield f"opendkim:{path}selector", selector, f"is too long: a name with {domain} would be over 253 bytes"
    files: dict[str, str] = {}
    for domain, key in signing["domains"].items():
        if "private_key" in key and (wrong := _unusable(key["private_key"])):
            yield f"opendkim:domains:{domain}:private_key", MASKED, wrong
        if "key_file" in key:
            other = files.setdefault(key["key_file"], domain)
            if signing["domains"][other].get("private_key", "").strip() != key.get("private_key", "").strip():
                where = f"smtpout:opendkim:domains:{other}"
                yield f"opendkim:domains:{domain}:key_file", key["key_file"], f"is that of {where}, with another key"


def _signed(site: Site, _facts: dict[str, Any]) -> Found:
    if site["signed_domains"] and not site["opendkim"]["enabled"]:
        yield "signed_domains", None, "has no effect while smtpout:opendkim:enabled is false; remove one of them"


def _unusable(pem: str) -> str | None:
    try:
        key = private_key.read(pem.encode())
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return UNREADABLE
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 1024:
        return "is not an RSA key of 1024 bits or more (RFC 8301)"
    return None if private_key.whole(key) else UNREADABLE


RULES: list[Rule] = [
    (_keys, ("domains", "signed_domains", "opendkim:selector", "opendkim:domains")),
    (_signed, ("signed_domains", "opendkim:enabled")),
]
