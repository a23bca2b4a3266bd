"""The whole chain of a site aside: Postfix, its filters and their scanner, with files that need not be live yet.

Each service of type inet is a door that takes any client's address (PROXY protocol) and any login (XCLIENT), and every
delivery service, whatever it is called, ends in a folder. No program of the site's delivers anything, no port is used,
and nothing of it stays. The directory, policy services and filters of the site's own are the real ones.
"""

from __future__ import annotations

import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from smtpout_core.daemons import haproxy, milter, saslauthd
from smtpout_core.daemons.limits import asking as limits
from smtpout_core.daemons.postfix import aside, conf, maps
from smtpout_core.daemons.postfix.aside import Entry, Places
from smtpout_core.errors import RelayError
from smtpout_core.promises import entrances, filters, handing, leaving, mailboxes, pace
from smtpout_core.promises.handing import Handed
from smtpout_core.promises.promise import SERVERS, SUBMISSION, SUBMISSIONS
from smtpout_core.site.rules.postfix import port

PATIENCE = 20.0  # seconds that the daemons have to start; they take half of one
STUCK = 2.0  # seconds after which what pickup(8) has not taken waits for its next round
LAST_LINES = 0.1  # seconds in which what has been logged is read
DELIVERING = ("smtp", "lmtp", "local", "virtual", "pipe", "discard")
"""Programs that have mail leave the queue (postfix(1)); error(8) has it come back, as the site says."""

# Where PROXY says who comes; a client is met once and then again, so nothing is counted.
OPEN = {
    "smtpd_tls_wrappermode": "no",
    "smtpd_upstream_proxy_protocol": "haproxy",
    "smtpd_authorized_xclient_hosts": "0.0.0.0/0,[::]/0",
    "smtpd_client_event_limit_exceptions": "0.0.0.0/0,[::]/0",
}
# Old milters' sockets are another's; the log is heard here.
OVERRIDES = {"maillog_file": "", "in_flow_delay": "0", "stress": "", "cyrus_sasl_config_path": "/tmp/sasl"}

# In the namespaces: what others listen on in Postfix's queue is let through, clients have names, /tmp is the trial's.
BEFORE = """
while read -r name; do mount --bind "$3/$name" "$1/queue/$name"; done < "$1/through"
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/tmp" /tmp
for each in /tmp/start/*; do sh "$each" > "/tmp/said/${each##*/}" 2>&1 & done
"""
SINK = """#!/bin/sh
# service, program, nexthop, sender, recipient; then the message
file=$(mktemp /tmp/sink/.XXXXXXXXXX) || exit 75
{ printf '%s\\n' "$@"; cat; } > "$file" && mv "$file" "/tmp/sink/${file##*/.}"
"""
SENDMAIL = """
until [ -e /tmp/mail/all ]; do sleep 0.02; done
for each in /tmp/mail/*.eml; do [ ! -e "$each" ] || . "${each%.eml}.words"; done
touch /tmp/mail/done
"""


class Arrived(NamedTuple):
    """A message that left the queue: by which service and program, where to, for whom, and as it was."""

    service: str
    program: str
    nexthop: str
    sender: str
    recipient: str
    message: bytes


@dataclass
class Chain:
    """A chain that serves.

    :param folder: where it lies.
    :param doors: the socket of each service that takes sessions, by its name in master.cf.
    :param clients: what sends mail on, by its service's name; so ``mailboxes``, what has it stay, and ``entrances``.
    :param log: what its daemons have logged: who, and what.
    """

    folder: Path
    places: Places
    doors: dict[str, str] = field(default_factory=dict)
    clients: dict[str, leaving.Client] = field(default_factory=dict)
    mailboxes: dict[str, mailboxes.Local] = field(default_factory=dict)
    entrances: dict[str, entrances.Entrance] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)

    def send(self, messages: Mapping[str, tuple[str, str, bytes]], patience: float = PATIENCE) -> None:
        """Have sendmail(1) send, as a program on the relay would.

        :param messages: sender, recipient and text, by a name.
        :param patience: seconds that it has.
        """
        folder = self.folder / "tmp/mail"
        program = conf.values(str(self.folder.resolve() / "config"), "sendmail_path")["sendmail_path"]
        for name, (sender, recipient, text) in messages.items():
            (folder / f"{name}.eml").write_bytes(text)
            words = shlex.join([program, "-i", "-f", sender or "<>", "--", recipient])
            line = f'{words} < "$each" > "${{each%.eml}}.said" 2>&1 && rm "${{each%.eml}}.said"\n'
            (folder / f"{name}.words").write_text(line, encoding="utf-8")
        (folder / "all").touch()
        ends = time.monotonic() + patience
        while not (folder / "done").exists() and time.monotonic() < ends:
            time.sleep(0.02)

    def said(self, name: str) -> str:
        """Return what sendmail(1) said to a message that it didn't take; an empty text of one that it did."""
        path = self.folder / f"tmp/mail/{name}.said"
        return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""

    def arrived(self) -> list[Arrived]:
        """Return what has left the queue so far."""
        found = []
        for path in (self.folder / "tmp/sink").iterdir():
            if not path.name.startswith("."):
                *words, message = path.read_bytes().split(b"\n", 5)
                service, program, nexthop, sender, recipient = (os.fsdecode(word) for word in words)
                found.append(Arrived(service, program, nexthop, sender, recipient, message))
        return found

    def left(self, arrived: Sequence[Arrived], patience: float) -> dict[Arrived, Arrived]:
        """Return what the clients of services made of messages when they left; what doesn't leave is missing.

        :param arrived: some of :meth:`arrived`; what a service has left without a client stays as it is.
        :param patience: seconds.
        """
        sent = [each for each in arrived if each.program in leaving.PROGRAMS]
        words = leaving.sent(self.folder / "queue/public", [(each[0], *each[3:]) for each in sent])
        self.settled(patience)
        made = leaving.seen(self.folder / "tmp/left")
        left = {each: each._replace(message=made[word]) for each, word in zip(sent, words, strict=True) if word in made}
        return {each: each for each in arrived if each not in sent} | left

    def file(self, path: str) -> Path:
        """Return where a file of the configuration lies."""
        inside = os.path.relpath(path, self.places.directory)
        return Path(path) if inside.startswith("..") else self.folder.resolve() / "config" / inside

    def answer(self, table: str, key: str) -> str:
        """Return what a table has for a daemon's key; an empty text where it has nothing.

        :param table: type and name, as the configuration has it.
        :raises RelayError: it can't be read.
        """
        kind, _, name = table.partition(":")
        place = f"{kind}:{self.file(name)}" if name.startswith("/") else table
        return maps.answer(str(self.folder.resolve() / "config"), place, key)

    def handed(self, settings: dict[str, Any], handed: Collection[Handed]) -> Mapping[Handed, str]:
        """Return what keeps mail from being taken where it goes on to; an empty text where nothing does.

        :param settings: the site's.
        :param handed: of each recipient once.
        """
        handing.route(self.folder / "tmp", settings["postfix"]["map_type"], handed)
        faults = handing.asked(self.folder / "queue/public", handed, settings["domains"])
        time.sleep(LAST_LINES)
        return handing.with_tls(faults, [what for _, what in self.log])

    def waiting(self) -> dict[str, list[str]]:
        """Return the names of what is in the queue: ``moving``, not picked up, ``deferred``, and on ``hold``."""
        queue = self.folder / "queue"
        rooms = {
            "moving": ("incoming", "active"),
            "submitted": ("maildrop",),
            "deferred": ("deferred",),
            "hold": ("hold",),
        }
        return {
            state: [path.name for name in names for path in (queue / name).rglob("*") if path.is_file()]
            for state, names in rooms.items()
        }

    def settled(self, patience: float) -> bool:
        """Wait until nothing moves by itself; tell whether that came within some seconds."""
        ends = time.monotonic() + patience
        stuck = time.monotonic() + STUCK
        while (waiting := self.waiting())["moving"] or waiting["submitted"]:
            if waiting["moving"]:
                stuck = time.monotonic() + STUCK
            elif time.monotonic() > stuck:  # pickup(8) was refused it for now, and tries again in a minute
                return True
            if time.monotonic() > ends:
                return False
            time.sleep(0.02)
        return True


@contextmanager
def started(
    settings: dict[str, Any], staged: Mapping[str, str], clients: Iterable[str] = (), *, verbose: bool = False
) -> Iterator[Chain]:
    """Give a chain that serves with these files.

    :param settings: the site's.
    :param staged: where each of the site's files lies, by its live path; of the running configuration, itself.
    :param clients: addresses that have a name there, as those of mail servers have: no answer waits for DNS.
    :param verbose: smtpd(8) logs what it looks up and decides.
    :raises RelayError: there can't be any, and why.
    """
    if not aside.possible():
        raise RelayError("no namespaces can be made on this host, so nothing can be tried aside")
    directory = settings["postfix"]["directory"]
    config = os.path.dirname(staged[os.path.join(directory, "main.cf")])
    names = [name for name in Places._fields if name != "directory"]
    places = Places(directory, **conf.values(config, *names))
    chain = Chain(Path(), places)

    def changed(config: str, main: str, master: list[Entry]) -> tuple[str, str]:
        main, entries = _changed(main, master, settings, chain, verbose)
        filters.lead_by_proxy(Path(config))
        chain.clients = {each.service: each for each in leaving.clients(config)}
        chain.entrances = entrances.found(config)
        chain.mailboxes = mailboxes.services(config, chain.answer)
        return main, "\n".join([*entries, *leaving.services(chain.clients.values()), ""])

    with aside.furnished(staged, places, changed) as folder:
        chain.folder = folder
        _furnish(chain, settings, staged)
        _name(folder, clients)
        with aside.journal(folder) as journal, aside.started(folder, places, BEFORE) as process:
            reader = threading.Thread(target=_hear, args=(journal, chain.log), daemon=True)
            reader.start()
            _serving(chain, settings, process)
            yield chain
    reader.join(1)


def _hear(journal: Any, log: list[tuple[str, str]]) -> None:
    """Read the log until its socket is closed."""
    journal.settimeout(0.2)
    with suppress(OSError):
        while journal.fileno() >= 0:
            with suppress(TimeoutError):
                if line := aside.LINE.match(journal.recv(1 << 16).decode(errors="replace")):
                    log.append((line[1].rpartition("/")[2], line[2].rstrip()))


def _changed(
    main: str, master: list[Entry], settings: dict[str, Any], chain: Chain, verbose: bool
) -> tuple[str, list[str]]:
    """Return main.cf, and entries of master.cf with doors, the chain's own filters, and one end for all mail."""
    made, overrides = [], OVERRIDES | handing.main(settings["postfix"]["map_type"])
    for number, entry in enumerate(master):
        new = aside.portless(number, entry)
        if entry.program in DELIVERING:
            end = shlex.join(["/bin/sh", "/tmp/end", entry.name, entry.program])
            command = f"pipe\n  user=nobody argv={end} ${{nexthop}} ${{sender}} ${{recipient}}"
            if entry.program in leaving.PROGRAMS:
                made.append(str(new._replace(name=handing.client(entry.name))))
            new = new._replace(unpriv="n", processes="20", command=command)
            overrides |= pace.hastened(main, entry.name, (leaving.client(entry.name), handing.client(entry.name)))
        made.append(str(new))
        if entry.program == "smtpd" and new.name.startswith(aside.DOOR):
            chain.doors[f"{entry.name}/{entry.kind}"] = new.name
            made += [f"  -o {name}={value}" for name, value in OPEN.items()] + (["  -v"] if verbose else [])
    _stand_in(chain.doors, master)
    main += "".join(f"\n{name} = {value}" for name, value in overrides.items()) + "\n"
    # What counts logins is the trial's, too, and counts nobody.
    limits_own = [{"socket": f"unix:{settings['limits']['socket']}", "name": "limits"}]
    for each in (*settings["milters"], *(limits_own if settings["limits"]["enabled"] else ())):
        spellings, own = _spellings(each["socket"]), f"unix:/tmp/{each['name']}"
        main, made = spellings.sub(own, main), [spellings.sub(own, text) for text in made]
    return main, made


def _stand_in(doors: dict[str, str], master: list[Entry]) -> None:
    """Have the ports that everybody knows be doors by their usual names, whatever a site calls the service there.

    What postscreen(8) lets through to another service is asked of that.
    """
    for usual in (SERVERS, SUBMISSION, SUBMISSIONS):
        for entry in master if usual not in doors else ():
            if entry.kind == "inet" and port(f"{entry.name}/inet") == port(usual):
                behind = "smtpd/pass" if entry.program == "postscreen" else f"{entry.name}/inet"
                if behind in doors:
                    doors[usual] = doors[behind]


def _spellings(socket: str) -> re.Pattern[str]:
    """Return what finds a milter's socket, however a site writes its host (MILTER_README)."""
    if inet := re.fullmatch(r"inet6?:.*:(\d+)", socket):
        return re.compile(rf"\binet6?:[^\s,{{}}]+:{inet[1]}\b")
    return re.compile(rf"\b(?:unix|local):{re.escape(socket.partition(':')[2])}(?![\w./-])")


def _furnish(chain: Chain, settings: dict[str, Any], staged: Mapping[str, str]) -> None:
    """Lay out what isn't Postfix's: filters, what starts them, and where mail ends."""
    tmp = chain.folder / "tmp"
    aside.make_folder(tmp, 0o1777)
    for name, mode in {
        "start": 0o755,
        "said": 0o755,
        "mail": 0o755,
        "sink": 0o1777,
        "scanned": 0o1777,
        "left": 0o1777,
    }.items():
        aside.make_folder(tmp / name, mode)
    filters.write(tmp / "end", SINK)
    filters.write(tmp / "start/sendmail", SENDMAIL)
    filters.write(tmp / "start/left", leaving.START)
    handing.route(tmp, settings["postfix"]["map_type"])
    _let_through(chain)
    prefix = aside.place(staged, chain.places.directory)
    for live, path in staged.items() if prefix else ():
        if not live.startswith(f"{chain.places.directory}/"):
            target = tmp / "staged" / live.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.copy(path, str(target))
            text = target.read_bytes()
            if prefix.encode() in text:
                target.write_bytes(text.replace(prefix.encode(), b"/tmp/staged"))
    for parent in (tmp / "staged", *(tmp / "staged").rglob("*")):
        if parent.is_dir():
            parent.chmod(0o755)
    filters.furnish(tmp, settings, staged, prefix)


def _name(folder: Path, clients: Iterable[str]) -> None:
    """Give clients a name that leads back to them (hosts(5)), but for those that the host knows."""
    known = Path("/etc/hosts").read_text(encoding="utf-8", errors="replace")
    words = {line.split()[0] for line in known.split("\n") if line.split()}
    unknown = [each for each in sorted(set(clients)) if each not in words]
    names = [f"{each} mail.client-{number}.example\n" for number, each in enumerate(unknown)]
    (folder / "hosts").write_text("".join([known.rstrip("\n"), "\n", *names]), encoding="utf-8")


def _let_through(chain: Chain) -> None:
    """Have what others than Postfix keep in its queue directory be there: their sockets, and their folders."""
    live, queue = Path(chain.places.queue_directory), chain.folder / "queue"
    own = {*aside.QUEUES, *aside.SHARED, "pid"}
    through = []
    served = {entry.name for entry in aside.entries((chain.folder / "config/master.cf").read_text(encoding="utf-8"))}
    for room in ("private", "public"):
        for path in (live / room).iterdir() if (live / room).is_dir() else ():
            if path.is_socket() and path.name not in served and not _is_postfix(path.name):
                (queue / room / path.name).touch()
                through.append(f"{room}/{path.name}")
    for path in live.iterdir() if live.is_dir() else ():
        if path.is_dir() and not path.is_symlink() and path.name not in own:
            (queue / path.name).mkdir()
            through.append(path.name)
    (chain.folder / "through").write_text("".join(f"{name}\n" for name in through), encoding="utf-8")


def _is_postfix(name: str) -> bool:
    """Tell whether a socket is one that only the running Postfix makes."""
    return name in DELIVERING or name in ("qmgr", "pickup", "cleanup", "showq", "flush", "postlog")


def _serving(chain: Chain, settings: dict[str, Any], process: Any) -> None:
    """Wait until Postfix and its filters answer.

    :raises RelayError: one doesn't, and what it said.
    """
    ends = time.monotonic() + PATIENCE
    tmp = chain.folder / "tmp"
    missing: dict[str, Callable[[], object]] = {
        each["name"]: partial(milter.probe, f"unix:{tmp}/{each['name']}") for each in settings["milters"]
    }
    if settings["limits"]["enabled"]:
        missing["limits"] = partial(limits.ping, f"{tmp}/limits")
    if settings["haproxy"]["enabled"]:
        missing["haproxy"] = partial(haproxy.settled, f"{tmp}/haproxy/status")
    missing["saslauthd"] = partial(saslauthd.ping, str(tmp / "saslauthd/mux"))
    while True:
        for name, ask in [*missing.items()]:
            with suppress(RelayError):
                ask()
                del missing[name]
        ready = any("daemon started" in what for _, what in chain.log)
        if ready and not missing:
            break
        if process.poll() is not None:
            said = (process.stderr.read() if process.stderr else b"").decode(errors="replace").strip()
            logged = [f"{who}: {what}" for who, what in chain.log if re.match(r"fatal|panic", what)]
            raise RelayError("; ".join(["Postfix doesn't start aside", *filter(None, [said, *logged])]))
        if time.monotonic() > ends:
            raise RelayError("; ".join(f"{name} doesn't start aside{_words(chain, name)}" for name in missing))
        time.sleep(0.02)
    queue = chain.folder / "queue/public"
    chain.doors = {service: str(queue / name) for service, name in chain.doors.items()}


def _words(chain: Chain, name: str) -> str:
    """Return what a filter that doesn't start has said: on its standard error, and in the log."""
    rooms = ("clamd", "milter") if name == "clamav" else (name,)
    said = [(chain.folder / "tmp/said" / room).read_text(encoding="utf-8", errors="replace").strip() for room in rooms]
    logged = [what for who, what in chain.log if who in ("clamd", "clamav-milter", "opendkim", "saslauthd")]
    return "".join(f": {words}" for words in filter(None, ["; ".join(filter(None, said)), "; ".join(logged[-3:])]))
