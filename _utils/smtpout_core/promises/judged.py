"""Judge what was seen of a promise's dialogues."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from smtpout_core import packages
from smtpout_core.daemons.clamav import eicar
from smtpout_core.daemons.opendkim import keys
from smtpout_core.errors import NotInstalledError
from smtpout_core.promises import leaving, world
from smtpout_core.promises.chain import Arrived, Chain
from smtpout_core.promises.entrances import Entrances
from smtpout_core.promises.followed import Seen
from smtpout_core.promises.handing import Handed
from smtpout_core.promises.mailboxes import Local
from smtpout_core.promises.promise import ANY, MESSAGES, Content, End, Outcome, Promise, Question, Verdict

ALGORITHMS = ("rsa-sha256", "ed25519-sha256")
"""Of signatures that receivers take (RFC 8301, RFC 8463)."""
HOLDS = 24 * 3600
"""Seconds for which a signature has to be good at least: mail is put off, by some receivers as a rule."""
OF_THE_CLIENT = re.compile(r"cannot find your (?:reverse )?hostname|gr[ea]y-?list", re.IGNORECASE)
"""A refusal for what a trial's client doesn't have and a real one may: a name in DNS, patience."""


class Judges(NamedTuple):
    """What knows of signatures, of where mail goes on to, and of how clients come in."""

    signers: Signers
    nexthops: Nexthops
    entrances: Entrances


def verdict(promise: Promise, seen: Mapping[Question, Seen], judges: Judges, why: str) -> Verdict:
    """Judge a promise: broken where one question was answered wrongly, kept where all were asked and none was.

    :param seen: by each question's dialogue.
    :param why: what kept the directory's users from being known.
    """
    wrong: dict[str, Question] = {}
    doubts: list[str] = []
    for question in promise.questions:
        saw = seen[question.dialogue]
        if fault := _fault(question, saw, judges):
            if question.ends is End.TAKEN and OF_THE_CLIENT.search(saw.reply.text):
                doubts.append(f"{question}: {fault}")
            else:
                wrong[f"{question}: {fault}"] = question
    if not promise.questions and not promise.unasked:
        doubts.append("there is nobody left to ask it as: every address that is kept for examples is the site's")
    if promise.unasked:
        doubts.append(": ".join(filter(None, [promise.unasked, why])))
    outcome = Outcome.BROKEN if wrong else Outcome.UNPROVEN if doubts else Outcome.KEPT
    return Verdict(promise, outcome, wrong, doubts)


def _fault(question: Question, seen: Seen, judges: Judges) -> str:
    """Return what is wrong with an answer; an empty text where nothing is."""
    if unseen := judges.entrances.fault(question):
        return unseen
    if question.refusable and 400 <= seen.reply.code <= 599:
        return ""
    if question.ends is End.STOPPED:
        return _passed(seen)
    if question.ends is not End.TAKEN:
        return _not_refused(question, seen)
    if not seen.reply.taken:
        return str(seen.reply)
    if question.content not in (*MESSAGES, Content.VIRUS):
        return ""
    if not seen.arrived:
        return f"it is taken, and {seen.elsewhere or 'nothing of it leaves'}"
    return (
        _route_fault(question, seen.arrived)
        or judges.nexthops.loop(seen.arrived)
        or judges.nexthops.unread(seen.arrived)
        or _told(question, seen.arrived)
        or judges.signers.fault(question, seen.arrived)
        or judges.nexthops.fault(question, seen.arrived)
    )


def _passed(seen: Seen) -> str:
    """Return how a virus passes, or that it wasn't asked about."""
    if seen.reply.command not in ("the message", "sendmail(1)"):
        return f"not asked: {seen.reply}"
    if seen.arrived:
        return "it is taken, and leaves"
    if any(eicar.ATTACHED in each.message for each in seen.carried):
        return "it comes back to its sender, the virus with it"
    return f"it {seen.elsewhere}" if seen.moving else ""


def _not_refused(question: Question, seen: Seen) -> str:
    """Return how what is to be refused isn't."""
    reply = seen.reply
    if reply.taken:
        return f"it is taken ({reply})"
    if question.ends is End.REFUSED_FOR_GOOD and not 500 <= reply.code <= 599:
        return f"it isn't refused for good: {reply}"
    if question.ends is End.PUT_OFF and reply.code != 450:
        return f"it isn't put off: {reply}"
    return "" if reply.code > 0 else str(reply)


def _route_fault(question: Question, arrived: Sequence[Arrived]) -> str:
    """Return what is wrong with where a message leaves to."""
    if not question.routed:
        return ""
    where = [f"{each.service}:{each.nexthop}" for each in arrived]
    if question.routed == "outside":
        stays = [each for each in arrived if each.program in ("local", "virtual", "discard")]
        return f"it goes to {', '.join(where)}" if len(stays) == len(arrived) else ""
    return "" if question.routed in where else f"it goes to {', '.join(where)}, and should to {question.routed}"


def _told(question: Question, arrived: Sequence[Arrived]) -> str:
    """Return what a message tells of who has sent it, where that is to stay inside."""
    for each in arrived if question.hidden else ():
        for field in re.findall(rb"(?mi)^Received:.*(?:\n[ \t].*)*", each.message.partition(b"\n\n")[0]):
            for secret in question.hidden:
                if secret.encode() in field:
                    return f"it leaves with {secret} in a Received: header"
    return ""


class Nexthops:
    """Where mail is handed on to: servers of the site's, and others that its configuration names.

    :param faults: what keeps each from taking mail.
    :param domains: for which the site says where mail goes, or that it can be asked there.
    :param own: the relay's name.
    :param astray: why a service's client finds no server outside, by its name; an empty text where it does.
    :param mailboxes: what has mail stay here, likewise.
    """

    def __init__(
        self,
        faults: Mapping[Handed, str],
        domains: Collection[str],
        own: str,
        astray: Mapping[str, str],
        mailboxes: Mapping[str, Local],
    ) -> None:
        self.faults = faults
        self.domains = domains
        self.own = own.lower()
        self.astray = astray
        self.mailboxes = mailboxes

    @classmethod
    def of(cls, chain: Chain, settings: dict[str, Any], seen: Mapping[Question, Seen], version: int) -> Nexthops:
        """Ask what is seen to be one; in place of servers outside that the site doesn't name, one that is like them.

        :param seen: by each question; those whose messages have to be taken there say so.
        :param version: of IP, that Postfix speaks.
        """
        named = settings["verify"].get("outside")
        to_mx = [route["domain"] for route in settings["postfix"]["routes"] if route["mx"]]
        domains = [*settings["domains"], *to_mx, *([named] if named else [])]
        arrived = [each for question in seen if question.handed for each in seen[question].arrived]
        handed = [_handed(each) for each in arrived if each.service in chain.clients]
        with world.served(str(chain.file(settings["postfix"]["certificate_chain"])), version) as outside:
            asked = {}
            for each in handed:
                if not _is_outside(each, domains):
                    asked[each.recipient] = each
                elif chain.clients[each.service].tls in world.LEVELS:
                    asked[each.recipient] = each._replace(nexthop=outside)
            faults = chain.handed(settings, list(asked.values())) if asked else {}
        return cls(
            {each: faults[asked[each.recipient]] for each in handed if each.recipient in asked},
            domains,
            settings["hostname"],
            {name: leaving.astray(client, chain.answer) for name, client in chain.clients.items()},
            chain.mailboxes,
        )

    def loop(self, arrived: Sequence[Arrived]) -> str:
        """Return that mail is handed to the relay itself, which refuses that ("mail for HOST loops back to myself")."""
        for each in arrived if all(each.program in leaving.PROGRAMS for each in arrived) else ():
            if re.sub(r"[\[\]]|:\w+$", "", each.nexthop).lower() == self.own:
                return f"it goes to {each.service}:{each.nexthop}, which is this relay itself"
        return ""

    def unread(self, arrived: Sequence[Arrived]) -> str:
        """Return why what stays on the relay gets to nobody here."""
        staying = [(self.mailboxes[each.service], each) for each in arrived if each.service in self.mailboxes]
        faults = [local.fault(each.recipient.rpartition("@")[0] or each.recipient) for local, each in staying]
        return f"it stays here, and {faults[0]}" if len(faults) == len(arrived) and all(faults) else ""

    def fault(self, question: Question, arrived: Sequence[Arrived]) -> str:
        """Return what keeps a server that mail goes to from taking it."""
        for each in map(_handed, arrived if question.handed else ()):
            outside = _is_outside(each, self.domains)
            if outside and (why := self.astray.get(each.service)):
                return f"{each.service} finds no server outside: {why}"
            if fault := self.faults.get(each):
                return f"{'a server outside' if outside else f'{each.service}:{each.nexthop}'} doesn't take it: {fault}"
        return ""


def _handed(arrived: Arrived) -> Handed:
    return Handed(arrived.service, arrived.nexthop, arrived.recipient)


def _is_outside(handed: Handed, domains: Collection[str]) -> bool:
    """Tell whether an address elsewhere says itself where it goes, and not the site."""
    domain = handed.recipient.rpartition("@")[2]
    return domain not in domains and handed.nexthop == domain


class Signers:
    """The keys that the site signs with."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.keys = {
            (key["domain"], key["selector"]): key["path"]
            for key in (settings["opendkim"]["signing_keys"] if settings["opendkim"]["enabled"] else ())
        }

    def fault(self, question: Question, arrived: Sequence[Arrived]) -> str:
        """Return what is wrong with the signatures of a message as it leaves."""
        if question.signer is None:
            return ""
        for each in arrived:
            made = signatures(each.message)
            if question.signer == ("", ""):
                if own := sorted(set(made) & set(self.keys)):
                    return f"it leaves signed by {named(own[0])}"
            elif question.signer == ANY:
                if not (own := [signer for signer in made if signer in self.keys]):
                    return "it leaves signed by nobody of the site's"
                if said := self._verified(each.message, own[0]):
                    return said
            elif question.signer not in made:
                other = f"by {', '.join(map(named, made))}" if made else "by nobody"
                return f"it leaves signed {other}, and should by {named(question.signer)}"
            elif said := self._verified(each.message, question.signer):
                return said
        return ""

    def _verified(self, message: bytes, signer: tuple[str, str]) -> str:
        """Return why a signature isn't what a receiver takes, with the key's own public half for the record."""
        tags = signatures(message)[signer]
        if (algorithm := tags.get("a", "").lower()) not in ALGORITHMS:
            return f"its signature by {named(signer)} is made with {algorithm}, which receivers don't take (RFC 8301)"
        if "x" in tags and (seconds := int(tags["x"]) - int(tags.get("t", 0))) < HOLDS:
            return f"its signature by {named(signer)} ends after {seconds} s (RFC 6376, 3.5, x=), and mail may wait"
        try:
            dkim = packages.imported("dkim", "dkimpy")
        except NotInstalledError as missing:
            return f"its signature can't be verified: {missing}"
        record = f"v=DKIM1; k=rsa; p={keys.key_info(self.keys[signer])['public']}".encode()
        mail = message.replace(b"\n", b"\r\n")
        try:
            if dkim.verify(mail, dnsfunc=lambda *_, **__: record):
                return ""
        except dkim.DKIMException as error:
            return f"its signature by {named(signer)} fails: {error}"
        return f"its signature by {named(signer)} fails: something was changed after it"


def signatures(message: bytes) -> dict[tuple[str, str], dict[str, str]]:
    """Return the tags of each DKIM signature, by domain and selector (RFC 6376, 3.5)."""
    head = re.sub(rb"\n[ \t]+", b" ", message.partition(b"\n\n")[0])
    found = {}
    for value in re.findall(rb"(?mi)^DKIM-Signature:(.*)$", head):
        tags = dict(re.findall(r"\b([a-z]+)\s*=\s*([^;\s]+)", value.decode(errors="replace")))
        found[tags.get("d", "").lower(), tags.get("s", "")] = tags
    return found


def named(signer: tuple[str, str]) -> str:
    """Return the name of the record that a signature is checked with (RFC 6376, 3.6.2.1)."""
    return f"{signer[1]}._domainkey.{signer[0]}"
