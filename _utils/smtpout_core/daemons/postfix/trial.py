"""Start Postfix aside with a configuration that isn't live yet, and hear what its daemons have against it.

``postconf`` knows parameters' names; what their values are worth each daemon finds out when it starts, and logs: a
number that is none, an unknown restriction, a map that can't be opened, a certificate without its key. So a whole
Postfix is started in namespaces of its own, where the new configuration lies at its place over the live one, over an
empty queue, and with another ``/dev/log``. It has no port: the services of type inet get unix-domain sockets, and each
service is called once. Nothing outside of these namespaces sees it, and nothing of it stays.

:depends: ``unshare`` and ``setpriv`` (util-linux), Postfix 3.3 or later
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from smtpout_core.folder import private

log = logging.getLogger(__name__)

PATIENCE = 20.0  # seconds for all services to answer; they take half of one
AFTERTHOUGHT = 2.0  # seconds that others have for their faults once one has shown
NODES = ("null", "zero", "random", "urandom")
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")
# All of it dies with this process: unshare (setpriv), the shell (--kill-child), and, as that is the first one of its
# namespace, all the rest. master(8) alone would live on: who changes its user no longer hears of its parent's death.
ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--")
START = """
for node in null zero random urandom; do mount --bind "/dev/$node" "$1/dev/$node"; done
mount --rbind "$1/dev" /dev
mount --bind "$1/config" "$2"; mount --bind "$1/queue" "$3"; mount --bind "$1/data" "$4"
"$5/master" -d -c "$2"
exit 1
"""
# Milters are other sets' daemons, and maybe not up yet; the log is heard here.
OVERRIDES = "\nsmtpd_milters =\nnon_smtpd_milters =\nmaillog_file =\n"
# What is to be said in a session is said in clear first, so that 465 is like 587.
SESSION_OPTIONS = "  -o smtpd_tls_wrappermode=no -o smtpd_upstream_proxy_protocol="
TRIAL = "trial-"
ELSEWHERE = ".staged"
"""Where new files that don't belong into the configuration directory lie in it, in the trial alone."""

LINE = re.compile(r"<\d+>(?:\w{3} [ \d]\d [\d:]{8} )?(\S+?)\[\d+\]: (.+)", re.DOTALL)
FAULT = re.compile(
    r"(?:fatal|panic|error): "
    r"|warning: .*(?:PEM|chain file|TLS support|unsupported|address bits|net/mask|bad command startup)"
)
# spawn(8) would run a program of the site's; the stock virtual(8) doesn't start with the stock main.cf, and isn't used.
NOT_TRIED = ("spawn", "virtual")


class _Places(NamedTuple):
    """Where Postfix keeps things, and whose they are."""

    config: str
    queue: str
    data: str
    daemons: str
    owner: str
    group: str


def complaints(
    staged: Mapping[str, str],
    directory: str = "/etc/postfix",
    queue_directory: str = "/var/spool/postfix",
    data_directory: str = "/var/lib/postfix",
    daemon_directory: str = "/usr/lib/postfix/sbin",
    mail_owner: str = "postfix",
    setgid_group: str = "postdrop",
) -> list[str]:
    """Return what a Postfix that is started aside logs against a configuration, each daemon's words once.

    Where namespaces can't be made, in a container without the right to, nothing is tried and nothing returned.

    :param staged: staged path by live path, as a check of the configuration gets it.
    :param directory: the live configuration directory; what isn't staged is taken from there.
    :param queue_directory: and the others: these parameters as the staged main.cf has them.
    """
    places = _Places(directory, queue_directory, data_directory, daemon_directory, mail_owner, setgid_group)
    if subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode != 0:
        log.warning("Postfix was not tried out aside: no namespaces can be made here")
        return []
    main = os.path.join(directory, "main.cf")
    prefix = staged[main].removesuffix(main)
    with private(os.path.dirname(prefix)) as path, _near(path) as folder:
        _furnish(folder, places, staged, prefix)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.bind(str(folder / "dev/log"))
            (folder / "dev/log").chmod(0o666)  # in a folder of root's; the daemons write to it
            said = _tried(folder, places, journal)
    return list(dict.fromkeys(line.replace(f"{directory}/{ELSEWHERE}", "") for line in said))


@contextmanager
def _near(path: str) -> Iterator[Path]:
    """Give a short path of a folder, in this process: a socket's may have 107 bytes, whatever the folder's has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _furnish(folder: Path, places: _Places, staged: Mapping[str, str], prefix: str) -> None:
    """Lay out configuration, queue and devices of the trial."""
    owner, group = pwd.getpwnam(places.owner).pw_uid, grp.getgrnam(places.group).gr_gid
    config = folder / "config"
    shutil.copytree(places.config, config, symlinks=True, copy_function=_copy)
    if prefix:
        shutil.copytree(prefix + places.config, config, symlinks=True, dirs_exist_ok=True, copy_function=_copy)
        shutil.copystat(places.config, config)
    for live, aside in staged.items():
        own = config / os.path.relpath(live, places.config)
        if not live.startswith(f"{places.config}/") and prefix:  # such as the aliases
            (config / ELSEWHERE / live.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            _copy(aside, str(config / ELSEWHERE / live.lstrip("/")))
        elif own.exists():  # as it will stand there
            text = own.read_bytes().replace(f"{prefix}{places.config}/".encode(), f"{places.config}/".encode())
            _rewrite(own, text.replace(prefix.encode(), f"{places.config}/{ELSEWHERE}".encode()) if prefix else text)
    main, master = config / "main.cf", config / "master.cf"
    _rewrite(main, main.read_bytes() + OVERRIDES.encode())
    _rewrite(master, _portless(master.read_text(encoding="utf-8")).encode())
    for name, mode in {"queue": 0o755, "data": 0o700, "dev": 0o755, "queue/pid": 0o755}.items():
        _folder(folder / name, mode)
    for name in QUEUES:
        _folder(folder / "queue" / name, 0o700)
    for name, mode in {"maildrop": 0o730, "public": 0o710}.items():
        _folder(folder / "queue" / name, mode, group, owner)
    for name in ("data", *(f"queue/{queue}" for queue in QUEUES)):
        os.chown(folder / name, owner, -1)
    for name in NODES:
        (folder / "dev" / name).touch()


def _folder(path: Path, mode: int, group: int = -1, owner: int = -1) -> None:
    """Make a folder with this mode, which mkdir(2) narrows by whatever umask the run has."""
    path.mkdir()
    os.chown(path, owner, group)
    path.chmod(mode)


def _copy(source: str, target: str) -> str:
    """Copy a file with mode and owner: whether a daemon may read it is part of the trial."""
    shutil.copy2(source, target, follow_symlinks=False)
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    return target


def _rewrite(path: Path, content: bytes) -> None:
    """Write a file in place, and make it old: Postfix reads one that is younger than 2 s again and again."""
    path.write_bytes(content)
    os.utime(path, (time.time() - 3,) * 2)


def _portless(master: str) -> str:
    """Return a master.cf whose services all listen on unix-domain sockets, without chroot."""
    entries: list[str] = []
    for line in master.split("\n"):  # splitlines() would part an option at a form feed or U+2028 as well
        if line[:1].isspace() and entries:
            entries[-1] += f"\n{line}"
        elif line and not line.startswith("#"):
            entries.append(line)
    made = []
    for number, entry in enumerate(entries):
        name, kind, _, unpriv, _, wakeup, processes, command = entry.split(None, 7)
        program = command.split()[0]
        if program in NOT_TRIED:
            continue
        if kind in ("inet", "pass"):
            name, kind = f"{TRIAL}{number}", "unix"
        private = "n" if name.startswith(TRIAL) else entry.split()[2]
        made.append(f"{name} {kind} {private} {unpriv} n {wakeup} {processes} {command}")
        if program == "smtpd":
            made.append(SESSION_OPTIONS)
    return "\n".join([*made, ""])


def _tried(folder: Path, places: _Places, journal: socket.socket) -> list[str]:
    """Start Postfix, call each of its services, and return the faults that were logged."""
    faults: list[str] = []
    calls: list[Future[None]] = []
    ends = time.monotonic() + PATIENCE
    journal.settimeout(0.1)
    pool = ThreadPoolExecutor(100)
    try:
        with _started(folder, places) as process:
            while time.monotonic() < ends and process.poll() is None:
                if calls and all(call.done() for call in calls):
                    journal.settimeout(0.02)  # only what they have logged already
                try:
                    line = LINE.match(journal.recv(1 << 16).decode(errors="replace"))
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


@contextmanager
def _started(folder: Path, places: _Places) -> Iterator[subprocess.Popen[bytes]]:
    where = [str(folder.resolve()), places.config, places.queue, places.data, places.daemons]
    process = subprocess.Popen(
        [*ALONE, "sh", "-ec", START, "sh", *where],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()  # unshare lets no other signal through
        process.wait()
        if process.stderr:
            process.stderr.close()


def _heard(journal: socket.socket) -> list[str]:
    """Return the faults that wait in the log's socket."""
    heard = []
    with suppress(TimeoutError):
        while True:
            line = LINE.match(journal.recv(1 << 16).decode(errors="replace"))
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
        if path.name.startswith(TRIAL):
            with _Session(str(path), timeout=PATIENCE) as client:
                client.ehlo("localhost")
                if client.has_extn("starttls"):
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    client.starttls(context=context)
                # No further: on a unix-domain socket smtpd looks at no restriction.
            return
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(path))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


class _Session(smtplib.SMTP):
    """SMTP over a unix-domain socket."""

    def _get_socket(self, host: str, _port: int, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(host)
        return connection
