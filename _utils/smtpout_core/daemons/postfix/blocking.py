"""Block an account, and take that back: in open sessions, in every form of its login, with its mail in the queue."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from typing import Any

from smtpout_core.daemons.postfix import blocks, queue
from smtpout_core.daemons.postfix.blocks import Block, Blocks
from smtpout_core.directory import ask, filters
from smtpout_core.errors import RelayError
from smtpout_core.site.blocked import Blocked

ROUNDS = 5
"""Looks at the queue: what was under way when the block came has been taken by the next one."""
LOGIN = re.compile(r'[^\s"#\\*,:](?:[^"\\*,:\n\r\0]*[^\s"\\*,:])?')
"""What a login can be: of the schema's."""
UNHELD = re.compile(r'^[#*]|["\\\n\r\0\t]|:$')
"""What no key of a table has (postmap(1)), and no login of Active Directory's."""


def block(settings: dict[str, Any], login: str, reason: str, by: str) -> dict[str, Any]:
    """Refuse all mail of an account from now on, in whichever form its user logs in, and hold what it has in the queue.

    :param settings: the site's.
    :param login: any form of it.
    :param reason: why, for whoever looks later.
    :param by: who does it.
    :return: ``blocked`` (the forms), ``held`` (how many messages this has put on hold) and ``said`` (what to know).
    :raises RelayError: it isn't blocked, or not everywhere; what was done, then.
    """
    state, login = _state(settings), _right(login)
    names, said = _forms(settings, login)
    with state.locked():
        known = state.read()
        if own := [each for each in known if each.meets(names)]:
            since = _day(min(each.since for each in own))
            said.append(f"it was blocked by command before, on {since}")
        made = Block(
            own[0].login if own else login,
            _each([*(name for each in own for name in each.names), *names]),
            min([each.since for each in own], default=int(time.time())),
            by,
            reason or next((each.reason for each in own), ""),
            held=_each(name for each in own for name in each.held),
        )
        others = [each for each in known if each not in own]
        state.write([*others, made])
        state.bring()
        before = len(made.held)
        _hold(settings, state, others, made)
        count = len(made.held) - before
    if Blocked(settings).login(names):
        said.append("smtpout:blocked:logins has it, too: unblocking it by command won't let it send")
    if missed := blocks.not_looked_up(settings):
        raise RelayError(
            f"{login} is blocked, and {count} of its messages are on hold; but {', '.join(missed)} takes its mail all "
            f"the same: smtpd_recipient_restrictions there, in smtpout:postfix, hides what blocks accounts. Use append "
            "there instead of a value of its own, and apply"
        )
    return {"blocked": made.names, "held": count, **({"said": said} if said else {})}


def unblock(settings: dict[str, Any], login: str) -> dict[str, Any]:
    """Take back what :func:`block` did, and let go the messages that it has put on hold, and no others.

    :param settings: the site's.
    :param login: any form of it.
    :return: ``unblocked`` (the forms), ``released`` (how many messages) and ``said``.
    :raises RelayError: it isn't blocked by command.
    """
    state, login = _state(settings), _right(login)
    with state.locked():
        known = state.read()
        own = [each for each in known if each.meets([login])]
        names, said = ([], []) if own else _forms(settings, login)
        own = own or [each for each in known if each.meets(names)]
        forms = _each([login, *names, *(name for each in own for name in each.names)])
        by_pillar = Blocked(settings).login(forms)
        if not own and by_pillar:
            raise RelayError(f"{login} is blocked by smtpout:blocked:logins alone; take it out there, and apply")
        if not own:
            who = ", ".join(each.login for each in known) or "nobody"
            raise RelayError(f"{login} isn't blocked; blocked by command is {who}")
        others = [each for each in known if each not in own]
        for each in own:  # and remembered until its mail is let go: where this is cut short, the next one goes on
            each.ended = True
        state.write([*others, *own])
        state.bring()
        released = queue.release([name for each in own for name in each.held], settings["postfix"]["directory"])
        state.write(others)
    if by_pillar:
        said.append("it is still blocked by smtpout:blocked:logins; take it out there, and apply")
    return {"unblocked": forms, "released": released, **({"said": said} if said else {})}


def listed(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return who is blocked.

    :param settings: the site's.
    :return: of each ``login``, ``by`` (the pillar's key, or who did it); by command ``since``, ``days``, ``names``,
        ``reason`` and how many messages are ``held``.
    :raises RelayError: what is remembered can't be read.
    """
    there = queue.held(settings["postfix"]["directory"])
    found: list[dict[str, Any]] = [
        {
            "login": each.login,
            "by": f"{each.by}, by command",
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.since)),
            "days": days(each),
            "names": each.names,
            "reason": each.reason,
            "held": len(there.intersection(each.held)),
        }
        for each in Blocks.of(settings).read()
    ]
    return found + [{"login": each, "by": "smtpout:blocked:logins"} for each in settings["blocked"]["logins"]]


def days(each: Block) -> int:
    """Return for how many whole days somebody has been blocked."""
    return max(0, int(time.time()) - each.since) // 86_400


def _state(settings: dict[str, Any]) -> Blocks:
    state = Blocks.of(settings)
    if not os.path.exists(state.database):
        raise RelayError(f"{state.database} isn't there: apply first, which has Postfix look accounts up in it")
    return state


def _right(login: object) -> str:
    text = str(login).strip()
    if not LOGIN.fullmatch(text) or len(text) > 254:
        raise RelayError(f"{login!r} is no login; right is a name that a user logs in with, such as usuario01")
    return text


def _forms(settings: dict[str, Any], login: str) -> tuple[list[str], list[str]]:
    """Return the forms of an account's login, the given one among them, in small letters; and what is to be said."""
    directory = settings["directory"]
    attributes, pattern = directory["named_attributes"], directory["named_filter"]
    filled = filters.postfix(pattern, login) if attributes else None
    if filled is None:
        return [login.lower()], ["smtpout:directory:login names no attribute: other forms of this login aren't blocked"]
    try:
        found = ask.found(settings, filled, attributes)
    except RelayError as error:
        later = "the directory can't be asked for other forms, which are found when it answers"
        return [login.lower()], [f"{later}: {error}"]
    if not found:
        return [login.lower()], ["the directory has nobody of this name: it is blocked as it is given"]
    if found[1:]:
        several = "; ".join(each.name for each in found)
        raise RelayError(f"{login} is a name of several accounts ({several}), with which nobody logs in; take another")
    values = [found[0].values[each] for each in attributes]
    # Of an attribute with several values Postfix gets all of them at once, and commas between (ldap_table(5)).
    names = [login, *(name for own in values for name in own), *(",".join(own) for own in values if own[1:])]
    return _each(name.lower() for name in names if not UNHELD.search(name)), []


def _hold(settings: dict[str, Any], state: Blocks, others: list[Block], made: Block) -> None:
    """Put on hold what an account has in the queue, and remember which messages these are."""
    directory = settings["postfix"]["directory"]
    asked: dict[str, bool] = {}
    for _ in range(ROUNDS):
        seen = queue.logins(directory)
        own = [name for name, login in seen.items() if _is(settings, made, login, asked)]
        if not own:
            return
        there = queue.held(directory)
        made.held = _each([*made.held, *(name for name in own if name not in there)])
        state.write([*others, made])  # before: what isn't remembered would be held for ever
        queue.hold(own, directory)
        there = queue.held(directory)
        made.held = [name for name in made.held if name in there]  # the others have left
        state.write([*others, made])


def _is(settings: dict[str, Any], made: Block, login: str, asked: dict[str, bool]) -> bool:
    """Tell whether a login that a message came by is the account's: by its forms, or by what the directory finds."""
    if login not in asked:
        asked[login] = made.meets([login])
        if not asked[login]:
            directory = settings["directory"]
            filled = filters.postfix(directory["named_filter"], login) if directory["named_attributes"] else None
            try:
                found = ask.entries(settings, filled, directory["named_attributes"]) if filled else []
            except RelayError:  # said before
                found = []
            asked[login] = any(made.meets(names) for entry in found for names in entry.values())
    return asked[login]


def _day(when: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))


def _each(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
