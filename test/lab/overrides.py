"""Random changes of a site's native options, plausible and not: what a search for false greens is made of.

From Postfix's own list of parameters and their defaults, and from options of the other daemons that bear on what they
let pass; a seed always makes the same change.
"""

from __future__ import annotations

import random
import re
from typing import Any

SERVICES = ("smtp/inet", "submission/inet", "465/inet", "cleanup/unix", "smtp/unix", "pickup/unix", "local/unix")
# Parameters that decide who is let in, where mail goes and what is made of it come up more often.
DECISIVE = re.compile(
    r"smtpd_.*(restrictions|milters|sasl|tls|login|proxy|options|keywords|code|action)|(relay|virtual|transport|alias|"
    r"canonical|masquerade|local|default|recipient|sender|header|body|content|milter|receive|my(dest|net|orig)|append|"
    r"always|empty|double|allow|strict|reject|permit|defer|soft|internal|non_smtpd|cleanup|generic|smtp_)\w*"
)
# Those by which most was broken in bug reports, more often still.
SHARP = re.compile(
    r"smtpd_(client|helo|sender|recipient|relay|data|end_of_data)_restrictions|smtpd_(milters|delay_reject|"
    r"sender_login_maps|tls_auth_only|tls_security_level|reject_unlisted_\w+|command_filter|discard_ehlo_keywords|"
    r"sasl_(auth_enable|path|type|security_options|exceptions_networks|local_domain))|mynetworks|mydestination|"
    r"relay_(domains|recipient_maps|transport)|(transport|(sender_)?canonical|virtual_(alias|mailbox))_maps|"
    r"sender_dependent_\w+_maps|virtual_\w+_domains|default_transport|relayhost|content_filter|non_smtpd_milters|"
    r"receive_override_options|(header|body)_checks|always_bcc|(sender|recipient)_bcc_maps|defer_transports|"
    r"parent_domain_matches_subdomains|smtp_\w*(checks|maps|level)"
)
# Never drawn: the relay couldn't be reached, or told apart, afterwards; or the host's own places.
LEFT_OUT = re.compile(
    r".*_(directory|program|owner|user|group|name|version|date|debugger)|multi_instance.*|import_env.*|mail_\w+|"
    r"(?!smtpd_sasl_).*_path|"
    r"process_name|service_name|compatibility_level|myhostname|smtpd_banner|postlog.*|maillog.*|shlib.*|manpage.*|"
    r"authorized_(flush|mailq|submit).*|debug_peer.*|daemon_timeout|ipc_timeout|fork_.*"
)
TEXTS = (
    "", "static:all", "static:OK", "static:REJECT", "static:DISCARD", "static:HOLD", "permit", "reject", "defer",
    "permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination", "permit_auth_destination",
    "permit_mynetworks, reject", "reject_unknown_sender_domain", "reject_unlisted_sender",
    "check_sender_access static:OK",
    "domain01.dom", "domain02.dom", "outside.example", "localhost", "0.0.0.0/0", "172.16.0.0/12", "127.0.0.1",
    "$mydomain", "$mydestination", "discard:", "error:no", "local:", "smtp:[127.0.0.1]:9", "relay:", "no_milters",
    "no_address_mappings", "no_header_body_checks", "inet:127.0.0.1:9", "unix:/nowhere", "encrypt", "none", "may",
    "verify", "starttls", "auth", "pipelining, 8bitmime", "envelope_sender", "header_sender", "regexp:{{/./ DISCARD}}",
    "inline:{{usuario01@domain01.dom=somebody@outside.example}}", "inline:{{domain01.dom=discard:}}",
    "static:somebody@outside.example", "usuario02@domain02.dom", "root",
)  # fmt: skip
# What is written for a parameter of some kind, mostly.
KINDS = {
    re.compile(r".*_restrictions"): (
        "", "permit", "reject", "permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination",
        "permit_mynetworks, reject", "permit_sasl_authenticated, reject", "reject_unlisted_sender",
        "permit_auth_destination", "check_sender_access static:OK", "check_recipient_access inline:{{domain01.dom=OK}}",
        "reject_unknown_sender_domain", "reject_plaintext_session", "permit_mynetworks, permit_sasl_authenticated",
    ),
    re.compile(r".*_(maps|checks|bcc)"): (
        "", "static:all", "static:usuario02@domain02.dom", "static:somebody@outside.example",
        "inline:{{usuario01@domain01.dom=somebody@outside.example}}", "inline:{{domain01.dom=discard:}}",
        "regexp:{{/./ DISCARD}}", "regexp:{{/^From:/ IGNORE}}", "regexp:{{/^X-/ IGNORE}}", "usuario02@domain02.dom",
    ),
    re.compile(r".*transports?|relayhost|content_filter"): (
        "", "discard:", "error:no", "local:", "smtp:[127.0.0.1]:9", "relay:", "smtp", "[198.51.100.10]", "retry:later",
    ),
    re.compile(r".*(networks|domains|destination)"): (
        "", "domain01.dom", "domain02.dom", "outside.example", "localhost", "0.0.0.0/0", "172.16.0.0/12", "127.0.0.1",
        "$mydomain", "$mydestination", "static:all",
    ),
    re.compile(r".*_milters"): ("", "inet:127.0.0.1:9", "unix:/nowhere", "{inet:127.0.0.1:9, default_action=accept}"),
    re.compile(r".*_level"): ("none", "may", "encrypt"),
}  # fmt: skip
NUMBERS = ("0", "1", "2", "5", "100", "100000", "-1", "many")
TIMES = ("0s", "1s", "10s", "1d", "soon")
OTHERS: dict[tuple[str, str], dict[str, tuple[Any, ...]]] = {
    ("opendkim", "options"): {
        "Mode": ("s", "v", "sv"),
        "Canonicalization": ("simple/simple", "relaxed/simple", "odd"),
        "InternalHosts": ("127.0.0.1", "0.0.0.0/0", "csl:198.51.100.0/24"),
        "ExternalIgnoreList": ("0.0.0.0/0",),
        "SignHeaders": ("From", "From,Received", "*"),
        "OmitHeaders": ("From", "Subject"),
        "On-Default": ("accept", "reject", "discard", "tempfail"),
        "On-NoSignature": ("reject", "accept"),
        "Domain": ("outside.example", "domain01.dom"),
        "SubDomains": (True, False),
        "BodyLengths": (True,),
        "RemoveOldSignatures": (True,),
        "MinimumKeyBits": ("4096", "512"),
        "SignatureAlgorithm": ("rsa-sha1", "rsa-sha256"),
        "MaximumHeaders": ("10", "0"),
        "DNSTimeout": ("0",),
    },
    ("clamav", "milter"): {
        "LocalNet": ("local", "172.16.0.0/12", "0.0.0.0/0", "198.51.100.0/24"),
        "SkipAuthenticated": (".*", "usuario"),
        "MaxFileSize": ("1", "1M", "0"),
        "ReportHostname": ("x",),
        "LogFacility": ("LOG_MAIL",),
        "ReadTimeout": ("1", "0"),
        "LogClean": ("Full",),
    },
    ("clamav", "clamd"): {
        "ScanMail": (False, True),
        "ScanArchive": (False,),
        "MaxScanSize": ("1", "100M"),
        "MaxFileSize": ("1", "0"),
        "MaxRecursion": ("1",),
        "MaxFiles": ("1",),
        "StreamMaxLength": ("1", "1K", "100M"),
        "MaxScanTime": ("100000",),
        "MaxThreads": ("1",),
        "ExitOnOOM": (True,),
    },
    ("saslauthd", "options"): {
        "ldap_filter": ("uid=%u", "sAMAccountName=%U", "cn=*"),
        "ldap_search_base": ("dc=nowhere",),
        "ldap_scope": ("one", "base"),
        "ldap_auth_method": ("bind", "fastbind", "custom"),
        "ldap_timeout": ("1",),
        "ldap_deref": ("always",),
    },
}


def change(seed: int, defaults: dict[str, str]) -> dict[str, Any]:
    """Return what a site sets besides: of one to three options.

    :param defaults: Postfix's parameters with their defaults, as ``postconf -d`` has them.
    """
    drawn = random.Random(seed)  # noqa: S311 - a seed has to make the same change again
    names = sorted(name for name in defaults if not LEFT_OUT.fullmatch(name))
    decisive = [name for name in names if DECISIVE.fullmatch(name)]
    sharp = [name for name in names if SHARP.fullmatch(name)]
    site: dict[str, Any] = {}
    for _ in range(drawn.choice((1, 1, 2, 2, 3))):
        where = drawn.random()
        if where < 0.2:
            room, section = drawn.choice(sorted(OTHERS))
            name = drawn.choice(sorted(OTHERS[room, section]))
            site.setdefault(room, {}).setdefault(section, {})[name] = drawn.choice(OTHERS[room, section][name])
            continue
        (pool,) = drawn.choices((sharp, decisive, names), (4, 4, 2))
        name = drawn.choice(pool)
        value = _value(drawn, name, defaults[name])
        if where < 0.5:
            services = site.setdefault("postfix", {}).setdefault("master", {})
            services.setdefault(drawn.choice(SERVICES), {}).setdefault("options", {})[name] = value
        else:
            site.setdefault("postfix", {}).setdefault("main", {})[name] = value
    return site


def _value(drawn: random.Random, name: str, default: str) -> str:
    """Return a value of the kind that a parameter, or its default, is, mostly."""
    if drawn.random() < 0.9:
        for kind, values in KINDS.items():
            if kind.fullmatch(name):
                return drawn.choice(values)
        if default in ("yes", "no"):
            return "no" if default == "yes" else "yes"
        if re.fullmatch(r"-?\d+", default):
            return drawn.choice(NUMBERS)
        if re.fullmatch(r"\d+[smhdw]", default):
            return drawn.choice(TIMES)
    return drawn.choice(TEXTS)
