"""How many messages a second the policy service answers for, and at what CPU: python3 test/bench/policy.py [LOGINS].

The service as it is installed, with a connection for each message as smtpd has it (request_limit=1), ten sessions at a
time, logins in turn. It keeps its counts on this disk meanwhile. Load and service share the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "_utils"))

from smtpout_core.daemons import program  # noqa: E402 - the package lies in the repository
from smtpout_core.daemons.limits import daemon  # noqa: E402

MESSAGES, SESSIONS = 30_000, 10
REQUEST = """request=smtpd_access_policy
protocol_state=DATA
protocol_name=ESMTP
client_address=192.0.2.{number}
client_name=client-{number}.example.com
reverse_client_name=client-{number}.example.com
helo_name=client-{number}.example.com
sender=login-{login}@domain01.dom
recipient=
recipient_count=1
queue_id=4hG7dK1mXzY{number}
instance=4bd.6926f3a1.{login}.0
size=0
etrn_domain=
sasl_method=PLAIN
sasl_username=login-{login}
sasl_sender=
ccert_subject=
ccert_issuer=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=
server_address=192.0.2.1
server_port=587
compatibility_level=3.6

"""


def spent(pid: int) -> float:
    """Return the seconds of CPU that a process has had (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Return the MB that a process has in memory (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


async def load(path: str, logins: int, waits: list[float]) -> None:
    """Send all messages; put down how long each waited for its answer."""
    numbers = iter(range(MESSAGES))

    async def session() -> None:
        for number in numbers:
            began = time.perf_counter()
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST.format(login=number % logins, number=number % 250).encode())
            answer = await reader.readuntil(b"\n\n")
            assert answer == b"action=DUNNO\n\n", answer
            writer.close()
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(session() for _ in range(SESSIONS)))


def main() -> None:
    """Measure, and print."""
    logins, waits = int(sys.argv[1]) if sys.argv[1:] else 10_000, list[float]()
    with tempfile.TemporaryDirectory() as folder:
        code, site, path = (f"{folder}/{name}" for name in ("policy.pyz", "limits.json", "socket"))
        Path(code).write_bytes(program.archive("smtpout_core.daemons.limits.policy", daemon.ROOMS))
        limit = {"hour": 1000, "day": 5000}
        given = {"messages": limit, "recipients": limit, "exceptions": {}, "accounts": "", "notice": None}
        Path(site).write_text(json.dumps(given), encoding="utf-8")
        argv = ["/usr/bin/python3", "-I", code, site, "--socket", path, "--state", f"{folder}/counts.json"]
        with subprocess.Popen(argv) as service:
            while not os.path.exists(path):
                time.sleep(0.02)
            time.sleep(0.3)
            bare, before, began = memory(service.pid), spent(service.pid), time.perf_counter()
            asyncio.run(load(path, logins, waits))
            seconds, cpu = time.perf_counter() - began, spent(service.pid) - before
            time.sleep(6)  # until they are saved
            size = os.path.getsize(f"{folder}/counts.json") // 1024
            saving, began = spent(service.pid), time.perf_counter()
            time.sleep(20)
            idle = (spent(service.pid) - saving) / (time.perf_counter() - began)
            print(f"{MESSAGES} messages of {logins} logins: {MESSAGES / seconds:.0f} a second")
            print(f"CPU {1000 * cpu / MESSAGES:.3f} ms a message; at rest {100 * idle:.2f} % of a core")
            waits.sort()
            print(
                f"answers: median {1000 * waits[len(waits) // 2]:.2f} ms, p99 {1000 * waits[-len(waits) // 100]:.2f} ms"
            )
            print(f"memory {bare} MB before, {memory(service.pid)} MB with all of them; saved {size} KB")
            service.terminate()


if __name__ == "__main__":
    main()
