"""What is told before it ends; test/lab/test_ageing.py has the checks that a booted relay can show."""

from __future__ import annotations

import datetime as dt
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core import verify
from smtpout_core.daemons import clamav
from smtpout_core.host import Host
from smtpout_core.verify import ageing

NOW = dt.datetime.now(dt.timezone.utc)


@contextmanager
def clamd(place: Path, says: str) -> Iterator[str]:
    """Serve as a clamd of this version; a database with a date has its maker's signature, so no test can make one."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            assert self.request.recv(64) == b"zVERSION\0"
            self.request.sendall(says.encode() + b"\0")

    with socketserver.ThreadingUnixStreamServer(str(place), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix:{place}"
        server.shutdown()


@pytest.mark.parametrize(("days", "state"), [(0, "ok"), (3, "ok"), (4, "warning"), (400, "warning")])
def test_signatures_are_told_once_they_are_older_than_the_site_says(
    settings: Settings, site: dict[str, Any], tmp_path: Path, days: int, state: str
) -> None:
    made = settings(site)
    made["directory"]["servers"] = ["ldap://127.0.0.1:1/"]
    made["postfix"]["maps"]["transport_maps"]["entries"] = {"domain01.dom": "smtp:[127.0.0.1]:1"}
    made["verify"]["outside"], made["promises"]["mail_is_signed"] = "[127.0.0.1]:1", False  # no DNS is waited for
    when = (NOW - dt.timedelta(days=days, hours=1)).astimezone()
    with clamd(tmp_path / "ctl", f"ClamAV 1.4.3/27800/{when:%a %b %d %H:%M:%S %Y}") as socket:
        made["clamav"]["clamd"]["socket"] = socket.removeprefix("unix:")
        [seen] = [each for each in verify.run(made, Host()) if each["check"] == "the scanner's signatures are new"]
    assert (seen["state"], seen["seen"].partition(":")[0][:14]) == (state, f"they are from {when:%Y}"[:14])
    assert f", {days} days old" in seen["seen"]
    assert ("journalctl -u clamav-freshclam" in seen["seen"]) == (state == "warning")


@pytest.mark.parametrize("says", ["ClamAV 1.0.7", "ClamAV 1.4.3/27800/some day"])
def test_a_database_without_a_date_is_nothing_to_tell(tmp_path: Path, says: str) -> None:
    with clamd(tmp_path / "ctl", says) as socket:
        assert clamav.signatures_made(socket) is None


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["relay.domain01.dom"], False),
        (["RELAY.domain01.dom"], False),
        (["*.domain01.dom"], False),
        (["*.dom"], True),
        (["domain01.dom"], True),
        ([], True),
    ],
)
def test_a_certificate_has_the_relays_name_as_clients_compare_it(names: list[str], told: bool) -> None:
    served = [("/etc/site/relay.pem", {"names": names})]
    if not told:
        assert ageing._certificate_names(served, "relay.Domain01.dom") == "relay.domain01.dom"
    else:
        with pytest.raises(ageing.Doubt, match=r"and the relay is relay\.domain01\.dom"):
            ageing._certificate_names(served, "relay.Domain01.dom")


def test_a_mailbox_tells_how_old_it_is_in_either_form(tmp_path: Path) -> None:
    box = tmp_path / "root"
    assert ageing._first(str(box)) is None
    box.write_text("")
    assert ageing._first(str(box)) is None
    box.write_text(
        "From cron daemon  Thu Nov  5 09:00:00 2026\nSubject: one\n\n>From here\n\n"
        "From a@b.c  Mon Nov 16 09:00:00 2026\nSubject: two\n\nFrom nowhere\n"
    )
    assert time.ctime(ageing._first(str(box)) or 0) == "Thu Nov  5 09:00:00 2026"
    for damaged in ("From a@b.c  Mon Nix  5 09:00:00 2026\n", "no mailbox at all\n", "From"):
        box.write_text(damaged)
        assert time.time() - (ageing._first(str(box)) or 0) < 60
    for folder in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / folder).mkdir(parents=True)
    assert ageing._first(str(tmp_path / "Maildir")) is None
    (tmp_path / "Maildir/new/1.M1.relay").write_text("one")
    (tmp_path / "Maildir/tmp/2.M1.relay").write_text("half of one")
    assert time.time() - (ageing._first(str(tmp_path / "Maildir")) or 0) < 60
