"""Python packages besides Salt's own: a state of the same run may have installed them, so they are imported late."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType

from smtpout_core.errors import NotInstalledError

_ONE_BY_ONE = threading.Lock()  # two threads can't both have importlib forget what it has found


def imported(name: str, package: str) -> ModuleType:
    """Return a module of a package.

    :param name: the module's, as ``dns.resolver``.
    :param package: as the requirements call it, ``dnspython``.
    :raises NotInstalledError: it isn't there.
    """
    try:
        with _ONE_BY_ONE:
            # Without dnspython, who imports dns while Salt loads its utils gets Salt's own dns.py, and leaves it.
            if sys.modules.get("dns") and not hasattr(sys.modules["dns"], "__path__"):
                del sys.modules["dns"]
            importlib.invalidate_caches()
            return importlib.import_module(name)
    except ImportError:
        raise NotInstalledError(
            f"{package} is missing from Salt's Python ({sys.executable}); "
            "the state `Salt's Python has what the formula needs` installs it"
        ) from None
