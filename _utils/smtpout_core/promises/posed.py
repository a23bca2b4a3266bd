"""Who and what a site's promises are asked as: clients, users, addresses, and the questions that many of them share."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from smtpout_core.daemons.postfix.smtp import OUTSIDE
from smtpout_core.directory.people import Person
from smtpout_core.promises import mentioned
from smtpout_core.promises.promise import (
    ANY,
    MESSAGES,
    SENDMAIL,
    SERVERS,
    SPENT,
    SUBMISSION,
    SUBMISSIONS,
    Content,
    End,
    Question,
)
from smtpout_core.site import addresses
from smtpout_core.site import routes as routing
from smtpout_core.site.blocked import Blocked
from smtpout_core.site.rules.postfix import port
from smtpout_core.site.services import of_old_devices

# Addresses that nobody has (RFC 5737, RFC 3849): of clients from outside, the first that is none of the site's own.
STRANGERS = {4: ("203.0.113.9", "198.51.100.9", "192.0.2.9"), 6: ("2001:db8::9", "2001:db8:ffff::9")}
HERE = ("127.0.0.1", "::1")
YES = (True, "yes")
NOBODY = f"nobody-{secrets.token_hex(6)}"
"""A local part, and a login, that nobody has; the same for as long as this process lives: answers can be compared."""
UNLISTED = "no-answer-is-read"
"""A local part that programs may send with and no user has."""
SAMPLE, MANY = 3, 32
"""Domains that messages are sent for, and domains and networks that are asked for up to RCPT, where a site has more."""


class Posed:
    """Who and what the questions are made of."""

    def __init__(
        self,
        settings: dict[str, Any],
        people: Sequence[Person],
        versions: Collection[int],
        by_command: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.versions = versions
        self.blocked = Blocked(settings, by_command)
        self.everybody = people
        people = self.people = list(_unblocked(people, self.blocked))
        self.shared = {address.lower(): logins for address, logins in settings["shared_addresses"].items()}
        owners = {address: user.login for user in reversed(people) for address in user.addresses}
        self.named = [(owners.get(each, ""), each) for each in sample(mentioned.addresses(settings), MANY)]
        self.spared = [each for each in mentioned.networks(settings) if each.version in versions]
        self.domains = sample(settings["domains"])
        self.many_domains = sample(settings["domains"], MANY)
        self.signed_elsewhere = sample(settings["signed_domains"])
        self.postmaster = f"postmaster@{settings['domains'][0]}"
        networks = [ipaddress.ip_network(each) for each in settings["networks"]]
        trusted = [each for each in networks if each.version in versions]
        of_clients = [ipaddress.ip_network(net) for each in settings["clients"] for net in each["networks"]]
        networks += [*of_clients, *self.blocked.clients]
        self.servers = [each for each in map(first, sample(trusted, MANY)) if not self.blocked.client(each)]
        self.clients = [
            (first(network), each)
            for each in sample(settings["clients"], MANY)
            for network in map(ipaddress.ip_network, each["networks"][:1])
            if network.version in versions
            and not self.blocked.client(first(network))
            and not self.blocked.sender(self.may_send(each))
        ]
        self.here = [each for each in HERE if ipaddress.ip_address(each).version in versions]
        unknown = {
            version: [each for each in known if not any(ipaddress.ip_address(each) in net for net in networks)]
            for version, known in STRANGERS.items()
        }
        self.strangers = [unknown[version][0] for version in sorted(versions) if unknown[version]]
        self.spent = [SPENT[version] for version in sorted(versions)][:1]
        services = settings["postfix"]["services"]
        ports = {port(name) for name in services if name.endswith("/inet")}
        doors = [SUBMISSION, SUBMISSIONS, *filter(None, [of_old_devices(settings)])]
        self.users_doors = [each for each in doors if port(each) in ports]
        self.login_doors = [*self.users_doors, SERVERS]
        self.verifier = settings["verify"].get("user", "")
        self.encrypted_doors = [
            name for name, service in services.items() if service.get("options", {}).get("smtpd_tls_wrappermode") in YES
        ]
        self.open_doors = [
            name
            for name, service in services.items()
            if name.endswith("/inet") and service["command"].split()[0] == "smtpd" and not on_loopback(name)
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

    def led_elsewhere(self) -> Iterator[Question]:
        """Yield mail to the pillar's aliases, and to whom of the site they and the administrators' mail lead.

        What leads to nobody is taken all the same, and ends as a bounce to whoever is named as its sender.
        """
        aliases = [each for each in self.settings["aliases"] if not self.blocked.recipient(each)]
        named = [each for each in addresses.named(self.settings) if not self.blocked.recipient(each[1])]
        for client in self.strangers[:1]:
            for address in sample(aliases):
                yield Question(client, SERVERS, "", address, content=Content.PLAIN, key=f"aliases:{address}")
            for key, address in sample(named, MANY):
                yield Question(client, SERVERS, "", address, key=key)

    def of_each_domain(self, clients: Sequence[str]) -> Iterator[Question]:
        """Yield what these clients send without a login: with addresses of each domain, one that no user has too."""
        for client in clients:
            yield Question(client, SERVERS, f"{UNLISTED}@{self.domains[0]}", OUTSIDE)
            for domain in self.many_domains:
                yield Question(client, SERVERS, f"postmaster@{domain}", OUTSIDE)

    def may_send(self, client: dict[str, Any]) -> str:
        """Return an address that a client may send with."""
        sender = str(client["senders"][0])
        return f"postmaster{sender}" if sender.startswith("@") else sender

    def of_clients(self) -> Iterator[Question]:
        """Yield what clients with addresses of their own may do, and what they may not."""
        for client, each in self.clients:
            sender, encrypted = self.may_send(each), each["tls"]
            within = [user.addresses[0] for user in self.some(1)]
            for recipient in [*within, *([OUTSIDE] if each["outside"] else [])]:
                yield Question(client, SERVERS, sender, recipient, encrypted=encrypted)
                if encrypted:
                    yield Question(client, SERVERS, sender, recipient, End.REFUSED)
                for other in self._others_than(each):
                    yield Question(client, SERVERS, other, recipient, End.REFUSED_FOR_GOOD, encrypted=encrypted)
            if not each["outside"]:
                yield Question(client, SERVERS, sender, OUTSIDE, End.REFUSED_FOR_GOOD, encrypted=encrypted)

    def limited_clients(self) -> Iterator[Question]:
        """Yield what clients send that have sent as much as they may."""
        for client, each in self.clients:
            for user in self.some(1) if each["limit"] else ():
                yield Question(
                    client, SERVERS, self.may_send(each), user.addresses[0], End.PUT_OFF, Content.PLAIN,
                    encrypted=each["tls"], spent=True,
                )  # fmt: skip

    def _others_than(self, client: dict[str, Any]) -> Iterator[str]:
        """Yield addresses that a client may not send with: one of the site's, one of others', and nobody's."""
        for address in (f"president@{self.domains[0]}", OUTSIDE, ""):
            if not {address, f"@{address.rpartition('@')[2]}"} & set(client["senders"]):
                yield address

    def refused(self) -> Iterator[Question]:
        """Yield what nobody who is blocked may do, each of which others may; and their mail to a postmaster."""
        known = [user.addresses[0] for user in self.some(1)]
        [trusted, *_] = [*self.servers, *self.here]
        for login in sample(self.blocked.logins, MANY):
            own = next((each.addresses[0] for each in self.everybody if _is(each, login)), "")
            for client in self.strangers[:1]:
                for door in self.login_doors:
                    yield Question(client, door, own, OUTSIDE, End.REFUSED_FOR_GOOD, login=login, key="blocked:logins")
        for entry in sample(self.blocked.recipients, MANY):
            recipient = _one(entry)
            yield Question(trusted, SERVERS, "", recipient, End.REFUSED_FOR_GOOD, key="blocked:recipients")
            for user in self.some(1):
                for client, door in [(client, door) for client in self.strangers[:1] for door in self.users_doors]:
                    yield Question(
                        client, door, user.addresses[0], recipient, End.REFUSED_FOR_GOOD, login=user.login,
                        key="blocked:recipients",
                    )  # fmt: skip
        for entry in sample(self.blocked.senders, MANY):
            yield Question(trusted, SERVERS, _one(entry), OUTSIDE, End.REFUSED_FOR_GOOD, key="blocked:senders")
            yield Question(trusted, SERVERS, _one(entry), self.postmaster, key="blocked:senders")
        for network in sample([each for each in self.blocked.clients if each.version in self.versions], MANY):
            for recipient in known or [OUTSIDE]:
                yield Question(first(network), SERVERS, "", recipient, End.REFUSED_FOR_GOOD, key="blocked:clients")
            for recipient in ("postmaster", self.postmaster):
                yield Question(first(network), SERVERS, "", recipient, key="blocked:clients")

    def some(self, count: int) -> Sequence[Person]:
        """Return so many users, or fewer where the directory has no more."""
        return self.people[:count]

    def others_addresses(self) -> Iterator[tuple[Person, str]]:
        """Yield a user and an address of another's, and one that nobody has."""
        if not self.without_others:
            user = self.people[0]
            others_only = (person for person in self.people[1:] if not person.delegates)
            others = (each for person in others_only for each in person.addresses if each not in user.addresses)
            strange = [each for each in others if user.login.lower() not in map(str.lower, self.shared.get(each, ()))]
            yield from ((user, each) for each in strange[:1])
            yield user, f"{NOBODY}@{self.domains[0]}"

    def authors(self) -> Iterator[Question]:
        """Yield what users write with whose From: is theirs, and with whose isn't, or isn't one."""
        own_header = self.settings["directory"]["senders"] == "own_header"
        signer = self.settings["opendkim"]
        free = {each.lower() for each in self.settings["directory"]["any_author"]}
        for user in [each for each in self.people if each.login.lower() not in free][:1]:
            own, other = user.addresses[0], f"{NOBODY}@{self.domains[0]}"
            for client, door in ((client, door) for client in self.strangers[:1] for door in self.login_doors):
                taken = Question(client, door, own, OUTSIDE, content=Content.PLAIN, login=user.login)
                yield taken
                refused = replace(taken, ends=End.REFUSED_FOR_GOOD)
                if own_header or door in self.users_doors:
                    yield replace(refused, written=("",))
                if signer["enabled"] and signer["judges_authors"]:
                    yield replace(refused, written=(f"<{own}>", f"<{other}>"))
                if own_header:
                    for each in (f"<{other}>", f"{own}, {other}", f'"{own}" <{other}>', f'"{other}" <{own}>'):
                        yield replace(refused, written=(each,))
                if own_header or signer["judges_null_sender"]:
                    yield replace(refused, sender="", author=other)
                if signer["judges_null_sender"]:
                    yield replace(taken, sender="", author=own)

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

    def viruses(self) -> Iterator[Question]:
        """Yield by whom viruses come: by each way in, and by whom the site's own options may spare."""
        known = [user.addresses[0] for user in self.some(1)]
        asked = Question("", "", "", "", End.STOPPED, Content.VIRUS)
        for client, door, sender, recipient, login in self.ways_in():
            yield replace(asked, client=client, door=door, sender=sender, recipient=recipient, login=login)
        asked = replace(asked, key="clamav:milter", refusable=True)
        for network in sample(self.spared, MANY):
            for to in known:
                yield replace(asked, client=first(network), door=SERVERS, sender=OUTSIDE, recipient=to)
        spared = [user for name in mentioned.logins(self.settings) for user in self.people if _is(user, name)]
        for user, door in [(user, door) for user in spared for door in self.users_doors[:1]]:
            for client in self.strangers[:1]:
                own = user.addresses[0]
                yield replace(asked, client=client, door=door, sender=own, recipient=OUTSIDE, login=user.login)

    @property
    def hides_nothing(self) -> bool:
        """Whether users have no port, or the site shows all of them."""
        return not (self.users_doors and any(self.settings["privacy"].values()))

    def private(self) -> Iterator[Question]:
        """Yield what users send, whose client and login stay inside."""
        shown = self.settings["privacy"]
        for client, door, sender, recipient, login in self.ways_in() if not self.hides_nothing else ():
            if login:
                kept = [(client, shown["hide_client"]), ("(Authenticated sender", shown["hide_login"])]
                hidden = tuple(words for words, hide in kept if hide)
                yield Question(client, door, sender, recipient, content=Content.PLAIN, login=login, hidden=hidden)

    def signed(self) -> Iterator[Question]:
        """Yield who sends what has to be signed, and by which selector."""
        keys = {key["domain"]: (key["domain"], key["selector"]) for key in self.settings["opendkim"]["signing_keys"]}
        for client, each in self.clients:
            sender = self.may_send(each)
            recipients = [OUTSIDE] if each["outside"] else [user.addresses[0] for user in self.some(1)]
            for recipient in recipients if sender.rpartition("@")[2] in keys else ():
                yield Question(
                    client,
                    SERVERS,
                    sender,
                    recipient,
                    content=Content.PLAIN,
                    signer=keys[sender.rpartition("@")[2]],
                    encrypted=each["tls"],
                )
        for client, door, sender, recipient, login in self.ways_in():
            domain = sender.rpartition("@")[2]
            for each in [*self.domains, *self.signed_elsewhere] if not login and domain in keys else [domain]:
                address = sender if login else f"postmaster@{each}"
                contents = MESSAGES if each == self.domains[0] or login else MESSAGES[:1]
                for content in contents if each in keys else ():
                    yield Question(client, door, address, recipient, content=content, login=login, signer=keys[each])
        [trusted, *_] = [*self.servers, *self.here]
        asked = Question(
            trusted, SERVERS, "", OUTSIDE, content=Content.PLAIN, signer=ANY, key="postfix", refusable=True
        )
        for login, address in self.named:
            yield replace(asked, sender=address)
            for client, door in [(client, door) for client in self.strangers[:1] for door in self.users_doors[:1]]:
                if login:
                    yield replace(asked, client=client, door=door, sender=address, login=login)
        relay = self.settings["hostname"].lower()
        yield Question(HERE[0], SENDMAIL, f"root@{relay}", OUTSIDE, content=Content.PLAIN, signer=ANY)

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
        others = [(OUTSIDE, ""), *([(f"postmaster@{named}", "")] if named else []), *self._of_routes()]
        for recipient, key in [each for each in others if not self.blocked.recipient(each[0])]:
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


def _unblocked(people: Sequence[Person], blocked: Blocked) -> Iterator[Person]:
    """Yield people who send and get mail, with those of their addresses that do."""
    for person in people:
        own = tuple(each for each in person.addresses if not (blocked.sender(each) or blocked.recipient(each)))
        if own and not blocked.login(person.logins):
            yield person._replace(addresses=own)


def _is(person: Person, login: str) -> bool:
    return login.lower() in map(str.lower, person.logins)


def _one(entry: str) -> str:
    """Return an address of whoever is blocked: of all of a domain, one."""
    return f"somebody{entry}" if entry.startswith("@") else entry


def sample(values: Sequence[Any], most: int = SAMPLE) -> list[Any]:
    """Return some of many: the first ones and the last. Maps treat the others as these."""
    return list(values) if len(values) <= most else [*values[: most - 1], values[-1]]


def first(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Return the first address of a network that a host may have; of a single host, that."""
    return str(next(iter(network.hosts()), network[0]))


def on_loopback(service: str) -> bool:
    """Tell whether nobody from outside gets to a service, as it is bound to this host alone."""
    host = service.removesuffix("/inet").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
