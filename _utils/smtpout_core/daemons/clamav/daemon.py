"""The virus scanner, as the transaction brings it: freshclam brings signatures, clamd scans, clamav-milter asks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from smtpout_core.change.parts import Daemon, File, Probe
from smtpout_core.daemons import clamav
from smtpout_core.daemons.clamav.signatures import Signatures
from smtpout_core.files import plain
from smtpout_core.host import Host

PATIENCE = 300
"""Seconds: clamd answers when it has loaded its signatures."""


NAMING = ("AllowList", "Whitelist", "SkipAuthenticated")
"""Options of clamav-milter that name a file (clamav-milter.conf(5)); Whitelist is an older name of AllowList."""


def described(settings: dict[str, Any], _host: Host) -> list[Daemon]:
    """Return freshclam, clamd and clamav-milter: what is wanted of them on a site; none where it scans nothing.

    :param settings: the site's.
    """
    if not settings["clamav"]["enabled"]:
        return []
    return [_freshclam(settings), _clamd(settings), _milter(settings)]


def _freshclam(settings: dict[str, Any]) -> Daemon:
    facts = settings["clamav"]["freshclam"]
    files = [_file(facts["configuration"], "freshclam.conf", mode="0600", user=facts["user"], secret=True)]
    if "defaults_file" in facts:
        files.append(_file(facts["defaults_file"], "freshclam.defaults"))
    return Daemon(
        "freshclam",
        units=(facts["service"],),
        files=tuple(files),
        settings=(Signatures(settings),),
        check=lambda staged, _host: clamav.check_freshclam(staged, settings),
        reloads=False,
    )


def _clamd(settings: dict[str, Any]) -> Daemon:
    facts = settings["clamav"]["clamd"]
    files = [
        _file(facts["configuration"], "clamd.conf", restart=True),
        _file(f"/etc/systemd/system/{facts['service']}.service.d/smtpout.conf", "clamav-daemon.service", restart=True),
    ]
    if "socket_unit" in facts:
        drop_in = f"/etc/systemd/system/{facts['socket_unit']}.d/smtpout.conf"
        files.append(_file(drop_in, "clamav-daemon.socket", restart=True))
    return Daemon(
        "clamd",
        units=tuple(facts["units"]),
        files=tuple(files),
        check=lambda staged, _host: clamav.check_clamd(staged, settings),
        probes=(Probe("clamd", {"socket": f"unix:{facts['socket']}"}),),
        reloads=False,
        patience=PATIENCE,
    )


def _milter(settings: dict[str, Any]) -> Daemon:
    facts = settings["clamav"]["milter"]
    return Daemon(
        "clamav-milter",
        units=(facts["service"],),
        files=(
            _file(facts["configuration"], "clamav-milter.conf", restart=True),
            _file(facts["unit_file"], "clamav-milter.service", restart=True),
        ),
        check=lambda staged, _host: clamav.check_milter(staged, settings),
        probes=(Probe("milter", {"socket": settings["clamav"]["socket"]}),),
        reads=tuple(plain(_named(facts["options"]))),
        follows=("clamd",),
        reloads=False,
    )


def _named(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files that the site's own options name; of clamd and freshclam, none is read at a start."""
    for name, value in options.items():
        if name in NAMING:
            texts = value if isinstance(value, list) else [value]
            yield from (text for text in (str(each).removeprefix("file:") for each in texts) if text.startswith("/"))


def _file(path: str, source: str, **named: Any) -> File:
    return File(path, f"salt://smtpout/clamav/{source}.jinja", **named)
