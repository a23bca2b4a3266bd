"""The files of Postfix lookup tables, without Postfix.

What ``postmap`` (the module) writes into the text of a table, and what can be read without Postfix. Complaints found
here name the key instead of a line in a text that is still to be written, come before Postfix is installed, and keep
malformed lines, passwords and all, out of the log of Postfix's own postmap.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smtpout_core.errors import RelayError

HEADER = "# Managed by Salt (postmap.built): what is edited here gets lost.\n"
# Tables with an index, and the suffix of its file (DATABASE_README); the others Postfix reads from the text itself.
INDEXED = {"hash": ".db", "btree": ".db", "lmdb": ".lmdb", "cdb": ".cdb"}
SEPARATOR = {"postmap": "\t", "postalias": ": "}
SPACE = " \t\n\v\f\r"  # isspace() of the C locale; a bare str.strip() would take Unicode's spaces as well

# How Postfix splits a line into key and value: postmap.c (with quotes since 3.2), dict_regexp.c, postalias.c.
FLAGS = re.ASCII | re.DOTALL
WORD = re.compile(r'(?P<key>(?:\\.|"(?:\\.|[^"\\])*"|[^\s"\\])+)(?:\s+(?P<value>.*))?', FLAGS)
PATTERN = re.compile(
    r"(?P<key>!?(?P<mark>[^\s\w\\#!])(?:\\.|(?!(?P=mark)).)*(?P=mark)[a-zA-Z]*)(?:\s+(?P<value>.*))?", FLAGS
)
ALIAS = re.compile(r'(?P<key>(?:\\.|"(?:\\.|[^"\\])*"|[^":\\])+):\s*(?P<value>.*)', FLAGS)
FLOW = re.compile(r"if\s+\S.*|endif", FLAGS | re.IGNORECASE)  # regexp_table(5), pcre_table(5), cidr_table(5)
ALIAS_KEY = re.compile(r'[^\s:;,@%()<>\[\]"\\#][^\s:;,@%()<>\[\]"\\]*', FLAGS)
UNHELD = re.compile("[\n\0]")
NO_UTF8 = re.compile("[\ud800-\udfff]")

PATTERNS = ("pcre", "regexp")
RULES = ("cidr", *PATTERNS)  # tried one after the other, so that nothing is a duplicate


def is_flow(line: str) -> bool:
    """Tell whether a line of a table of rules begins a block of them, or ends it."""
    return FLOW.fullmatch(line.strip(SPACE)) is not None


def render(entries: Mapping[str, Any] | Sequence[Sequence[Any]], type: str, program: str = "postmap") -> dict[str, Any]:
    """Return the ``text`` of a table and the ``complaints`` about its entries, which never show a value.

    :param entries: a dict, or a list of [key, value] pairs, in the order of the text
    :param type: the type of the table, such as ``lmdb``
    :param program: ``postmap``, or ``postalias`` for aliases
    """
    pairs = _pairs(entries)
    complaints = [complaint for pair in pairs for complaint in _entry_complaints(pair, type, program)]
    complaints += _blocks([str(pair[0]) for pair in pairs]) if type in RULES and not complaints else []
    if complaints:
        return {"text": "", "complaints": complaints}
    return {"text": text(pairs, program), "complaints": _duplicates([str(key) for key, _ in pairs], type)}


def text(entries: Mapping[str, Any] | Sequence[Sequence[Any]], program: str = "postmap") -> str:
    """Return the text of a table whose entries can be held.

    :param entries: as in ``render``
    :param program: likewise.
    """
    lines = (f"{key}{SEPARATOR[program]}{value}" if value != "" else str(key) for key, value in _pairs(entries))
    return HEADER + "".join(f"{line}\n" for line in lines)


def parse(text: str, type: str, program: str = "postmap") -> dict[str, Any]:
    """Return the ``entries`` of a text as (key, value) pairs and the ``complaints`` about it, which never show a value.

    :param text: the content of the text file
    :param type: as in ``render``
    :param program: likewise.
    """
    pairs, complaints = [], []
    for number, line in _logical_lines(text):
        match = _split(line, type, program)
        if type in RULES and is_flow(line):
            pairs.append((line.strip(SPACE), ""))
        elif match and match["value"]:
            pairs.append((match["key"].strip(SPACE), match["value"].strip(SPACE)))
        elif type not in PATTERNS:  # which have if and endif: postmap tells what is wrong there
            complaints.append(f"line {number}: not a key and a value")
    return {"entries": pairs, "complaints": complaints + _duplicates([key for key, _ in pairs], type)}


def files(path: str, type: str) -> list[str]:
    """Return the paths of a table's files: the text and, where there is one, the database, which is what gets read.

    :param path: the text of the table.
    :param type: such as ``lmdb`` or ``cidr``.
    """
    return [path, path + INDEXED[type]] if type in INDEXED else [path]


def read_cdb(path: str) -> list[tuple[str, str]]:
    """Return the (key, value) pairs of a constant database, which postmap lists only from Postfix 3.10 on.

    It begins with the places and sizes of 256 hash tables; these follow the records, which start at byte 2048
    (https://cr.yp.to/cdb/cdb.txt).

    :param path: the database
    :raises RelayError: it is missing, truncated or something else.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
        header = struct.unpack_from("<512I", data)
        tables = [(place, slots) for place, slots in zip(header[::2], header[1::2], strict=True) if slots]
        if any(place + 8 * slots > len(data) for place, slots in tables):
            raise struct.error("it ends within its hash tables")
        end = min((place for place, _ in tables), default=2048)
        pairs, at = [], 2048
        while at < end:
            middle = at + 8 + struct.unpack_from("<I", data, at)[0]
            after = middle + struct.unpack_from("<I", data, at + 4)[0]
            key, value = (field.removesuffix(b"\0") for field in (data[at + 8 : middle], data[middle:after]))
            pairs.append((key.decode(errors="backslashreplace"), value.decode(errors="backslashreplace")))
            at = after
    except (OSError, struct.error) as error:
        raise RelayError(f"{path} can't be read as a constant database: {error}") from error
    return pairs


def _pairs(entries: Mapping[str, Any] | Sequence[Sequence[Any]]) -> list[Any]:
    return list(entries.items()) if isinstance(entries, Mapping) else list(entries)


def _entry_complaints(pair: Any, type: str, program: str) -> Iterator[str]:
    """Yield why a table can't hold an entry."""
    if isinstance(pair, (str, Mapping)) or len(pair) != 2:
        yield "entries have to be a dict or a list of [key, value] pairs, if and endif among them in tables of rules"
        return
    for what, item in zip(("key", "value"), pair, strict=True):
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            # YAML makes a boolean of yes, a number of 10.10
            hint = "missing" if item is None else "no text, put it in quotes"
            yield f"key {pair[0]!r}: the {what} is {hint}"
            return
    key, value = map(str, pair)
    if not (type in RULES and not value and is_flow(key) and not UNHELD.search(key)):
        yield from _text_complaints(key, value, type, program)


def _text_complaints(key: str, value: str, type: str, program: str) -> Iterator[str]:
    if not key or not value:
        yield f"key {key!r}: the {'value' if key else 'key'} is missing"
    elif UNHELD.search(key + value) or "\t" in key:
        yield f"key {key!r}: a newline, a NUL or, in the key, a tab can't be held"
    elif value != value.strip(SPACE):
        yield f"key {key!r}: whitespace around the value would get lost"
    elif NO_UTF8.search(key + value):
        yield f"key {key!r}: not UTF-8"
    elif program == "postalias":
        if not ALIAS_KEY.fullmatch(key):
            yield f"key {key!r}: an alias is a bare local name, without domain, quotes or whitespace"
    else:
        match = None if key[0] == "#" else _split(f"{key}\t{value}", type, program)
        if not match or match.group("key", "value") != (key, value):
            form = "/pattern/flags" if type in PATTERNS else 'one word, or quoted as in "a b"@example.org'
            yield f"key {key!r}: not the form of a {type} key, which is {form}"
        elif key.endswith(":") and type not in RULES:
            yield f"key {key!r}: ends with a colon, as only an alias does"


def _blocks(keys: list[str]) -> Iterator[str]:
    """Yield where a block of rules has no beginning, or no end: Postfix warns of it once, and then knows no rule."""
    depth = 0
    for key in filter(is_flow, keys):
        depth += -1 if key.strip(SPACE).lower() == "endif" else 1
        if depth < 0:
            yield f"key {key!r}: there is no if before it"
            return
    if depth:
        yield f"{depth} if without an endif"


def _split(line: str, type: str, program: str) -> re.Match[str] | None:
    form = ALIAS if program == "postalias" else PATTERN if type in PATTERNS else WORD
    return form.fullmatch(line)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each logical line: comments left out, continuations joined (readlline.c)."""
    number, logical = 0, ""
    for at, line in enumerate(text.split("\n"), start=1):
        if not line.strip(SPACE) or line.lstrip(SPACE).startswith("#"):
            continue
        if line[0] not in SPACE and logical:
            yield number, logical
            logical = ""
        number = number if logical else at
        logical += line
    if logical:
        yield number, logical


def _duplicates(keys: list[str], type: str) -> list[str]:
    """Return complaints about keys that are one to Postfix."""
    if type in RULES:
        return []
    first: dict[bytes, str] = {}
    complaints = []
    for key in keys:
        folded = key.encode().lower()  # ASCII only: beyond it depends on smtputf8_enable, which postmap knows
        if folded in first:
            complaints.append(f"key {key!r}: the same as {first[folded]!r}, since case doesn't count")
        first.setdefault(folded, key)
    return complaints
