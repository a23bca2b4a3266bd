"""Hold the dialogues of many questions at once, and follow what was taken to where it ends."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import NamedTuple

from smtpout_core.daemons.clamav import eicar
from smtpout_core.promises import dialogue
from smtpout_core.promises.chain import Arrived, Chain
from smtpout_core.promises.dialogue import Reply
from smtpout_core.promises.promise import MESSAGES, SENDMAIL, Content, Question

AT_ONCE = 16  # dialogues
LONG = 5_000  # characters, of which RFC 5321, 4.5.3.1.6, allows 998 in a line; programs write more
HOP = "from mail{}.client.example by mail.client.example; Thu, 1 Jan 2026 00:00:00 +0000"
HOPS = 20  # that a message may have behind it, of the hundred that RFC 5321, 6.3, has a server allow at least
PATIENCE = 20.0  # seconds until what was taken has left
STATES = {
    "moving": "is still on its way",
    "submitted": "waits to be picked up",
    "deferred": "waits to be tried again",
    "hold": "is on hold",
}
TOKEN = re.compile(rb"(?m)^X-Smtpout-Trial: ([0-9a-f]{32})\r?$")


class Seen(NamedTuple):
    """What became of a question: the last reply, and where the message is.

    :param arrived: as itself.
    :param carried: within another message, such as a bounce.
    :param moving: whether it was still on its way when the trial ended.
    :param elsewhere: where it is otherwise, in words.
    """

    reply: Reply
    arrived: list[Arrived]
    carried: list[Arrived]
    moving: bool
    elsewhere: str


def asked(chain: Chain, questions: Iterable[Question], password: str, text: bytes = b"") -> dict[Question, Seen]:
    """Hold every dialogue, and see what becomes of the messages.

    :param questions: without what they expect; each is asked once.
    :param password: of the user that logins are tried with.
    :param text: a message to be sent instead of the trial's own, with LF at its lines' ends.
    """
    tokens = {question: uuid.uuid4().hex for question in questions}
    messages = {
        question: f"X-Smtpout-Trial: {token}\n".encode() + text if text else _message(question, token)
        for question, token in tokens.items()
    }

    silent: dict[str, Reply] = {}

    def ask(question: Question) -> Reply:
        if question.door not in chain.doors:
            return Reply("the door", -1, f"master.cf has no service {question.door}")
        if question.door in silent:  # each would be waited for as long
            return silent[question.door]
        message = messages[question].replace(b"\n", b"\r\n")
        for _ in range(2):  # a connection may break for once, and a filter on a busy host not answer in time
            reply = dialogue.held(chain.doors[question.door], question, message, password)
            if reply.code >= 0 and not (reply.command == "the message" and 400 <= reply.code <= 499):
                return reply
        if reply.silence:
            silent[question.door] = reply
        return reply

    programs = [question for question in tokens if question.door == SENDMAIL]
    others = [question for question in tokens if question.door != SENDMAIL]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sending = pool.submit(
            chain.send,
            {tokens[each]: (each.sender, each.recipient, messages[each]) for each in programs},
        )
        replies = dict(zip(others, pool.map(ask, others), strict=True))
        sending.result()
    for question in programs:
        said = chain.said(tokens[question])
        replies[question] = Reply("sendmail(1)", 554 if said else 250, said)
    settled = chain.settled(PATIENCE)
    return _left(chain, tokens, _followed(chain, tokens, replies, settled))


def _left(chain: Chain, tokens: Mapping[Question, str], seen: Mapping[Question, Seen]) -> dict[Question, Seen]:
    """Have what arrived be as its service's client sends it, where that counts."""
    plain = [question for question in seen if question.content in MESSAGES]
    left = chain.left([each for question in plain for each in seen[question].arrived], PATIENCE)
    names, said, waiting = _queue_ids(chain), _last_words(chain), chain.waiting()["deferred"]
    made = dict(seen)
    for question in plain:
        arrived, name = seen[question].arrived, names.get(tokens[question], "")
        stays = [each for each in arrived if each not in left or name in waiting]  # a client may doubt what has left
        if stays:
            words = said.get(name, "it says nothing of it")
            made[question] = seen[question]._replace(elsewhere=f"{stays[0].service} doesn't send it: {words}")
        made[question] = made[question]._replace(arrived=[left[each] for each in arrived if each not in stays])
    return made


def _followed(
    chain: Chain, tokens: Mapping[Question, str], replies: Mapping[Question, Reply], settled: bool
) -> dict[Question, Seen]:
    """Find where each message is."""
    arrived: dict[str, list[Arrived]] = {}
    carried: dict[str, list[Arrived]] = {}
    for each in chain.arrived():
        own = TOKEN.search(each.message.partition(b"\n\n")[0])
        for found in set(TOKEN.findall(each.message)):
            where = arrived if own and own[1] == found else carried
            where.setdefault(found.decode(), []).append(each)
    names, states = _queue_ids(chain), {name: state for state, found in chain.waiting().items() for name in found}
    said = _last_words(chain)
    seen = {}
    for question, token in tokens.items():
        name = names.get(token, "")
        moving = states.get(name) == "moving" or (not settled and token not in arrived)
        state = STATES["moving"] if moving else STATES.get(states.get(name, ""), "")
        elsewhere = ": ".join(filter(None, [state, said.get(name, "")]))
        seen[question] = Seen(replies[question], arrived.get(token, []), carried.get(token, []), moving, elsewhere)
    return seen


def _last_words(chain: Chain) -> dict[str, str]:
    """Return what was logged last of what became of each message, by its name in the queue."""
    said = {}
    for _, what in chain.log:
        name, _, words = what.partition(": ")
        if re.search(r"status=|milter-|reject:", words):
            said[name] = words
    return said


def _queue_ids(chain: Chain) -> dict[str, str]:
    """Return the queue's name of each message, by the token in its Message-ID, which cleanup(8) logs."""
    found = {}
    for _, what in chain.log:
        if match := re.match(r"(\w+): message-id=<([0-9a-f]{32})@", what):
            found[match[2]] = match[1]
    return found


def _message(question: Question, token: str) -> bytes:
    """Return a message, its lines' ends as sendmail(1) has them."""
    sender = question.author or question.sender or "mailer-daemon@[198.51.100.25]"
    authors = "".join(f"From: {each}\n" for each in question.written or (f"<{sender}>",))
    head = (
        f"{authors}To: <{question.recipient}>\nSubject: smtpout asks for a promise\n"
        f"Date: {formatdate()}\nX-Smtpout-Trial: {token}\nMIME-Version: 1.0\n"
    )
    if question.content is Content.AWKWARD:
        head = "".join(f"Received: {HOP.format(number)}\n" for number in range(HOPS)) + head
        long = ("A promise is asked for \N{EM DASH} " * LONG)[:LONG]
        return f"{head}Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{long}\n".encode()
    head = f"Message-ID: <{token}@trial.invalid>\n{head}"
    if question.content is not Content.VIRUS:
        return f"{head}Content-Type: text/plain; charset=us-ascii\n\nA promise is asked for.\n".encode()
    return (
        f'{head}Content-Type: multipart/mixed; boundary="{token}"\n\n--{token}\nContent-Type: text/plain\n\n'
        f"A virus is attached, for scanners' tests.\n--{token}\nContent-Type: application/zip\n"
        'Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename="eicar.zip"\n\n'
        f"{eicar.ATTACHED.decode()}--{token}--\n"
    ).encode()
