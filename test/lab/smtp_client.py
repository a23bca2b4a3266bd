"""An SMTP client of the lab, run at a client's address: one session from standard input, answers to standard output.

Input, as JSON: host, port, tls ("no", "starttls", "implicit"), user and password (or none), sender, recipients, and
message (or none: the session ends after the recipients). Output, as JSON: a list of [command, code, text], in the order
of the session; it ends where the server first refused. The password stands in no argument and in no output.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

TIMEOUT = 60
Step = tuple[str, Callable[[], tuple[int, bytes]]]


def converse(session: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Hold a session and return its answers."""
    answers: list[tuple[str, int, str]] = []
    # The relay's certificate is self-made; what is looked at here is the mail, not the certificate.
    context = ssl._create_unverified_context()  # noqa: S323 - as said
    if session["tls"] == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(timeout=TIMEOUT, context=context, local_hostname="client.example")
    else:
        client = smtplib.SMTP(timeout=TIMEOUT, local_hostname="client.example")
    client._host = session["host"]  # type: ignore[attr-defined]  # the name that SMTP_SSL greets with
    with client:
        for command, ask in steps(client, session, context):
            if command == "DATA" and any(code >= 400 for _, code, _ in answers):
                break
            try:
                code, text = ask()
            except smtplib.SMTPResponseException as error:
                code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
            answers.append((command, code, text.decode(errors="replace")))
            if code >= 400 and not command.startswith("RCPT"):
                break
    return answers


def steps(client: smtplib.SMTP, session: dict[str, Any], context: ssl.SSLContext) -> Iterator[Step]:
    """Yield the commands of a session, each with what says it."""
    yield "CONNECT", lambda: client.connect(session["host"], session["port"])
    yield "EHLO", client.ehlo
    if session["tls"] == "starttls":
        yield "STARTTLS", lambda: client.starttls(context=context)
        yield "EHLO", client.ehlo
    if session["user"]:
        client.user, client.password = session["user"], session["password"]
        yield "AUTH", lambda: client.auth("PLAIN", client.auth_plain)
    if session["sender"] or session["recipients"]:  # the null sender is one
        yield "MAIL", lambda: client.mail(session["sender"])
        for recipient in session["recipients"]:
            yield f"RCPT {recipient}", lambda recipient=recipient: client.rcpt(recipient)  # type: ignore[misc]  # bound now
        if session["message"]:
            yield "DATA", lambda: client.data(session["message"].encode())


if __name__ == "__main__":
    json.dump(converse(json.load(sys.stdin)), sys.stdout)
