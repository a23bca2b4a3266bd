"""What Postfix is asked: its greetings, its ports, its room and its queue."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from smtpout_core.daemons.postfix import conf, drained, listen, smtp
from smtpout_core.errors import Doubt, RelayError
from smtpout_core.site import addresses
from smtpout_core.site.rules.promises import not_promised


MOST = 32
"""Addresses that are asked for."""


def greeting(settings: dict[str, Any]) -> str:
    """Return the greeting on port 25; raise where name, STARTTLS or AUTH aren't as main.cf and the pillar say."""
    tls = has_tls(settings)
    said = [_greeting(settings, endpoint, tls) for endpoint in _endpoints(settings, smtp.SERVERS)]
    return said[0]


def has_tls(settings: dict[str, Any]) -> bool:
    """Tell whether Postfix is to offer TLS; the pillar's postfix:main can say otherwise."""
    level = conf.values(settings["postfix"]["directory"], "smtpd_tls_security_level")["smtpd_tls_security_level"]
    return level in ("may", "encrypt")


def encrypted(settings: dict[str, Any]) -> str:
    """Return where servers get TLS; raise where it is offered and can't be begun, as without a certificate."""
    endpoints = _endpoints(settings, smtp.SERVERS)
    for endpoint in endpoints:
        smtp.greeting(endpoint, secured=True)
    return ", ".join(endpoint.place for endpoint in endpoints)


def users_greeted(settings: dict[str, Any], service: str) -> str:
    """Return that users get a greeting, TLS and a login; raise with what they get instead.

    Where the site takes it back that users send, what they need for it is its own affair.
    """
    patience = settings["directory"]["timeout"] + 10  # Postfix asks the directory first
    secured = "users_send" not in not_promised(settings)
    places = []
    for endpoint in _endpoints(settings, service):
        answer = _taken(endpoint, smtp.greeting(endpoint, patience, secured=secured))
        if answer.code != 220:
            # What only the directory table of main.cf's users_client_restrictions answers with.
            why = "; so it does while Postfix can't ask the directory: look there first" if answer.code == 451 else ""
            raise RelayError(f"{endpoint.place} greets users with {answer.code} {answer.text}{why}")
        if secured and "auth" not in answer.offers and not _excepted(settings):
            raise RelayError(f"{endpoint.place} offers no login, and {', '.join(answer.offers) or 'nothing'} instead")
        places.append(endpoint.place)
    return f"{' and '.join(places)} {'greets' if len(places) == 1 else 'greet'}"


def listening(settings: dict[str, Any]) -> str:
    """Return where Postfix listens; raise where that isn't where its configuration says, or it doesn't answer there."""
    if said := listen.astray(settings):
        raise RelayError(said)
    smtp.probe(settings)
    return ", ".join(dict.fromkeys(map(str, listen.endpoints(settings["postfix"]["directory"]))))


def programs_send(settings: dict[str, Any]) -> str:
    """Return where programs on the relay may send to outside; raise where a loopback address refuses them."""
    asked = [
        each
        for each in listen.asked(settings["postfix"]["directory"])
        if each.service == smtp.SERVERS and ipaddress.ip_address(each.asked_at).is_loopback
    ]
    for endpoint in asked:
        command, code, text = smtp.answer(endpoint, f"postmaster@{settings['domains'][0]}", smtp.OUTSIDE)
        if code != 250:
            raise RelayError(f"{endpoint.place} answers {command} from itself to {smtp.OUTSIDE} with {code} {text}")
    return ", ".join(endpoint.place for endpoint in asked) or "Postfix listens on no loopback address"


def led_elsewhere(settings: dict[str, Any]) -> str:
    """Return whom the pillar leads mail to; raise where the directory has somebody no more.

    Such mail is taken all the same, and bounces to whoever is named as its sender.
    """
    named = addresses.named(settings)
    endpoint = _endpoints(settings, smtp.SERVERS)[0]
    gone = []
    for key, address in named[:MOST]:
        _, code, text = smtp.answer(endpoint, "", address)
        if code >= 500:
            gone.append(f"smtpout:{key}: {address} is answered {code} {text}")
    if gone:
        raise RelayError("; ".join(gone))
    return ", ".join(dict.fromkeys(address for _, address in named[:MOST]))


def room(settings: dict[str, Any]) -> str:
    """Return how much room the queue's file system has; Postfix wants one and a half of its largest message."""
    wants = conf.values(settings["postfix"]["directory"], "queue_directory", "message_size_limit", "queue_minfree")
    spool = wants["queue_directory"]
    disk = os.statvfs(spool)
    free = disk.f_bavail * disk.f_frsize
    wanted = max(int(wants["message_size_limit"]) * 3 // 2, int(wants["queue_minfree"]))
    seen = f"{free >> 20} MiB are free below {spool}"
    if free < wanted or (disk.f_files and not disk.f_favail):
        raise RelayError(f"{seen}, Postfix wants {wanted >> 20}: until then it answers 452 to all mail; make room")
    return seen


def _excepted(settings: dict[str, Any]) -> bool:
    """Tell whether the site keeps logins from some clients (postconf(5)): this host may be one of them.

    The formula's own table of what isn't mentioned to whom leaves logins alone.
    """
    postfix = settings["postfix"]
    names = ("smtpd_sasl_exceptions_networks", "smtpd_discard_ehlo_keyword_address_maps")
    excepted, unmentioned = conf.values(postfix["directory"], *names).values()
    return bool(excepted) or unmentioned not in ("", f"cidr:{postfix['maps']['ehlo_keywords']['path']}")


def _greeting(settings: dict[str, Any], endpoint: listen.Endpoint, tls: bool) -> str:
    answer = _taken(endpoint, smtp.greeting(endpoint))
    smtp.refuse(endpoint, answer)
    if not answer.text.startswith(settings["hostname"]):
        raise RelayError(f"it greets as {answer.text}, and smtpout:hostname is {settings['hostname']}")
    if ("starttls" in answer.offers) != tls:
        raise RelayError("it does not offer STARTTLS" if tls else "it offers STARTTLS, and should not")
    if ("auth" in answer.offers) != settings["authentication"]["clear_text_on_25"]:
        raise RelayError(f"without TLS it offers {'AUTH' if 'auth' in answer.offers else 'no AUTH'} on port 25")
    return answer.text


def _taken(endpoint: listen.Endpoint, answer: smtp.Greeting) -> smtp.Greeting:
    """Return a greeting; raise where it is that of a relay that is drained, at an address that isn't loopback.

    :raises Doubt: it is.
    """
    if drained.sends_away(answer.code, answer.text):
        raise Doubt(f"{endpoint.place} sends this host away as it does clients: the relay is drained")
    return answer


def _endpoints(settings: dict[str, Any], service: str) -> list[listen.Endpoint]:
    """Return where a client on this host finds a service of master.cf."""
    found = [each for each in listen.asked(settings["postfix"]["directory"]) if each.service == service]
    if not found:
        raise RelayError(f"Postfix has no service {service} that could be asked from this host")
    return found
