"""Render a daemon's files as one set, compare it with the disk, have the daemon's own parser check it aside.

``config_set.managed`` is the state that applies such a set; ``config_swap`` puts it in place.
"""

from __future__ import annotations

import difflib
import grp
import os
import pwd
import re
import stat
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
import smtpout_core
from salt.exceptions import CommandExecutionError

smtpout_core.fresh()

from smtpout_core import folder

# What templates can write behind a bar: the last part of each name, called as this execution function.
FILTERS = ("config_text.native", "config_text.overridden", "config_text.master_cf")

FILE = {"user": "root", "group": "root", "secret": False, "activate": "reload", "context": {}}
# Of a map: what postmap.build takes besides the entries.
MAP_OPTIONS = ("mode", "user", "group", "program", "config_directory")
BREAK = re.compile(r"[\r\n\0]")
HIDDEN = "content changed (secret, not shown)"


def render(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Render the files of a set from the site's settings.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_set.render '[{name: /etc/x.conf, source: salt://smtpout/x.conf.jinja}]'

    :param files: each with ``name`` (where it goes) and ``source`` (a Jinja template, ``salt://...``), and, where they
        differ from these: ``mode`` ("0644", "0600" for a secret), ``user`` and ``group`` (root), ``secret`` (false: its
        content may be shown), ``activate`` (reload, or restart: what makes the daemon read it) and ``context`` (names
        for the template besides ``settings``).
    :return: the files, each with all of these and with its ``text``, secrets in it as they are.
    :raises CommandExecutionError: names the template and its line, for an undefined name too.
    """
    settings = _settings()
    environment, sources = _environment(settings)
    rendered = []
    for given in files:
        file = {**FILE, "mode": "0600" if given.get("secret") else "0644", **given}
        if unknown := file.keys() - FILE.keys() - {"name", "source", "mode"}:
            raise CommandExecutionError(f"{file['name']}: {', '.join(sorted(unknown))}: a file has no such setting.")
        _refuse_exposure(file)
        names = {**file["context"], "settings": settings}
        rendered.append({**file, "text": _text(environment, sources, file["source"], names)})
    return rendered


def tables(maps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fill in the entries of a set's maps from the site's settings.

    CLI Example:

    .. code-block:: bash

        salt-call --local config_set.tables '[{name: /etc/postfix/t, type: lmdb, entries: "postfix:maps:t:entries"}]'

    :param maps: each with ``name`` (its text), ``type``, ``entries`` (where they stand in the settings, parts separated
        by colons), ``secret`` (false: values may be shown), and what else ``postmap.build`` takes.
    :return: each with ``name``, ``type``, ``entries``, ``secret``, ``options`` (for ``postmap.build``), and its
        files as ``paths``.
    :raises CommandExecutionError: the settings have no such entries.
    """
    settings = _settings()
    filled = []
    for table in maps:
        entries: Any = settings
        for key in table["entries"].split(":"):
            if not isinstance(entries, dict) or key not in entries:
                raise CommandExecutionError(f"{table['name']}: the settings have no {table['entries']}.")
            entries = entries[key]
        secret = table.get("secret", False)
        options = {"mode": "0600" if secret else "0644", **{key: table[key] for key in MAP_OPTIONS if key in table}}
        _refuse_exposure({**table, **options})
        paths = __salt__["postmap.files"](table["name"], table["type"], program=options.get("program", "postmap"))
        filled.append({
            "name": table["name"], "type": table["type"], "entries": entries,
            "secret": secret, "options": options, "paths": paths,
        })  # fmt: skip
    return filled


def compare(files: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Tell in which files the disk differs from what was rendered, and how.

    CLI Example: none, since only ``config_set.managed`` has rendered files at hand.

    :param files: as ``render`` returns them.
    :return: by path, for differing files only: ``diff`` (a unified diff, or a note for a secret file), ``mode`` and
        ``owner`` ("old -> new").
    """
    return {file["name"]: change for file in files if (change := _difference(file))}


def complaints(
    files: list[dict[str, Any]],
    maps: list[dict[str, Any]],
    check: str,
    check_args: dict[str, Any] | None = None,
    test: bool = False,
) -> list[str]:
    """Let the daemon's own parser read a set aside, and return what it has against it.

    Every text goes to its path below a staging directory, with the paths of the set in it led there too; so the main.cf
    that is checked names the maps that are checked. Nothing of it is left afterwards.

    CLI Example: none, since only ``config_set.managed`` has a rendered set at hand.

    :param files: as ``render`` returns them.
    :param maps: as ``tables`` returns them.
    :param check: an execution function that returns a list of complaints, called with ``staged`` (staged path by live
        path) and ``check_args``.
    :param test: use the system's temporary directory, and touch nothing else.
    :raises CommandNotFoundError: the parser isn't installed.
    """
    parent, directory = None, ""
    try:
        if not test:
            parent = os.path.join(__salt__["config_swap.state_dir"](), "staging")
            os.makedirs(parent, mode=0o700, exist_ok=True)
        with folder.private(parent) as directory:
            staged = {entry["name"]: directory + entry["name"] for entry in [*files, *maps]}
            for path in staged.values():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            for file in files:
                _stage(file, staged)
            for table in maps:
                __salt__["postmap.build"](staged[table["name"]], table["type"], table["entries"], **table["options"])
            return [line.replace(directory, "") for line in __salt__[check](staged=staged, **(check_args or {}))]
    except OSError as error:
        raise CommandExecutionError(f"The new configuration can't be written aside: {error}") from error
    except CommandExecutionError as error:
        raise CommandExecutionError(str(error).replace(directory, "")) from error


def _stage(file: dict[str, Any], staged: dict[str, str]) -> None:
    """Write a file aside as it will be: its owner counts, and its age, since Postfix rereads one younger than 2 s."""
    path = staged[file["name"]]
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
        stream.write(_redirected(file["text"], staged))
        stream.flush()
        with suppress(KeyError, PermissionError):  # a user that doesn't exist yet; config_swap will say so
            os.fchown(stream.fileno(), pwd.getpwnam(file["user"]).pw_uid, grp.getgrnam(file["group"]).gr_gid)
        os.fchmod(stream.fileno(), int(file["mode"], 8))
        os.utime(stream.fileno(), (time.time() - 3,) * 2)


def map_differs(table: dict[str, Any]) -> bool:
    """Tell whether a map has other entries, another owner or another mode than it should, or can't be read.

    CLI Example: none, since only ``config_set.managed`` has the entries at hand.

    :param table: as ``tables`` returns it.
    :raises CommandNotFoundError: Postfix isn't installed.
    """
    how = {key: table["options"][key] for key in ("program", "config_directory") if key in table["options"]}
    text, looked_up = table["paths"][0], table["paths"][-1]
    preview = __salt__["postmap.preview"](table["name"], table["type"], table["entries"], **how)
    if compare([{**FILE, **table["options"], "name": text, "text": preview["text"]}]):
        return True
    try:
        one, other = os.stat(text), os.stat(looked_up)
        if (one.st_mode, one.st_uid, one.st_gid) != (other.st_mode, other.st_uid, other.st_gid):
            return True
        return __salt__["postmap.dump"](table["name"], table["type"], **how) != preview["contents"]
    except (CommandExecutionError, OSError):
        return True


def _settings() -> dict[str, Any]:
    settings = __salt__["smtpout.settings"]()
    if not settings.get("valid", True):
        raise CommandExecutionError("The pillar is not right:\n" + "\n".join(settings["errors"]))
    return settings


def _refuse_exposure(file: dict[str, Any]) -> None:
    """Refuse what would let every local user read a secret, and a mode that YAML has read as a number."""
    if not isinstance(file["mode"], str):
        raise CommandExecutionError(f"{file['name']}: mode {file['mode']}: write it in quotes, as '0644'.")
    if file.get("secret") and int(file["mode"], 8) & 0o007:
        raise CommandExecutionError(f"{file['name']}: mode {file['mode']}: other users could read its secrets.")


def _difference(file: dict[str, Any]) -> dict[str, str]:
    path, text = file["name"], file["text"]
    there = os.path.lexists(path)
    change = {}
    # A symbolic link is replaced, never followed: whoever may move it would choose what root writes to.
    try:
        old = Path(path).read_bytes().decode(errors="replace") if os.path.exists(path) else ""
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}") from error
    if not there or os.path.islink(path) or old != text:
        lines = difflib.unified_diff(old.splitlines(keepends=True), text.splitlines(keepends=True), path, path)
        change["diff"] = HIDDEN if file["secret"] else "".join(lines)
    if there and not os.path.islink(path):
        status = os.stat(path)
        mode, owner = f"{stat.S_IMODE(status.st_mode):04o}", _owner(status)
        wanted = f"{file['user']}:{file['group']}"
        if int(mode, 8) != int(file["mode"], 8):
            change["mode"] = f"{mode} -> {file['mode']}"
        if owner != wanted:
            change["owner"] = f"{owner} -> {wanted}"
    return change


def _owner(status: os.stat_result) -> str:
    """Name the owner and the group as a file lists them; one that has no name keeps its number."""
    names = [str(status.st_uid), str(status.st_gid)]
    with suppress(KeyError):
        names[0] = pwd.getpwuid(status.st_uid).pw_name
    with suppress(KeyError):
        names[1] = grp.getgrgid(status.st_gid).gr_name
    return ":".join(names)


def _environment(settings: dict[str, Any]) -> tuple[jinja2.Environment, dict[str, str]]:
    """Return the environment of the templates, made once for all sets, and where each file in its cache comes from."""
    known = __context__.get("config_set.environment")
    if known is None or known[0] is not settings:
        known = __context__["config_set.environment"] = (settings, *_made_environment(settings))
    return known[1:]


def _made_environment(settings: dict[str, Any]) -> tuple[jinja2.Environment, dict[str, str]]:
    sources: dict[str, str] = {}
    # A line break in a value would begin another option of the daemon: such a value is never printed, by whatever way.
    broken = {value: path for path, value in _strings(settings) if BREAK.search(value)}

    def load(source: str) -> tuple[str, str, Callable[[], bool]]:
        path = __salt__["cp.cache_file"](source)
        if not path:
            raise jinja2.TemplateNotFound(source)
        sources[path] = source
        return Path(path).read_text(encoding="utf-8"), path, lambda: True

    def finalize(printed: Any) -> Any:
        for value, path in broken.items():
            if isinstance(printed, str) and value in printed:
                raise ValueError(f"{path} holds a line break or a NUL; a line of a configuration can't.")
        return printed

    compiled = Path(__opts__["cachedir"], "smtpout")  # what the templates became, for the next run
    compiled.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        bytecode_cache=jinja2.FileSystemBytecodeCache(str(compiled)),
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({name.rpartition(".")[2]: __salt__[name] for name in FILTERS})
    return environment, sources


def _strings(node: Any, path: str = "smtpout") -> Iterator[tuple[str, str]]:
    """Return every string of the settings, after the pillar path it stands at."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, (dict, list, tuple)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _strings(child, f"{path}:{key}")


def _text(environment: jinja2.Environment, sources: dict[str, str], source: str, names: dict[str, Any]) -> str:
    """Render a template; say where in which template an error is."""
    try:
        return environment.get_template(source).render(names)
    except jinja2.TemplateNotFound as error:
        raise CommandExecutionError(f"{error.name}: there is no such template.") from error
    except Exception as error:  # a template can make Python raise anything
        at = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in sources]
        where, line = (sources[at[-1].filename], at[-1].lineno) if at else (source, getattr(error, "lineno", "?"))
        raise CommandExecutionError(f"{where}, line {line}: {error}") from error


def _redirected(text: str, staged: dict[str, str]) -> str:
    """Replace each path of the set by its staged one, wherever it stands as a whole."""
    # Whole: /etc/postfix/transport stands neither in /etc/postfix/transport_maps nor in /srv/etc/postfix/transport.
    names = "|".join(re.escape(path) for path in sorted(staged, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])(?:{names})(?![\w/-]|\.\w)", lambda match: staged[match[0]], text)
