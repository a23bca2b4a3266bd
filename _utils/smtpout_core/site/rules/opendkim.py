"""The signing keys."""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from smtpout_core.site import private_key
from smtpout_core.site.rules.finding import MASKED, Found, Rule, Site

PASSING_BY = {"setuppolicyscript", "finalpolicyscript", "exemptdomains", "peerlist", "strictheaders"}
"""Options of OpenDKIM that have another script run, or mail pass without one (opendkim.conf(5))."""
UNREADABLE = "can't be read; right is an RSA private key in PEM form, whole and without a passphrase"


def _keys(site: Site, _facts: dict[str, Any]) -> Found:
    """Each domain has one key, its record a name that DNS can hold (RFC 1035, 2.3.4)."""
    signing = site["opendkim"]
    own = {domain.lower(): key for domain, key in signing["domains"].items()}
    written = {domain.lower(): domain for domain in signing["domains"]}
    for domain in (*site["domains"], *site["signed_domains"]):
        theirs = own.get(domain.lower(), {})
        where = f"opendkim:domains:{written[domain.lower()]}" if domain.lower() in written else ""
        given = {"opendkim:selector": signing["selector"]}
        if "selectors" in theirs:
            given = {f"{where}:selectors:{n}": _named(each) for n, each in enumerate(theirs["selectors"])}
        elif "selector" in theirs:
            given = {f"{where}:selector": theirs["selector"]}
        for path, selector in given.items():
            if len(f"{selector}._domainkey.{domain}") > 253:
                yield path, selector, f"is too long: a name with {domain} would be over 253 bytes"
    files: dict[str, str] = {}
    for domain, key in signing["domains"].items():
        if "private_key" in key and (wrong := _unusable(key["private_key"])):
            yield f"opendkim:domains:{domain}:private_key", MASKED, wrong
        if "key_file" in key:
            other = files.setdefault(key["key_file"], domain)
            if signing["domains"][other].get("private_key", "").strip() != key.get("private_key", "").strip():
                where = f"smtpout:opendkim:domains:{other}"
                yield f"opendkim:domains:{domain}:key_file", key["key_file"], f"is that of {where}, with another key"


def _stages(site: Site, _facts: dict[str, Any]) -> Found:
    """Each selector is said in one place, once, and its key lies where it is looked for."""
    for domain, own in site["opendkim"]["domains"].items():
        if "selectors" not in own:
            continue
        where = f"opendkim:domains:{domain}"
        for other in ("selector", "key_file", "private_key"):
            if other in own:
                value = MASKED if other == "private_key" else own[other]
                yield (
                    f"{where}:{other}",
                    value,
                    f"is of one key, and smtpout:{where}:selectors names several; remove one",
                )
        names = [_named(each) for each in own["selectors"]]
        if twice := [name for name in names if names.count(name) > 1]:
            yield f"{where}:selectors", twice[0], "stands there twice; right is each selector once"


def _named(selector: Any) -> str:
    return selector["name"] if isinstance(selector, dict) else selector


def _signed(site: Site, _facts: dict[str, Any]) -> Found:
    if site["signed_domains"] and not site["opendkim"]["enabled"]:
        yield "signed_domains", None, "has no effect while smtpout:opendkim:enabled is false; remove one of them"


def _authors(site: Site, facts: dict[str, Any]) -> Found:
    """What looks at a From: has to be there, and to be asked about every message."""
    if site["directory"]["senders"] != "own_header":
        return
    path, value = "directory:senders", "own_header"
    if not facts["opendkim"]["lua"]:
        yield path, value, "is for OpenDKIM with Lua, which nobody has seen on this platform; right is own"
    elif not site["opendkim"]["enabled"]:
        yield path, value, "needs OpenDKIM, and smtpout:opendkim:enabled is false; right is own, or to enable it"
    if site["opendkim"]["on_fail"] == "accept":
        yield (
            "opendkim:on_fail",
            "accept",
            "has any From: pass while OpenDKIM is down, beside smtpout:directory:senders: own_header; write tempfail",
        )
    for name, given in site["opendkim"]["options"].items():
        if str(name).lower() in PASSING_BY:
            yield (
                f"opendkim:options:{name}",
                given,
                "has mail pass by the script of smtpout:directory:senders: own_header; remove it, or write own there",
            )


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
    (_stages, ("opendkim:domains",)),
    (_signed, ("signed_domains", "opendkim:enabled")),
    (_authors, ("directory:senders", "opendkim:enabled", "opendkim:on_fail", "opendkim:options:")),
]
