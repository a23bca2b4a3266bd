"""Drain a relay, watch it become empty, and have it serve again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smtpout_core import files, listener
from smtpout_core.change import units
from smtpout_core.change.journal import Journal
from smtpout_core.change.memory import Memory
from smtpout_core.daemons.postfix import drained, listen, queue, smtp
from smtpout_core.daemons.postfix.blocks import Blocks
from smtpout_core.daemons.postfix.drained import Drained
from smtpout_core.errors import Doubt, RelayError, os_errors_told
from smtpout_core.guard import selinux
from smtpout_core.host import Host

PATIENCE = 10.0
"""Seconds in which a reload has to show at every port."""
EACH = 10.0
"""Seconds between two flushes of the queue: what can't be reached isn't hammered."""
LOOK = 0.5
"""Seconds between two looks at sessions and queue."""

CUT_SHORT = (
    "A run that changed this relay, or handed its mail over, is at work or was cut short; in that case "
    "smtpout_drain.start undoes it, as an apply does"
)


@contextmanager
def alone(host: Host) -> Iterator[Memory]:
    """Have no apply change the relay meanwhile, and none be half done: its way back would bring old files.

    :raises RelayError: a run changes this relay, or was cut short.
    """
    memory = Memory(host.state_dir)
    with memory.locked():
        if Journal(host.state_dir).begun():
            raise RelayError("A run that changed this relay was cut short; apply first, which undoes it.")
        yield memory


def start(settings: dict[str, Any], host: Host, by: str, reason: str = "") -> dict[str, Any]:
    """Send new clients away with 421 from now on; who has a session goes on until it ends.

    :param settings: the site's.
    :param by: who does it.
    :param reason: why, for whoever looks later.
    :return: as of :func:`status`.
    :raises RelayError: it isn't drained, or not at each port.
    """
    with alone(host) as memory:
        with_drain = _known() or Drained(int(time.time()), by, reason)
        drained.write(with_drain)  # first: what is cut short here shows, and an apply finishes it
        _rewritten(settings, memory, drained.added)
        if _reloaded(settings):
            _comes_to(settings, away=True)
    return status(settings, host)


def ready(settings: dict[str, Any], host: Host) -> dict[str, Any]:
    """Take new sessions again; Postfix is started where it was stopped.

    :param settings: the site's.
    :return: as of :func:`status`.
    :raises RelayError: a port doesn't serve.
    """
    with alone(host) as memory:
        drained.write(None)
        _rewritten(settings, memory, drained.without)
        postfix = settings["postfix"]
        if not _reloaded(settings):
            units.act("start", [postfix["service"]])
        units.wait_until_serving(
            [postfix["service"]], postfix["unit"], lambda: smtp.serves(postfix["directory"], postfix["unit"]), PATIENCE
        )
        _comes_to(settings, away=False)
    return status(settings, host)


def status(settings: dict[str, Any], host: Host) -> dict[str, Any]:
    """Return whether the relay is drained, and what is left on it.

    :param settings: the site's.
    :return: ``drained`` (``since``, ``by``, ``reason``; None where it isn't), how many ``sessions`` are open, how many
        messages of each kind are in the ``queue`` and leave by themselves, and how many are ``held``, which don't: by
        a ``block`` of an account, by the scanner (``quarantine``), by ``others``; and ``said``, what to know.
    """
    state, directory = drained.read(), settings["postfix"]["directory"]
    held = queue.held(directory)
    blocked = {name for block in Blocks.of(settings).read() for name in block.held} & held
    infected = queue.quarantined(held - blocked, directory)
    return {
        "drained": {"since": _day(state.since), "by": state.by, "reason": state.reason} if state else None,
        "sessions": _sessions(settings),
        "queue": queue.moving(directory),
        "held": {
            "block": len(blocked),
            "quarantine": len(infected),
            "others": len(held) - len(blocked) - len(infected),
        },
        "said": [CUT_SHORT] if Journal(host.state_dir).begun() else [],
    }


def finish(settings: dict[str, Any], host: Host, seconds: float) -> dict[str, Any]:
    """Wait until sessions have ended and mail has left, and try what waits again and again meanwhile.

    :param settings: the site's.
    :param seconds: after which what is left is told; nothing ends by this.
    :return: as of :func:`status`; ``empty``, whether nothing is left but what is held; and the ``reasons`` why
        recipients wait, how many each.
    :raises RelayError: the relay isn't drained.
    """
    drained_or_told()
    directory, ends, flushes = settings["postfix"]["directory"], time.monotonic() + seconds, 0.0
    while not (empty := not _sessions(settings) and not any(queue.moving(directory).values())):
        now = time.monotonic()
        if now >= ends:
            break
        if now >= flushes and _runs(settings):
            queue.flush(directory)
            flushes = now + EACH
        time.sleep(max(0.0, min(LOOK, ends - now)))
    reasons = {} if empty else queue.waiting(directory).reasons
    return {**status(settings, host), "empty": empty, "reasons": reasons}


def seen(settings: dict[str, Any]) -> str:
    """Return that new sessions are taken; raise where a drain, or its end, hasn't come to each port.

    :param settings: the site's.
    :raises Doubt: they are sent away, as they should be.
    """
    state, master = drained.read(), Path(settings["postfix"]["directory"], "master.cf")
    with os_errors_told():
        text = master.read_text(encoding="utf-8")
    answers = _greeted(settings)
    if state:
        if text != drained.added(text):
            raise RelayError(f"{drained.said(state)}, but {master} doesn't; smtpout_drain.start again, or apply")
        if taken := [place for place, away in answers.items() if away is False]:
            raise RelayError(f"{drained.said(state)}, but {', '.join(taken)} takes them: smtpout_drain.start again")
        raise Doubt(drained.said(state) + ("" if answers else "; no address of this host's shows it"))
    if text != drained.without(text) or any(answers.values()):
        raise RelayError("new sessions get 421 although the relay isn't drained: smtpout_drain.ready, or apply")
    return ", ".join(answers) or "Postfix listens for clients on no address but loopback"


def drained_or_told() -> Drained:
    """Return what is remembered of the drain.

    :raises RelayError: there is none.
    """
    state = drained.read()
    if state is None:
        raise RelayError("This relay isn't drained, so mail goes on coming in: smtpout_drain.start first.")
    return state


def stopped(settings: dict[str, Any]) -> bool:
    """Tell whether Postfix doesn't run."""
    return not _runs(settings)


def reload(settings: dict[str, Any]) -> None:
    """Have Postfix read its configuration; sessions that are open go on."""
    units.act("reload", [settings["postfix"]["unit"]])


def _known() -> Drained | None:
    try:
        return drained.read()
    except RelayError:  # start writes it anew
        return None


def _day(when: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _runs(settings: dict[str, Any]) -> bool:
    return units.status([settings["postfix"]["service"]], settings["postfix"]["unit"]).running


def _sessions(settings: dict[str, Any]) -> int:
    return listener.sessions({each.port for each in listen.endpoints(settings["postfix"]["directory"])})


def _rewritten(settings: dict[str, Any], memory: Memory, change: Callable[[str], str]) -> None:
    """Change master.cf as a drain, or its end, wants it."""
    path = f"{settings['postfix']['directory']}/master.cf"
    with os_errors_told():
        old = Path(path).read_text(encoding="utf-8")
        if (new := change(old)) == old:
            return
        status, before = os.stat(path), files.digest(path)
        files.write(path, new.encode(), status.st_mode & 0o7777, status.st_uid, status.st_gid)
    if settings["selinux"]["active"]:
        selinux.relabel([path])
    memory.rewritten(path, before, files.digest(path))


def _reloaded(settings: dict[str, Any]) -> bool:
    """Have a Postfix that runs read its configuration, and tell whether there is one."""
    if not _runs(settings):
        return False
    reload(settings)
    return True


def _greeted(settings: dict[str, Any]) -> dict[str, bool | None]:
    """Return whether a client from elsewhere is sent away by a drain, by the place where it asks; None without answer.

    A service of the site's own may serve nobody who comes from here.
    """
    asked = listen.reached(settings["postfix"]["directory"])
    patience = settings["directory"]["timeout"] + 10  # a service for users asks the directory first

    def away(endpoint: listen.Endpoint) -> bool | None:
        try:
            answer = smtp.greeting(endpoint, patience)
        except RelayError:
            return None
        return drained.sends_away(answer.code, answer.text)

    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        return dict(zip((each.place for each in asked), pool.map(away, asked), strict=True))


def _comes_to(settings: dict[str, Any], *, away: bool) -> None:
    """Wait until each port that answers sends clients away, or none does.

    :raises RelayError: which doesn't, or that none answers.
    """
    ends = time.monotonic() + PATIENCE
    while True:
        found = _greeted(settings)
        wrong = [place for place, sent in found.items() if sent is (not away)]
        if not wrong and (not found or any(sent is not None for sent in found.values())):
            return
        if time.monotonic() > ends:
            what = "still takes new sessions" if away else "still sends new sessions away"
            said = f"{', '.join(wrong)} {what}" if wrong else f"None of {', '.join(found)} answers"
            raise RelayError(f"{said}, {PATIENCE:.0f} s after Postfix was told; try again")
        time.sleep(0.1)
