"""What salt-ssh asks on the master: SLS files are rendered there, and a function that runs on the host gets no pillar.

Salt loads this folder from the master's ``module_dirs``.
"""

from __future__ import annotations

import os
from typing import Any

import salt.loader
from salt.exceptions import CommandExecutionError


def settings(saltenv: str | None = None) -> dict[str, Any]:
    """Return a host's settings, made on the master of the host's pillar and grains.

    They are not asked of the host: the pillar would have to be an argument of a process there, which every user sees.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay1.site-a.example smtpout.settings

    The result is that of the execution function of the same name, secrets and all.

    saltenv
        As of that function.
    """
    return _functions()["smtpout.settings"](saltenv)


def other_code(saltenv: str | None = None) -> list[str]:
    """Return the modules and states that the master's own Salt has otherwise than they are served, or not at all.

    What the host has is asked there, by the state ``smtpout_code.current``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay1.site-a.example smtpout.other_code

    saltenv
        As of the execution function of the same name.
    """
    return _functions()["smtpout.other_code"](saltenv)


def _functions() -> Any:
    """Return the execution functions as they are on the master, for the host's pillar and grains; made once a run."""
    made = __context__.setdefault("smtpout.functions", {})
    host = __opts__["id"]
    if host not in made:
        here = {"id": host, "grains": __opts__["grains"], "pillar": dict(__pillar__), "file_client": "local"}
        here["smtpout_state_dir"] = os.devnull  # what the master itself remembers as a relay isn't the host's
        opts = {**__opts__["__master_opts__"], **here}
        made[host] = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
    return made[host]


def ask(function: str, *arguments: Any, **named: Any) -> Any:
    """Return what an execution function answers on the host, with the host's pillar at hand.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay1.site-a.example smtpout.ask opendkim.public_records

    function
        Its name, as ``smtpout.verify``.

    arguments, named
        What it is given.

    Raises CommandExecutionError with what the function has to say against it.
    """
    chunk = {
        "state": "module",
        "fun": "run",
        "__id__": "ask",
        "name": "ask",
        function: [*arguments, *({name: value} for name, value in named.items())],
    }
    try:
        answer = __salt__["state.low"](chunk, extra_filerefs="salt://smtpout")
    except CommandExecutionError as failed:  # 3008 raises where a function answers False, and keeps the answer
        answer = failed.parsed
    state = next(iter(answer["local"]["return"].values()))
    if function not in state["changes"]:
        raise CommandExecutionError(state["comment"])
    return state["changes"][function]
