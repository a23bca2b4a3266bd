"""What stands beside Postfix in a chain aside: saslauthd, the scanner and the signer, with their own new files.

Their sockets lie in /tmp, which is the chain's own there: where clamd's AppArmor profile lets it write. They run as the
users that their files name, and no program of the site's is run by any of them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smtpout_core.daemons import haproxy
from smtpout_core.daemons.clamav import eicar
from smtpout_core.daemons.haproxy.daemon import CONFIGURATION
from smtpout_core.daemons.limits import daemon
from smtpout_core.daemons.postfix import aside
from smtpout_core.promises.promise import SPENT
from smtpout_core.site import proxy

# Options of the filters that name a place, a program of the site's, or what only a service needs.
CLAMD = {
    "DatabaseDirectory": "/tmp/signatures",
    "TemporaryDirectory": "/tmp/scanned",
    "LocalSocket": "/tmp/clamd",
    "LocalSocketMode": "666",
    "Foreground": "yes",
}
CLAMD_WITHOUT = {
    "TCPSocket", "TCPAddr", "PidFile", "LogFile", "VirusEvent", "LocalSocketGroup", "OfficialDatabaseOnly",
    "ExcludePUA", "IncludePUA",
}  # fmt: skip
MILTER = {
    "MilterSocket": "unix:/tmp/clamav",
    "MilterSocketMode": "666",
    "ClamdSocket": "unix:/tmp/clamd",
    "TemporaryDirectory": "/tmp/scanned",
    "Foreground": "yes",
}
MILTER_WITHOUT = {"PidFile", "LogFile", "VirusAction", "MilterSocketGroup", "Chroot"}
PROXY = "/tmp/haproxy"
"""Where the chain's own HAProxy has its sockets."""
OPENDKIM_WITHOUT = {"pidfile", "background", "autorestart", "socket", "umask"}


def furnish(tmp: Path, settings: dict[str, Any], staged: Mapping[str, str], prefix: str) -> None:
    """Lay out the files of all of them, and what starts each: a script in ``start``.

    :param tmp: what is /tmp there.
    :param staged: where each of the site's files lies, by its live path.
    :param prefix: the folder below which they do; an empty text where they are the live ones.
    """
    _logins(tmp, settings, staged, prefix)
    if settings["haproxy"]["enabled"]:
        _proxy(tmp, settings, staged, prefix)
    if settings["limits"]["enabled"]:
        _limits(tmp, settings["limits"], prefix)
    names = [each["name"] for each in settings["milters"]]
    if "clamav" in names:
        _scanner(tmp, settings["clamav"], staged, prefix)
    if "opendkim" in names:
        _signer(tmp, settings["opendkim"], staged, prefix)


def _logins(tmp: Path, settings: dict[str, Any], staged: Mapping[str, str], prefix: str) -> None:
    """Lay out saslauthd, and what smtpd reads of it."""
    facts = settings["saslauthd"]
    place = facts["socket_directory"]
    logins = f"{PROXY}/logins" if settings["haproxy"]["enabled"] else "/tmp/saslauthd/mux"
    for name in ("saslauthd", "sasl"):
        aside.make_folder(tmp / name, 0o755)
    smtpd = _read(staged[f"{settings['postfix']['sasl_directory']}/smtpd.conf"], prefix)
    smtpd = re.sub(r"(?m)^(saslauthd_path: ).*", rf"\g<1>{logins}", smtpd)
    write(tmp / "sasl/smtpd.conf", smtpd)
    inside = os.path.relpath(settings["postfix"]["sasl_directory"], settings["postfix"]["directory"])
    if not inside.startswith(".."):  # Debian's smtpd looks there whatever cyrus_sasl_config_path says
        write(tmp.parent / "config" / inside / "smtpd.conf", smtpd)
    defaults = _read(staged[facts["defaults_file"]], prefix).replace(place, "/tmp/saslauthd")
    write(tmp / "saslauthd.conf", _proxied(_read(staged[facts["configuration"]], prefix)), 0o600)
    write(tmp / "start/saslauthd", f"{defaults}\nexec {facts['command']} -O /tmp/saslauthd.conf\n")


def _proxy(tmp: Path, settings: dict[str, Any], staged: Mapping[str, str], prefix: str) -> None:
    """Lay out HAProxy, by which the chain reaches the directory as the relay will: by TLS, and whichever answers."""
    facts = settings["haproxy"]
    text = haproxy.aside(_read(staged[CONFIGURATION], prefix), facts, PROXY)
    place = settings["saslauthd"]["socket_directory"]
    write(tmp / "haproxy.cfg", text.replace(f"unix@{place}/", "unix@/tmp/saslauthd/"))
    aside.make_folder(tmp / "haproxy", 0o1777)
    user = ["setpriv", f"--reuid={facts['user']}", f"--regid={facts['user']}", "--clear-groups", "--"]
    # It wants to come back to where it was started, and its user may not enter a home of root's.
    argv = shlex.join([*user, facts["program"], "-db", "-f", "/tmp/haproxy.cfg"])
    write(tmp / "start/haproxy", f"cd / && exec {argv}\n")


def lead_by_proxy(config: Path) -> None:
    """Have Postfix's tables of a configuration that lies aside find the directory by the chain's own HAProxy."""
    for path in config.glob("*.ldap"):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        if (own := _proxied(text)) != text:
            aside.rewrite(path, own.encode(errors="surrogateescape"))


def _proxied(text: str) -> str:
    """Return a file's text with the chain's own HAProxy in the place of the live one."""
    return text.replace(proxy.uri(proxy.DIRECTORY), proxy.uri(f"{PROXY}/directory"))


def _limits(tmp: Path, facts: dict[str, Any], prefix: str) -> None:
    """Lay out what starts the policy service, for which a client that nobody is has sent too much; as nobody itself."""
    program, site = (f"/tmp/staged{path}" if prefix else path for path in (daemon.PROGRAM, daemon.SITE))
    spent = [f"--over-from={address}" for address in SPENT.values()]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    argv = [*nobody, facts["python"], "-I", program, site, "--socket=/tmp/limits", *spent]
    write(tmp / "start/limits", f"exec {shlex.join(argv)}\n")


def _scanner(tmp: Path, clamav: dict[str, Any], staged: Mapping[str, str], prefix: str) -> None:
    """Lay out clamd with one signature, and the milter that asks it."""
    aside.make_folder(tmp / "signatures", 0o755)
    write(tmp / "signatures/eicar.ndb", eicar.SIGNATURE)
    for room, options, without in (("clamd", CLAMD, CLAMD_WITHOUT), ("milter", MILTER, MILTER_WITHOUT)):
        path = clamav[room]["configuration"]
        text = _with_options(_read(staged[path], prefix), options, without)
        write(tmp / f"{room}.conf", text)
        program = {"clamd": shutil.which("clamd") or "clamd", "milter": clamav["milter"]["program"]}[room]
        wait = "until [ -S /tmp/clamd ]; do sleep 0.02; done; " if room == "milter" else ""
        write(tmp / f"start/{room}", f"{wait}exec {shlex.quote(program)} --config-file=/tmp/{room}.conf\n")


def _signer(tmp: Path, opendkim: dict[str, Any], staged: Mapping[str, str], prefix: str) -> None:
    """Lay out OpenDKIM, with the keys that are there."""
    text = _with_options(_read(staged[opendkim["configuration"]], prefix), {"UMask": "000"}, OPENDKIM_WITHOUT)
    write(tmp / "opendkim.conf", text)
    aside.make_folder(tmp / "pid", 0o1777)
    program = shlex.join(
        [shutil.which("opendkim") or "opendkim", "-f", "-x", "/tmp/opendkim.conf", "-p", "local:/tmp/opendkim"]
    )
    write(tmp / "start/opendkim", f"exec {program} -P /tmp/pid/opendkim\n")


def _read(path: str, prefix: str) -> str:
    text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    return text.replace(prefix, "/tmp/staged") if prefix else text


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that everybody may read, or as ``mode`` has it."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    path.chmod(mode)


def _with_options(text: str, options: Mapping[str, str], without: set[str]) -> str:
    """Return a file of options, one a line, with some set and some left out; their case doesn't count."""
    gone = {name.lower() for name in (*options, *without)}
    lines = [line for line in text.split("\n") if (line.split() or [""])[0].lower() not in gone]
    return "\n".join([*lines, *(f"{name} {value}" for name, value in options.items()), ""])
