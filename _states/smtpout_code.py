"""The code that a host has is the one whose SLS files are applied to it.

Apart from the other states, and importing nothing that an old package may lack: this one has to run where those can't
even be loaded.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import smtpout_core

smtpout_core.fresh()


def current(
    name: str,
    formula: str = "salt://smtpout",  # noqa: ARG001 - for salt-ssh, which brings what it finds there
    environment: str | None = None,
) -> dict[str, Any]:
    """Succeed where this package, modules and states are those that are served; otherwise say what brings them.

    It is for salt-ssh, which packs the package once and keeps that. Elsewhere SLS files are rendered on the host, where
    ``smtpout.other_code`` is asked first of all.

    .. code-block:: yaml

        The host has the code that is served:
          smtpout_code.current

    :param name: the state's sentence.
    :param formula: where the formula is.
    :param environment: the environment that the SLS files come from.
    """
    other = _other(environment)
    if not other:
        return {"name": name, "result": True, "changes": {}, "comment": "The code is the one that is served."}
    said = (
        f"This host has other code of smtpout than is served ({other[0]}; {len(other)} in all): salt-ssh keeps what it "
        "has packed, so add --regen-thin once and apply again (README.md)."
    )
    return {"name": name, "result": False, "changes": {}, "comment": said}


def _other(environment: str | None) -> list[str]:
    """Return what differs; a package that can't even tell is an old one."""
    try:
        code = importlib.import_module("smtpout_core.code")
    except ImportError:
        return ["_utils/smtpout_core/code.py"]
    served = __salt__["cp.cache_file"](f"salt://{code.LIST}", environment or "base")
    differing: list[str] = code.other(__file__, Path(served).read_text(encoding="utf-8"))
    return differing
