"""The promises of a site, derived from its settings: a new one is an entry of :func:`everything`."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from smtpout_core.daemons.postfix.smtp import OUTSIDE
from smtpout_core.directory.people import Person
from smtpout_core.promises.promise import (
    MESSAGES,
    SENDMAIL,
    SERVERS,
    SUBMISSION,
    SUBMISSIONS,
    Content,
    End,
    Promise,
    Question,
)
from smtpout_core.site import routes as routing
from smtpout_core.site.rules.postfix import port
from smtpout_core.site.rules.promises import not_promised

# Addresses that nobody has (RFC 5737, RFC 3849): of clients from outside, the first that is none of the site's own.
STRANGERS = {4: ("203.0.113.9", "198.51.100.9", "192.0.2.9"), 6: ("2001:db8::9", "2001:db8:ffff::9")}
HERE = ("127.0.0.1", "::1")
YES = (True, "yes")
NOBODY = f"nobody-{secrets.token_hex(6)}"
"""A local part that nobody has; the same for as long as this process lives, so that answers can be compared."""
SAMPLE, MANY = 3, 32
"""Domains that messages are sent for, and domains and networks that are asked for up to RCPT, where a site has more."""


def promised(settings: dict[str, Any], people: Sequence[Person], versions: Collection[int] = (4, 6)) -> list[Promise]:
    """Return what a site keeps its word on, but for what its own keys say otherwise.

    :param settings: the site's.
    :param people: users that the directory has; without any, what is about users can't be asked.
    :param versions: of IP, that Postfix speaks.
    """
    taken_back = not_promised(settings)
    return [each for each in everything(settings, people, versions) if each.name not in taken_back]


def everything(
    settings: dict[str, Any], people: Sequence[Person] = (), versions: Collection[int] = (4, 6)
) -> list[Promise]:
    """Return what a site could promise, whatever it takes back; as of :func:`promised`."""
    site = _Site(settings, people, versions)
    return [
        Promise(
            "strangers_reach_users",
            "Anybody's mail to the site's users is taken",
            [Question(client, SERVERS, "", address) for client in site.strangers for _, address in site.one_of_each],
            site.without_users,
            ("directory:recipients", "postfix:main"),
            r"smtpd_\w+_restrictions|relay_\w+|transport_maps|\w*alias\w*|virtual_\w+",
        ),
        Promise(
            "strangers_reach_the_postmaster",
            "Anybody reaches the postmaster (RFC 5321, 4.5.1)",
            [Question(client, SERVERS, "", "postmaster", content=Content.PLAIN) for client in site.strangers],
            keys=("postfix:main",),
            parameters=r"smtpd_\w+_restrictions|local_\w+|my(destination|origin)|alias_maps",
        ),
        Promise(
            "strangers_do_not_relay",
            "Nobody from outside sends through the relay to outside",
            [
                Question(client, door, sender, OUTSIDE, End.REFUSED)
                for client in site.strangers
                for door in site.open_doors
                for sender in ("", OUTSIDE, site.postmaster)
            ],
            keys=("networks", "postfix:main", "postfix:master"),
            parameters=r"mynetworks\w*|smtpd_(relay|recipient|client|sender)_restrictions|relay_domains|permit_\w+",
        ),
        Promise(
            "strangers_do_not_send_as_the_site",
            "Nobody from outside writes with an address of the site without a login",
            [
                Question(client, SERVERS, f"president@{domain}", user.addresses[0], End.REFUSED_FOR_GOOD)
                for client in site.strangers
                for domain in site.many_domains
                for user in site.some(1)
            ],
            site.without_users,
            ("domains", "postfix:main"),
            r"smtpd_\w+_restrictions|mynetworks\w*",
        ),
        Promise(
            "unknown_recipients_are_refused",
            "Mail to an address of the site that nobody has is refused at once",
            [
                Question(client, SERVERS, "", f"{NOBODY}@{domain}", End.REFUSED_FOR_GOOD)
                for client in site.strangers
                for domain in site.many_domains
            ],
            keys=("directory:recipients", "postfix:main"),
            parameters=r"smtpd_\w+_restrictions|(relay|local)_recipient_maps|relay_domains|virtual_\w+|\w*_code",
        ),
        Promise(
            "servers_send",
            "The site's servers send to outside and to its users",
            [
                *(
                    Question(client, SERVERS, site.postmaster, recipient)
                    for client in site.servers
                    for recipient in site.anywhere
                ),
                *site.of_each_domain(site.servers[:1]),
            ],
            "" if site.servers else "the site has no networks",
            ("networks", "postfix:main"),
            r"mynetworks\w*|smtpd_\w+_restrictions|relay\w*",
        ),
        Promise(
            "programs_send",
            "Programs on the relay send, over loopback and by sendmail(1)",
            [
                *site.of_each_domain(site.here),
                Question(HERE[0], SENDMAIL, site.postmaster, OUTSIDE, content=Content.PLAIN),
            ],
            keys=("postfix:main", "postfix:master"),
            parameters=r"mynetworks\w*|smtpd_\w+_restrictions|authorized_submit_users|non_smtpd_milters",
        ),
        Promise(
            "users_send",
            "Users who have logged in send with their own addresses",
            [
                *(
                    Question(client, door, user.addresses[0], recipient, login=user.login)
                    for client in site.strangers
                    for door in site.login_doors
                    for user in site.some(2)
                    for recipient in (OUTSIDE, user.addresses[0])
                ),
                *(
                    Question(client, door, address, OUTSIDE, login=login)
                    for client in site.strangers[:1]
                    for door in site.login_doors
                    for login, address in site.one_of_each
                ),
            ],
            site.without_users,
            ("directory:login", "directory:login_attribute", "directory:senders", "postfix:main", "postfix:master"),
            r"smtpd_\w+_restrictions|smtpd_sender_login_maps|smtpd_sasl_\w+|smtpd_tls_\w+",
        ),
        Promise(
            "users_log_in",
            "Users log in, by the whole chain up to the directory",
            [
                Question(client, door, "", "", content=Content.LOGIN, login=site.verifier)
                for client in site.strangers[:1]
                for door in site.login_doors
                if site.verifier
            ],
            "" if site.verifier else "smtpout:verify has no user",
            ("directory:login", "saslauthd:options", "verify", "postfix:main"),
            r"smtpd_sasl_\w+|cyrus_sasl_\w+|smtpd_tls_\w+|smtpd_discard_ehlo_\w+",
        ),
        Promise(
            "passwords_are_encrypted",
            "No password is asked for without TLS",
            [
                Question(client, door, "", "", End.REFUSED, Content.CLEAR_LOGIN)
                for client in site.strangers[:1]
                for door in site.open_doors
                if door not in site.encrypted_doors
            ],
            keys=("authentication:clear_text_on_25", "postfix:main", "postfix:master"),
            parameters=r"smtpd_tls_\w+|smtpd_sasl_\w+|smtpd_use_tls|smtpd_enforce_tls",
        ),
        Promise(
            "only_users_submit",
            "Where users send, on 587 and 465, nobody else does",
            [
                Question(client, door, OUTSIDE, recipient, End.REFUSED)
                for client in (*site.strangers, *site.servers[:1])
                for door in site.users_doors
                for recipient in site.anywhere
            ],
            keys=("postfix:master", "postfix:main"),
            parameters=r"smtpd_\w+_restrictions|mynetworks\w*",
        ),
        Promise(
            "users_send_as_themselves",
            "No user sends with an address that isn't theirs",
            [
                Question(client, door, other, OUTSIDE, End.REFUSED_FOR_GOOD, login=user.login)
                for client in site.strangers[:1]
                for door in site.login_doors
                for user, other in site.others_addresses()
            ],
            site.without_others,
            ("directory:senders", "postfix:main", "postfix:master"),
            r"smtpd_sender_\w+|smtpd_(client|helo|recipient|relay)_restrictions",
        ),
        Promise(
            "viruses_are_stopped",
            "No virus passes the relay, whoever sends it",
            [
                Question(client, door, sender, recipient, End.STOPPED, Content.VIRUS, login)
                for client, door, sender, recipient, login in site.ways_in()
            ],
            keys=("clamav:enabled", "clamav:clamd", "clamav:milter", "postfix:main", "postfix:master"),
            parameters=r"(non_)?smtpd_milters|milter_\w+|content_filter|receive_override_options|header_checks",
        ),
        Promise(
            "mail_is_signed",
            "What leaves with an address of the site is signed by its domain's key",
            list(site.signed()),
            keys=("opendkim", "networks", "postfix:main", "postfix:master"),
            parameters=r"(non_)?smtpd_milters|milter_\w+|\w*_checks|\w*canonical\w*|masquerade_\w+|smtp_\w+",
        ),
        Promise(
            "strangers_are_not_signed",
            "What comes from outside gets no signature of the site",
            [
                Question(
                    client, SERVERS, OUTSIDE, user.addresses[0], content=Content.PLAIN, signer=("", ""), author=author
                )
                for client in site.strangers
                for user in site.some(1)
                for author in ("", site.postmaster)
            ],
            site.without_users,
            ("opendkim:trusted_hosts", "networks", "opendkim:options"),
            r"smtpd_milters|milter_\w+",
        ),
        Promise(
            "mail_takes_its_route",
            "Mail to the site's users leaves to the delivery layer, and other mail elsewhere",
            list(site.routed()),
            site.without_users or site.without_some,
            ("delivery", "routes", "postfix:main", "postfix:maps"),
            r"(transport|relay|virtual|local|default|canonical|recipient|smtp)_\w+|relayhost|always_bcc|content_filter",
        ),
        Promise(
            "mail_is_handed_on",
            "Servers that mail is handed on to take it",
            list(site.handed()),
            site.without_users or site.without_some,
            ("delivery", "routes", "verify:outside", "postfix:main", "postfix:maps"),
            r"(transport|relay|default|smtp)_\w+|\w*relayhost\w*",
        ),
    ]


class _Site:
    """Who and what the questions are made of."""

    def __init__(self, settings: dict[str, Any], people: Sequence[Person], versions: Collection[int]) -> None:
        self.settings = settings
        self.people = people
        self.domains = sample(settings["domains"])
        self.many_domains = sample(settings["domains"], MANY)
        self.postmaster = f"postmaster@{settings['domains'][0]}"
        networks = [ipaddress.ip_network(each) for each in settings["networks"]]
        trusted = [each for each in networks if each.version in versions]
        self.servers = [str(next(each.hosts(), each[0])) for each in sample(trusted, MANY)]
        self.here = [each for each in HERE if ipaddress.ip_address(each).version in versions]
        unknown = {
            version: [each for each in known if not any(ipaddress.ip_address(each) in net for net in networks)]
            for version, known in STRANGERS.items()
        }
        self.strangers = [unknown[version][0] for version in sorted(versions) if unknown[version]]
        services = settings["postfix"]["services"]
        ports = {port(name) for name in services if name.endswith("/inet")}
        self.users_doors = [each for each in (SUBMISSION, SUBMISSIONS) if port(each) in ports]
        self.login_doors = [*self.users_doors, SERVERS]
        self.verifier = settings["verify"].get("user", "")
        self.encrypted_doors = [
            name for name, service in services.items() if service.get("options", {}).get("smtpd_tls_wrappermode") in YES
        ]
        self.open_doors = [
            name
            for name, service in services.items()
            if name.endswith("/inet") and service["command"].split()[0] == "smtpd" and not _on_loopback(name)
        ]
        self.without_users = "" if people else "the directory shows no user with a login and an address"
        self.known: dict[str, tuple[str, str]] = {}
        for user in people:
            for each in user.addresses:
                self.known.setdefault(each.rpartition("@")[2], (user.login, each))
        nobody = [each for each in self.domains if each not in self.known]
        self.without_some = f"the directory shows no user in {', '.join(nobody)}" if nobody else ""
        self.without_others = self.without_users or ("" if people[1:] else "the directory shows only one user")

    @property
    def anywhere(self) -> list[str]:
        """Recipients of each kind."""
        return [OUTSIDE, *(user.addresses[0] for user in self.some(1))]

    @property
    def one_of_each(self) -> list[tuple[str, str]]:
        """Login and address of a user in each of the site's domains that has one."""
        return [self.known[domain] for domain in self.many_domains if domain in self.known]

    def of_each_domain(self, clients: Sequence[str]) -> Iterator[Question]:
        """Yield what these clients send with an address of each domain without a login."""
        for client in clients:
            for domain in self.many_domains:
                yield Question(client, SERVERS, f"postmaster@{domain}", OUTSIDE)

    def some(self, count: int) -> Sequence[Person]:
        """Return so many users, or fewer where the directory has no more."""
        return self.people[:count]

    def others_addresses(self) -> Iterator[tuple[Person, str]]:
        """Yield a user and an address of another's, and one that nobody has."""
        if not self.without_others:
            user = self.people[0]
            others = (each for person in self.people[1:] for each in person.addresses if each not in user.addresses)
            yield from ((user, each) for each in list(others)[:1])
            yield user, f"{NOBODY}@{self.domains[0]}"

    def ways_in(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Yield each way by which mail comes in: client, door, sender, recipient, login."""
        for client in (*self.servers[:1], *self.here[:1]):
            yield client, SERVERS, self.postmaster, OUTSIDE, ""
        yield HERE[0], SENDMAIL, self.postmaster, OUTSIDE, ""
        for user in self.some(1):
            for client in self.strangers[:1]:
                yield client, SERVERS, OUTSIDE, user.addresses[0], ""
                for door in self.users_doors:
                    yield client, door, user.addresses[0], OUTSIDE, user.login

    def signed(self) -> Iterator[Question]:
        """Yield who sends what has to be signed, and by which selector."""
        keys = {key["domain"]: (key["domain"], key["selector"]) for key in self.settings["opendkim"]["signing_keys"]}
        for client, door, sender, recipient, login in self.ways_in():
            domain = sender.rpartition("@")[2]
            for each in self.domains if not login and domain in keys else [domain]:
                address = sender if login else f"postmaster@{each}"
                contents = MESSAGES if each == self.domains[0] or login else MESSAGES[:1]
                for content in contents if each in keys else ():
                    yield Question(client, door, address, recipient, content=content, login=login, signer=keys[each])

    def routed(self) -> Iterator[Question]:
        """Yield mail that has to leave by the site's routes."""
        ways = self.settings["postfix"]["maps"]["transport_maps"]["entries"]
        routes = self.settings["postfix"]["routes"]
        [client, *_] = [*self.servers, *self.here]
        for domain in self.domains:
            if domain in self.known:
                yield Question(
                    client,
                    SERVERS,
                    self.postmaster,
                    self.known[domain][1],
                    content=Content.PLAIN,
                    routed=ways[domain],
                )
        named = self.settings["verify"].get("outside")
        for recipient, key in [(OUTSIDE, ""), *([(f"postmaster@{named}", "")] if named else []), *self._of_routes()]:
            way = routing.way(routes, recipient.rpartition("@")[2])
            yield Question(
                client, SERVERS, self.postmaster, recipient, content=Content.PLAIN, routed=way or "outside", key=key
            )

    def _of_routes(self) -> Iterator[tuple[str, str]]:
        """Yield a recipient for each route that leads to a server, with its key; of a domain below one, whichever."""
        for route in sample(self.settings["postfix"]["routes"], MANY):
            domain = route["domain"]
            if domain != routing.DEFAULT and route["servers"]:
                yield f"postmaster@{'mail' if domain.startswith('.') else ''}{domain}", f"routes:{domain}"

    def handed(self) -> Iterator[Question]:
        """Yield mail that servers have to take; of the site's routes, one to a server is enough: each may log in."""
        known = set()
        for each in self.routed():
            way = each.routed if each.key and each.routed != "outside" else each.recipient
            if way not in known:
                known.add(way)
                yield replace(each, routed="", handed=True)


def sample(values: Sequence[Any], most: int = SAMPLE) -> list[Any]:
    """Return some of many: the first ones and the last. Maps treat the others as these."""
    return list(values) if len(values) <= most else [*values[: most - 1], values[-1]]


def _on_loopback(service: str) -> bool:
    """Tell whether nobody from outside gets to a service, as it is bound to this host alone."""
    host = service.removesuffix("/inet").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
