"""Ask the running relay whether it does what the site says: what ``smtpout.verify`` does."""

from __future__ import annotations

import contextvars
import functools
import os
import smtplib
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from salt.exceptions import CommandExecutionError, CommandNotFoundError


def run(site: dict[str, Any]) -> list[dict[str, str]]:
    """Make every check; each daemon is asked by its own protocol.

    CLI Example: none, since ``smtpout.verify`` hands over the settings.

    :param site: the settings.
    :return: one ``{"check": ..., "state": "ok" | "warning" | "failed", "seen": ...}`` a check. What failed says which
        unit to look at.
    """
    postfix = site["postfix"]["unit"]
    asked: list[tuple[Any, ...]] = [("Postfix greets and offers what it should", postfix, _greeting, site)]
    asked += [
        (f"users are served on port {port}", postfix, _users_greeted, site, port)
        for service, port in (("submission/inet", 587), ("465/inet", 465))
        if service in site["postfix"]["services"]
    ]
    asked.append(("the queue has room for mail", "", _room, site))
    if site["clamav"]["enabled"]:
        asked.append(("the scanner finds the EICAR test virus", site["clamav"]["clamd"]["service"], _scan, site))
    units = {"clamav": site["clamav"]["milter"]["service"], "opendkim": site["opendkim"]["service"]}
    asked += [
        (f"the {milter['name']} milter answers", units[milter["name"]], _milter, site, milter["name"])
        for milter in site["milters"]
    ]
    asked.append(("logins are checked", site["saslauthd"]["service"], _saslauthd, site))
    asked.append(("the directory answers as the pillar says", "", _directory))
    # At once: a directory that hangs is waited for by three of them. Salt finds its dunders in a thread's context.
    with ThreadPoolExecutor(len(asked)) as pool:
        asking = [pool.submit(contextvars.copy_context().run, _check, *each) for each in asked]
    checks = [each.result() for each in asking]
    risks = _risks(site)
    if site["directory"]["senders"] == "own" and checks[-1]["state"] == "ok":  # the directory, which serves
        risks += _who_cannot_send()
    return checks + [{"check": check, "state": "warning", "seen": seen} for check, seen in risks]


def _directory() -> str:
    """Return the directory servers that serve as the pillar says."""
    return ", ".join(__salt__["directory.check"]())


def _risks(site: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what an administrator should know though nothing failed: what was hoped for, and why it isn't so."""
    risks = [
        (
            f"mail never passes {milter['name']} unseen",
            f"smtpout:{milter['name']}:on_fail lets it when there is no answer",
        )
        for milter in site["milters"]
        if milter["action"] == "accept"
    ]
    if site["authentication"]["clear_text_on_25"]:
        seen = "smtpout:authentication:clear_text_on_25 lets them cross the network in clear text"
        risks.append(("passwords are encrypted on port 25", seen))
    clear = [server for server in site["directory"]["servers"] if server.startswith("ldap://")]
    if clear and not site["directory"].get("start_tls"):
        seen = f"{', '.join(clear)} gets them in clear text: ldaps:// or smtpout:directory:start_tls would not"
        risks.append(("passwords are encrypted on their way to the directory", seen))
    if not _has_tls():
        risks.append(("mail is encrypted where the other side can", "smtpd_tls_security_level in smtpout:postfix:main"))
    if "user" not in site["verify"]:
        risks.append(("a user can log in", "smtpout:verify has no user, so no login was tried"))
    if waiting := __salt__["postfix_config.deferred"]():
        reason, count = max(waiting.items(), key=lambda item: item[1])
        seen = f"{sum(waiting.values())} recipients wait to be tried again, {count} of them: {reason} (postqueue -p)"
        risks.append(("mail leaves the relay", seen))
    return risks


def _who_cannot_send() -> list[tuple[str, str]]:
    """Return that users log in with names that Postfix can't compare, if any do."""
    if not (names := __salt__["directory_names.divided"]()):
        return []
    shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
    seen = f"{len(names)} can't, for a blank or a comma in the name that they log in with: {shown}; rename them"
    return [("users can send with their own addresses", seen)]


def _check(name: str, unit: str, ask: Callable[..., str], *arguments: Any) -> dict[str, str]:
    """Return the outcome of one check: ``ask`` returns what it saw, or raises with what is wrong with the unit."""
    try:
        return {"check": name, "state": "ok", "seen": ask(*arguments)}
    except (CommandExecutionError, CommandNotFoundError) as error:  # one without ldap3 keeps none of the others back
        advice = f" (systemctl status {unit}; journalctl -u {unit})" if unit else ""
        return {"check": name, "state": "failed", "seen": f"{error}{advice}"}


def _greeting(site: dict[str, Any]) -> str:
    """Return the greeting on port 25; raise where name, STARTTLS or AUTH aren't as main.cf and the pillar say."""
    answer = __salt__["postfix_config.probe"]()
    offers = answer["offers"]
    if not answer["greeting"].startswith(site["hostname"]):
        raise CommandExecutionError(f"it greets as {answer['greeting']}, and smtpout:hostname is {site['hostname']}")
    if ("starttls" in offers) != _has_tls():
        raise CommandExecutionError(
            "it offers STARTTLS, and should not" if _has_tls() else "it does not offer STARTTLS"
        )
    if ("auth" in offers) != site["authentication"]["clear_text_on_25"]:
        raise CommandExecutionError(f"without TLS it offers {'AUTH' if 'auth' in offers else 'no AUTH'} on port 25")
    return answer["greeting"]


def _has_tls() -> bool:
    """Tell whether Postfix is to offer TLS; the pillar's postfix:main can say otherwise."""
    return __salt__["postfix_config.values"]("smtpd_tls_security_level")["smtpd_tls_security_level"] in (
        "may",
        "encrypt",
    )


def _users_greeted(site: dict[str, Any], port: int) -> str:
    """Return that users get a greeting; raise with what they get instead, as while the directory doesn't answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # asked by address, and maybe self-made
    patience = site["directory"]["timeout"] + 10  # Postfix asks the directory first
    tls = functools.partial(smtplib.SMTP_SSL, context=context) if port == 465 else smtplib.SMTP
    try:
        with tls("127.0.0.1", port, timeout=patience):
            return f"127.0.0.1:{port} greets"
    except smtplib.SMTPResponseException as refused:
        said = (
            refused.smtp_error if isinstance(refused.smtp_error, str) else refused.smtp_error.decode(errors="replace")
        )
        # What only the directory table of main.cf's users_client_restrictions answers with.
        why = "; so it does while Postfix can't ask the directory: look there first" if refused.smtp_code == 451 else ""
        raise CommandExecutionError(f"127.0.0.1:{port} greets users with {refused.smtp_code} {said}{why}") from None
    except (OSError, smtplib.SMTPException) as error:
        raise CommandExecutionError(f"127.0.0.1:{port}: {error}") from error


def _room(site: dict[str, Any]) -> str:
    """Return how much room the queue's file system has; Postfix wants one and a half of its largest message."""
    disk = os.statvfs(site["postfix"]["queue_directory"])
    limits = __salt__["postfix_config.values"]("message_size_limit", "queue_minfree")
    free, wanted = (
        disk.f_bavail * disk.f_frsize,
        max(int(limits["message_size_limit"]) * 3 // 2, int(limits["queue_minfree"])),
    )
    seen = f"{free >> 20} MiB are free below {site['postfix']['queue_directory']}"
    if free < wanted or (disk.f_files and not disk.f_favail):
        raise CommandExecutionError(
            f"{seen}, Postfix wants {wanted >> 20}: until then it answers 452 to all mail; make room"
        )
    return seen


def _scan(site: dict[str, Any]) -> str:
    """Return the name that the scanner gives the EICAR test file."""
    eicar = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    virus = __salt__["clamav.instream"](f"unix:{site['clamav']['clamd']['socket']}", eicar, timeout=10)
    if not virus:
        raise CommandExecutionError("clamd answers, but does not know the EICAR test virus: are its signatures whole?")
    return virus


def _milter(site: dict[str, Any], room: str) -> str:
    """Return what a milter answers to Postfix's first question."""
    answer = __salt__["milter.probe"](site[room]["socket"])
    return f"milter protocol {answer['version']} on {site[room]['socket']}"


def _saslauthd(site: dict[str, Any]) -> str:
    """Return where saslauthd answers."""
    path = f"{site['saslauthd']['socket_directory']}/mux"
    __salt__["saslauthd.ping"](path)
    return path
