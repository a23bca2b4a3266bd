"""HAProxy before the directory, as the transaction brings it: unit and configuration are the formula's own."""

from __future__ import annotations

from typing import Any

from smtpout_core import files
from smtpout_core.change.parts import Daemon, File, Probe, Trial
from smtpout_core.daemons import haproxy
from smtpout_core.directory import ask
from smtpout_core.host import Host

CONFIGURATION = "/etc/smtpout/haproxy.cfg"
UNIT = "smtpout-haproxy"
UNITS = "/etc/systemd/system"


def described(settings: dict[str, Any], _host: Host) -> list[Daemon]:
    """Return HAProxy: what is wanted of it on a site; nothing where no daemon goes by it.

    :param settings: the site's.
    """
    facts = settings["haproxy"]
    if not facts["enabled"]:
        return []
    units = (f"{UNIT}.socket", f"{UNIT}.service")
    context = {"configuration": CONFIGURATION}
    authorities = settings["directory"]["authorities"]
    return [
        Daemon(
            "haproxy",
            units=units,
            working=units[1],
            files=(
                File(CONFIGURATION, "salt://smtpout/haproxy/haproxy.cfg.jinja"),
                *(File(f"{UNITS}/{unit}", f"salt://smtpout/haproxy/{unit}.jinja", context=context) for unit in units),
            ),
            check=lambda staged, _host: haproxy.complaints(staged, CONFIGURATION, facts),
            probes=(Probe("haproxy", {"socket": facts["status"]}),),
            trials=(
                Trial("HAProxy's user can read the directory's authorities", *ask.readable(settings, facts["user"])),
            ),
            reads=tuple(files.plain(authorities)),
            reloads=False,
        )
    ]
