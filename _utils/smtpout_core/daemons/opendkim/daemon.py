"""OpenDKIM, as the transaction brings it."""

from __future__ import annotations

from typing import Any

from smtpout_core.change.parts import Daemon, File, Probe
from smtpout_core.daemons.opendkim import check
from smtpout_core.host import Host


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
    return [
        Daemon(
            "opendkim",
            units=(facts["service"],),
            files=tuple(File(facts[key], f"salt://smtpout/opendkim/{name}.jinja") for key, name in sources.items()),
            check=lambda staged, host: check.check(staged, settings, host),
            probes=(Probe("milter", {"socket": facts["socket"]}),),
            restart_for={"socket": facts["socket"], "options": facts["options"]},  # no other change: a stop takes 5 s
        )
    ]
