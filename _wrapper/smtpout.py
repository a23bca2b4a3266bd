"""What salt-ssh asks on the master: SLS files are rendered there, and a function that runs on the host gets no pillar.

Salt loads this folder from the master's ``module_dirs``.
"""

from __future__ import annotations

from typing import Any

import salt.loader
from salt.exceptions import CommandExecutionError


def settings() -> dict[str, Any]:
    """Return a host's settings, made on the master of the host's pillar and grains.

    They are not asked of the host: the pillar would have to be an argument of a process there, which every user sees.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay1.site-a.example smtpout.settings

    The result is that of the execution function of the same name, secrets and all.
    """
    host = __opts__["id"]
    made = __context__.setdefault("smtpout.settings", {})
    if host not in made:
        here = {"id": host, "grains": __opts__["grains"], "pillar": dict(__pillar__), "file_client": "local"}
        opts = {**__opts__["__master_opts__"], **here}
        functions = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
        made[host] = functions["smtpout.settings"]()
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
