"""What smtp(8) and lmtp(8) make of a message when it leaves: after signing, and so where a signature breaks unseen.

What has ended in the trial's folder is sent once more, by a door that changes nothing, through its service's client
to smtp-sink(1). The client speaks LMTP then, as only that has unix-domain sockets for nexthops; it is the same program,
and what the service says of ``smtp_`` is said to it of ``lmtp_``. Where and how it would connect is left aside.
"""

from __future__ import annotations

import re
import smtplib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from smtpout_core.daemons.postfix import aside, conf, maps
from smtpout_core.promises import handing

PROGRAMS = ("smtp", "lmtp")
PATIENCE = 10.0
"""Seconds for a reply."""
AT_ONCE = 16
SINK = "unix:/tmp/left/socket"
START = f"exec smtp-sink -L -8 -u nobody -d /tmp/left/ {SINK} 100\n"
"""What a shell starts the sink with, which takes no 8 bits and writes each message into a file there."""

# Of smtp(8): what it does to a message, and what it makes of the answers to it.
MADE = (
    "header_checks", "mime_header_checks", "nested_header_checks", "body_checks", "generic_maps", "line_length_limit",
    "discard_ehlo_keywords", "quote_rfc821_envelope", "reply_filter", "delivery_status_filter",
)  # fmt: skip
PLAINLY = {
    "tls_security_level": "none",
    "tls_policy_maps": "",
    "use_tls": "no",
    "enforce_tls": "no",
    "sasl_auth_enable": "no",
}
# Of where it looks for a server outside, and at which port; disable_dns_lookups is the older form of the first.
FINDING = ("dns_support_level", "dns_reply_filter", "tcp_port")
LOOKUPS = "disable_dns_lookups"
# Of those that any server's name has, as a filter of replies gets them (postconf(5), smtp_dns_reply_filter).
RECORDS = ("world.example. 3600 IN MX 10 mail.world.example.", "mail.world.example. 3600 IN A 198.51.100.25")
# Of a door that takes whatever it gets, as it is.
OPEN = {
    **{f"smtpd_{each}_restrictions": "" for each in ("client", "helo", "sender", "recipient", "data", "end_of_data")},
    "smtpd_relay_restrictions": "check_recipient_access static:OK, reject",
    "smtpd_tls_security_level": "none",
    "smtpd_sasl_auth_enable": "no",
    "smtpd_milters": "",
    "smtpd_proxy_filter": "",
    "smtpd_command_filter": "",
    "smtpd_discard_ehlo_keywords": "",
    "smtpd_discard_ehlo_keyword_address_maps": "",
    "smtpd_reject_unlisted_sender": "no",
    "strict_rfc821_envelopes": "no",
    "cleanup_service_name": "leaving",
    "receive_override_options": "no_unknown_recipient_checks,no_header_body_checks,no_milters,no_address_mappings",
}


class Client(NamedTuple):
    """The client of a service that sends.

    :param service: its name in master.cf.
    :param program: smtp or lmtp.
    :param tls: its security level (postconf(5), smtp_tls_security_level).
    :param made: what it is told of messages, by names of ``lmtp_`` parameters.
    :param finding: what it finds a server outside by, by the last words of ``smtp_`` parameters.
    """

    service: str
    program: str
    tls: str
    made: dict[str, str]
    finding: dict[str, str]


def clients(config: str) -> list[Client]:
    """Return the clients of a configuration.

    :param config: its directory, as the site has it.
    """
    names = (*MADE, *FINDING, "tls_security_level")
    main = conf.values(config, LOOKUPS, *(f"{program}_{name}" for program in PROGRAMS for name in names))
    found = []
    for service in conf.services(config):
        if service.program in PROGRAMS and service.type == "unix":
            effective = main | service.options
            said = {name: effective[f"{service.program}_{name}"] for name in names}
            made = {f"lmtp_{name}": said[name] for name in MADE}
            finding = {name: said[name] for name in FINDING}
            if effective[LOOKUPS] == "yes" and not said["dns_support_level"]:
                finding["dns_support_level"] = "disabled"
            found.append(Client(service.name, service.program, said["tls_security_level"], made, finding))
    return found


def astray(client: Client, answer: Callable[[str, str], str]) -> str:
    """Return why mail that goes by its recipient's domain finds no server (postconf(5), smtp_dns_support_level).

    The trial, where servers are on loopback, wouldn't show it.

    :param answer: gives what a table of the configuration has for a key.
    """
    if client.finding["dns_support_level"] == "disabled":
        return "it would ask DNS for no MX record"
    if (port := client.finding["tcp_port"]) not in ("smtp", "25"):
        return f"it would ask at port {port}, and servers are at 25 (RFC 5321, 4.5.4.2)"
    for table in maps.named(client.finding["dns_reply_filter"]):
        for record in RECORDS:
            if made := answer(table, record):
                return f"of DNS's reply {record!r} its filter makes {made!r}"
    return ""


def _astray(config: str, said: Mapping[str, str], native: bool) -> str:
    """Return why mail that goes by its recipient's domain finds no server (postconf(5), smtp_dns_support_level)."""
    if said["dns_support_level"] == "disabled" or (native and not said["dns_support_level"]):
        return "it would ask DNS for no MX record"
    if said["tcp_port"] not in ("smtp", "25"):
        return f"it would ask at port {said['tcp_port']}, and servers are at 25 (RFC 5321, 4.5.4.2)"
    for table in maps.named(said["dns_reply_filter"]):
        for record in RECORDS:
            if answer := maps.answer(config, table, record):
                return f"of DNS's reply {record!r} its filter makes {answer!r}"
    return ""


def services(those: Iterable[Client]) -> Iterator[str]:
    """Yield entries of master.cf: each client once more, a door to it, what stands behind it, and a door for probes."""
    plainly = {f"lmtp_{name}": value for name, value in PLAINLY.items()}
    yield "leaving unix n - n - 0 cleanup"
    yield _entry(f"{handing.DOOR} unix n - n - 20 smtpd", OPEN | handing.ASKING)
    for each in those:
        yield _entry(f"{client(each.service)} unix - - n - 20 lmtp", each.made | plainly)
        yield _entry(
            f"{door(each.service)} unix n - n - 20 smtpd", OPEN | {"content_filter": f"{client(each.service)}:{SINK}"}
        )


def door(service: str) -> str:
    """Return the name of the door by which mail is sent once more through a service's client."""
    return f"{aside.DOOR}leaving-{service}"


def client(service: str) -> str:
    """Return the name of the service that is another's client over again."""
    return f"left-{service}"


def sent(doors: Path, messages: Iterable[tuple[str, str, str, bytes]]) -> list[str]:
    """Send messages on; return the word of each by which :func:`seen` knows it.

    :param doors: the folder of the sockets.
    :param messages: of each service, sender, recipient and text, with LF at its lines' ends.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda message: _sent(doors, *message), messages))


def seen(folder: Path) -> Mapping[str, bytes]:
    """Return what each message was made, by its word.

    :param folder: where the sink writes.
    """
    found = {}
    for path in folder.iterdir():
        if path.is_file():
            # Lines on the dialogue and a Received: of smtp-sink(1) come before it.
            head, line, message = path.read_bytes().partition(b"\nReceived: from ")
            if (word := re.search(rb"\b(left[0-9a-f]{32})\b", head)) and line:
                found[word[1].decode()] = line.lstrip() + message
    return found


def _sent(doors: Path, service: str, sender: str, recipient: str, text: bytes) -> str:
    """Send a message; what goes wrong shows in that it isn't seen."""
    word = f"left{uuid.uuid4().hex}"
    with suppress(OSError, smtplib.SMTPException), aside.Session(timeout=PATIENCE) as client:
        client.connect(str(doors / door(service)))
        client.ehlo("localhost")
        client.sendmail(sender, recipient, text.replace(b"\n", b"\r\n"), [f"ENVID={word}", "BODY=8BITMIME"])
    return word


def _entry(words: str, options: Mapping[str, str]) -> str:
    return "\n".join([words, *(f"  -o {{ {name} = {value} }}" for name, value in options.items())])
