"""An SMTP client of the lab, run at a client's address: one session from standard input, its answers to standard output.

Input, as JSON: host, port, tls ("no", "starttls", "implicit"), user and password (or none), sender, recipients, and
message (or none: the session ends after the recipients). Output, as JSON: a list of [command, code, text], in the order
of the session; it ends where the server first refused. The password stands in no argument and in no output.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import sys
from typing import Any

TIMEOUT = 60


def converse(session: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Hold a session and return its answers."""
    answers: list[tuple[str, int, str]] = []

    def said(command: str, answer: tuple[int, bytes]) -> bool:
        answers.append((command, answer[0], answer[1].decode(errors="replace")))
        return answer[0] < 400

    # The relay's certificate is self-made; what is looked at here is the mail, not the certificate.
    context = ssl._create_unverified_context()  # noqa: S323
    if session["tls"] == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(timeout=TIMEOUT, context=context, local_hostname="client.example")
    else:
        client = smtplib.SMTP(timeout=TIMEOUT, local_hostname="client.example")
    client._host = session["host"]  # what SMTP_SSL says in its TLS greeting
    with client:
        if not said("CONNECT", client.connect(session["host"], session["port"])) or not said("EHLO", client.ehlo()):
            return answers
        if session["tls"] == "starttls":
            if not said("STARTTLS", client.starttls(context=context)):
                return answers
            said("EHLO", client.ehlo())
        if session["user"]:
            client.user, client.password = session["user"], session["password"]
            try:
                accepted = said("AUTH", client.auth("PLAIN", client.auth_plain))
            except smtplib.SMTPAuthenticationError as error:
                accepted = said("AUTH", (error.smtp_code, error.smtp_error))
            if not accepted:
                return answers
        if not session["sender"] or not said("MAIL", client.mail(session["sender"])):
            return answers
        if not all([said(f"RCPT {recipient}", client.rcpt(recipient)) for recipient in session["recipients"]]):
            return answers
        if session["message"]:
            try:
                said("DATA", client.data(session["message"].encode()))
            except smtplib.SMTPDataError as error:
                said("DATA", (error.smtp_code, error.smtp_error))
    return answers


if __name__ == "__main__":
    json.dump(converse(json.load(sys.stdin)), sys.stdout)
