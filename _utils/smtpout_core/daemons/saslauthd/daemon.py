"""saslauthd, as the transaction brings it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from smtpout_core import files
from smtpout_core.change.parts import Daemon, File, Probe
from smtpout_core.daemons import saslauthd
from smtpout_core.directory import ask
from smtpout_core.host import Host


NAMING = ("ldap_tls_cacert_file", "ldap_tls_cert", "ldap_tls_key")
"""Options of saslauthd.conf that name a file."""


def described(settings: dict[str, Any], _host: Host) -> list[Daemon]:
    """Return saslauthd: what is wanted of it on a site.

    :param settings: the site's.
    """
    facts = settings["saslauthd"]
    return [
        Daemon(
            "saslauthd",
            units=(facts["service"],),
            files=(
                File(
                    facts["configuration"],
                    "salt://smtpout/saslauthd/saslauthd.conf.jinja",
                    mode="0600",
                    secret=True,
                    restart=True,
                ),
                File(facts["defaults_file"], "salt://smtpout/saslauthd/defaults.jinja", restart=True),
                File(facts["unit_file"], "salt://smtpout/saslauthd/saslauthd.service.jinja", restart=True),
            ),
            check=lambda staged, _host: saslauthd.complaints(staged, facts["configuration"]),
            probes=(Probe("saslauthd", {"socket": facts["socket"]}),),
            # Each of its processes reads them once: without a restart some would check with the old authority for ever.
            reads=tuple(files.plain([*settings["directory"]["authorities"], *_named(facts["options"])])),
            trials=tuple(ask.trials(settings)),
            reloads=False,
        )
    ]


def _named(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files that the site's own options name."""
    yield from (str(value) for name, value in options.items() if name in NAMING and value is not None)
