"""Start Postfix aside with a configuration that isn't live yet, and hear what its daemons have against it.

``postconf`` knows parameters' names; what their values are worth each daemon finds out when it starts, and logs: a
number that is none, an unknown restriction, a map that can't be opened, a certificate without its key. So a whole
Postfix is started aside (:mod:`.aside`), and each of its services is called once.
"""

from __future__ import annotations

import logging
import re
import smtplib
import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from smtpout_core.daemons.postfix import aside
from smtpout_core.daemons.postfix.aside import Entry, Places

log = logging.getLogger(__name__)

PATIENCE = 20.0  # seconds for all services to answer; they take half of one
AFTERTHOUGHT = 2.0  # seconds that others have for their faults once one has shown
# Milters are other sets' daemons, and maybe not up yet; the log is heard here.
OVERRIDES = "\nsmtpd_milters =\nnon_smtpd_milters =\nmaillog_file =\n"
# What is to be said in a session is said in clear first, so that 465 is like 587.
SESSION_OPTIONS = "  -o smtpd_tls_wrappermode=no -o smtpd_upstream_proxy_protocol="

FAULT = re.compile(
    r"(?:fatal|panic|error): "
    r"|warning: .*(?:PEM|chain file|TLS support|unsupported|address bits|net/mask|bad command startup)"
)
# spawn(8) would run a program of the site's; the stock virtual(8) doesn't start with the stock main.cf, and isn't used.
NOT_TRIED = ("spawn", "virtual")


def complaints(staged: Mapping[str, str], directory: str = "/etc/postfix", **parameters: str) -> list[str]:
    """Return what a Postfix that is started aside logs against a configuration, each daemon's words once.

    Where namespaces can't be made, in a container without the right to, nothing is tried and nothing returned.

    :param staged: staged path by live path, as a check of the configuration gets it.
    :param directory: the live configuration directory; what isn't staged is taken from there.
    :param parameters: of :class:`.aside.Places`, as the staged main.cf has them.
    """
    if not aside.possible():
        log.warning("Postfix was not tried out aside: no namespaces can be made here")
        return []
    places = Places(directory, **parameters)
    with aside.furnished(staged, places, _changed) as folder, aside.journal(folder) as journal:
        said = _tried(folder, places, journal)
    return list(dict.fromkeys(line.replace(f"{directory}/{aside.ELSEWHERE}", "") for line in said))


def _changed(_config: str, main: str, master: list[Entry]) -> tuple[str, str]:
    """Return main.cf and master.cf with every service that can be called, and no filter."""
    made = []
    for number, entry in enumerate(master):
        if entry.program in NOT_TRIED:
            continue
        made.append(str(aside.portless(number, entry)))
        if entry.program == "smtpd":
            made.append(SESSION_OPTIONS)
    return main + OVERRIDES, "\n".join([*made, ""])


def _tried(folder: Path, places: Places, journal: socket.socket) -> list[str]:
    """Start Postfix, call each of its services, and return the faults that were logged."""
    faults: list[str] = []
    calls: list[Future[None]] = []
    ends = time.monotonic() + PATIENCE
    journal.settimeout(0.1)
    pool = ThreadPoolExecutor(100)
    try:
        with aside.started(folder, places) as process:
            while time.monotonic() < ends and process.poll() is None:
                if calls and all(call.done() for call in calls):
                    journal.settimeout(0.02)  # only what they have logged already
                try:
                    line = aside.LINE.match(journal.recv(1 << 16).decode(errors="replace"))
                except TimeoutError:
                    if calls and all(call.done() for call in calls):
                        break
                    continue
                if line and "daemon started" in line[2] and not calls:
                    calls = [pool.submit(_call, path) for path in _sockets(folder / "queue")]
                if line and FAULT.match(line[2]):
                    faults.append(_words(line))
                    ends = min(ends, time.monotonic() + AFTERTHOUGHT)
            if process.poll() is not None:
                faults += _heard(journal)
                said = (process.stderr.read() if process.stderr else b"").decode(errors="replace").strip()
                faults += said.splitlines() or ([] if faults else ["Postfix's master(8) ends at once"])
    finally:
        pool.shutdown()  # with Postfix gone each call has its answer
    return faults


def _heard(journal: socket.socket) -> list[str]:
    """Return the faults that wait in the log's socket."""
    heard = []
    with suppress(TimeoutError):
        while True:
            line = aside.LINE.match(journal.recv(1 << 16).decode(errors="replace"))
            if line and FAULT.match(line[2]):
                heard.append(_words(line))
    return heard


def _words(line: re.Match[str]) -> str:
    """Return a daemon's words under its own name, not under the one that a service has in the log."""
    return f"{line[1].rpartition('/')[2]}: {line[2].rstrip()}"


def _sockets(queue: Path) -> list[Path]:
    return [path for room in ("public", "private") for path in sorted((queue / room).iterdir()) if path.is_socket()]


def _call(path: Path) -> None:
    """Have a service started by a connection to it, which ends at once; one for sessions is asked for more."""
    with suppress(OSError, smtplib.SMTPException):  # what is wrong the daemon logs
        if path.name.startswith(aside.DOOR):
            with aside.Session(str(path), timeout=PATIENCE) as client:
                client.ehlo("localhost")
                if client.has_extn("starttls"):
                    client.starttls(context=aside.trusting())
                # No further: on a unix-domain socket smtpd looks at no restriction.
            return
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(path))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
