"""Mail that waits on the host for another mail system than smtpout's, or in another queue: found as files.

Whoever takes the place of a mail system takes over its promises: what it has answered with 250 must not be left behind.
Looked at are files alone, since a daemon that is stopped, broken or removed has its mail as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from smtpout_core.daemons.postfix import queue


@dataclass(frozen=True)
class Waiting:
    """Messages of a mail system, and the command that has it deliver them."""

    program: str
    folder: str
    count: int
    deliver: str

    def __str__(self) -> str:
        messages = "1 message waits" if self.count == 1 else f"{self.count} messages wait"
        return f"{messages} in {self.folder} ({self.program}); `{self.deliver}` has them delivered"


class _Spool(NamedTuple):
    """Where a mail system keeps its messages, and which of its files each stand for one."""

    program: str
    folder: str
    file: str
    deliver: str


# Of its files, the one that a message has once: exim's header (spec.txt, "Format of spool files"), sendmail's control
# file (doc/op), nullmailer's only one (nullmailer-queue(8)), OpenSMTPD's text in the message's folder
# (queue/xx/xxxxxxxx/message, smtpd/queue_fs.c), courier's data file, beside a control file or several (msgs/N/D...).
SPOOLS = (
    _Spool("exim", "/var/spool/exim4/input", r".+-H", "exim4 -qff"),
    _Spool("exim", "/var/spool/exim/input", r".+-H", "exim -qff"),
    _Spool("sendmail", "/var/spool/mqueue", r"qf.+", "sendmail -q"),
    _Spool("sendmail", "/var/spool/mqueue-client", r"qf.+", "sendmail -Ac -q"),  # Debian
    _Spool("sendmail", "/var/spool/clientmqueue", r"qf.+", "sendmail -Ac -q"),  # RPM
    _Spool("nullmailer", "/var/spool/nullmailer/queue", r"\d.*", "systemctl start nullmailer"),
    _Spool("OpenSMTPD", "/var/spool/smtpd/queue", r"message", "smtpctl schedule all"),
    _Spool("courier", "/var/lib/courier/msgs", r"D\d+", "courier flush"),
)


def elsewhere(settings: dict[str, Any], root: str = "/") -> list[Waiting]:
    """Return the mail that waits on this host where smtpout's Postfix won't find it.

    :param settings: the site's, for where its Postfix has its configuration and its queue.
    :param root: below which the host's files are.
    """
    found = [_counted(spool, root) for spool in SPOOLS]
    found += _postfixes(settings["postfix"], root)
    return [waiting for waiting in found if waiting.count]


def _counted(spool: _Spool, root: str) -> Waiting:
    return Waiting(spool.program, spool.folder, _files(_below(root, spool.folder), spool.file), spool.deliver)


def _files(folder: Path, pattern: str) -> int:
    """Return how many files of that name are anywhere below a folder."""
    matches: Callable[[str], Any] = re.compile(pattern).fullmatch
    return sum(bool(matches(name)) for _, _, names in os.walk(folder) for name in names)


def _postfixes(postfix: dict[str, Any], root: str) -> Iterator[Waiting]:
    """Yield what waits in queues of Postfix that aren't the one which smtpout's has."""
    stock = postfix["queue_directory"]
    live = _parameters(_below(root, postfix["directory"], "main.cf"))
    directories = [postfix["directory"], *re.split(r"[\s,]+", live.get("multi_instance_directories", ""))]
    seen = {os.path.normpath(str(postfix.get("main", {}).get("queue_directory") or stock))}
    for directory in filter(None, directories):
        parameters = _parameters(_below(root, directory, "main.cf"))
        folder = os.path.normpath(parameters.get("queue_directory", stock))
        if folder not in seen:
            seen.add(folder)
            yield Waiting("Postfix", folder, queue.count(str(_below(root, folder))), f"postqueue -c {directory} -f")


def _parameters(main: Path) -> dict[str, str]:
    """Return the parameters of a main.cf (postconf(5)), those that a value names put in."""
    try:
        text = main.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = re.sub(r"^(?:\s*#.*|\s*)\n", "", f"{text}\n", flags=re.MULTILINE)
    pairs = (line.partition("=") for line in re.sub(r"\n\s+", " ", lines).splitlines())
    values = {name.strip(): value.strip() for name, mark, value in pairs if mark}
    return {name: _expanded(value, values) for name, value in values.items()}


def _expanded(value: str, values: dict[str, str], depth: int = 10) -> str:
    """Put in what a value names; what nobody defines, or a circle, stays as it is."""
    if "$" not in value or not depth:
        return value
    named = re.sub(r"\$(?:\{(\w+)\}|\((\w+)\)|(\w+))", lambda word: _named(word, values), value)
    return value if named == value else _expanded(named, values, depth - 1)


def _named(word: re.Match[str], values: dict[str, str]) -> str:
    return values.get(word[1] or word[2] or word[3], word[0])


def _below(root: str, *parts: str) -> Path:
    return Path(root, *(part.lstrip("/") for part in parts))
