"""The directory: who logs in, which recipients there are, by whom that is tried."""

from __future__ import annotations

import re
from typing import Any

from smtpout_core.site import proxy, searches
from smtpout_core.site.rules.finding import Found, Rule, Site

# saslauthd's lak.c cuts the list of servers there.
SERVER_BYTES = 1023


def _encryption(site: Site, _facts: dict[str, Any]) -> Found:
    """What the site believes to be encrypted has to be."""
    directory = site["directory"]
    schemes = [server.partition(":")[0].lower() for server in directory["servers"]]
    for index, scheme in enumerate(schemes):
        if directory["start_tls"] and scheme != "ldap":
            yield (
                f"directory:servers:{index}",
                directory["servers"][index],
                (
                    "and smtpout:directory:start_tls don't go together: STARTTLS is for ldap://; set that to false "
                    "or write ldap://"
                ),
            )
        elif "ca_file" in directory and scheme == "ldap" and not directory["start_tls"]:
            yield (
                f"directory:servers:{index}",
                directory["servers"][index],
                (
                    "is not encrypted, although smtpout:directory:ca_file is there; write ldaps:// or set "
                    "smtpout:directory:start_tls"
                ),
            )


def _servers(site: Site, _facts: dict[str, Any]) -> Found:
    first: dict[str, int] = {}
    for index, written in enumerate(site["directory"]["servers"]):
        server = written.lower().rstrip("/")
        earlier = first.setdefault(server, index)
        if earlier != index:
            yield f"directory:servers:{index}", server, f"repeats smtpout:directory:servers:{earlier}"
    if len(" ".join(site["directory"]["servers"])) > SERVER_BYTES:
        yield "directory:servers", None, f"together they have more than {SERVER_BYTES} bytes, and saslauthd cuts them"


def _proxy(site: Site, facts: dict[str, Any]) -> Found:
    """Who asks for HAProxy has to get it; where it is the default, smtpout.verify says why there is none."""
    if site["directory"].get("proxy") and (why := proxy.hindrance(site, facts)):
        yield "directory:proxy", True, f"can't be had: {why}; or leave this out"


def _searches(site: Site, facts: dict[str, Any]) -> Found:
    """Without what the user typed, a search finds the same entry whoever asks."""
    directory = site["directory"]
    login, recipients = directory["login"], directory["recipients"]
    if isinstance(login, str) and login not in facts["logins"]:
        if not re.search(r"%[uU]", login.replace("%%", "")):
            yield "directory:login", login, "has neither %u nor %U, what the user typed: it would find the same for all"
        if directory["senders"] != "any" and "login_attribute" not in directory:
            yield (
                "directory:login_attribute",
                None,
                (
                    "missing; with a filter as login and senders: own or own_header, it must name the attribute that "
                    "holds what users log in with (or set smtpout:directory:senders to any)"
                ),
            )
    if recipients not in facts["recipients"]:
        if not re.search(r"%[suSU]", recipients.replace("%%", "")):
            yield "directory:recipients", recipients, "has neither %s nor %u, the address: every one would be found"
        if unknown := re.search(r"%[rR]", recipients.replace("%%", "")):
            yield "directory:recipients", recipients, f"has {unknown[0]}, which only saslauthd knows; right is %s"


def _login_attributes(site: Site, facts: dict[str, Any]) -> Found:
    """A form of a login owns what its account does, so the account has to be found by it; and each such form is one.

    What is compared with a part of what the user typed can't be told by comparing the whole.
    """
    directory = site["directory"]
    if "login_attribute" not in directory or directory["senders"] == "any":
        return
    several = isinstance(directory["login_attribute"], list)
    named = searches.listed(directory["login_attribute"])
    known = {name.lower() for name in named}
    own = isinstance(directory["login"], str) and directory["login"] not in facts["logins"]
    compared = searches.compared(searches.login_filter(directory["login"]))
    for index, name in enumerate(named):
        if name.lower() not in map(str.lower, compared) and (several or not own):
            yield (
                f"directory:login_attribute:{index}" if several else "directory:login_attribute",
                name,
                (
                    "isn't what smtpout:directory:login compares with what users type (%u), so another user could log "
                    "in with it; have that compare it, or remove it here"
                ),
            )
    if missing := [name for name, whole in compared.items() if whole and name.lower() not in known]:
        yield (
            "directory:login_attribute",
            None,
            (
                f"lacks {', '.join(missing)}: users log in with that, too (smtpout:directory:login), and then send "
                f"nothing; right is [{', '.join([*named, *missing])}]"
            ),
        )


def _verify(site: Site, _facts: dict[str, Any]) -> Found:
    verify = site["verify"]
    if verify.get("outside") in site["domains"]:
        yield "verify:outside", verify["outside"], "is one of smtpout:domains; right would be a domain elsewhere"
    for one, other in (("user", "password"), ("password", "user")):
        if one in verify and other not in verify:
            yield f"verify:{other}", None, "missing: user and password go together"
    if "user" in verify and (wrong := _unlike(site["directory"]["login"], verify["user"])):
        yield "verify:user", verify["user"], f"{wrong}: the login would be refused"


def _unlike(login: str | list[str], user: str) -> str:
    """Return why nobody logs in with a name, if presets tell that."""
    presets = set(searches.listed(login))
    if presets <= {"mail", "upn"} and "@" not in user:
        return f"has no @, and users log in with {' or '.join(sorted(presets))}"
    return "has an @, and users log in with account_name" if presets == {"account_name"} and "@" in user else ""


def _shared(site: Site, _facts: dict[str, Any]) -> Found:
    """Who may send with an address is told once, and of the site's addresses."""
    own, first = {domain.lower() for domain in site["domains"]}, dict[str, str]()
    if site["shared_addresses"] and site["directory"]["senders"] == "any":
        yield "shared_addresses", None, "has no effect beside smtpout:directory:senders: any; remove one of them"
    if site["directory"]["delegates"] != "none" and site["directory"]["senders"] == "any":
        yield "directory:delegates", None, "has no effect beside smtpout:directory:senders: any; remove one of them"
    for address, logins in site["shared_addresses"].items():
        path = f"shared_addresses:{address}"
        earlier = first.setdefault(address.lower(), address)
        if earlier != address:
            yield path, None, f"is the same address as smtpout:shared_addresses:{earlier}; put all names there"
        if address.lower().rpartition("@")[2] not in own:
            yield path, None, "is of none of smtpout:domains, and users send with no address of others; remove it"
        for index, login in enumerate(logins):
            if wrong := _unlike(site["directory"]["login"], login):
                yield f"{path}:{index}", login, f"{wrong}: nobody logs in so"


def _authors(site: Site, _facts: dict[str, Any]) -> Found:
    """Who may write with any From: is an exception."""
    directory = site["directory"]
    if directory["any_author"] and directory["senders"] != "own_header":
        yield (
            "directory:any_author",
            None,
            "has no effect without smtpout:directory:senders: own_header; write that, or remove this",
        )
    for index, login in enumerate(directory["any_author"]):
        if wrong := _unlike(directory["login"], login):
            yield f"directory:any_author:{index}", login, f"{wrong}: nobody logs in so"


RULES: list[Rule] = [
    (_encryption, ("directory:servers", "directory:start_tls", "directory:ca_file")),
    (_servers, ("directory:servers",)),
    (_proxy, ("directory:servers", "directory:start_tls", "directory:proxy", "saslauthd:options:")),
    (_searches, ("directory:login", "directory:recipients", "directory:senders", "directory:login_attribute")),
    (_login_attributes, ("directory:login", "directory:senders", "directory:login_attribute")),
    (_shared, ("domains", "shared_addresses", "directory:senders", "directory:delegates", "directory:login")),
    (_authors, ("directory:any_author", "directory:senders", "directory:login")),
    (_verify, ("domains", "verify:user", "verify:outside", "directory:login")),
]
