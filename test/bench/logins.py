"""Logins by the thousand at saslauthd's own socket, run as a script on the relay.

Input, as JSON: socket, user, password, service, processes and seconds. Output, as JSON: accepted, refused, seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import struct
import sys
import time
from typing import Any


def login(path: str, request: bytes) -> bool:
    """Ask saslauthd once, as smtpd does: a connection a question."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(request)
        # The reply's length comes by itself; who hangs up then is a broken pipe to saslauthd.
        client.recv(2, socket.MSG_WAITALL)
        return client.recv(256).startswith(b"OK")


def work(given: dict[str, Any]) -> tuple[int, int]:
    """Log in until the time is over; return how many logins were accepted and refused."""
    # Four fields, each a length of 16 bits and its bytes (saslauthd's ipc_unix.c).
    fields = (given["user"], given["password"], given["service"], "")
    request = b"".join(struct.pack("!H", len(field)) + field.encode() for field in fields)
    accepted, refused, ends = 0, 0, time.monotonic() + given["seconds"]
    while time.monotonic() < ends:
        if login(given["socket"], request):
            accepted += 1
        else:
            refused += 1
    return accepted, refused


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    started = time.monotonic()
    with multiprocessing.Pool(asked["processes"]) as pool:
        counts = pool.map(work, [asked] * asked["processes"], chunksize=1)
    json.dump(
        {
            "accepted": sum(accepted for accepted, _ in counts),
            "refused": sum(refused for _, refused in counts),
            "seconds": time.monotonic() - started,
        },
        sys.stdout,
    )
