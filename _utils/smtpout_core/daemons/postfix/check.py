"""Check a configuration of Postfix: by its parser, by what smtpd knows, by the host, and by a trial."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smtpout_core import command, listener
from smtpout_core.daemons.postfix import certificate, conf, listen, trial
from smtpout_core.errors import RelayError
from smtpout_core.host import Host

# Tables that are parsed when they are opened: a syntax error shows there and nowhere before.
PARSED_TABLES = re.compile(r"\b(?:cidr|pcre|regexp|texthash):/[^\s,}]+")

# Of milter_default_action (postconf(5)); smtpd looks at it when a milter doesn't answer, not before.
MILTER_ACTIONS = ("accept", "reject", "tempfail", "quarantine", "shutdown")

# A restriction of smtpd(8), as against a class of them, a table, or what comes with it.
RESTRICTION = re.compile(r"(?<![^\s,{])(?:check|defer|permit|reject|warn)_[a-z0-9_]+(?![^\s,}=])")

# What a trial has to know of a configuration; each has a parameter's name.
TRIAL = ("queue_directory", "data_directory", "daemon_directory", "mail_owner", "setgid_group")


def check(staged: Mapping[str, str], settings: dict[str, Any], host: Host) -> list[str]:
    """Return what Postfix has against a configuration that isn't live yet.

    :param staged: staged path by live path; main.cf and master.cf are among them.
    :param settings: the site's.
    :param host: in test mode, files that states before this one make aren't missed.
    :raises NotInstalledError: there is no Postfix.
    """
    postfix = settings["postfix"]
    made = [postfix["aliases"], *([postfix["certificate_chain"]] if postfix["self_made_certificate"] else [])]
    return complaints(staged, postfix["directory"], postfix["unit"], made if host.test else [])


def complaints(
    staged: Mapping[str, str], directory: str = "/etc/postfix", unit: str = "postfix", coming: Sequence[str] = ()
) -> list[str]:
    """Return what Postfix has against a configuration, its parser first, then each of its daemons.

    ``postconf`` exits with 0 on a misspelt parameter and only warns, so whatever it writes to stderr is a complaint.
    What values are worth shows when a Postfix is started with them aside (:mod:`.trial`).

    :param staged: staged path by live path; main.cf and master.cf are among them.
    :param directory: the live configuration directory.
    :param unit: the unit whose processes are the running Postfix: they may have the ports.
    :param coming: files that are about to be made: what is said against one that isn't there yet doesn't count.
    :raises NotInstalledError: there is no Postfix.
    """
    config = os.path.dirname(staged[os.path.join(directory, "main.cf")])
    said = []
    for view in (("-x", "-n"), ("-M",), ("-P",)):
        answer = conf.postconf(config, *view)
        said += answer.said.splitlines()
        if answer.status != 0 and not answer.said:
            said.append(f"postconf {view[-1]} exits with {answer.status}")
    for table in sorted(set(PARSED_TABLES.findall(conf.postconf(config, "-x").output))):
        said += command.run([command.which("postmap"), "-c", config, "-q", "smtpout", table]).said.splitlines()
    if not said:
        said = [*_faults(config, unit)]
    if not said:
        said = trial.complaints(dict(staged), directory, **conf.values(config, *TRIAL))
    missed = [path for path in coming if not os.path.exists(path)]
    return [line for line in dict.fromkeys(said) if not any(path in line for path in missed)]


def _faults(config: str, unit: str) -> Iterator[str]:
    """Yield what neither postconf nor a trial finds: of the host, and of times that are still to come."""
    parameters = conf.values(config, "milter_default_action", "smtpd_tls_chain_files", "daemon_directory")
    action, daemons = parameters["milter_default_action"], parameters["daemon_directory"]
    if action not in MILTER_ACTIONS:
        yield f"milter_default_action = {action}: must be one of {', '.join(MILTER_ACTIONS)}"
    yield from _expired(parameters["smtpd_tls_chain_files"])
    yield from _unknown_restrictions(config, os.path.join(daemons, "smtpd"))
    for service in conf.services(config):
        if not os.access(os.path.join(daemons, service.program), os.X_OK):
            yield f"master.cf: {service}: {daemons} has no program {service.program}"
        if service.type == "inet":
            try:
                address, port = listen.where(service.name)
            except OSError:
                yield f"master.cf: {service}: /etc/services has no such name"
            else:
                if taken := listener.conflict(port, address, [unit]):
                    yield f"master.cf: {service}: port {port} is taken by {taken}"


def _expired(files: str) -> Iterator[str]:
    """Yield what is wrong with certificates that are there."""
    for path in re.split(r"[\s,]+", files):
        if path and os.path.exists(path):
            try:
                end = certificate.info(path)
            except RelayError as error:
                yield f"smtpd_tls_chain_files: {error}"
            else:
                if end["days_left"] < 0:
                    yield f"smtpd_tls_chain_files: the certificate in {path} ended on {end['not_after']}"


def _unknown_restrictions(config: str, smtpd: str) -> Iterator[str]:
    """Yield the restrictions that smtpd doesn't know: with one of them it starts, and answers 451 to every client.

    Which ones it knows depends on its version; the program itself holds their names.
    """
    try:
        with open(smtpd, "rb") as file:
            program = file.read()
    except OSError:
        return
    for view in ("-x", "-P"):
        for line in conf.postconf(config, view).output.splitlines():
            parameter, _, value = line.partition("=")
            if parameter.strip().endswith("_restrictions"):
                for word in RESTRICTION.findall(value):
                    if f"{word}\0".encode() not in program:
                        yield f"{parameter.strip()}: smtpd has no restriction {word}"
