"""Programs of the formula's own that the distribution's Python runs: the parts of this package that they need, packed.

They need nothing of Salt, neither its Python nor its cache.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import smtpout_core

MAIN = "import sys\n\nfrom {0} import main\n\nsys.exit(main())\n"
OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time that each file in a program has: the same code is the same file."""


def archive(module: str, rooms: Sequence[str] = ("**/*.py",)) -> bytes:
    """Return a program (zipapp) that runs a module's ``main``.

    :param module: its full name.
    :param rooms: the files of this package that it needs besides the package's own, as patterns.
    """
    home = smtpout_core.HOME
    paths = {home / "__init__.py", *(path for room in rooms for path in home.glob(room))}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as program:
        program.writestr(zipfile.ZipInfo("__main__.py", OLDEST), MAIN.format(module))
        for path in sorted(paths):
            name = Path(home.name, path.relative_to(home)).as_posix()
            program.writestr(zipfile.ZipInfo(name, OLDEST), path.read_bytes())
    return made.getvalue()
