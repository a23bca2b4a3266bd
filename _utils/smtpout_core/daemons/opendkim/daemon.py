"""OpenDKIM, as the transaction brings it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from smtpout_core import files
from smtpout_core.change.parts import Daemon, File, Probe
from smtpout_core.daemons.opendkim import check
from smtpout_core.host import Host

IGNORED = re.compile(
    r"^(?:/\S+: .+|can't configure DKIM library: .+; continuing|ignoring reload signal)$", re.MULTILINE
)
"""What OpenDKIM logs of a reload that it doesn't follow, while it goes on with what it had.

Seen on 2.11.0: ``/etc/opendkim.conf: configuration error at line 11: unrecognized parameter``, or, at line 0, ``error
reading configuration file``; ``/etc/opendkim.conf: file:/etc/opendkim/KeyTable: dkimf_db_open(): Permission denied``;
``can't configure DKIM library: failed to set nameserver list; continuing``. What it logs of mail begins with no path.
"""

FILE = re.compile(r"(?:^|[\s,])(?:refile:|file:)?(/[^\s,]+)")
"""A file that an option's value names: a table (opendkim(8), "DATA SETS"), a script, a certificate."""

WRITTEN = ("pidfile",)
"""Options whose file the daemon writes."""


def described(settings: dict[str, Any], _host: Host) -> list[Daemon]:
    """Return OpenDKIM: what is wanted of it on a site; nothing where it signs nothing.

    :param settings: the site's.
    """
    facts = settings["opendkim"]
    if not facts["enabled"]:
        return []
    sources = {
        "configuration": "opendkim.conf",
        "key_table": "KeyTable",
        "signing_table": "SigningTable",
        "hosts_file": "TrustedHosts",
        "unit_file": "opendkim.service",
    }
    if facts["judges_authors"]:
        sources["authors"] = "authors.lua"
    return [
        Daemon(
            "opendkim",
            units=(facts["service"],),
            files=tuple(
                File(facts[key], f"salt://smtpout/opendkim/{name}.jinja", restart=key == "unit_file")
                for key, name in sources.items()
            ),
            check=lambda staged, host: check.check(staged, settings, host),
            probes=(Probe("milter", {"socket": facts["socket"]}),),
            restart_for={"socket": facts["socket"], "options": facts["options"]},  # no other change: a stop takes 5 s
            started_with=partial(check.start_only, name=os.path.basename(facts["configuration"])),
            main=facts["configuration"],
            ignored=IGNORED,
            reads=tuple(files.plain(_named(facts["options"]))),
            uses=tuple(key["path"] for key in facts["signing_keys"]),
        )
    ]


def _named(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files that the site's own options name."""
    for name, value in options.items():
        if name.lower() not in WRITTEN:
            yield from FILE.findall(str(value))
