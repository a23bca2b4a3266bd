"""Postfix, as the transaction brings it: the last one, when what it refers to answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smtpout_core import files
from smtpout_core.change.parts import Daemon, File, Part, Probe, Trial
from smtpout_core.daemons.groups import Membership
from smtpout_core.daemons.postfix import check, drained, listen, named, nexthop, sources, start
from smtpout_core.daemons.postfix.blocks import Blocks, Kept
from smtpout_core.daemons.postfix.certificate import SelfMade
from smtpout_core.daemons.postfix.given import Chain, Names
from smtpout_core.daemons.postfix.table import Aliases, Table
from smtpout_core.directory import ask
from smtpout_core.errors import RelayError
from smtpout_core.host import Host
from smtpout_core.site.rules.promises import not_promised


def described(settings: dict[str, Any], host: Host) -> list[Daemon]:
    """Return Postfix and the host's aliases: what is wanted of them on a site.

    :param settings: the site's.
    :param host: in test mode Postfix need not be installed yet.
    """
    facts = settings["postfix"]
    made, parts = tuple(_files(settings)), (*_tables(facts, host), *_certificates(settings, host))
    own = {*(file.path for file in made), *(path for part in parts for path in part.paths)}
    return [
        Daemon("aliases", parts=(Aliases(facts["aliases"], facts["map_type"], bare=host.test),)),
        Daemon(
            "postfix",
            units=(facts["service"],),
            working=facts["unit"],
            files=made,
            parts=parts,
            settings=(
                *(Membership(facts["user"], group) for group in facts["groups"]),
                Kept(Blocks.of(settings), labelled=settings["selinux"]["active"]),
            ),
            check=lambda staged, at: check.check(staged, settings, at),
            probes=(
                Probe(
                    "postfix",
                    # Postfix asks the directory before it greets users.
                    {
                        "directory": facts["directory"],
                        "unit": facts["unit"],
                        "patience": settings["directory"]["timeout"] + 10,
                    },
                ),
            ),
            trials=(
                Trial("Postfix's user can read the directory's authorities", *ask.readable(settings, facts["user"])),
                *sources.trials(settings),
                *_logins(settings),
            ),
            reads=tuple(
                path for path in files.plain([*facts["read_files"], *named.by_the_site(facts)]) if path not in own
            ),
            # Sessions keep the tables that they have opened: who is blocked now would go on in one that is open.
            restart_for={"groups": facts["groups"]}
            | ({"blocked": settings["blocked"]} if any(settings["blocked"].values()) else {}),
            started_with=start.start_only,
            main=f"{facts['directory']}/main.cf",
            ignored=start.IGNORED,
            astray=lambda: "where it listens" if listen.astray(settings) else None,
        ),
    ]


def _logins(settings: dict[str, Any]) -> Iterator[Trial]:
    """Yield what asks each server that the relay logs in at, before mail goes there, whether it offers a login.

    Postfix goes on without where it doesn't; that the login itself is taken shows where mail is handed on.
    """
    if "mail_is_handed_on" in not_promised(settings):
        return
    for route in settings["postfix"]["routes"]:
        if route["login"]:

            def offered(route: dict[str, Any] = route) -> None:
                faults = []
                for server in map(nexthop.read, route["servers"]):
                    try:
                        nexthop.ask(server, "smtp", encrypted=True, login=True)
                    except RelayError as error:
                        faults.append(f"smtpout:routes:{route['domain']}: {server}: {error}")
                if len(faults) == len(route["servers"]):
                    raise RelayError("\n".join(faults))

            yield Trial(f"{route['nexthop']} offers a login", [route["nexthop"], route["tls"]], offered)


def _files(settings: dict[str, Any]) -> Iterator[File]:
    facts = settings["postfix"]
    secret = {"mode": "0640", "group": facts["user"], "secret": True}
    yield _file(f"{facts['directory']}/main.cf", "main.cf")
    yield _file(f"{facts['directory']}/master.cf", "master.cf", operated=drained.operated)
    asked = ("which recipients of the site exist", "recipient_filter", "result_attribute")
    yield _file(facts["recipient_map"], "ldap.cf", context=_lookup(*asked, "own_domains"), **secret)
    asked = ("who of the site has such an address", *asked[1:])
    yield _file(facts["postmaster_map"], "ldap.cf", context=_lookup(*asked, "own_domains") | {"format": "%S"}, **secret)
    yield _file(facts["postmaster_names"], "postmasters.regexp", context={"part": 1})
    yield _file(facts["postmaster_domains"], "postmasters.regexp", context={"part": 3})
    if settings["directory"]["senders"] != "any":
        of = [name for name in ("own_domains", "signed_domains") if name in facts["maps"]]
        asked = ("who may send with an address", "owner_filter", "login_attributes")
        yield _file(facts["sender_map"], "ldap.cf", context=_lookup(*asked, *of), **secret)
        yield _file(facts["sender_names"], "senders.regexp")
        if settings["directory"]["members_send"]:
            asked = ("which group has an address", "group_filter", "group_attribute")
            yield _file(facts["group_map"], "ldap.cf", context=_lookup(*asked, *of), **secret)
            asked = ("who is in a group", "member_filter", "login_attributes")
            yield _file(facts["member_map"], "ldap.cf", context=_lookup(*asked), **secret)
        if settings["directory"]["delegating"]:
            asked = ("whom an address's entry names as delegates", "delegating_filter", "delegating")
            yield _file(facts["delegating_map"], "ldap.cf", context=_lookup(*asked, *of) | {"format": "<%s>"}, **secret)
            asked = ("who a delegate is", "delegate_filter", "login_attributes")
            yield _file(facts["delegate_map"], "ldap.cf", context=_lookup(*asked), **secret)
            yield _file(facts["delegate_first"], "delegates.regexp", context={"first": True})
            yield _file(facts["delegate_others"], "delegates.regexp", context={"first": False})
    yield _file(facts["blocked"]["quoted"], "logins.regexp")
    for attribute, path in facts["blocked"]["names"].items():
        asked = (f"the {attribute} of whoever logs in", "named_filter", attribute)
        yield _file(path, "ldap.cf", context=_lookup(*asked), **secret)
    if facts["blocked"]["accounts"]:
        asked = ("who is blocked by the pillar", "blocked_filter", "objectClass")
        yield _file(facts["blocked"]["accounts"], "ldap.cf", context=_lookup(*asked), **secret)
    if settings["opendkim"]["judges_null_sender"]:
        asked = ("which addresses a user has", "sender_filter", "address_attributes")
        yield _file(facts["address_map"], "ldap.cf", context=_lookup(*asked), **secret)
        yield _file(facts["address_header"], "addresses.regexp")
    if settings["clamav"]["enabled"] and settings["clamav"]["on_unscannable"] == "Accept":
        yield _file(facts["scanned"], "scanned.regexp")
    if facts["users_header_checks"] and settings["privacy"]["hide_client"]:
        yield _file(facts["privacy"], "privacy.regexp")
    if settings["directory"]["senders"] == "own_header" or (
        facts["users_header_checks"] and settings["directory"]["senders"] == "own"
    ):
        yield _file(facts["authors"], "authors.regexp")
    if settings["authentication"]["submission"]:
        yield _file(facts["directory_map"], "directory.cf", **secret)
    yield _file(f"{facts['sasl_directory']}/smtpd.conf", "smtpd.conf")
    yield _file(f"/etc/systemd/system/{facts['unit']}.service.d/smtpout.conf", "postfix.service", restart=True)


def _lookup(purpose: str, query: str, result: str, *domains: str) -> dict[str, Any]:
    return {"purpose": purpose, "query": query, "result": result, "domains": domains}


def _file(path: str, source: str, **named: Any) -> File:
    return File(path, f"salt://smtpout/postfix/{source}.jinja", **named)


def _certificates(settings: dict[str, Any], host: Host) -> Iterator[Part]:
    facts, tls = settings["postfix"], settings["tls"]
    if facts["self_made_certificate"]:
        yield SelfMade(facts["certificate_chain"], settings["hostname"])
    if "chain" in tls:
        yield Chain(facts["certificate_chain"], tls["chain"])
    if tls["names"]:
        yield Names(facts["names_map"], facts["map_type"], tls["names"], bare=host.test)


def _tables(facts: dict[str, Any], host: Host) -> Iterator[Table]:
    for table in facts["maps"].values():
        yield Table(table["path"], table["type"], table["entries"], secret=table["secret"], bare=host.test)
