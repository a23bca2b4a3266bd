"""A chain whose directory hangs: what clients are told on ports 25 and 587, by Postfix, HAProxy and saslauthd."""

from __future__ import annotations

import signal
import smtplib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from conftest import Site, real  # type: ignore[attr-defined]
from slapd_server import USER_PASSWORD, running_slapd
from smtpout_core.daemons import haproxy
from smtpout_core.daemons.postfix import aside
from smtpout_core.promises import chain as chains
from smtpout_core.promises.promise import SERVERS, SUBMISSION


class Client(aside.Session):
    """Somebody from outside."""

    first = b"PROXY TCP4 203.0.113.9 198.51.100.1 4242 25\r\n"


@real
def test_nobody_is_told_that_a_password_is_wrong_while_the_directory_hangs(
    site: Callable[..., Site],
) -> None:
    # Not in /tmp, which is the chain's own.
    with running_slapd(host="localhost") as slapd, tempfile.TemporaryDirectory(dir="/var/lib") as folder:
        Path(folder).chmod(0o755)
        authority = Path(folder, "ca.pem")
        authority.write_text(slapd.ca_file.read_text())
        made = site(
            directory={"servers": [f"ldaps://localhost:{slapd.tls_port}"], "ca_file": str(authority), "proxy": True}
        )
        with made.staged() as where, chains.started(made.settings, where, ["203.0.113.9"]) as chain:
            assert login(chain.doors[SERVERS]) == 235
            assert login(chain.doors[SERVERS], "wrong") == 535
            try:
                slapd.process.send_signal(signal.SIGSTOP)
                while haproxy.servers(f"{chain.folder}/tmp/haproxy/status")[0].up:
                    time.sleep(0.1)
                assert [login(chain.doors[door]) for door in (SERVERS, SUBMISSION)] == [454, 451]
            finally:
                slapd.process.send_signal(signal.SIGCONT)


def login(door: str, password: str = USER_PASSWORD) -> int:
    """Return what a login is answered with, or the greeting."""
    try:
        with Client(door, timeout=20) as client:
            client.starttls(context=aside.trusting())
            return client.login("usuario01", password)[0]
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
