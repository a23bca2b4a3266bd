"""
Ask clamd over its own protocol, check ClamAV's configuration files with its own parser, and fetch signatures.

The facts come from the source of ClamAV 1.4 (``common/optparser.c``, ``clamconf/clamconf.c``) and clamd(8).
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import re
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smtpout_core import command, folder, listener, sockets
from smtpout_core.errors import NotInstalledError, RelayError

log = logging.getLogger(__name__)

# The names that clamconf has for the files of each program, whatever a distribution calls them.
CONFIGURATIONS = {"clamd": "clamd.conf", "freshclam": "freshclam.conf", "clamav-milter": "clamav-milter.conf"}

# The settings' names of the programs.
_ROOMS = {"clamd": "clamd", "freshclam": "freshclam", "clamav-milter": "milter"}

# What each program can't do without, as alternatives; clamconf doesn't ask for it.
NEEDED: dict[str, list[tuple[str, ...]]] = {
    "clamd": [("LocalSocket", "TCPSocket")],
    "freshclam": [("DatabaseMirror", "PrivateMirror")],
    "clamav-milter": [("MilterSocket",), ("ClamdSocket",)],
}

_CHUNK = 1 << 16


def ping(socket: str, timeout: float = 10) -> bool:
    """Return True when a clamd answers.

    Where systemd holds the socket, clamd takes connections while it loads its signatures, and answers when it has them.

    :param socket: ``unix:PATH`` or ``tcp:HOST:PORT``, as in ``ClamdSocket`` of clamav-milter.conf.
    :param timeout: Seconds to wait for the answer.
    :raises RelayError: nothing listens, the socket may not be used, or no ``PONG`` comes in time.
    """
    answer = _asked(socket, "PING", timeout)
    if answer != "PONG":
        raise RelayError(f"What listens on {socket} isn't clamd: it answered {answer[:40]!r} to PING")
    return True


def signatures_made(socket: str, timeout: float = 10) -> dt.datetime | None:
    """Return when the signatures were made that clamd serves with; None where its database has no date.

    :param socket: ``unix:PATH`` or ``tcp:HOST:PORT``.
    :param timeout: Seconds to wait for the answer.
    :raises RelayError: as ``ping``.
    """
    # ClamAV 1.4.3/27800/Thu Nov 26 09:00:00 2026, in the daemon's local time (clamd(8), VERSION)
    [_, *version] = _asked(socket, "VERSION", timeout).split("/")
    try:
        return dt.datetime.strptime(version[1], "%a %b %d %H:%M:%S %Y").astimezone(dt.timezone.utc)
    except (IndexError, ValueError):
        return None


def instream(socket: str, data: bytes | str, timeout: float = 60) -> str | None:
    """Return the name of the virus that clamd finds in the data, or None. Nothing is written to disk by the caller.

    :param socket: ``unix:PATH`` or ``tcp:HOST:PORT``.
    :param data: What is scanned; ``StreamMaxLength`` of clamd.conf bounds it.
    :param timeout: Seconds to wait for the verdict.
    :raises RelayError: as ``ping``, and when clamd can't scan the data.
    """
    content = data.encode() if isinstance(data, str) else data

    # clamd(8), INSTREAM: chunks with their length in four bytes, big end first; an empty one ends it.
    chunks = (content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK))
    sent = [*(struct.pack("!I", len(chunk)) + chunk for chunk in chunks), struct.pack("!I", 0)]
    answer = _asked(socket, "INSTREAM", timeout, sent)
    if answer == "stream: OK":
        return None
    found = re.fullmatch(r"stream: (.+) FOUND", answer)
    if not found:
        raise RelayError(f"clamd on {socket} can't scan the data: {answer}")
    return found[1]


def _asked(socket: str, asked: str, timeout: float, content: Iterable[bytes] = ()) -> str:
    """Return clamd's answer to a command, and to what is sent after it."""
    said = {
        FileNotFoundError: f"There is no socket {socket}: clamd isn't running, or listens elsewhere",
        ConnectionRefusedError: f"Nothing listens on {socket}: clamd isn't running",
        PermissionError: f"This user may not use {socket} (LocalSocketGroup, LocalSocketMode)",
        TimeoutError: (
            f"clamd didn't answer on {socket} within {timeout} s: it still loads its signatures, or all its threads are"
            " busy"
        ),
        EOFError: f"clamd on {socket} closed the connection without a whole answer",
        OSError: f"clamd can't be asked on {socket}",
    }
    with sockets.conversation(_place(socket), timeout, said) as clamd:
        clamd.send(f"z{asked}\0".encode())
        try:
            for part in content:
                clamd.send(part)
        except (BrokenPipeError, ConnectionResetError):
            log.debug("clamd stopped reading before the end; its answer says why")
        return clamd.receive_to(b"\0").decode("utf-8", "replace")


def _place(socket: str) -> sockets.Place:
    """Return where clamd listens."""
    if tcp := re.fullmatch(r"tcp:(.+):(\d+)", socket):
        return tcp[1].strip("[]"), int(tcp[2])
    if not socket.startswith("unix:/"):
        raise RelayError(f"{socket!r} is not a clamd socket; right would be unix:/PATH or tcp:HOST:PORT")
    return socket.removeprefix("unix:")


def known_options(program: str) -> list[str]:
    """Return the options that the installed version knows, without deprecated ones.

    clamd 1.4 refuses to start with an option that it doesn't know; freshclam ignores a deprecated one with a warning.

    :param program: ``clamd``, ``freshclam`` or ``clamav-milter``.
    :raises NotInstalledError: clamconf isn't installed.
    """
    # Descriptions stand behind "# ", an option behind "#" alone.
    return sorted(set(re.findall(r"^#([A-Z]\w+) ", _clamconf("-g", CONFIGURATIONS[program]).output, re.MULTILINE)))


def check(program: str, staged: Mapping[str, str], settings: dict[str, Any]) -> list[str]:
    """Return everything that ClamAV's own parser has against a program's configuration; nothing when it is right.

    Finds unknown and deprecated options, wrong values, what a program can't do without, and a taken port. What else is
    right in the file and wrong on the host, such as a user or a directory, shows when the daemon starts.

    :param program: ``clamd``, ``freshclam`` or ``clamav-milter``.
    :param staged: where each file of the set stands for the check, by its final path. Looked at is the program's own
        one, which the settings name; not a unit's.
    :param settings: the site's.
    :raises NotInstalledError: there is no clamconf.
    """
    facts = settings["clamav"][_ROOMS[program]]
    config = facts["configuration"]
    lines = Path(staged[config]).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    complaints = _needed(lines, program) + _taken(lines, facts["service"])
    # A directory that only this user may enter, since freshclam.conf can hold a proxy's password.
    with folder.private() as directory:
        copy = Path(directory, CONFIGURATIONS[program])
        while True:
            copy.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
            run = _clamconf("-c", directory)
            wrong = [line for line in run.said.splitlines() if line.strip()]
            complaints += [line.replace(f"{copy}:", "line ").replace(str(copy), config) for line in wrong]
            # clamconf stops at a mistake: take it out and look for the next.
            index = _mistake(wrong[0], lines) if wrong else None
            if index is None:
                break
            lines[index] = "#"
    # clamconf says this on standard output, and nothing at all by its exit status.
    complaints += re.findall(r"^\*\*\* (\w+ is DEPRECATED) \*\*\*$", run.output, re.MULTILINE)
    return [f"{config}: {complaint.removeprefix('ERROR: ')}" for complaint in dict.fromkeys(complaints)]


check_clamd = functools.partial(check, "clamd")
check_freshclam = functools.partial(check, "freshclam")
check_milter = functools.partial(check, "clamav-milter")


def _clamconf(*arguments: str) -> command.Done:
    """Return what clamconf says on standard output and on standard error; its exit status is 0 whatever it finds."""
    if not shutil.which("clamconf"):
        raise NotInstalledError("clamconf, which knows ClamAV's options, isn't installed")
    return command.run(["clamconf", *arguments])


def _mistake(message: str, lines: list[str]) -> int | None:
    """Return the place in the file that a message of the parser is about."""
    number = re.search(r":(\d+)(?:: |$)", message)
    if number:
        return int(number[1]) - 1
    option = re.search(r"option (\w+)", message)
    # "Please edit the example config file" is about a line Example.
    name = option[1] if option else "Example"
    return next((index for index, line in enumerate(lines) if line.split()[:1] == [name]), None)


def _needed(lines: list[str], program: str) -> list[str]:
    """Return what the program can't do without and the file doesn't have."""
    names = {line.split()[0] for line in lines if line.split()}
    return [f"{' or '.join(options)} is missing" for options in NEEDED[program] if not names.intersection(options)]


def _taken(lines: list[str], service: str) -> list[str]:
    """Return the ports that a program is to listen on and that another one has."""
    options = {words[0]: words[1] for line in lines if len(words := line.split()) == 2}
    ports = {"MilterSocket": options.get("MilterSocket", "")}
    if "TCPSocket" in options:
        ports["TCPSocket"] = f"inet:{options['TCPSocket']}@{options.get('TCPAddr', '0.0.0.0')}"  # noqa: S104 - clamd's own default
    found = {option: listener.socket_conflict(socket, [service]) for option, socket in ports.items()}
    return [f"{option} {options[option]}: the port is taken by {taken}" for option, taken in found.items() if taken]


def missing_databases(settings: dict[str, Any], directory: str) -> list[str]:
    """Return the signature databases that the site asks for and that aren't there.

    :param directory: The database directory.
    """
    clamav = settings["clamav"]
    options = clamav["freshclam"]["options"]

    def values(option: str, default: Any) -> list[str]:
        value = options.get(option, default)
        return value if isinstance(value, list) else [] if value is None else [value]

    official = ["main", "daily", *values("ExtraDatabase", [])]
    if values("Bytecode", True)[:1] not in ([False], ["no"], ["false"]):
        official.append("bytecode")
    excluded = values("ExcludeDatabase", clamav["signatures"]["exclude"])
    there = {path.name for path in Path(directory).glob("*")}
    missing = [name for name in official if name not in excluded and not there & {f"{name}.cvd", f"{name}.cld"}]
    single = [url.rpartition("/")[2] for url in values("DatabaseCustomURL", clamav["signatures"]["urls"])]
    return missing + [name for name in single if name not in there]


def update_signatures(config: str, timeout: float = 1800) -> None:
    """Run freshclam once; what it says goes to Salt's log as it comes.

    freshclam's own service must not run meanwhile: both would want the same lock.

    :param config: Path of freshclam.conf.
    :param timeout: Seconds after which freshclam is stopped. The official databases have some 300 MB.
    :raises NotInstalledError: there is no freshclam.
    :raises RelayError: what freshclam had to say when it fails, or that it takes too long.
    """
    program = command.which("freshclam")
    said: list[str] = []
    with subprocess.Popen(
        [program, f"--config-file={config}", "--stdout"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        for line in process.stdout or ():
            # A mirror's URL can hold a password.
            said.append(re.sub(r"//[^/\s]+@", "//", line.strip()))
            log.info("freshclam: %s", said[-1])
        status = process.wait()
        timer.cancel()
    if status == -signal.SIGKILL:
        raise RelayError(f"freshclam was killed: it took more than {timeout} s, or memory ran out")
    if status:
        errors = dict.fromkeys(line for line in said if line.startswith(("ERROR", "DatabaseCustomURL")))
        raise RelayError(f"freshclam failed (exit status {status}): {' '.join(errors or said[-3:])}")
