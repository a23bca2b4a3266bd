"""A promise and the dialogues by which it is asked, as data."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

SERVERS, SUBMISSION, SUBMISSIONS = "smtp/inet", "submission/inet", "465/inet"
SENDMAIL = "sendmail"
"""The door of programs on the relay, which no service of master.cf is."""


class End(enum.Enum):
    """What is to become of a dialogue."""

    TAKEN = "taken"
    """250 to the recipient (RFC 5321, 3.3), and what was sent arrives."""
    REFUSED = "refused"
    """Anything but 250: not taken for now will do."""
    REFUSED_FOR_GOOD = "refused for good"
    """5xx (RFC 5321, 4.2.1): the sender learns of it at once, and not after days."""
    PUT_OFF = "put off"
    """450 (RFC 5321, 4.2.3): to be tried again later."""
    STOPPED = "stopped"
    """Refused or taken, and it doesn't arrive."""


class Content(enum.Enum):
    """What is sent."""

    NOTHING = "nothing"
    """The dialogue ends after RCPT."""
    PLAIN = "a plain text"
    AWKWARD = "8 bits, a long line and no Message-ID"
    """What programs send, and what a relay is tempted to mend after it was signed."""
    VIRUS = "the EICAR test virus"
    LOGIN = "a login"
    """AUTH with the password of ``smtpout:verify``; the dialogue ends with it."""
    CLEAR_LOGIN = "a login without TLS"
    """It is looked whether AUTH is offered, and nothing is sent."""


SPENT = {4: "203.0.113.99", 6: "2001:db8::99"}
"""Where a login comes from that has sent as much as it may, and what a client calls itself that has: the trial's own
policy service takes both so."""
ANY = ("*", "*")
"""Any signer of the site's: a site may give the relay's own mail another author."""
MESSAGES = (Content.PLAIN, Content.AWKWARD)
"""What is to arrive as it was sent."""


class Outcome(enum.Enum):
    """How a promise stands."""

    KEPT = "kept"
    BROKEN = "broken"
    UNPROVEN = "not proven"


@dataclass(frozen=True)
class Question:
    """A dialogue: who comes in by which door, with whose address to whom, and what is to become of that.

    :param client: the client's address; one of the host's own where the door is ``sendmail``.
    :param door: the service of master.cf, as ``submission/inet``, or ``sendmail``.
    :param sender: of the envelope; an empty text is the null sender.
    :param ends: what is to become of it.
    :param content: what is sent.
    :param login: the name that the client has logged in with.
    :param routed: the transport and the nexthop that it has to leave by, as transport(5) writes them.
    :param signer: domain and selector by which it has to be signed where it arrives; an empty text for neither,
        :data:`ANY` for whichever of the site's.
    :param handed: whether where it leaves to has to take it.
    :param author: of the message's ``From:``; the envelope's sender where it is left out.
    :param written: its ``From:`` headers as they are written, in place of that.
    :param hidden: what no ``Received:`` of it says where it leaves.
    :param encrypted: whether the client begins TLS where it could do without.
    :param key: of the pillar, that it is asked for.
    :param spent: whether the client is one that has sent as much as it may, which it calls itself by.
    :param refusable: whether a refusal in the dialogue is the site's to make, and only what is taken has to end so.
    """

    client: str
    door: str
    sender: str
    recipient: str
    ends: End = End.TAKEN
    content: Content = Content.NOTHING
    login: str = ""
    routed: str = ""
    signer: tuple[str, str] | None = None
    handed: bool = False
    author: str = ""
    written: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    encrypted: bool = False
    key: str = ""
    spent: bool = False
    refusable: bool = False

    @property
    def dialogue(self) -> Question:
        """The question without what it expects: those that are alike in the rest are asked once."""
        return replace(self, ends=End.TAKEN, routed="", signer=None, handed=False, hidden=(), key="", refusable=False)

    @property
    def kind(self) -> tuple[str, ...]:
        """What it asks, whoever of a domain is asked as: which users are found may change by itself.

        Where a key of the pillar names somebody, another name is another question.
        """
        named = [self.key, self.sender, self.recipient, self.login] if self.key else []
        people = [each.rpartition("@")[2] for each in (self.sender, self.author, self.recipient)]
        logged = "logged in" if self.login else ""
        signer = ".".join(self.signer) if self.signer else "whoever"
        handed = "handed on" if self.handed else ""
        private = "private" if self.hidden else ""
        written = [re.sub(r"[^\s<\"]+@", "@", each) for each in self.written]
        ends = (self.ends.value, self.content.value, self.routed, signer, handed, private)
        return (
            self.client,
            self.door,
            *people,
            logged,
            *ends,
            *(["by TLS"] if self.encrypted else []),
            *(["has sent enough"] if self.spent else []),
            *written,
            *named,
        )

    def __str__(self) -> str:
        who = f"{self.client} at {self.door}" if self.door != SENDMAIL else "sendmail(1)"
        logged = f", logged in as {self.login}," if self.login else " by TLS" if self.encrypted else ""
        what = f" with {self.content.value}" if self.content is not Content.NOTHING else ""
        if self.content in (Content.LOGIN, Content.CLEAR_LOGIN):
            return f"{who}{logged} with {self.content.value}"
        authors = [f"From: {each}".rstrip() for each in self.written or filter(None, [self.author])]
        author = f" ({', '.join(authors)})" if authors else ""
        return f"{who}{logged} from <{self.sender}>{author} to <{self.recipient}>{what}"


@dataclass(frozen=True)
class Promise:
    """What a site keeps its word on.

    :param name: as the pillar takes it back: ``strangers_do_not_relay``.
    :param sentence: what is true where it is kept.
    :param questions: by which it is asked; none where it can't be.
    :param unasked: why it can't be, or can't in full.
    :param keys: pillar paths below ``smtpout`` that it most likely depends on.
    :param parameters: of Postfix that decide it, as a pattern: those that the site sets are named first.
    """

    name: str
    sentence: str
    questions: Sequence[Question] = ()
    unasked: str = ""
    keys: Sequence[str] = ()
    parameters: str = ""


@dataclass
class Verdict:
    """How a promise stands, and what was seen.

    :param wrong: the questions that weren't answered as they should be, by a sentence each of what was seen.
    :param doubts: why it isn't proven.
    """

    promise: Promise
    outcome: Outcome
    wrong: dict[str, Question] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    @property
    def seen(self) -> list[str]:
        """A sentence for each question that wasn't answered as it should be, and each doubt."""
        return [*self.wrong, *self.doubts]
