"""What is asked of Postfix: whether a configuration is right, whether the relay serves, what waits in its queue.

Not called ``postfix``: Salt 3006 and 3007 have a module of that name.
"""

from __future__ import annotations

import os
import re
import smtplib
from typing import Any

import salt.utils.path
from salt.exceptions import CommandExecutionError, CommandNotFoundError

# Tables that are parsed when they are opened: a syntax error shows there and nowhere before.
PARSED_TABLES = re.compile(r"\b(?:cidr|pcre|regexp|texthash):/[^\s,}]+")


def check(staged: dict[str, str], directory: str = "/etc/postfix") -> list[str]:
    """Return what Postfix's own parser says against a configuration; an empty list when nothing.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.check '{/etc/postfix/main.cf: /etc/postfix/main.cf}'

    ``postconf`` exits with 0 on a misspelt parameter and only warns, so whatever it writes to stderr is a complaint.

    :param staged: staged path by live path; main.cf and master.cf are among them.
    :param directory: the live configuration directory.
    :raises CommandNotFoundError: Postfix isn't installed.
    """
    postconf = _command("postconf")
    config = os.path.dirname(staged[os.path.join(directory, "main.cf")])
    complaints = []
    for view in ("-n", "-M", "-P"):
        answer = _run([postconf, "-c", config, "-x", view] if view == "-n" else [postconf, "-c", config, view])
        complaints += answer["stderr"].splitlines()
        if answer["retcode"] != 0 and not answer["stderr"]:
            complaints.append(f"postconf {view} exits with {answer['retcode']}")
    for table in sorted(set(PARSED_TABLES.findall(_run([postconf, "-c", config, "-x"])["stdout"]))):
        complaints += _run([_command("postmap"), "-c", config, "-q", "smtpout", table])["stderr"].splitlines()
    return list(dict.fromkeys(complaints))


def probe(address: str = "127.0.0.1", port: int = 25, timeout: float = 10) -> dict[str, Any]:
    """Return what the relay answers to a client: its greeting and what it offers.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.probe

    :param address: where to connect.
    :param port: the TCP port.
    :param timeout: seconds to wait for each answer.
    :return: ``{"greeting": "host ESMTP ...", "offers": {"starttls": "", "auth": "PLAIN LOGIN", ...}}``
    :raises CommandExecutionError: nobody listens, or the answer isn't a greeting (RFC 5321, 3.1).
    """
    try:
        with smtplib.SMTP(timeout=timeout) as client:
            code, greeting = client.connect(address, port)
            if code != 220:
                raise CommandExecutionError(f"{address}:{port} greets with {code} {greeting.decode(errors='replace')}")
            client.ehlo()
            return {"greeting": greeting.decode(errors="replace"), "offers": dict(client.esmtp_features)}
    except (OSError, smtplib.SMTPException) as error:
        raise CommandExecutionError(f"{address}:{port} does not answer as a mail server: {error}") from error


def values(*names: str) -> dict[str, str]:
    """Return main.cf parameters as Postfix itself reads them, expanded.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.values relay_domains smtpd_milters
    """
    answer = _run([_command("postconf"), "-x", *names])
    pairs = (line.partition(" = ") for line in answer["stdout"].splitlines())
    return {name.removesuffix(" ="): value for name, _, value in pairs}


def queue_length() -> int:
    """Return how many messages wait in the queue; 0 where Postfix isn't installed.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.queue_length
    """
    spool = _spool()
    if spool is None:
        return 0
    queues = (os.path.join(spool, queue) for queue in ("maildrop", "hold", "incoming", "active", "deferred"))
    return sum(len(files) for queue in queues for _, _, files in os.walk(queue))


def delete_queue() -> None:
    """Delete every message of the queue.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.delete_queue

    :raises CommandExecutionError: postsuper refused.
    """
    answer = _run([_command("postsuper"), "-d", "ALL"])
    if answer["retcode"] != 0:
        raise CommandExecutionError(f"postsuper: {answer['stderr']}")


def _spool() -> str | None:
    """Return the queue directory, or ``None`` where Postfix isn't installed."""
    if not salt.utils.path.which("postconf"):
        return None
    return _run([_command("postconf"), "-h", "queue_directory"])["stdout"]


def _command(name: str) -> str:
    """Return the path of one of Postfix's commands."""
    path = salt.utils.path.which(name)
    if not path:
        raise CommandNotFoundError(f"{name} is not installed")
    return path


def _run(command: list[str]) -> dict[str, Any]:
    """Run a command of Postfix and return what it said."""
    return __salt__["cmd.run_all"](command, python_shell=False, ignore_retcode=True)
