"""The watch, as the transaction brings it: the timer, its program, and what that knows of the site."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import smtpout_core
from smtpout_core import files
from smtpout_core.change import masks
from smtpout_core.change.parts import Content, Daemon, File, Part
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


class Made(Part):
    """A file whose content is made once it is asked for."""

    def __init__(self, path: str, make: Callable[[], bytes], mode: int, secret: str = "") -> None:
        self.path, self.make, self.mode, self.secret = path, make, mode, secret

    @cached_property
    def data(self) -> bytes:
        """The content."""
        return self.make()

    @property
    def wanted(self) -> str:
        """Return the digest of the content."""
        return hashlib.sha256(self.data).hexdigest()

    def difference(self, placed: Mapping[str, str | None]) -> dict[str, Any] | None:  # noqa: ARG002 - the file tells
        """Return ``content``, ``mode`` and ``owner``, as far as they differ; the content itself isn't shown."""
        if not os.path.lexists(self.path) or os.path.islink(self.path):
            return {"content": "new"}
        status = os.stat(self.path)
        mode, owner = stat.S_IMODE(status.st_mode), files.owner(status.st_uid, status.st_gid)
        change = {
            "content": "another (not shown)" if files.digest(self.path) != self.wanted else "",
            "mode": f"{mode:04o} -> {self.mode:04o}" if mode != self.mode else "",
            "owner": f"{owner} -> root:root" if owner != "root:root" else "",
        }
        return {name: value for name, value in change.items() if value} or None

    def contents(self, folder: str) -> dict[str, Content]:  # noqa: ARG002 - nothing is made on the way
        """Return the content with its mode."""
        return {self.path: Content(self.data, self.mode)}


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
    clamav, postfix = settings["clamav"], settings["postfix"]
    site = {
        **settings,
        "opendkim": {**settings["opendkim"], "private_keys": {}, "domains": {}, "options": {}},
        "clamav": {name: room for name, room in clamav.items() if name != "signatures"}
        | {"freshclam": {**clamav["freshclam"], "options": {}}},
        "saslauthd": {**settings["saslauthd"], "options": {}},
        "routes": {},
        "verify": {name: value for name, value in settings["verify"].items() if name != "password"},
        "postfix": {**postfix, "main": {}, "master": {}, "maps": {"transport_maps": postfix["maps"]["transport_maps"]}},
        "watch": {**settings["watch"], "enabled": False},  # it doesn't look at itself
    }
    return json.dumps({"state_dir": host.state_dir, "site": site}, sort_keys=True).encode() + b"\n"
