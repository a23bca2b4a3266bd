"""What smtpout thinks with: the rooms behind its execution modules, states and runners.

A plain package: nothing of Salt is imported and no dunder is read in it. What a host gives (grains, options, a way to
the formula's files) comes in as an argument, a :class:`smtpout_core.host.Host`, so that a timer with the distribution's
own Python can use it as well. Its floors, from the ground; each imports from those below it only:

    errors, files, folder, command, packages, sockets, listener, host, code
    site                            from the pillar to the settings; pure, asks no host
    change                          the transaction; knows no mail
    directory, guard                the directory; firewall and SELinux
    daemons                         one description a daemon; what is asked of it
    promises                        what a trial of the chain is asked
    verify                          what the running relay is asked, by an apply and by the watch

Salt finds it beside its own ``utils``: the loader has that folder on the path while it loads a file. So a module or a
state imports it at its top, after :func:`fresh`.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOME = Path(__file__).parent


def fresh() -> None:
    """Forget this package where its files have changed since they were imported, or it is now found elsewhere.

    A minion that runs its jobs in one process (``multiprocessing: false``), or whose beacon has imported the package,
    would go on with the old code after an update for ever. All of it goes, or one part would hold on to another's old
    self. What is imported next is the new one::

        import smtpout_core

        smtpout_core.fresh()

        from smtpout_core.daemons import milter
    """
    if _found() != HOME or _stamps() != _STAMPS:
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{__name__}.")]:
            del sys.modules[name]


def _found() -> Path:
    """Return where an import would find the package now."""
    homes = (Path(entry or ".", __name__) for entry in sys.path)
    return next((home for home in homes if (home / "__init__.py").is_file()), HOME)


def _stamps() -> dict[str, tuple[int, int]]:
    """Return time and size of each file."""
    files = ((path, path.stat()) for path in HOME.rglob("*.py"))
    return {str(path): (status.st_mtime_ns, status.st_size) for path, status in files}


_STAMPS = _stamps()
