"""Which code a host has, held against what the formula's server has: ``smtpout/code.sha256`` lists that.

SLS files and templates come with each apply, this package, modules and states by a sync, or packed by salt-ssh.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

HOME = Path(__file__).parent
LIST = "smtpout/code.sha256"


def other(module: str, served: str) -> list[str]:
    """Return the files that a host has otherwise than they are served, or not at all; by their names in the formula.

    SLS files of other releases call this, too: it keeps its name, and what it takes.

    :param module: any of the formula's own that Salt has loaded. What was synced lies in ``modules`` and ``states``,
        in a directory of ``module_dirs`` it is ``_modules`` and ``_states``.
    :param served: the list, as sha256sum(1) has it: a digest and a name a line.
    """
    folder = Path(module).parent
    tree, mark = folder.parent, "_" if folder.name.startswith("_") else ""
    if HOME.is_relative_to(tree) and (tree / LIST).is_file() and (tree / LIST).read_text(encoding="utf-8") == served:
        return []  # module_dirs has the formula that is served: whoever changes code there means it
    words = served.split()
    return [name for digest, name in zip(words[::2], words[1::2], strict=True) if _digest(tree, mark, name) != digest]


def _digest(tree: Path, mark: str, name: str) -> str | None:
    """Return the digest of a file of the formula on this host; None where it isn't there."""
    within = name.removeprefix(f"_utils/{HOME.name}/")
    path = HOME / within if within != name else tree / f"{mark}{name[1:]}"
    return _sha256(path) if path.is_file() else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
