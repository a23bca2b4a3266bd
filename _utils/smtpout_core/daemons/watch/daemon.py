"""The watch, as the transaction brings it: the timer, its program, and what that knows of the site."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import smtpout_core
from smtpout_core.change import masks
from smtpout_core.change.made import Made
from smtpout_core.change.parts import Daemon, File
from smtpout_core.daemons.watch import record
from smtpout_core.host import Host

PROGRAM = "/usr/local/lib/smtpout/watch.pyz"
SITE = "/etc/smtpout/watch.json"
UNITS = "/etc/systemd/system"
MAIN = b"import sys\n\nfrom smtpout_core.verify import look\n\nsys.exit(look.main())\n"
OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time that each file in the program has: the same code is the same file."""


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
                Made(PROGRAM, archive, 0o644),
                Made(SITE, partial(known, settings, host), 0o600, masks.ALL),
            ),
            reloads=False,
        )
    ]


def archive() -> bytes:
    """Return this package as a program (zipapp): it needs nothing of Salt, neither its Python nor its cache."""
    home = smtpout_core.HOME
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as program:
        program.writestr(zipfile.ZipInfo("__main__.py", OLDEST), MAIN)
        for path in sorted(home.rglob("*.py")):
            name = Path(home.name, path.relative_to(home)).as_posix()
            program.writestr(zipfile.ZipInfo(name, OLDEST), path.read_bytes())
    return made.getvalue()


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
