"""HAProxy before the directory: real ones, with the formula's own configuration, before real directory servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from minions import Settings, minion
from slapd_server import USER_PASSWORD, Slapd, needs_slapd, running_slapd, saslauthd_conf
from smtpout_core.change import staging
from smtpout_core.change.templates import Templates
from smtpout_core.daemons import haproxy, saslauthd
from smtpout_core.daemons.haproxy import daemon
from smtpout_core.errors import Doubt, RelayError
from smtpout_core.host import Host
from smtpout_core.site import proxy
from smtpout_core.verify import directory

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
SASLAUTHD = shutil.which("saslauthd", path="/usr/sbin:/usr/bin")
real = [
    needs_slapd,
    pytest.mark.skipif(not HAPROXY or not SASLAUTHD or os.geteuid() != 0, reason="as root, with HAProxy and saslauthd"),
]


class Relay:
    """HAProxy before servers, with saslauthd, whose users it leads to them."""

    def __init__(self, place: Path, servers: list[Slapd], uris: list[str]) -> None:
        self.place, self.servers = place, servers
        authority = place / "ca.pem"
        authority.write_text("".join(each.ca_file.read_text() for each in servers))
        pillar = servers[0].pillar(servers=uris, ca_file=str(authority), proxy=True)
        modules = minion(place, pillar)
        self.settings = modules["smtpout.settings"]()
        assert self.settings["valid"], self.settings
        host = Host(state_dir=str(place), cache_dir=str(place / "cache"), cache_file=modules["cp.cache_file"])
        [described] = daemon.described(self.settings, host)
        parts = [*map(Templates(self.settings, host).rendered, described.files)]
        with staging.staged(parts, host) as stage:
            self.complaints = haproxy.complaints(stage.where, daemon.CONFIGURATION, self.settings["haproxy"])
            text = Path(stage.where[daemon.CONFIGURATION]).read_text()
        text = haproxy.aside(text, self.settings["haproxy"], str(place)).replace("@/run/saslauthd/", f"@{place}/")
        (place / "haproxy.cfg").write_text(text)
        self.settings["haproxy"]["status"] = f"{place}/status"
        self.settings["saslauthd"]["asked_at"] = f"{place}/logins"
        (place / "saslauthd.conf").write_text(saslauthd_conf(proxy.uri(f"{place}/directory"), ldap_timeout="5"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run both."""
        assert HAPROXY
        assert SASLAUTHD
        options = ["-a", "ldap", "-O", str(self.place / "saslauthd.conf"), "-m", str(self.place), "-n", "2", "-r", "-d"]
        with ExitStack() as stack:
            for argv in ([HAPROXY, "-db", "-f", str(self.place / "haproxy.cfg")], [SASLAUTHD, *options]):
                process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True)
                stack.callback(process.wait)
                stack.callback(os.killpg, process.pid, signal.SIGKILL)
            until(lambda: haproxy.settled(f"{self.place}/status"))
            until(lambda: saslauthd.ping(f"{self.place}/mux"))
            yield

    def logs_in(self, password: str = USER_PASSWORD) -> str:
        """Return what became of a login, as smtpd(8) sees it: ``yes``, ``no``, or ``later``."""
        try:
            good = saslauthd.authenticate("usuario01", password, socket=f"{self.place}/logins", timeout=20)
        except RelayError as error:
            return "later" if "without a whole answer" in str(error) else str(error)
        return "yes" if good else "no"

    def logins(self, seconds: float) -> list[tuple[str, float]]:
        """Return what became of logins for so long, each with the seconds that it took."""
        found, ends = [], time.monotonic() + seconds
        while time.monotonic() < ends:
            began = time.monotonic()
            found.append((self.logs_in(), time.monotonic() - began))
            time.sleep(0.02)
        return found

    def states(self) -> list[str]:
        return [each.status for each in haproxy.servers(f"{self.place}/status")]


def until(ask: Callable[[], object], seconds: float = 15) -> None:
    """Wait until something can be asked."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with suppress(RelayError):
            ask()
            return
        time.sleep(0.05)
    ask()


@pytest.fixture
def relay() -> Iterator[Callable[..., Relay]]:
    """Return what makes a relay of servers whose certificates are for these hosts."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hap-")))
        place.chmod(0o755)

        def made(*hosts: str, named: str = "localhost") -> Relay:
            servers = [stack.enter_context(running_slapd(host=host)) for host in hosts]
            for each in servers:
                stack.callback(each.process.send_signal, signal.SIGCONT)
            return Relay(place, servers, [f"ldaps://{named}:{each.tls_port}" for each in servers])

        yield made


@pytest.mark.usefixtures("relay")
class TestServers:
    """What becomes of logins when servers go."""

    pytestmark = real

    @pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
    def test_no_login_fails_when_a_server(self, relay: Any, fault: signal.Signals) -> None:
        made = relay("localhost", "localhost")
        assert made.complaints == []
        with made.running():
            assert made.states() == ["UP", "UP"]
            assert {each for each, _ in made.logins(1)} == {"yes"}
            made.servers[0].process.send_signal(fault)
            seen = made.logins(5)
            assert {each for each, _ in seen} == {"yes"}
            assert max(seconds for _, seconds in seen) < 4  # 3 on a machine that has time
            assert made.states() == ["DOWN", "UP"]
            assert made.logs_in("wrong") == "no"

    def test_without_any_server_nobody_is_told_that_a_password_is_wrong(self, relay: Any) -> None:
        made = relay("localhost", "localhost")
        with made.running():
            assert made.logs_in() == "yes"
            for each in made.servers:
                each.process.send_signal(signal.SIGSTOP)
            seen = made.logins(5)
            assert {each for each, _ in seen} == {"later"}
            assert made.states() == ["DOWN", "DOWN"]
            assert max(seconds for _, seconds in made.logins(1)) < 1
            with pytest.raises(Doubt) as told:  # that none answers is said by who asks them by name
                directory.reached(made.settings)
            assert str(told.value).count("it takes connections and doesn't answer") == 2 or "TLS isn't" in str(
                told.value
            )
            for each in made.servers:
                each.process.send_signal(signal.SIGCONT)
            until(lambda: answers(made))
            assert made.logs_in("wrong") == "no"

    def test_a_server_with_anothers_certificate_is_passed_by(self, relay: Any) -> None:
        made = relay("elsewhere.example", "localhost")
        with made.running():
            [wrong, right] = haproxy.servers(f"{made.place}/status")
            assert (wrong.up, wrong.why) == (False, "TLS fails: is its certificate right?")
            assert right.up
            with pytest.raises(
                Doubt, match=f"^passed by until they answer: {wrong.name}: TLS fails: is its certificate right"
            ):
                directory.reached(made.settings)
            assert {each for each, _ in made.logins(1)} == {"yes"}

    def test_servers_that_it_alone_does_not_reach_are_a_failure(self, relay: Any) -> None:
        made = relay("localhost")
        made.settings["directory"]["ca_file"] = str(made.servers[0].ca_file)
        configuration = made.place / "haproxy.cfg"
        text = re.sub(r"(verifyhost |str\(|check-sni )localhost", r"\1other", configuration.read_text())
        configuration.write_text(text)
        with made.running(), pytest.raises(RelayError) as told:
            directory.reached(made.settings)
        assert str(told.value) == (
            f"HAProxy leads to no server: localhost:{made.servers[0].tls_port}: TLS fails: is its certificate right? "
            "(though it can be reached from here: has its address changed? systemctl restart smtpout-haproxy)"
        )
        with pytest.raises(RelayError, match="HAProxy isn't running"):
            directory.reached(made.settings)

    def test_a_name_without_an_address_keeps_nothing_from_going_live_and_is_told(self, relay: Any) -> None:
        made = relay("localhost", named="nowhere.invalid")
        assert made.complaints == []
        with made.running(), pytest.raises(Doubt, match=r"nowhere\.invalid:\d+: its name had no address when HAProxy"):
            directory.reached(made.settings)


@pytest.mark.skipif(not HAPROXY, reason="HAProxy is not installed")
def test_what_haproxy_has_against_its_configuration_is_told(
    settings: Settings, site: dict[str, Any], tmp_path: Path
) -> None:
    site["directory"] |= {"servers": TWO}
    (tmp_path / "haproxy.cfg").write_text("listen directory\n    bind fd@3\n    bogus\n")
    staged = {daemon.CONFIGURATION: str(tmp_path / "haproxy.cfg")}
    said = haproxy.complaints(staged, daemon.CONFIGURATION, settings(site)["haproxy"])
    assert "[/etc/smtpout/haproxy.cfg:3] : unknown keyword 'bogus' in 'listen' section" in said[0]


def answers(made: Relay) -> None:
    """Raise where not all servers are up."""
    if made.states() != ["UP", "UP"]:
        raise RelayError("not yet")


TWO = ["ldaps://dc1.example", "ldap://dc2.example:3268"]


@pytest.mark.parametrize(
    ("keys", "enabled", "missing"),
    [
        ({"servers": TWO}, True, ""),
        ({"servers": TWO[:1]}, False, ""),
        ({"servers": TWO[:1], "proxy": True}, True, ""),
        ({"servers": TWO, "proxy": False}, False, ""),
        ({"servers": ["ldap://dc1.example", "ldap://dc2.example"], "start_tls": True}, False, "begin TLS within LDAP"),
        ({"servers": ["ldaps://192.0.2.1", TWO[1]]}, False, "an address"),
        ({"servers": ["ldap://192.0.2.1", "ldap://[2001:db8::1]:390"]}, True, ""),
    ],
)
def test_a_site_with_several_servers_has_it_where_it_can(
    settings: Settings, site: dict[str, Any], keys: dict[str, Any], enabled: bool, missing: str
) -> None:
    site["directory"] |= keys
    made = settings(site)
    assert made["valid"], made
    facts = made["haproxy"]
    assert (facts["enabled"], "haproxy" in made["packages"]) == (enabled, enabled)
    assert (missing in facts["missing"], bool(facts["missing"])) == (True, bool(missing))
    through = ["ldapi://%2Frun%2Fsmtpout-directory.sock/"]
    assert made["directory"]["reached"]["servers"] == (through if enabled else made["directory"]["servers"])
    assert [each["uri"] for each in facts["servers"]] == (made["directory"]["servers"] if enabled else [])


def test_who_waits_for_the_directory_waits_until_one_that_hangs_is_passed_by(
    settings: Settings, site: dict[str, Any]
) -> None:
    site["directory"] |= {"servers": TWO, "timeout": 1}
    without = {**site, "directory": {**site["directory"], "proxy": False}}
    assert [settings(each)["directory"]["reached"]["timeout"] for each in (site, without)] == [proxy.PATIENCE, 1]
