"""Logins and recipients, one after the other, for some seconds: run on a server of the site's in the lab.

Arguments: the relay's address, seconds, user. The password comes on standard input. Output, as JSON: a list of [kind,
second of its beginning, seconds that it took, code of the answer]; the code 0 is none. A session whose answer comes
after the end counts, too.
"""

from __future__ import annotations

import contextlib
import json
import smtplib
import ssl
import sys
import threading
import time

TIMEOUT = 30


def login(host: str, port: int, user: str, password: str) -> int:
    """Log in, and return the code of the last answer."""
    context = ssl._create_unverified_context()  # noqa: S323 - the relay's certificate is self-made
    with smtplib.SMTP(host, port, "client.example", TIMEOUT) as client:
        client.starttls(context=context)
        return client.login(user, password)[0]


def recipient(host: str, user: str) -> int:
    """Name a user of the site's, and return the code of the answer."""
    with smtplib.SMTP(host, 25, "client.example", TIMEOUT) as client:
        client.mail("")
        return client.rcpt(f"{user}@domain01.dom")[0]


def main() -> None:
    """Go on until the time is over."""
    host, seconds, user = sys.argv[1:]
    password, begun = sys.stdin.read(), time.monotonic()
    seen: list[tuple[str, float, float, int]] = []

    def repeat(kind: str) -> None:
        while time.monotonic() < begun + float(seconds):
            at, code = time.monotonic(), 0
            with contextlib.suppress(OSError, smtplib.SMTPServerDisconnected):
                try:
                    code = recipient(host, user) if kind == "RCPT" else login(host, int(kind), user, password)
                except smtplib.SMTPResponseException as refused:
                    code = refused.smtp_code
            seen.append((kind, at - begun, time.monotonic() - at, code))
            time.sleep(0.05)

    threads = [threading.Thread(target=repeat, args=[kind]) for kind in ("587", "587", "25", "RCPT")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
