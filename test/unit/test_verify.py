"""Every check of a relay has an outcome, whatever is missing or dead on the host."""

from __future__ import annotations

import shutil
import socketserver
import sys
import threading
from typing import Any

import pytest
from minions import Settings
from smtpout_core import verify
from smtpout_core.directory import ask
from smtpout_core.errors import Doubt
from smtpout_core.host import Host

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix isn't installed")


@pytest.fixture
def outcomes(settings: Settings, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Return what is said, by check, of a host on which no daemon of the site runs and Salt's Python has no ldap3."""
    monkeypatch.setitem(sys.modules, "ldap3", None)
    made = settings(site)
    for room, key in (("clamav", "socket"), ("opendkim", "socket")):
        made[room][key] = "unix:/nonexistent"
    made["postfix"]["maps"]["transport_maps"]["entries"] = {"domain01.dom": "smtp:[127.0.0.1]:1"}
    made["verify"]["outside"] = "[127.0.0.1]:1"
    made["directory"]["servers"] = ["ldap://127.0.0.1:1/"]
    made["clamav"]["clamd"]["socket"] = made["saslauthd"]["socket_directory"] = "/nonexistent"
    return {check["check"]: check for check in verify.run(made, Host())}


def test_a_missing_package_fails_its_own_check_and_no_other(outcomes: dict[str, dict[str, str]]) -> None:
    failed = outcomes["the directory answers as the pillar says"]
    assert failed["state"] == "failed"
    assert failed["seen"].startswith("ldap3 is missing from Salt's Python")
    assert outcomes["the queue has room for mail"]["state"] == "ok"


def test_what_failed_names_the_unit_to_look_at(outcomes: dict[str, dict[str, str]]) -> None:
    units = {
        "the scanner finds the EICAR test virus": "clamav-daemon",
        "the clamav milter answers": "clamav-milter",
        "the opendkim milter answers": "opendkim",
        "logins are checked": "saslauthd",
        "Postfix greets and offers what it should": "postfix@-",
        "Postfix listens where its configuration says": "postfix@-",
        "programs on the relay send": "postfix@-",
    }
    for check, unit in units.items():
        assert outcomes[check]["state"] == "failed", check
        assert outcomes[check]["seen"].endswith(f" (systemctl status {unit}; journalctl -u {unit})")


@pytest.mark.parametrize("sentence", ["the delivery layer answers", "mail gets out"])
def test_a_server_that_mail_goes_to_and_that_is_down_is_a_warning(
    outcomes: dict[str, dict[str, str]], sentence: str
) -> None:
    check = outcomes[sentence]
    assert check["state"] == "warning"
    assert check["seen"].startswith("smtp:[127.0.0.1]:1 doesn't take mail, which waits in the queue: 127.0.0.1:1: ")


def test_what_nobody_foresaw_fails_its_own_check_and_no_other() -> None:
    def ask() -> str:
        raise KeyError("nobody knew")

    said = verify._outcome(verify.Check("a check", "unit", ask))
    assert said == {"check": "a check", "state": "failed", "seen": "it can't be asked: KeyError: 'nobody knew'"}


def test_a_server_that_speaks_no_ldap_is_told(settings: Settings, site: dict[str, Any]) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(4096):
                self.request.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nserver: " + b"x" * 99)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site["directory"]["servers"] = [f"ldap://127.0.0.1:{server.server_address[1]}/"]
        said = ask.faults(settings(site)).values()
        server.shutdown()
    assert [line.partition("/: ")[2] for line in said] == ["what answers there speaks no LDAP"]


def test_a_server_that_takes_less_than_clients_are_offered_is_told(
    settings: Settings, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for reply in (b"220 box", b"250-box\r\n250 SIZE 10240000", b"221 bye"):
                self.wfile.write(reply + b"\r\n")
                self.rfile.readline()

    said = {"message_size_limit": "26214400", "smtputf8_enable": "yes", "relayhost": "", "default_transport": "smtp"}
    made = settings(site)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"[127.0.0.1]:{server.server_address[1]}"
        levels = dict.fromkeys(("smtp_tls_security_level", "lmtp_tls_security_level"), "may")
        monkeypatch.setattr(
            verify.conf, "values", lambda *_: {**said, **levels, "queue_directory": "/var/spool/postfix"}
        )
        made["postfix"]["maps"]["transport_maps"]["entries"] = {"domain01.dom": f"smtp:{there}"}
        with pytest.raises(Doubt) as told:
            verify._delivery(made)
        assert str(told.value) == (
            f"smtp:{there} takes no message of over 10240000 bytes, and message_size_limit is 26214400; no SMTPUTF8, "
            "and smtputf8_enable is yes (smtpout:postfix:main): what is taken beyond that bounces"
        )
        made["verify"]["outside"] = there
        assert verify._outside(made) == there.replace("[", "").replace("]", ""), "anybody's limits are their own"
        said["relayhost"] = there
        with pytest.raises(Doubt, match="over 10240000 bytes"):
            verify._outside(made)
        server.shutdown()
