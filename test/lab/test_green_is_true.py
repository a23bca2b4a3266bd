"""A search for what nobody thought of: random options, each applied; where that is green, mail has to flow.

``bin/test lab -k green_is_true``; with ``--soak`` hundreds of seeds, and each that a promise refused once more with all
promises taken back, to see whether it was right to refuse it. What judges shares no code with the promises: plain
clients and receiving hosts of the lab. On Debian 12 only.
"""

from __future__ import annotations

import copy
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from support import load

from lab import mail, overrides
from lab.conftest import SUMMARY, Applied
from lab.lab import CLIENT
from lab.process import LabError
from lab.whole import SITE

SOME, MANY = "1-6", "1-600"
SEEDS = os.environ.get("GREEN_IS_TRUE_SEEDS", "")
"""Some, as 601-700,3031: other seeds are other changes."""
USER, OTHER, OUTSIDE = "usuario01@domain01.dom", "usuario02@domain02.dom", "somebody@outside.example"


def ends(lab: Any, *digits: int, **session: Any) -> None:
    """Hold a session, and see that its last answer begins with one of these."""
    answers = mail.session(lab, **session)
    assert answers[-1].code // 100 in digits, answers[-1]


def arrives(lab: Any, host: str, sender: str, recipient: str, **session: Any) -> None:
    """Send a message, and find it where it has to arrive."""
    message = mail.compose(sender, recipient)
    ends(lab, 2, sender=sender, recipients=[recipient], message=message, **session)
    assert mail.arrived(lab.host(host), message, wait=7), f"taken, and not at {host}"


def virus_is_stopped(host: str, sender: str, recipient: str, content: bytes = mail.EICAR, **session: Any) -> Any:
    """Return what sends a virus, and sees that it doesn't arrive."""

    def ask(lab: Any) -> None:
        message = mail.compose(sender, recipient, attachment=content)
        mail.session(lab, sender=sender, recipients=[recipient], message=message, **session)
        assert not mail.arrived(lab.host(host), message, wait=2), "the virus arrived"

    return ask


def packed(content: bytes) -> bytes:
    """Return a ZIP archive."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("letter.com", content)
    return whole.getvalue()


def program(lab: Any, message: Any) -> None:
    """Send what cron writes to somebody outside."""
    argv = ["sendmail", "-f", "root@domain01.dom", OUTSIDE]
    lab.host("relay").run(argv, input=message.as_string(), check=False, timeout=30)


def program_sends(lab: Any) -> None:
    """What a program writes arrives, and verifies at the receiver."""
    message = mail.compose("root@domain01.dom", OUTSIDE)
    program(lab, message)
    copies = mail.arrived(lab.host("outside"), message, wait=7)
    assert copies, "taken, and not at outside"
    assert "dkim=pass" in str(copies[0]["Authentication-Results"]), copies[0]["Authentication-Results"]


def programs_virus_is_stopped(lab: Any) -> None:
    """What a program sends doesn't arrive where it is a virus."""
    message = mail.compose("root@domain01.dom", OUTSIDE, attachment=mail.EICAR)
    program(lab, message)
    assert not mail.arrived(lab.host("outside"), message, wait=2), "the virus arrived"


def stranger_is_heard(lab: Any) -> None:
    """A stranger's mail to a user arrives at the delivery layer, and isn't signed by the site."""
    message = mail.compose("a@stranger.example", USER)
    ends(lab, 2, address=mail.STRANGER, sender="a@stranger.example", recipients=[USER], message=message)
    copies = mail.arrived(lab.host("delivery"), message, wait=7)
    assert copies, "taken, and not at delivery"
    assert "DKIM-Signature" not in copies[0], "signed for a stranger"


def is_signed(sender: str, **session: Any) -> Callable[[Any], None]:
    """Return what sends, and sees that each copy verifies at the receiver, through DNS; a site may want one more."""

    def ask(lab: Any) -> None:
        message = mail.compose(sender, OUTSIDE)
        ends(lab, 2, sender=sender, recipients=[OUTSIDE], message=message, **session)
        copies = mail.arrived(lab.host("outside"), message, wait=7)
        results = [str(copy["Authentication-Results"]) for copy in copies]
        assert results, "taken, and not at outside"
        assert all("dkim=pass" in each for each in results), results

    return ask


def postmaster_is_reached(lab: Any) -> None:
    """The relay's own postmaster, without a domain (RFC 5321, 4.5.1), gets a stranger's mail into a mailbox here."""
    message = mail.compose("a@stranger.example", "postmaster@relay.example")
    ends(lab, 2, address=mail.STRANGER, sender="a@stranger.example", recipients=["postmaster"], message=message)
    name, limit = message["Message-ID"], time.monotonic() + 6
    while not lab.host("relay").run(["grep", "-rlF", name, "/var/mail", "/root"], check=False).stdout:
        assert time.monotonic() < limit, "taken, and in no mailbox"
        time.sleep(0.3)


def stranger(*digits: int, sender: str, recipient: str) -> Callable[[Any], None]:
    """Return what asks as a stranger."""
    return lambda lab: ends(lab, *digits, address=mail.STRANGER, sender=sender, recipients=[recipient])


def user(code: int, sender: str, recipient: str, entry: mail.Entry = mail.USERS, name: str = "usuario01") -> Any:
    """Return what asks as a user."""
    given = {"address": mail.STRANGER, "entry": entry, "user": name, "sender": sender, "recipients": [recipient]}
    return lambda lab: ends(lab, code, **given)


ORACLE: dict[str, Callable[[Any], None]] = {
    # Postfix puts off what it doesn't relay, if it isn't told otherwise (postconf(5), smtpd_relay_restrictions).
    "a stranger does not relay": stranger(4, 5, sender="a@stranger.example", recipient=OUTSIDE),
    "a stranger does not relay with the null sender": stranger(4, 5, sender="", recipient=OUTSIDE),
    "a stranger is nobody of the site": stranger(5, sender="president@domain01.dom", recipient=USER),
    "a stranger's mail to nobody is refused": stranger(5, sender="a@stranger.example", recipient="nobody@domain01.dom"),
    "a stranger is heard": stranger_is_heard,
    "a stranger is heard in the second domain": stranger(2, sender="a@stranger.example", recipient=OTHER),
    "a user's read receipt is taken": lambda lab: ends(
        lab,
        2,
        address=mail.STRANGER,
        entry=mail.USERS,
        user="usuario01",
        recipients=[OUTSIDE],
        message=mail.compose(USER, OUTSIDE),
    ),
    "a user sends to outside": lambda lab: arrives(
        lab, "outside", USER, OUTSIDE, address=mail.STRANGER, entry=mail.USERS, user="usuario01"
    ),
    "a user sends over TLS": user(2, USER, OTHER, mail.USERS_OVER_TLS),
    "a user is nobody else": user(5, OTHER, OUTSIDE),
    "a user without a login sends nothing": user(5, USER, OUTSIDE, name=""),
    "a user's mail is signed": is_signed(USER, address=mail.STRANGER, entry=mail.USERS, user="usuario01"),
    "a server's mail is signed": is_signed("root@domain01.dom", address=CLIENT),
    "a server sends to a user": lambda lab: arrives(lab, "delivery", "root@domain01.dom", OTHER, address=CLIENT),
    "a virus is stopped": virus_is_stopped("outside", "root@domain01.dom", OUTSIDE, address=CLIENT),
    "a stranger's virus in an archive is stopped": virus_is_stopped(
        "delivery", "a@stranger.example", USER, packed(mail.EICAR), address=mail.STRANGER
    ),
    "a user's virus is stopped": virus_is_stopped(
        "outside", USER, OUTSIDE, address=mail.STRANGER, entry=mail.USERS, user="usuario01"
    ),
    "a program sends": program_sends,
    "a program's virus is stopped": programs_virus_is_stopped,
    "the postmaster is reached": postmaster_is_reached,
}


def broken(lab: Any) -> dict[str, str]:
    """Return what the relay does wrong, asked by plain clients."""

    def fault(ask: Callable[[Any], None]) -> str:
        try:
            ask(lab)
        except (AssertionError, ValueError, IndexError, LabError) as error:
            return str(error)[:300]
        return ""

    for address in (CLIENT, mail.STRANGER):  # here, before many want it at once
        lab.client(address)
    with ThreadPoolExecutor(len(ORACLE)) as pool:
        said = pool.map(fault, ORACLE.values())
    return {sentence: each for sentence, each in zip(ORACLE, said, strict=True) if each}


def seeds(written: str) -> Iterator[int]:
    """Yield seeds, of which ranges name the first and the last."""
    for each in written.split(","):
        first, _, last = each.partition("-")
        yield from range(int(first), int(last or first) + 1)


@dataclass
class Search:
    """What a search found, by seed: changes, and what the oracle says of them."""

    green: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    false: dict[int, Any] = field(default_factory=dict)
    rightly: list[int] = field(default_factory=list)
    wrongly: dict[int, Any] = field(default_factory=dict)


@pytest.fixture
def search(request: pytest.FixtureRequest) -> Iterator[Search]:
    """Return what is found, which is printed at the end."""
    found = Search()
    yield found
    request.config.stash.setdefault(SUMMARY, []).append(
        f"green is true: {len(found.green)} green, {len(found.false)} of them broken; {len(found.refused)} refused"
        + (
            f", {len(found.rightly)} of them broken without promises, {len(found.wrongly)} harmless"
            if found.rightly
            else ""
        )
    )


def site(change: dict[str, Any], promises: dict[str, bool]) -> str:
    """Return the example's pillar with a change."""
    made = copy.deepcopy(load("default")["smtpout"])
    for room, sections in change.items():
        made.setdefault(room, {}).update(sections)
    # Without Jinja, as Postfix has tables in double braces.
    return "#!yaml\n" + yaml.safe_dump({"smtpout": made | ({"promises": promises} if promises else {})})


@pytest.mark.timeout(36000)
def test_green_is_true(on_bookworm: Applied, request: pytest.FixtureRequest, search: Search) -> None:
    lab, soak = on_bookworm.lab, request.config.getoption("soak")
    assert broken(lab) == {}, "the oracle itself, on the example"
    lines = lab.host("relay").run(["postconf", "-d"]).stdout.splitlines()
    defaults = {name: value.strip() for name, _, value in (line.partition(" =") for line in lines)}
    promises = lab.salt("smtpout.promises", check=False, timeout=120)
    none = {each["promise"]: False for each in promises}
    for seed in seeds(SEEDS or (MANY if soak else SOME)):
        change = overrides.change(seed, defaults)
        lab.set_pillar(site(change, {}))
        on_bookworm.apply("search")
        if not on_bookworm.failed("search"):
            search.green.append(seed)
            if found := broken(lab):
                search.false[seed] = (change, found)
            print(f"{seed}: green{', and broken' if found else ''}: {change}{found or ''}", flush=True)
            continue
        search.refused.append(seed)
        said = on_bookworm.failed("search").get(SITE, "")
        by_promise = "would be broken" in said
        print(f"{seed}: refused: {change}: {said[:400]}", flush=True)
        if soak and by_promise:
            lab.set_pillar(site(change, none))
            on_bookworm.apply("search without promises")
            if not on_bookworm.failed("search without promises"):
                (search.rightly.append(seed) if broken(lab) else search.wrongly.update({seed: change}))
                print(f"{seed}: {'broken' if seed in search.rightly else 'harmless'} without promises", flush=True)
    assert search.false == {}
