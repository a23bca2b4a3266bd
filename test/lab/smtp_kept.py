"""An SMTP client that keeps its session, run at a client's address: a line in, a reply out, until its input ends.

The first line of the input is JSON: host, port, tls ("no", "starttls", "implicit"), user and password (or none). Each
further one is a text in JSON, sent as it is; the answer is a line of JSON, [code, text], and 0 where it was closed.
"""

from __future__ import annotations

import base64
import json
import sys

from smtp_raw import Connection  # type: ignore[import-not-found]  # it is run from its own folder


def main() -> None:
    """Hold the session."""
    given = json.loads(sys.stdin.readline())
    connection = Connection(given["host"], given["port"], given["tls"])
    lines = ["EHLO client.example"]
    if given["tls"] != "starttls":
        connection.reply()
    if given["user"]:
        words = f"\0{given['user']}\0{given['password']}".encode()
        lines.append(f"AUTH PLAIN {base64.b64encode(words).decode()}")
    for line in lines:
        connection.send(f"{line}\r\n".encode())
        code, text = connection.reply()
    print(json.dumps([code, text]), flush=True)
    for line in sys.stdin:
        connection.send(json.loads(line).encode() + b"\r\n")
        print(json.dumps(connection.reply()), flush=True)


if __name__ == "__main__":
    main()
