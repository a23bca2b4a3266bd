"""The site's settings: pillar, defaults and platform facts made into one object, once a run.

Everything else of the formula gets its facts from :func:`settings`: SLS files through ``smtpout/map.jinja``, states and
templates by calling it. A pillar that isn't right comes back as ``{"valid": False, "errors": [...]}``, so that one
failing state can say all of it while other formulas of a highstate go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import salt.utils.yaml
import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import code, host
from smtpout_core import errors as faults
from smtpout_core import verify as relay
from smtpout_core.change import history as generations
from smtpout_core.change.memory import Memory
from smtpout_core.daemons import descriptions
from smtpout_core.site import convert, documents, importing, platforms
from smtpout_core.site import settings as site_settings
from smtpout_core.stages import record as stages
from smtpout_core.stages import signing

_told = faults.raised_as(CommandExecutionError, CommandNotFoundError)


@_told
def settings(saltenv: str | None = None) -> dict[str, Any]:
    """Return the site's settings: one plain dictionary, the same object for the whole run.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.settings --out=json

    The result holds secrets. ``valid`` tells whether the pillar is right; where it isn't, ``errors`` holds one sentence
    a problem, each with pillar path, value and what would be right, and nothing else is there. Which of a domain's DKIM
    keys signs is what the host remembers (:mod:`smtpout_core.stages`); what the pillar wants is ``wanted_keys``.

    :param saltenv: the environment that the formula's SLS files come from. Once said, it holds for the whole run, and
        for all of the formula's files.
    """
    if saltenv and saltenv != __context__.get(host.SALTENV):
        __context__[host.SALTENV] = saltenv
        __context__.pop("smtpout.documents", None)
        __context__.pop("smtpout.settings", None)
    given = __pillar__.get("smtpout", {})
    known = __context__.get("smtpout.settings")
    # A minion lives longer than a pillar. To compare ten thousand domains takes as long as to read them: only where
    # the pillar has been fetched anew.
    if known is None or known[0] is not given:
        site = _plain(given)
        if not _formula().current():  # another version of the formula is served by now
            __context__.pop("smtpout.documents")
            known = None
        made = known[2] if known and known[1] == site else site_settings.made(site, _formula(), __grains__)
        known = __context__["smtpout.settings"] = (given, site, made)
    return _with_stages(known[2])


def _with_stages(made: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which those keys sign that the host remembers to do so; an apply moves that on its way."""
    kept = stages.Record(_host().state_dir)
    mark = kept.mark()
    known = __context__.get("smtpout.laid")
    if known is None or known[0] is not made or known[1] != mark:
        try:
            laid = signing.laid(made, kept.read() if mark else [])
        except faults.RelayError:  # a state says so, and the site stays as it is; other formulas of a highstate go on
            laid = made
        known = __context__["smtpout.laid"] = (made, mark, laid)
    laid_out: dict[str, Any] = known[2]
    return laid_out


def errors() -> list[str]:
    """Return what is wrong with the pillar, one sentence a problem; an empty list where nothing is.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.errors
    """
    return settings()["errors"]


@_told
def other_code(saltenv: str | None = None) -> list[str]:
    """Return the modules and states that this host has otherwise than they are served, or not at all.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.other_code

    Served is what the formula's list says, ``smtpout/code.sha256``. It is compared once a run.

    :param saltenv: as of ``smtpout.settings``.
    :return: their names in the formula, as ``_modules/smtpout.py``; an empty list where the code is what is served.
    """
    known: dict[str | None, list[str]] = __context__.setdefault("smtpout.other_code", {})
    if saltenv not in known:
        served = host.minion(__opts__, __grains__, __salt__["cp.cache_file"], saltenv).path(f"salt://{code.LIST}")
        known[saltenv] = code.other(__file__, Path(served).read_text(encoding="utf-8"))
    return known[saltenv]


@_told
def platform() -> str:
    """Return this minion's platform as ``platforms.yaml`` names it, such as ``debian-12`` or ``el-9``.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.platform

    :return: for one that isn't listed there, what the grains call it.
    """
    return platforms.name(_formula(), __grains__)


@_told
def verify() -> list[dict[str, str]]:
    """Ask the running relay whether it does what the pillar says; each daemon is asked by its own protocol.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.verify

    :return: one ``{"check": ..., "state": "ok" | "warning" | "failed", "seen": ...}`` a check. Where one
        failed, salt-call's exit status is 1.
    :raises CommandExecutionError: the pillar isn't right, so that there is nothing to verify against.
    """
    site = _right()
    checks = relay.run(site, _host())
    if any(check["state"] == "failed" for check in checks):
        __context__["retcode"] = 1
    return checks


@_told
def promises() -> list[dict[str, Any]]:
    """Ask a trial of the running configuration for everything that the site promises, by mail; nothing of it leaves.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.promises

    Takes some seconds. Clients from anywhere, users who have logged in and programs on the relay are posed as, at each
    port, from and to whom the directory knows; mail ends in a folder, where route, scan and signature are seen.

    :return: of each ``promise`` (as the pillar takes it back), ``sentence``, ``state`` (kept, broken, not proven), how
        many dialogues it was ``asked`` by, and what was ``seen`` otherwise. Where one is broken, salt-call's exit
        status is 1.
    :raises CommandExecutionError: the pillar isn't right, or no trial can be had.
    """
    from smtpout_core.promises import asked  # late: few runs ask any
    from smtpout_core.promises.promise import Outcome

    site = _right()
    verdicts = asked.asked(site, asked.live(descriptions.described(site, _host())))
    if any(verdict.outcome is Outcome.BROKEN for verdict in verdicts):
        __context__["retcode"] = 1
    return [
        {
            "promise": verdict.promise.name,
            "sentence": verdict.promise.sentence,
            "state": verdict.outcome.value,
            "asked": len(verdict.promise.questions),
            **({"seen": verdict.seen} if verdict.seen else {}),
        }
        for verdict in verdicts
    ]


@_told
def explain(
    client: str, sender: str, recipient: str, login: str = "", service: str = "", file: str = ""
) -> dict[str, Any]:
    """Say what would become of a message, and which restriction and table decides it; nothing is sent.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.explain 203.0.113.9 usuario01@domain01.dom someone@example.com login=usuario01

    Asked of a trial of the running configuration, whose smtpd(8) logs what it does. Takes some seconds.

    :param client: its address; ``sendmail`` for a program on the relay.
    :param sender: of the envelope.
    :param recipient: the whole address.
    :param login: the name that the client has logged in with; no password is needed.
    :param service: by which it comes, as master.cf has it. Default, submission/inet with a login and smtp/inet without.
    :param file: one with the message. Default, a line of text from the sender.
    :return: ``answer`` (the last reply), ``decided`` (restrictions that let pass or refuse), ``found`` (what tables
        held), ``leaves`` (transport and nexthop) and ``signed`` (by which records).
    :raises CommandExecutionError: the pillar or an argument isn't right, or no trial can be had.
    """
    from smtpout_core.promises import asked, explained

    site = _right()
    live = asked.live(descriptions.described(site, _host()))
    return explained.explained(site, live, client, sender, recipient, login, service, file)


@_told
def history() -> list[dict[str, dict[str, Any]]]:
    """Return the generations that are kept, the newest first: each is a whole that was applied and proved itself.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.history

    :return: of each by its number ``time``, ``cause`` (who ran what), ``changed`` (files, and what else, by daemon) and
        ``digest`` (the same where all files are).
    """
    return generations.listed(Memory(_host().state_dir))


@_told
def difference(first: int, second: int | None = None) -> dict[str, Any]:
    """Return how the files of two generations differ; nothing that is secret is shown.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.difference 41 42

    :param first: the number of one, as ``smtpout.history`` has it.
    :param second: that of the other. Default, the last.
    :return: ``between`` which, ``came`` and ``gone`` (files that only one of them has), and ``how`` files differ: a
        unified diff of each, secrets masked.
    :raises CommandExecutionError: a number isn't kept; which are.
    """
    return generations.difference(Memory(_host().state_dir), first, second)


@_told
def problems(site: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return what is wrong with a site that need not be this minion's, by pillar path.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout.problems '{domains: [domain01.dom], networks: [0.0.0.0/0]}'

    :param site: what stands below ``smtpout``.
    """
    return site_settings.problems(site, _formula(), __grains__)


@_told
def import_pillar(path: str, source: str | None = None) -> dict[str, Any]:
    """Write a site pillar made from those of the formulas ``postfix``, ``opendkim`` and ``clamav`` (docs/migration.md).

    CLI Example:

    .. code-block:: bash

        salt-call smtpout.import_pillar /root/site.sls

    :param path: the new file, mode 0600, since it holds what was secret in the old pillars. One that is there stays.
    :param source: a YAML file that holds their pillars. Default, this minion's pillar.
    :return: ``carried``: where each of their keys went; ``same``: those that need no key; ``left``: why, for each other
        one; ``missing``: what the new pillar still needs. No secret is in it.
    :raises CommandExecutionError: there is nothing to convert, or the file can't be written.
    """
    pillar = _plain(__pillar__) if source is None else importing.read(source, salt.utils.yaml.safe_load)
    facts = platforms.facts(_formula(), __grains__)
    made = convert.convert(pillar, facts, _formula(), problems)
    importing.write(path, made.pop("site"), made["missing"])
    return made


def _formula() -> documents.Documents:
    """Return the formula's own files, each read once a run."""
    if "smtpout.documents" not in __context__:
        __context__["smtpout.documents"] = documents.Documents(_host(), salt.utils.yaml.safe_load)
    return __context__["smtpout.documents"]


def _right() -> dict[str, Any]:
    """Return the settings of a pillar that is right."""
    site = settings()
    if not site["valid"]:
        raise CommandExecutionError("the pillar is not right: " + "; ".join(site["errors"]))
    return site


def _host() -> host.Host:
    return host.minion(__opts__, __grains__, __salt__["cp.cache_file"], __context__.get(host.SALTENV))


def _plain(value: Any) -> Any:
    """Return ``value`` as plain dictionaries and lists: Salt hands the pillar over wrapped."""
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
