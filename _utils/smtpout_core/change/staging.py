"""All parts of all daemons made aside, where the daemons' own parsers read them before anything is touched.

What was checked is what goes live: the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from smtpout_core import files, folder
from smtpout_core.change.parts import Content, Part
from smtpout_core.errors import NotInstalledError, RelayError
from smtpout_core.host import Host


def swept(host: Host) -> None:
    """Remove what killed runs have left aside."""
    folder.sweep(_parent(host))


def _parent(host: Host) -> str:
    return os.path.join(host.state_dir, "staging")


class Stage(NamedTuple):
    """Where the parts lie aside, and what they hold.

    :param place: the folder that they lie below, each at its own path.
    :param where: the path aside of each file, by its own path.
    :param contents: what is to go live, by path.
    :param unmade: why parts could not be made, and which; in test mode alone, where a state before this one brings what
        makes them.
    """

    place: str
    where: dict[str, str]
    contents: dict[str, Content]
    unmade: dict[str, list[str]]

    def without_place(self, line: str) -> str:
        """Return a parser's words with the files named by the paths that they will have."""
        return line.replace(self.place, "")


@contextmanager
def staged(parts: Sequence[Part], host: Host) -> Iterator[Stage]:
    """Give the parts made aside; in test mode in the system's temporary directory, for nothing else may be touched.

    :raises RelayError: a part can't be made, or written aside.
    :raises NotInstalledError: what makes a part isn't there.
    """
    parent = None if host.test else _parent(host)
    if parent:
        with _told():
            os.makedirs(parent, mode=0o700, exist_ok=True)
    with folder.private(parent) as place:
        made: dict[Part, dict[str, Content]] = {}
        unmade: dict[str, list[str]] = {}
        for number, part in enumerate(parts):
            workshop = os.path.join(place, f".made-{number}")
            os.mkdir(workshop, 0o700)
            try:
                made[part] = part.contents(workshop)
            except NotInstalledError as error:
                if not host.test:
                    raise
                unmade.setdefault(str(error), []).append(part.path)
            except RelayError as error:
                raise RelayError(str(error).replace(workshop, "").replace(place, "")) from error
        where = {path: place + path for contents in made.values() for path in contents}
        with _told():
            for path in dict.fromkeys(path for part in parts for path in part.made_from if os.path.isfile(path)):
                where.setdefault(path, place + path)
                _put(where[path], Content(Path(path).read_bytes(), 0o644))
            for part, contents in made.items():
                for path, content in part.staged(contents, lambda data: redirected(data, where)).items():
                    _put(where[path], content)
        contents = {path: content for of_one in made.values() for path, content in of_one.items()}
        yield Stage(place, where, contents, unmade)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RelayError(f"The new configuration can't be written aside: {error}") from error


def _put(path: str, content: Content) -> None:
    """Write a file aside as it will be: its owner counts, and its age, since Postfix rereads one younger than 2 s."""
    for parent in reversed(files.missing_parents(path)):
        parent.mkdir()
        parent.chmod(0o755)  # whatever the umask: the daemons' users pass through
    Path(path).write_bytes(b"")
    os.chmod(path, 0o600)
    Path(path).write_bytes(content.data)
    with suppress(RelayError, PermissionError):  # a user that doesn't exist yet; the swap will say so
        os.chown(path, *files.ids(content.user, content.group))
    os.chmod(path, content.mode)
    settled = os.stat(path).st_mtime - files.SETTLED
    os.utime(path, (settled, settled))


def redirected(data: bytes, where: Mapping[str, str]) -> bytes:
    """Replace each path by its place aside, wherever it stands as a whole."""
    # Whole: /etc/postfix/transport stands neither in /etc/postfix/transport_maps nor in /srv/etc/postfix/transport.
    names = "|".join(re.escape(path) for path in sorted(where, key=len, reverse=True))
    found = re.compile(rf"(?<![\w./-])(?:{names})(?![\w/-]|\.\w)".encode())
    return found.sub(lambda match: os.fsencode(where[os.fsdecode(match[0])]), data)
