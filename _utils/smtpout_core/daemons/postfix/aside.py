"""A Postfix aside: in namespaces of its own, over a copy of a configuration, an empty queue and another ``/dev/log``.

It has no port: the services of type inet get unix-domain sockets. Nothing outside of these namespaces sees it, and
nothing of it stays. Who starts one says what is different in it: :mod:`.trial`, :mod:`smtpout_core.promises`.

:depends: ``unshare`` and ``setpriv`` (util-linux), Postfix 3.3 or later
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from smtpout_core.daemons.postfix import drained, maps
from smtpout_core.daemons.postfix.blocks import Blocks
from smtpout_core.folder import private
from smtpout_core.site.blocked import TABLE

NODES = ("null", "zero", "random", "urandom")
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")
SHARED = {"maildrop": 0o730, "public": 0o710}  # of the queue, for the group of postdrop(1)
# All of it dies with this process: unshare (setpriv), the shell (--kill-child), and, as that is the first one of its
# namespace, all the rest. master(8) alone would live on: who changes its user no longer hears of its parent's death.
ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--")
START = """
for node in null zero random urandom; do mount --bind "/dev/$node" "$1/dev/$node"; done
mount --rbind "$1/dev" /dev
mount --bind "$1/config" "$2"; mount --bind "$1/queue" "$3"; mount --bind "$1/data" "$4"
%s
"$5/master" -d -c "$2"
exit 1
"""
DOOR = "trial-"
"""What the name of a socket begins with that takes sessions."""
ELSEWHERE = ".staged"
"""Where new files that don't belong into the configuration directory lie in it, aside alone."""

LINE = re.compile(r"<\d+>(?:\w{3} [ \d]\d [\d:]{8} )?(\S+?)\[\d+\]: (.+)", re.DOTALL)
"""What a daemon logs: who, and what."""


class Places(NamedTuple):
    """Where Postfix keeps things, and whose they are: parameters of main.cf but for the first."""

    directory: str = "/etc/postfix"
    queue_directory: str = "/var/spool/postfix"
    data_directory: str = "/var/lib/postfix"
    daemon_directory: str = "/usr/lib/postfix/sbin"
    mail_owner: str = "postfix"
    setgid_group: str = "postdrop"


class Entry(NamedTuple):
    """A service of master.cf as it is written (master(5)), its options with it."""

    name: str
    kind: str
    private: str
    unpriv: str
    chroot: str
    wakeup: str
    processes: str
    command: str

    @property
    def program(self) -> str:
        """The daemon that serves it."""
        return self.command.split()[0]

    def __str__(self) -> str:
        return " ".join(self)


def possible() -> bool:
    """Tell whether namespaces can be made: in some containers they can't."""
    return subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode == 0


@contextmanager
def furnished(
    staged: Mapping[str, str], places: Places, change: Callable[[str, str, list[Entry]], tuple[str, str]]
) -> Iterator[Path]:
    """Give the folder of a Postfix that can be started aside: ``config``, ``queue``, ``data``, ``dev``.

    :param staged: staged path by live path, as a check of the configuration gets it; what isn't staged is taken from
        where it lives.
    :param places: as the staged main.cf has them.
    :param change: returns main.cf and master.cf as they are to be aside, given the configuration directory, the text
        and the entries as they are staged, of a relay that isn't drained; no entry of its has a port any more.
    """
    prefix = place(staged, places.directory)
    with private(os.path.dirname(prefix) if prefix else None) as path, _near(path) as folder:
        _configured(folder / "config", places.directory, staged, prefix)
        main, master = folder / "config/main.cf", folder / "config/master.cf"
        config = str((folder / "config").resolve())
        _tables_to_come(config, main, places.directory)
        texts = change(
            config, main.read_text(encoding="utf-8"), entries(drained.without(master.read_text(encoding="utf-8")))
        )
        for file, text in zip((main, master), texts, strict=True):
            rewrite(file, text.encode())
        _queue(folder, places)
        yield folder


def place(staged: Mapping[str, str], directory: str) -> str:
    """Return the folder below which the files lie aside; an empty text where they are the live ones."""
    main = os.path.join(directory, "main.cf")
    return staged[main].removesuffix(main)


@contextmanager
def started(folder: Path, places: Places, before: str = ":", *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start what was furnished, and end all of it afterwards.

    :param before: what the shell does in the namespaces before Postfix starts; ``$1`` is the folder.
    :param words: what it knows as ``$6`` and on.
    """
    where = [str(folder.resolve()), *places[:4], *words]
    process = subprocess.Popen(
        [*ALONE, "sh", "-ec", START % before, "sh", *where],
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


@contextmanager
def journal(folder: Path) -> Iterator[socket.socket]:
    """Give the socket at which what is logged aside arrives. It has to be read, or the daemons wait for that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(folder / "dev/log"))
        (folder / "dev/log").chmod(0o666)  # in a folder of root's; the daemons write to it
        yield heard


def entries(master: str) -> list[Entry]:
    """Return the services of a master.cf."""
    found: list[str] = []
    for line in master.split("\n"):  # splitlines() would part an option at a form feed or U+2028 as well
        if line[:1].isspace() and found:
            found[-1] += f"\n{line}"
        elif line and not line.startswith("#"):
            found.append(line)
    return [Entry(*entry.split(None, 7)) for entry in found]


def portless(number: int, entry: Entry) -> Entry:
    """Return a service as it is aside: without a port, and without chroot.

    :param number: its place in master.cf, by which its socket is told from others.
    """
    if entry.kind in ("inet", "pass"):
        return entry._replace(name=f"{DOOR}{number}", kind="unix", private="n", chroot="n")
    return entry._replace(chroot="n")


def copy(source: str, target: str) -> str:
    """Copy a file with mode and owner: whether a daemon may read it is part of the trial."""
    shutil.copy2(source, target, follow_symlinks=False)
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    return target


def make_folder(path: Path, mode: int, group: int = -1, owner: int = -1) -> None:
    """Make a folder with this mode, which mkdir(2) narrows by whatever umask the run has."""
    path.mkdir()
    os.chown(path, owner, group)
    path.chmod(mode)


def trusting() -> ssl.SSLContext:
    """Return TLS of a client that takes any certificate: aside, what counts is what is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Session(smtplib.SMTP):
    """SMTP over a unix-domain socket; what is to be said before the greeting is said first."""

    first = b""

    def _get_socket(self, host: str, _port: int, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(host)
        connection.sendall(self.first)
        return connection


@contextmanager
def _near(path: str) -> Iterator[Path]:
    """Give a short path of a folder, in this process: a socket's may have 107 bytes, whatever the folder's has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _configured(config: Path, directory: str, staged: Mapping[str, str], prefix: str) -> None:
    """Lay the new files over a copy of the live ones."""
    shutil.copytree(directory, config, symlinks=True, copy_function=copy)
    if prefix:
        shutil.copytree(prefix + directory, config, symlinks=True, dirs_exist_ok=True, copy_function=copy)
        shutil.copystat(directory, config)
    if not prefix:
        return
    for live, aside in staged.items():
        if not live.startswith(f"{directory}/"):  # such as the aliases
            (config / ELSEWHERE / live.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            copy(aside, str(config / ELSEWHERE / live.lstrip("/")))
        elif (own := config / os.path.relpath(live, directory)).exists():  # as it will stand there
            text = own.read_bytes().replace(f"{prefix}{directory}/".encode(), f"{directory}/".encode())
            rewrite(own, text.replace(prefix.encode(), f"{directory}/{ELSEWHERE}".encode()))


def _tables_to_come(config: str, main: Path, directory: str) -> None:
    """Have the table of who is blocked by command say what an apply will have it say, where it doesn't yet."""
    text = main.read_text(encoding="utf-8")
    for kind in sorted(set(re.findall(rf"(\w+):{re.escape(TABLE)}(?![\w-])", text))):
        state = Blocks(TABLE, kind)
        if state.fault():
            place = Path(config, ELSEWHERE, TABLE.lstrip("/"))
            place.parent.mkdir(parents=True, exist_ok=True)
            maps.build(str(place), kind, state.wanted())
            rewrite(main, text.replace(f"{kind}:{TABLE}", f"{kind}:{directory}/{ELSEWHERE}{TABLE}").encode())


def _queue(folder: Path, places: Places) -> None:
    """Make an empty queue, and devices."""
    owner, group = pwd.getpwnam(places.mail_owner).pw_uid, grp.getgrnam(places.setgid_group).gr_gid
    for name, mode in {"queue": 0o755, "data": 0o700, "dev": 0o755, "queue/pid": 0o755}.items():
        make_folder(folder / name, mode)
    for name in QUEUES:
        make_folder(folder / "queue" / name, 0o700)
    for name, mode in SHARED.items():
        make_folder(folder / "queue" / name, mode, group, owner)
    for name in ("data", *(f"queue/{queue}" for queue in QUEUES)):
        os.chown(folder / name, owner, -1)
    for name in NODES:
        (folder / "dev" / name).touch()


def rewrite(path: Path, content: bytes) -> None:
    """Write a file in place, and make it old: Postfix reads one that is younger than 2 s again and again."""
    path.write_bytes(content)
    os.utime(path, (time.time() - 3,) * 2)
