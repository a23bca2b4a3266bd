"""Check a configuration of Postfix: by its parser, by what smtpd knows, by the host, and by a trial."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
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


def check(staged: Mapping[str, str], settings: dict[str, Any], host: Host) -> Iterator[str]:
    """Yield what Postfix has against a configuration that isn't live yet.

    :param staged: staged path by live path; main.cf and master.cf are among them.
    :param settings: the site's.
    :param host: in test mode the site's certificate is looked at before Postfix is there, too.
    :raises NotInstalledError: there is no Postfix.
    """
    postfix = settings["postfix"]
    if host.test and "chain_file" in settings["tls"] and not shutil.which("postconf"):
        yield from certificate.faults(postfix["certificate_chain"])
    yield from complaints(staged, postfix["directory"], postfix["unit"])


def complaints(staged: Mapping[str, str], directory: str = "/etc/postfix", unit: str = "postfix") -> list[str]:
    """Return what Postfix has against a configuration, its parser first, then each of its daemons.

    ``postconf`` exits with 0 on a misspelt parameter and only warns, so whatever it writes to stderr is a complaint.
    What values are worth shows when a Postfix is started with them aside (:mod:`.trial`).

    :param staged: staged path by live path; main.cf and master.cf are among them.
    :param directory: the live configuration directory.
    :param unit: the unit whose processes are the running Postfix: they may have the ports.
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
        said = [*_faults(config, unit), *expired(config, directory), *_queue(config, staged, unit)]
    if not said:
        said = trial.complaints(dict(staged), directory, **conf.values(config, *TRIAL))
    return list(dict.fromkeys(said))


def _faults(config: str, unit: str) -> Iterator[str]:
    """Yield what neither postconf nor a trial finds: of the host, and of times that are still to come."""
    parameters = conf.values(config, "milter_default_action", "daemon_directory")
    action, daemons = parameters["milter_default_action"], parameters["daemon_directory"]
    if action not in MILTER_ACTIONS:
        yield f"milter_default_action = {action}: must be one of {', '.join(MILTER_ACTIONS)}"
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
                if address and listener.strange(address):
                    yield f"master.cf: {service}: this host has no address {address}"
                elif taken := listener.conflict(port, address, [unit]):
                    yield f"master.cf: {service}: port {port} is taken by {taken}"


def _queue(config: str, staged: Mapping[str, str], unit: str) -> Iterator[str]:
    """Yield what is wrong with where the queue is to be.

    systemd that waits for another PID file than master(8) writes kills Postfix and starts it again for ever.

    :param staged: the unit's file is among them, or it isn't looked at.
    :param unit: which.
    """
    where = conf.values(config, "queue_directory", "process_id_directory")
    if not os.path.isdir(where["queue_directory"]):
        yield f"smtpout:postfix:main:queue_directory: there is no directory {where['queue_directory']}: make it first"
    written = os.path.normpath(os.path.join(*where.values(), "master.pid"))
    for live, path in staged.items():
        if live.startswith(f"/etc/systemd/system/{unit}.service"):
            with open(path, encoding="utf-8") as file:
                awaited = re.findall(r"^PIDFile=(.+)$", file.read(), re.MULTILINE)
            if awaited and os.path.normpath(awaited[-1]) != written:
                yield (
                    f"smtpout:postfix:main:queue_directory and process_id_directory have Postfix write {written}, and "
                    f"systemd waits for {awaited[-1]}: write queue_directory out as an absolute path, and leave "
                    "process_id_directory as it is"
                )


def expired(config: str, directory: str) -> Iterator[str]:
    """Yield what is wrong with certificates that are there.

    One that Postfix serves already and that has ended since is nothing that a change could mend by being refused.

    :param config: the staged configuration directory.
    :param directory: the live one.
    """
    try:
        live = certificate.served(directory)
    except RelayError:  # it serves nothing
        live = []
    for path in certificate.served(config):
        if os.path.exists(path):
            try:
                end = certificate.info(path)
            except RelayError as error:
                yield f"smtpd_tls_chain_files: {error}"
            else:
                if end["days_left"] < 0 and path not in live:
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
