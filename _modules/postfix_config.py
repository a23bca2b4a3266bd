"""What is asked of Postfix: whether a configuration is right, whether the relay serves, what waits in its queue.

Not called ``postfix``: Salt 3006 and 3007 have a module of that name.
"""

from __future__ import annotations

import json
import os
import re
import smtplib
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import salt.utils.path
from salt.exceptions import CommandExecutionError, CommandNotFoundError

# Tables that are parsed when they are opened: a syntax error shows there and nowhere before.
PARSED_TABLES = re.compile(r"\b(?:cidr|pcre|regexp|texthash):/[^\s,}]+")

# Of milter_default_action (postconf(5)); smtpd looks at it when a milter doesn't answer, not before.
MILTER_ACTIONS = ("accept", "reject", "tempfail", "quarantine", "shutdown")

# A restriction of smtpd(8), as against a class of them, a table, or what comes with it.
RESTRICTION = re.compile(r"(?<![^\s,{])(?:check|defer|permit|reject|warn)_[a-z0-9_]+(?![^\s,}=])")

# What a trial has to know of a configuration; each has a parameter's name.
TRIAL = ("queue_directory", "data_directory", "daemon_directory", "mail_owner", "setgid_group")


def check(
    staged: dict[str, str],
    directory: str = "/etc/postfix",
    unit: str = "postfix",
    made_before: list[str] | None = None,
) -> list[str]:
    """Return what Postfix has against a configuration, its parser first, then each of its daemons.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.check '{/etc/postfix/main.cf: /etc/postfix/main.cf}'

    ``postconf`` exits with 0 on a misspelt parameter and only warns, so whatever it writes to stderr is a complaint.
    What values are worth shows when a Postfix is started with them aside (``postfix_trial``).

    :param staged: staged path by live path; main.cf and master.cf are among them.
    :param directory: the live configuration directory.
    :param unit: the unit whose processes are the running Postfix: they may have the ports.
    :param made_before: files that states before this one make. In test mode what is said against one that isn't there
        yet doesn't count.
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
    if not complaints:
        complaints = [*_faults(postconf, config, staged[os.path.join(directory, "master.cf")], unit)]
    if not complaints:
        places = {name: _parameter(postconf, config, name) for name in TRIAL}
        complaints = __salt__["postfix_trial.complaints"](staged, directory, **places)
    coming = [path for path in made_before or [] if __opts__["test"] and not os.path.exists(path)]
    return [line for line in dict.fromkeys(complaints) if not any(path in line for path in coming)]


def _faults(postconf: str, config: str, master: str, unit: str) -> Iterator[str]:
    """Yield what neither postconf nor a trial finds: of the host, and of times that are still to come."""
    action = _parameter(postconf, config, "milter_default_action")
    if action not in MILTER_ACTIONS:
        yield f"milter_default_action = {action}: must be one of {', '.join(MILTER_ACTIONS)}"
    for path in re.split(r"[\s,]+", _parameter(postconf, config, "smtpd_tls_chain_files")):
        if path and os.path.exists(path):
            try:
                end = __salt__["certificate.info"](path)
            except CommandExecutionError as error:
                yield f"smtpd_tls_chain_files: {error}"
            else:
                if end["days_left"] < 0:
                    yield f"smtpd_tls_chain_files: the certificate in {path} ended on {end['not_after']}"
    daemons = _parameter(postconf, config, "daemon_directory")
    yield from _unknown_restrictions(postconf, config, os.path.join(daemons, "smtpd"))
    for name, kind, command in _services(master):
        if not os.access(os.path.join(daemons, command), os.X_OK):
            yield f"master.cf: {name}/{kind}: {daemons} has no program {command}"
        if kind == "inet":
            address, port = _endpoint(name)
            if port is None:
                yield f"master.cf: {name}/inet: /etc/services has no such name"
            elif taken := __salt__["listener.conflict"](port, address, [unit]):
                yield f"master.cf: {name}/inet: port {port} is taken by {taken}"


def _unknown_restrictions(postconf: str, config: str, smtpd: str) -> Iterator[str]:
    """Yield the restrictions that smtpd doesn't know: with one of them it starts, and answers 451 to every client.

    Which ones it knows depends on its version; the program itself holds their names.
    """
    try:
        with open(smtpd, "rb") as file:
            program = file.read()
    except OSError:
        return
    for view in ("-x", "-P"):
        for line in _run([postconf, "-c", config, view])["stdout"].splitlines():
            parameter, _, value = line.partition("=")
            if parameter.strip().endswith("_restrictions"):
                for word in RESTRICTION.findall(value):
                    if f"{word}\0".encode() not in program:
                        yield f"{parameter.strip()}: smtpd has no restriction {word}"


def _services(master: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and command of each service of a master.cf (master(5))."""
    with open(master, encoding="utf-8") as file:
        for line in file:
            columns = line.split()
            if not line[0].isspace() and not line.startswith("#") and len(columns) >= 8:
                yield columns[0], columns[1], columns[7]


def _endpoint(name: str) -> tuple[str, int | None]:
    """Return address (empty for all) and port of an inet service's name, which is ``[host:]port``."""
    host, _, service = name.rpartition(":")
    try:
        port: int | None = int(service) if service.isdigit() else socket.getservbyname(service, "tcp")
        address = socket.getaddrinfo(host.strip("[]"), port)[0][4][0] if host else ""
    except OSError:
        return "", None
    return str(address), port


def _parameter(postconf: str, config: str, name: str) -> str:
    """Return a parameter of a configuration, expanded."""
    return _run([postconf, "-c", config, "-x", "-h", name])["stdout"].strip()


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


def deferred() -> dict[str, int]:
    """Return why recipients wait for another try, and how many for each reason.

    CLI Example:

    .. code-block:: bash

        salt-call --local postfix_config.deferred
    """
    # One JSON object a message (postqueue(1)). With Postfix stopped it reads the queue itself.
    listing = _run([_command("postqueue"), "-j"])["stdout"].splitlines()
    messages = [json.loads(line) for line in listing if line.startswith("{")]
    waiting = [recipient for message in messages for recipient in message["recipients"]]
    return dict(Counter(each["delay_reason"] for each in waiting if "delay_reason" in each))


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
