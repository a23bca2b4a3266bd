"""What ends, fills or piles up by itself, without any change: each told while there is time.

From when on each is told is the pillar's to say: ``smtpout:warnings``. None of this is a failure.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from smtpout_core.daemons import clamav
from smtpout_core.daemons.opendkim import keys, record
from smtpout_core.daemons.postfix import certificate, conf, given, maps, queue
from smtpout_core.directory import servers
from smtpout_core.errors import Doubt, NotInstalledError, RelayError
from smtpout_core.host import STATE_DIR
from smtpout_core.site.rules.promises import not_promised

DAY = 86_400
RECORDS = 32
"""Domains whose keys' records are asked for."""
SHOWN = 3
"""Of which are said what is wrong."""
FROM_LINE = re.compile(rb"From .*(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})")
"""What each message of a mailbox begins with (mbox(5), asctime(3))."""


Found = TypeVar("Found")
Served = Sequence[tuple[str, dict[str, Any]]]
"""Where the certificates come from that Postfix serves, and what each says: a file, or, of a further name, its key of
the pillar; then it says as ``asked_for`` which name that is."""


def checks(settings: dict[str, Any]) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield what a site is warned of before it ends: a sentence, and what asks: it returns what it saw, or raises.

    :param settings: the site's.
    """
    warn, directory = settings["warnings"], settings["postfix"]["directory"]
    served, waiting = _Once(partial(_served, settings)), _Once(partial(queue.waiting, directory))
    days = warn["certificate_days"]
    yield f"the certificate is good for {days} days", lambda: _certificate_ends(served(), days)
    yield "the certificate has the relay's name", lambda: _certificate_names(served(), settings["hostname"])
    yield "the certificate's key is for the relay alone", lambda: _certificate_key(served(), settings["tls"]["names"])
    if servers.uses_tls(settings):
        yield f"the directory's certificates are good for {days} days", lambda: _directory_ends(settings, days)
    if settings["clamav"]["enabled"]:
        yield "the scanner's signatures are new", lambda: _signatures(settings, warn["signature_days"])
    if "mail_is_signed" not in not_promised(settings):
        yield "receivers find the keys that mail is signed with", lambda: _records(settings)
    yield "mail leaves the relay", lambda: _deferred(waiting(), warn["queue"])
    yield "no message waits for long", lambda: _oldest(waiting(), warn["oldest_hours"])
    yield "no message is held and forgotten", lambda: _held(waiting(), warn["held"])
    yield "the disks have room to spare", lambda: _disks(settings, warn["disk"])
    yield "somebody reads root's mail", lambda: _roots_mail(settings, warn["root_mail_days"])


class _Once(Generic[Found]):
    """What several checks ask at once, asked once."""

    def __init__(self, ask: Callable[[], Found]) -> None:
        self.ask, self.lock = ask, threading.Lock()
        self.found: list[Found] = []

    def __call__(self) -> Found:
        with self.lock:
            if not self.found:
                self.found.append(self.ask())
        return self.found[0]


def _served(settings: dict[str, Any]) -> Served:
    facts = settings["postfix"]
    found = [(path, certificate.info(path)) for path in certificate.served(facts["directory"])]
    for name, own in settings["tls"]["names"].items():
        if pem := given.served(facts["names_map"], facts["map_type"], name):
            place = own.get("chain_file", f"smtpout:tls:names:{name}")
            found.append((place, certificate.told(pem) | {"asked_for": name}))
    return found


def _certificate_ends(served: Served, days: int) -> str:
    told = []
    for path, info in served:
        left, end = info["days_left"], info["not_after"]
        if left < days:
            said = f"ended on {end}: clients that check it go away" if left < 0 else f"ends on {end}, in {left} days"
            told.append(f"{path} {said}; renew it, and apply")
    if told:
        raise Doubt("\n".join(told))
    return ", ".join(f"{path} until {info['not_after']}" for path, info in served) or "Postfix serves none"


def _certificate_names(served: Served, hostname: str) -> str:
    # Clients compare the name that they connect to (RFC 6125, 6.4): another one, behind a balancer, is in it as well.
    seen = []
    for path, info in served:
        name = info.get("asked_for", hostname).lower()
        names = [each.lower() for each in info["names"]]
        if name not in names and "*." + name.partition(".")[2] not in names:
            known = ", ".join(info["names"]) or "no name at all"
            raise Doubt(f"{path} is for {known}, and the relay is {name}: clients that check it go away")
        seen.append(name)
    return ", ".join(seen) or hostname.lower()


def _certificate_key(served: Served, names: Mapping[str, Mapping[str, str]]) -> str:
    own = [path for path, info in served if "asked_for" not in info]
    named = [each["chain_file"] for each in names.values() if "chain_file" in each]
    paths = [*own, *filter(os.path.exists, named)]
    for path in paths:
        mode = os.stat(path).st_mode
        if mode & 0o007:
            raise Doubt(f"{path} has mode {mode & 0o7777:04o}: everybody on the host can read its key; chmod o= {path}")
    return ", ".join(paths)


def _directory_ends(settings: dict[str, Any], days: int) -> str:
    """Return until when the servers' certificates are good; one that isn't, any more, keeps its server from serving."""
    told: list[str] = []
    seen: list[str] = []
    for server, end in servers.ends(settings).items():
        until = end.isoformat(timespec="seconds")
        left = (end - dt.datetime.now(dt.timezone.utc)).days
        said = f"ends on {until}, in {left} days: then neither recipients nor logins are known by it"
        (told if left < days else seen).append(f"{server}: its certificate {said}")
    if told:
        raise Doubt("\n".join(told))
    return ", ".join(seen) or "no server that is up says"


def _signatures(settings: dict[str, Any], most: int) -> str:
    """Return from when clamd's signatures are."""
    made = clamav.signatures_made(f"unix:{settings['clamav']['clamd']['socket']}")
    if made is None:
        return "clamd has a database without a date"
    age = (dt.datetime.now(dt.timezone.utc) - made).days
    seen = f"they are from {made:%Y-%m-%d %H:%M} UTC, {age} days old"
    if age > most:
        unit = settings["clamav"]["freshclam"]["service"]
        raise Doubt(f"{seen}: newer viruses pass (systemctl status {unit}; journalctl -u {unit})")
    return seen


def _records(settings: dict[str, Any]) -> str:
    """Return whose records hold what is signed with, of so many domains; receivers take a wrong one for a forgery."""
    signing = settings["opendkim"]["signing_keys"]
    asked = signing[:RECORDS]
    with ThreadPoolExecutor(len(asked)) as pool:
        faults = [fault for fault in pool.map(_record, asked) if fault]
    if faults:
        more = f"\nand {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        advice = "`opendkim.public_records` prints what to publish"
        raise Doubt("\n".join(faults[:SHOWN]) + f"{more}\n{advice}")
    return f"{len(asked)} of {len(signing)} domains' records were asked for"


def _record(key: dict[str, Any]) -> str:
    """Return what is wrong with a key's record."""
    try:
        if keys.key_matches_record(key["path"], key["domain"], key["selector"]):
            return ""
    except NotInstalledError:
        raise
    except RelayError as error:
        return str(error)
    return f"{record.name(key['domain'], key['selector'])}: DNS has another key than {key['path']}"


def _deferred(waiting: queue.Waiting, most: int) -> str:
    if waiting.reasons:
        reason, count = max(waiting.reasons.items(), key=lambda item: item[1])
        said = f"{sum(waiting.reasons.values())} recipients wait to be tried again, {count} of them: {reason}"
        raise Doubt(f"{said} (postqueue -p)")
    if waiting.messages > most:
        raise Doubt(f"{waiting.messages} messages are in the queue, more than {most} (qshape; postqueue -p)")
    return f"{waiting.messages} in the queue"


def _oldest(waiting: queue.Waiting, hours: int) -> str:
    if not waiting.oldest:
        return "the queue is empty"
    age = max(0, time.time() - waiting.oldest)
    seen = f"the oldest came {age / 3600:.1f} hours ago"
    if age > hours * 3600:
        raise Doubt(f"{seen}: its sender hasn't been told yet that it isn't delivered (postqueue -p)")
    return seen


def _held(waiting: queue.Waiting, most: int) -> str:
    seen = f"{waiting.held} held in the queue"
    if waiting.held > most:
        raise Doubt(f"{seen}, which stay until somebody lets them go: see Queue in docs/operations.md (postqueue -p)")
    return seen


def _disks(settings: dict[str, Any], least: int) -> str:
    """Return how much room the file systems have that the daemons write to."""
    named = conf.values(settings["postfix"]["directory"], "queue_directory")["queue_directory"]
    places = [named, "/var/log", STATE_DIR]
    if settings["clamav"]["enabled"]:
        places.append(settings["clamav"]["database_directory"])
    found: dict[int, tuple[str, float]] = {}
    for place in filter(os.path.isdir, places):
        disk = os.statvfs(place)
        kinds = [(disk.f_bavail, disk.f_blocks), (disk.f_favail, disk.f_files)]
        found.setdefault(os.stat(place).st_dev, (place, min(100 * free / all_ for free, all_ in kinds if all_)))
    seen = [f"{place}: {free:.0f} % free" for place, free in found.values()]
    if few := [f"{place}: {free:.1f} % free" for place, free in found.values() if free < least]:
        raise Doubt(f"{', '.join(few)}; full, it stops mail")
    return ", ".join(seen)


def _roots_mail(settings: dict[str, Any], days: int) -> str:
    """Return where root's mail goes: to somebody, or into a file that is looked at."""
    directory = settings["postfix"]["directory"]
    made = conf.values(directory, "alias_maps", "mail_spool_directory", "home_mailbox")
    for table in maps.named(made["alias_maps"]):
        to = maps.answer(directory, table, "root")
        if to not in ("", "root"):
            return f"it goes to {to}"
    own = made["home_mailbox"]
    place = os.path.join("/root", own) if own else f"{made['mail_spool_directory']}/root"
    if (first := _first(place)) is None:
        return f"{place} is empty"
    age = (time.time() - first) / DAY
    if age > days:
        raise Doubt(
            f"{place} has some from {age:.0f} days ago: name a reader in "
            f"{settings['postfix']['aliases']} (root: somebody@example.com), then newaliases"
        )
    return f"{place} has some, none older than {days} days"


def _first(place: str) -> float | None:
    """Return when the first message came to a mailbox, in seconds since 1970; None where there is none."""
    if os.path.isdir(place):  # a maildir
        times = [each.stat().st_mtime for folder in ("new", "cur") for each in Path(place, folder).glob("*")]
        return min(times, default=None)
    try:
        with open(place, "rb") as mailbox:  # which may be large: nobody reads it
            line, changed = mailbox.readline(1000), os.fstat(mailbox.fileno()).st_mtime
    except FileNotFoundError:
        return None
    if not line:
        return None
    began = FROM_LINE.match(line)
    with suppress(ValueError):
        return time.mktime(time.strptime(began[1].decode() if began else "", "%a %b %d %H:%M:%S %Y"))
    return changed
