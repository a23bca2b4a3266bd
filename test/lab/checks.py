"""The recipe's own checks: what bin/demo shows and the lab suite asserts, one function each.

Each takes the lab and its users' way in, returns what was seen in one line, and raises AssertionError with what was
seen instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab import mail
from lab.lab import Lab

USER = "usuario01"
# What a check is given: the lab, and how its users come in.
Check = Callable[[Lab, mail.Entry], str]
CHECKS: dict[str, Check] = {}


def check(sentence: str) -> Callable[[Check], Check]:
    """Put a function among the checks, under the sentence that it proves."""

    def put(function: Check) -> Check:
        CHECKS[sentence] = function
        return function

    return put


def salt(lab: Lab, function: str, *arguments: str) -> Any:
    """Return what an execution function of the relay answers."""
    return lab.salt(*lab.way.ask, function, *arguments, timeout=300)


def verify(lab: Lab, *states: str) -> list[dict[str, str]]:
    """Return the checks of smtpout.verify on the relay that ended so: ok, warning, failed."""
    checks = lab.salt(*lab.way.ask, "smtpout.verify", check=False, timeout=300)
    return [check for check in checks if check["state"] in states]


def publish_keys(lab: Lab) -> list[str]:
    """Publish the relay's DKIM records in the lab's DNS, as an administrator would, and return their names."""
    records = salt(lab, "opendkim.public_records")
    lab.host("outside").run(["/usr/local/lib/lab/publish", "-"], input=records + "\n", timeout=30)
    return [line.split()[0] for line in records.splitlines() if "._domainkey." in line]


@check("saslauthd accepts usuario01")
def accepts_the_user(lab: Lab, _entry: mail.Entry) -> str:
    """The recipe's testsaslauthd, without the password in argv: it is the pillar's verify user."""
    answer = salt(lab, "saslauthd.authenticate", USER)
    assert answer is True, answer
    return f"{USER}: OK"


@check("saslauthd refuses a wrong password")
def refuses_a_wrong_password(lab: Lab, _entry: mail.Entry) -> str:
    """A password that nobody has is no secret: it may stand in argv."""
    answer = salt(lab, "saslauthd.authenticate", USER, "password=wrong")
    assert answer is False, answer
    return f"{USER}, wrong password: NO"


@check("SMTP AUTH answers 235")
def logs_in(lab: Lab, entry: mail.Entry) -> str:
    """A user logs in on the submission port."""
    answers = mail.session(lab, entry=entry, user=USER, address=mail.STRANGER)
    assert (answers[-1].command, answers[-1].code) == ("AUTH", 235), answers
    return str(answers[-1])


@check("a user's mail to domain01.dom reaches the delivery layer")
def reaches_delivery(lab: Lab, entry: mail.Entry) -> str:
    """Internal mail takes the transport map's way."""
    return _sent(lab, entry, "usuario01@domain01.dom", "delivery")[0]


@check("a user's mail to domain02.dom reaches the delivery layer")
def second_domain_reaches_delivery(lab: Lab, entry: mail.Entry) -> str:
    """The second domain has a route as well, which the recipe's last example forgot."""
    return _sent(lab, entry, "usuario02@domain02.dom", "delivery")[0]


@check("a user's mail to outside.example leaves through its MX")
def leaves_through_mx(lab: Lab, entry: mail.Entry) -> str:
    """External mail is routed by DNS."""
    seen, copy = _sent(lab, entry, "somebody@outside.example", "outside")
    assert "outside.example" in copy["Received"], copy["Received"]
    return seen


@check("its DKIM signature verifies through DNS")
def signature_verifies(lab: Lab, entry: mail.Entry) -> str:
    """The receiver looks the key up under the selector that the signature names."""
    copy = _sent(lab, entry, "somebody@outside.example", "outside")[1]
    results = " ".join(copy.get_all("Authentication-Results", ["no Authentication-Results"])).split()
    assert "dkim=pass" in " ".join(results), results
    return " ".join(results)


@check("an EICAR attachment is refused with the virus named")
def virus_is_refused(lab: Lab, entry: mail.Entry) -> str:
    """The scanner answers within the session, so that the sender learns of it at once."""
    sender = f"{USER}@domain01.dom"
    message = mail.compose(sender, "usuario02@domain02.dom", attachment=mail.EICAR)
    answers = mail.session(
        lab, entry=entry, user=USER, sender=sender, recipients=["usuario02@domain02.dom"], message=message
    )
    assert answers[-1].command == "DATA", answers
    assert 500 <= answers[-1].code < 600, answers
    assert "Eicar" in answers[-1].text, answers
    return str(answers[-1])


@check("an unknown recipient of domain01.dom is refused by the LDAP map")
def unknown_recipient_of_the_first_domain(lab: Lab, _entry: mail.Entry) -> str:
    """The main domain."""
    return _unknown(lab, "nobody@domain01.dom")


@check("an unknown recipient of domain02.dom is refused by the LDAP map")
def unknown_recipient_of_the_second_domain(lab: Lab, _entry: mail.Entry) -> str:
    """The second one, which the recipe forgot."""
    return _unknown(lab, "nobody@domain02.dom")


@check("a stranger's mail to outside.example is refused")
def stranger_is_refused(lab: Lab, _entry: mail.Entry) -> str:
    """The relay is not open."""
    answers = mail.session(
        lab, address=mail.STRANGER, sender="a@stranger.example", recipients=["somebody@outside.example"]
    )
    assert answers[-1].command.startswith("RCPT"), answers
    assert answers[-1].code == 554, answers
    return str(answers[-1])


def _sent(lab: Lab, entry: mail.Entry, recipient: str, host: str) -> tuple[str, Any]:
    """Send the user's mail, wait for it where it has to arrive; return what was seen, and the copy."""
    sender = f"{USER}@domain01.dom"
    message = mail.compose(sender, recipient)
    answers = mail.session(
        lab, entry=entry, user=USER, address=mail.STRANGER,
        sender=sender, recipients=[recipient], message=message,
    )  # fmt: skip
    assert answers[-1].command == "DATA", answers
    assert answers[-1].code == 250, answers
    copies = mail.arrived(lab.host(host), message)
    assert len(copies) == 1, f"{answers[-1]}, but {host} has {len(copies)} copies"
    return f"{answers[-1]}; arrived at {host}", copies[0]


def _unknown(lab: Lab, recipient: str) -> str:
    """Have an unknown recipient refused, while a known one of the same domain is accepted."""
    domain = recipient.partition("@")[2]
    known = {"domain01.dom": "usuario01", "domain02.dom": "usuario02"}[domain] + f"@{domain}"
    answers = mail.session(lab, address=mail.STRANGER, sender="a@outside.example", recipients=[known, recipient])
    assert answers[-2].code == 250, answers
    assert (answers[-1].code, "relay recipient table" in answers[-1].text) == (550, True), answers
    return str(answers[-1])
