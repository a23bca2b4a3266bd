"""The watch, as the transaction brings it: the timer, its program, and what that knows of the site."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from smtpout_core.change import masks
from smtpout_core.change.made import Made
from smtpout_core.change.parts import Daemon, File
from smtpout_core.daemons import program
from smtpout_core.daemons.watch import record
from smtpout_core.host import Host

PROGRAM = "/usr/local/lib/smtpout/watch.pyz"
SITE = "/etc/smtpout/watch.json"
UNITS = "/etc/systemd/system"


def described(settings: dict[str, Any], host: Host) -> list[Daemon]:
    """Return the watch: what is wanted of it; nothing where a site or a platform has none.

    :param settings: the site's.
    :param host: where what is remembered lies.
    """
    if not settings["watch"]["enabled"]:
        return []
    service = record.TIMER.replace(".timer", ".service")
    return [
        Daemon(
            "watch",
            units=(record.TIMER,),
            files=(
                File(f"{UNITS}/{service}", "salt://smtpout/watch/watch.service.jinja", context={"program": PROGRAM}),
                File(f"{UNITS}/{record.TIMER}", "salt://smtpout/watch/watch.timer.jinja"),
            ),
            parts=(
                Made(PROGRAM, partial(program.archive, "smtpout_core.verify.look"), 0o644),
                Made(SITE, partial(known, settings, host), 0o600, masks.ALL),
            ),
            reloads=False,
        )
    ]


def known(settings: dict[str, Any], host: Host) -> bytes:
    """Return what the program is told: the site, with no secret but the password by which the directory is asked.

    Options that are the site's own may hold others: those that no check needs are left out.
    """
    clamav, postfix, tls = settings["clamav"], settings["postfix"], settings["tls"]
    site = {
        **settings,
        "opendkim": {**settings["opendkim"], "private_keys": {}, "domains": {}, "options": {}},
        "clamav": {name: room for name, room in clamav.items() if name != "signatures"}
        | {"freshclam": {**clamav["freshclam"], "options": {}}},
        "saslauthd": {**settings["saslauthd"], "options": {}},
        "tls": {**_without_pem(tls), "names": {name: _without_pem(own) for name, own in tls["names"].items()}},
        "routes": {},
        "verify": {name: value for name, value in settings["verify"].items() if name != "password"},
        "postfix": {**postfix, "main": {}, "master": {}, "maps": {"transport_maps": postfix["maps"]["transport_maps"]}},
        "watch": {**settings["watch"], "enabled": False},  # it doesn't look at itself
    }
    return json.dumps({"state_dir": host.state_dir, "site": site}, sort_keys=True).encode() + b"\n"


def _without_pem(room: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in room.items() if name != "chain"}
