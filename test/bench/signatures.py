"""signatures.py FOLDER: signatures for ClamAV, made up, as many and of the kinds that the official databases have.

main and daily hold some 8.7 million: all but a few hundred thousand are hashes of files or of a program's sections.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

HASHES = 5_000_000  # MD5 of files
SECTIONS = 3_300_000  # MD5 of programs' sections
BODIES = 100_000
LOGICAL = 100_000
# Which kind of file a body is looked for in, in a thousand: nearly all in programs (1), some in documents (2), HTML (3)
# and ELF (6), few in anything (0) and in mail (4); every message pays for those two, as for a body of its own.
TARGETS = [1] * 930 + [2] * 30 + [3] * 15 + [6] * 10 + [0] * 10 + [4] * 5
CHUNK = 50_000


def hashes(count: int, name: str, form: str, source: random.Random) -> Iterator[str]:
    """Return lines of an .hdb (hash:size:name) or .mdb (size:hash:name) file."""
    for first in range(0, count, CHUNK):
        digits = source.randbytes(16 * CHUNK).hex()
        yield "".join(
            form.format(hash=digits[32 * place : 32 * place + 32], size=1024 + (first + place) % 900_000)
            + f":{name}-{first + place}\n"
            for place in range(min(CHUNK, count - first))
        )


def bodies(count: int, source: random.Random) -> Iterator[str]:
    """Return lines of an .ndb file: name:target:offset:body."""
    for number in range(count):
        yield f"Bench.Body-{number}:{source.choice(TARGETS)}:*:{source.randbytes(source.randint(12, 60)).hex()}\n"


def logical(count: int, source: random.Random) -> Iterator[str]:
    """Return lines of an .ldb file: name;target;expression;body;body."""
    for number in range(count):
        first, second = (source.randbytes(source.randint(10, 24)).hex() for _ in range(2))
        yield f"Bench.Logical-{number};Engine:51-255,Target:{source.choice(TARGETS)};0&1;{first};{second}\n"


def write(folder: Path) -> None:
    """Write the databases, the same ones each time."""
    source = random.Random(1)  # noqa: S311 - nothing secret
    for name, lines in {
        "bench.hdb": hashes(HASHES, "Bench.File", "{hash}:{size}", source),
        "bench.mdb": hashes(SECTIONS, "Bench.Section", "{size}:{hash}", source),
        "bench.ndb": bodies(BODIES, source),
        "bench.ldb": logical(LOGICAL, source),
    }.items():
        with open(folder / name, "w", encoding="ascii") as database:
            database.writelines(lines)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
