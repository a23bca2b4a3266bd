"""Ask the running relay whether it does what the site says: what ``smtpout.verify`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from smtpout_core.change import units
from smtpout_core.change.parts import Daemon
from smtpout_core.daemons import descriptions
from smtpout_core.daemons.haproxy import daemon as haproxy_daemon
from smtpout_core.daemons.limits import asking as limits
from smtpout_core.daemons.limits import daemon as limits_daemon
from smtpout_core.daemons.postfix import conf, draining, nexthop, sources
from smtpout_core.daemons.watch import record
from smtpout_core.directory import people
from smtpout_core.dns import kept
from smtpout_core.errors import Doubt, RelayError
from smtpout_core.host import Host
from smtpout_core.site import addresses
from smtpout_core.site import routes as routing
from smtpout_core.site.rules.promises import not_promised
from smtpout_core.site.services import of_old_devices
from smtpout_core.verify import ageing, blocked, directory, filters, logins, pillar, postfix, stages

ASKED = ("haproxy", "saslauthd", "clamd", "clamav-milter", "opendkim", "limits", "postfix", "watch")
"""Daemons of whom more is asked than whether they run."""

SESSIONS = "new sessions are taken"
"""The check that tells whether the relay is drained as it should be."""

ROUTES = 32
"""Of the delivery layer's, and of others', that are asked."""


class Check(NamedTuple):
    """A sentence that is to be true, the unit to look at where it isn't, and what asks.

    :param own: whether it tells of the relay's daemons alone, and not of a directory or a disk besides.
    """

    sentence: str
    unit: str
    ask: Callable[[], str]
    own: bool = True


def run(settings: dict[str, Any], host: Host) -> list[dict[str, str]]:
    """Make every check; each daemon is asked by its own protocol.

    :param settings: the site's.
    :param host: where its daemons run.
    :return: one ``{"check": ..., "state": "ok" | "warning" | "failed", "seen": ...}`` a check. What failed says which
        unit to look at.
    """
    asked = [*_others(settings, host), *_checks(settings)]
    # At once: a directory that hangs is waited for by three of them.
    with ThreadPoolExecutor(len(asked)) as pool:
        checks = list(pool.map(_outcome, asked))
    risks = _risks(settings) + stages.waiting(settings, host)
    if checks[-1]["state"] != "failed":  # the directory, which serves
        risks += logins.who_cannot_log_in(settings)
        risks += logins.who_cannot_send(settings) if settings["directory"]["senders"] != "any" else []
        risks += logins.who_is_no_delegate(settings)
    return checks + [{"check": check, "state": "warning", "seen": seen} for check, seen in risks]


def failing(settings: dict[str, Any]) -> dict[str, str]:
    """Return which of the daemons don't do what the site says, and what was seen of each: the proof of a change.

    Not what is another's fault: a directory that is down keeps no right configuration from going live.

    :param settings: the site's.
    """
    asked = [check for check in _checks(settings) if check.own]
    with ThreadPoolExecutor(len(asked)) as pool:
        outcomes = list(pool.map(_outcome, asked))
    return {outcome["check"]: outcome["seen"] for outcome in outcomes if outcome["state"] == "failed"}


def _checks(settings: dict[str, Any]) -> list[Check]:
    unit = settings["postfix"]["unit"]
    asked = [
        Check("Postfix greets and offers what it should", unit, partial(postfix.greeting, settings)),
        Check("Postfix listens where its configuration says", unit, partial(postfix.listening, settings)),
    ]
    asked.append(Check(SESSIONS, unit, partial(draining.seen, settings)))
    asked.append(Check("servers get TLS on port 25", unit, partial(postfix.encrypted, settings), own=False))
    if "programs_send" not in not_promised(settings):
        asked.append(Check("programs on the relay send", unit, partial(postfix.programs_send, settings)))
    asked += [
        Check(f"users are served on port {port}", unit, partial(postfix.users_greeted, settings, service), own=False)
        for service, port in (("submission/inet", "587"), ("465/inet", "465"), *_old_devices(settings))
        if service in settings["postfix"]["services"]
    ]
    asked.append(Check("blocked accounts are refused", unit, partial(blocked.refused, settings), own=False))
    asked.append(Check("no block is forgotten", "", partial(blocked.forgotten, settings), own=False))
    if addresses.named(settings):
        seen = partial(postfix.led_elsewhere, settings)
        asked.append(Check("whom aliases lead to is there", "", seen, own=False))
    asked.append(Check("the queue has room for mail", "", partial(postfix.room, settings), own=False))
    if settings["clamav"]["enabled"]:
        scanner = settings["clamav"]["clamd"]["service"]
        asked.append(Check("the scanner finds the EICAR test virus", scanner, partial(filters.scan, settings)))
    asked += [
        Check(f"the {milter['name']} milter answers", milter["unit"], partial(filters.answer, settings, milter["name"]))
        for milter in settings["milters"]
    ]
    asked.append(Check("logins are checked", settings["saslauthd"]["service"], partial(logins.daemon, settings)))
    if settings["haproxy"]["enabled"]:
        reached = partial(directory.reached, settings)
        asked.append(Check("the relay's daemons reach the directory", f"{haproxy_daemon.UNIT}.service", reached))
    if settings["limits"]["enabled"]:
        seen = partial(limits.seen, settings)
        who = "logins" if settings["limits"]["of_logins"] else "clients"
        asked.append(Check(f"what {who} send is counted", f"{limits_daemon.UNIT}.service", seen))
    if "mail_is_handed_on" not in not_promised(settings):
        asked.append(Check("the delivery layer answers", "", partial(_delivery, settings), own=False))
        if others := _others_routes(settings):
            seen = partial(_served, settings, others)
            asked.append(Check("the servers that routes lead to answer", "", seen, own=False))
        asked.append(Check("mail gets out", "", partial(_outside, settings), own=False))
    if any(route["addresses"] for route in settings["postfix"]["routes"]):
        seen = partial(sources.seen, settings)
        asked.append(Check("mail leaves from addresses that this host has", "", seen, own=False))
    asked += [Check(sentence, "", ask, own=False) for sentence, ask in ageing.checks(settings)]
    if settings["watch"]["enabled"]:
        look = partial(record.seen, settings["watch"]["minutes"], record.PATH)
        asked.append(Check("the relay is looked at between applies", record.TIMER, look, own=False))
    if "hours" in settings["dns"]:
        compared = partial(kept.seen, settings["dns"]["hours"], kept.PATH)
        asked.append(Check("DNS says what the site's mail needs", "", compared, own=False))
    asked.append(
        Check("the directory answers as the pillar says", "", partial(directory.answering, settings), own=False)
    )
    return asked


def _old_devices(settings: dict[str, Any]) -> list[tuple[str, str]]:
    service = of_old_devices(settings)
    return [(service, service.removesuffix("/inet"))] if service else []


def _others(settings: dict[str, Any], host: Host) -> Iterator[Check]:
    """Yield a check of each daemon that is described and has none of its own."""
    daemons: list[Daemon] = []
    with suppress(RelayError):  # of what can't be read others tell
        daemons += descriptions.described(settings, host)
    for daemon in daemons:
        if daemon.units and daemon.name not in ASKED:
            unit = daemon.working or daemon.units[-1]
            yield Check(f"{daemon.name} runs", unit, partial(_runs, daemon, unit), own=False)


def _runs(daemon: Daemon, unit: str) -> str:
    """Return how a daemon is; raise where it doesn't run, or doesn't answer its probe."""
    now = units.status(daemon.units, daemon.working)
    if not now.running:
        raise RelayError(f"{unit} is {now.state}")
    descriptions.ways().probe(daemon.probes)()
    return f"{unit} is {now.state}"


def _outcome(check: Check) -> dict[str, str]:
    """Return the outcome of one check: it returns what it saw, or raises with what is wrong with the unit."""
    try:
        return {"check": check.sentence, "state": "ok", "seen": check.ask()}
    except Doubt as doubt:
        return {"check": check.sentence, "state": "warning", "seen": str(doubt)}
    except RelayError as error:  # one without ldap3 keeps none of the others back
        advice = f" (systemctl status {check.unit}; journalctl -u {check.unit})" if check.unit else ""
        return {"check": check.sentence, "state": "failed", "seen": f"{error}{advice}"}
    except Exception as error:  # noqa: BLE001 - a fault of a library's or of smtpout's own keeps no other back, either
        return {
            "check": check.sentence,
            "state": "failed",
            "seen": f"it can't be asked: {type(error).__name__}: {error}",
        }


def _delivery(settings: dict[str, Any]) -> str:
    """Return where the delivery layer takes users' mail; what doesn't is asked again by Postfix, and its mail waits."""
    ways = settings["postfix"]["maps"]["transport_maps"]["entries"]
    routes: dict[str, str] = {}
    for domain in settings["domains"]:
        if domain in ways:
            routes.setdefault(ways[domain], domain)
    asked = dict(list(routes.items())[:ROUTES])
    try:
        known = people.found(settings, asked.values())
    except RelayError:  # another check says that the directory can't be asked
        known = []
    users = {address.rpartition("@")[2]: address for person in reversed(known) for address in person.addresses}
    return _served(settings, list(routes), {route: users.get(domain, "") for route, domain in asked.items()})


def _others_routes(settings: dict[str, Any]) -> list[str]:
    """Return the servers of routes to others' domains; where all other mail goes is asked by itself."""
    routes = [route for route in settings["postfix"]["routes"] if route["domain"] != routing.DEFAULT]
    return list(dict.fromkeys(server for route in routes for server in route["servers"]))


def _served(settings: dict[str, Any], routes: Sequence[str], users: Mapping[str, str] | None = None) -> str:
    """Return which servers of routes answer; what doesn't is asked again by Postfix, and its mail waits.

    :param users: somebody whose mail has to be taken, by the route.
    """
    served, silent, short = _asked(settings, routes[:ROUTES], users or {})
    if silent or short:
        raise Doubt("\n".join([*silent, *short]))
    return ", ".join(served) or "no route of the site's leads to a server"


def _outside(settings: dict[str, Any]) -> str:
    """Return which server outside answers: a smart host, one that the pillar names, or, with neither, DNS alone."""
    way = conf.values(settings["postfix"]["directory"], "relayhost", "default_transport")
    transport, _, fixed = way["default_transport"].partition(":")
    named = settings["verify"].get("outside", "")
    places = (fixed or way["relayhost"] or named).replace(",", " ").split()
    if not places:
        try:
            nexthop.hosts(nexthop.read(f"{transport}:{settings['domains'][0]}"))
        except RelayError as error:
            raise Doubt(f"mail to outside waits: {error}") from error
        return "DNS answers; only smtpout:verify:outside would show that port 25 is open outwards"
    served, silent, short = _asked(settings, [f"{transport}:{place}" for place in places], {})
    if silent and not served:  # one is enough (postconf(5), relayhost)
        raise Doubt("\n".join(silent))
    if short and (fixed or way["relayhost"]):  # of the many outside, each has limits of its own
        raise Doubt("\n".join(short))
    return ", ".join(served) or f"{way['default_transport']} leads to no server"


def _asked(
    settings: dict[str, Any], routes: Sequence[str], users: Mapping[str, str]
) -> tuple[list[str], list[str], list[str]]:
    """Return which servers of routes greet, what the others say, and what of clients' mail they don't take.

    All are asked at once.
    """
    promised = conf.values(settings["postfix"]["directory"], "message_size_limit", "smtputf8_enable")

    def ask(asked: nexthop.Target) -> tuple[str, str, str]:
        try:
            found = nexthop.ask(
                asked.nexthop,
                asked.program,
                encrypted=asked.encrypted,
                login=asked.login,
                recipient=users.get(asked.route, ""),
            )
        except RelayError as error:
            return "", f"{asked.nexthop} doesn't take mail, which waits in the queue: {error}", ""
        less = "; ".join(nexthop.unkept(found.offers, promised))
        told = f"{asked.nexthop} takes {less} (smtpout:postfix:main): what is taken beyond that bounces"
        return found.where, "", told if less else ""

    targets = list(nexthop.targets(settings, routes))
    with ThreadPoolExecutor(max(1, len(targets))) as pool:
        found = list(pool.map(ask, targets))
    served, silent, short = ([each[number] for each in found if each[number]] for number in range(3))
    return served, silent, short


def _risks(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what an administrator should know though nothing failed: what was hoped for, and why it isn't so."""
    risks = [
        (
            f"mail never passes {milter['name']} unseen",
            f"smtpout:{milter['name']}:on_fail lets it when there is no answer",
        )
        for milter in settings["milters"]
        if milter["action"] == "accept"
    ]
    if settings["authentication"]["clear_text_on_25"]:
        seen = "smtpout:authentication:clear_text_on_25 lets them cross the network in clear text"
        risks.append(("passwords are encrypted on port 25", seen))
    taken_back = [name for name, kept in settings["promises"].items() if not kept]
    if taken_back:
        from smtpout_core.promises import derived

        sentences = {promise.name: promise.sentence for promise in derived.everything(settings)}
        risks += [
            (sentences[name], f"smtpout:promises:{name} takes it back") for name in taken_back if name in sentences
        ]
    risks += pillar.risks(settings)
    clear = [server for server in settings["directory"]["servers"] if server.startswith("ldap://")]
    if clear and not settings["directory"].get("start_tls"):
        seen = f"{', '.join(clear)} gets them in clear text: ldaps:// or smtpout:directory:start_tls would not"
        risks.append(("passwords are encrypted on their way to the directory", seen))
    if why := settings["haproxy"]["missing"]:
        risks.append(("logins go on where a directory server hangs", f"each is waited for: {why}"))
    if "user" not in settings["verify"]:
        risks.append(("a user can log in", "smtpout:verify has no user, so no login was tried"))
    with suppress(RelayError):  # another check says that Postfix can't be asked
        if not postfix.has_tls(settings):
            risks.append(
                ("mail is encrypted where the other side can", "smtpd_tls_security_level in smtpout:postfix:main")
            )
    return risks
