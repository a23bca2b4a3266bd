"""Hold what DNS says of the site against what its mail needs, and print what to publish. Nothing is changed.

The work is done in :mod:`smtpout_core.dns`.

:depends: ``dnspython`` for :func:`check`, looked for when it is used
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import smtpout_core
from salt.exceptions import CommandExecutionError, CommandNotFoundError

smtpout_core.fresh()

from smtpout_core import errors, host
from smtpout_core.dns import comparison, printed, wanted
from smtpout_core.stages import gate, turn

_told = errors.raised_as(CommandExecutionError, CommandNotFoundError)
log = logging.getLogger(__name__)


@_told
def check(
    domains: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    everything: bool = False,
    seconds: float = 300,
    resolver: str | None = None,
) -> dict[str, Any]:
    """Ask every authoritative server of each name, and say which records aren't what the site's mail needs.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_dns.check
        salt-call --local smtpout_dns.check domain01.dom kinds=dkim,spf everything=True

    Asked are all addresses of a zone's servers, IPv6 where there is a way, again by TCP where an answer is too long for
    UDP, and the servers of whatever a CNAME leads to. A server that doesn't answer as one of the zone makes a record
    ``unknown``, never ``missing``. How far it is stands in the log, and before a salt-call's answer.

    :param domains: those that are looked at. Default, all that the site sends from.
    :param kinds: of record: dkim, spf, dmarc, mta-sts, tls-rpt, mx, ptr, helo. Default, all.
    :param everything: return what is good, too.
    :param seconds: after which what is open stays unknown.
    :param resolver: IP address of the one that says who is authoritative. Default, the host's own (/etc/resolv.conf).
    :return: ``counts`` by kind and state; ``silent``, addresses that were asked no more; how many ``questions``, in how
        many ``seconds``; and as ``found`` what isn't good, the worst first: a ``state`` (wrong, missing, unknown,
        warning; ok and absent with ``everything``), the ``kind``, the ``names`` and what was ``seen``. Where something
        is wrong or missing, salt-call's exit status is 1.
    :raises CommandExecutionError: the pillar isn't right, a domain isn't the site's, or there is no such kind.
    """
    site = _right()
    way = comparison.Way([resolver] if resolver else (), site["dns"]["servers"], seconds=seconds)
    result = comparison.compared(wanted.wanted(site, _words(domains)), way, _words(kinds), _progress)
    if comparison.failed(result):
        __context__["retcode"] = 1
    return comparison.told(result, everything)


@_told
def records(form: str = "zone", domains: str | Sequence[str] = ()) -> str | list[dict[str, Any]]:
    """Return the records to publish: DKIM of every key, SPF, DMARC, and address and name of the relay.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_dns.records | sed -n 's/^    //p'     # without Salt's indentation
        salt-call --local smtpout_dns.records lines domain01.dom

    :param form: ``zone``, a zone file, its TXT records in strings of at most 255 bytes; ``lines``, a record a line,
        its value in one piece and unquoted, as forms on the web want it; ``data``, of each its ``name``, ``type``,
        ``value`` and a ``note``.
    :param domains: those whose records are wanted. Default, all that the site sends from.
    :raises CommandExecutionError: a key isn't there yet, the pillar isn't right, a domain isn't the site's, or there is
        no such form.
    """
    return printed.written(wanted.wanted(_right(), _words(domains)), form)


@_told
def plan(resolver: str | None = None) -> dict[str, Any]:
    """Say in which stage each DKIM key is, what the next apply would move, and why it wouldn't move others yet.

    CLI Example:

    .. code-block:: bash

        salt-call --local smtpout_dns.plan

    DNS is asked for the keys that it may move, as the next apply would; nothing is changed.

    :param resolver: as of :func:`check`.
    :return: how many keys would be in each stage as ``counts``; and as ``keys`` those that move or wait: of each
        ``key`` (its record's name) the ``stage`` that the next apply would have it in, ``since`` when, and why, as
        ``said``.
    :raises CommandExecutionError: the pillar isn't right, or what is remembered can't be read.
    """
    site = _right()
    here = host.minion(__opts__, __grains__, __salt__["cp.cache_file"])
    way = comparison.Way([resolver] if resolver else (), site["dns"]["servers"], seconds=gate.SECONDS)
    return turn.told(turn.Turn(site, here.state_dir, test=True).plan(way))


def _right() -> dict[str, Any]:
    """Return the settings of a pillar that is right."""
    site: dict[str, Any] = __salt__["smtpout.settings"]()
    if not site["valid"]:
        raise CommandExecutionError("the pillar is not right: " + "; ".join(site["errors"]))
    return site


def _words(given: str | Sequence[str]) -> list[str]:
    """Return a list that may be given as one, or as words with commas between."""
    return given.replace(",", " ").split() if isinstance(given, str) else [str(each) for each in given]


def _progress(line: str) -> None:
    if __opts__.get("__cli") == "salt-call":
        sys.stderr.write(f"{line}\n")
    log.info(line)
