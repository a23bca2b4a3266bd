"""Where Postfix is to listen by its configuration, staged or live, and what is said where it listens elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from smtpout_core import listener
from smtpout_core.daemons.postfix import conf, listen
from smtpout_core.errors import RelayError

pytestmark = pytest.mark.skipif(not Path("/usr/sbin/postconf").exists(), reason="Postfix isn't installed")

MAIN = "compatibility_level = 3.6\nmyhostname = relay.example.com\nmynetworks = 127.0.0.0/8\n"
SMTP = "smtp inet n - n - - smtpd\n"
PICKUP = "pickup unix n - n 60 1 pickup\n"

Configured = Callable[..., list[listen.Endpoint]]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """Return a function that gives the endpoints of a configuration."""

    def made(main: str = "", master: str = SMTP) -> list[listen.Endpoint]:
        (tmp_path / "main.cf").write_text(MAIN + main, encoding="utf-8")
        (tmp_path / "master.cf").write_text(PICKUP + master, encoding="utf-8")
        for file in tmp_path.iterdir():  # Postfix reads one that is younger than 2 s again and again
            os.utime(file, (0, 0))
        return listen.endpoints(str(tmp_path))

    return made


@pytest.fixture
def ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have IPv6, whatever the machine has."""
    monkeypatch.setattr(listen, "_has_ipv6", lambda: True)


def places(endpoints: list[listen.Endpoint]) -> list[str]:
    return [str(endpoint) for endpoint in endpoints]


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize(
    ("main", "expected"),
    [
        ("", ["0.0.0.0:25", "[::]:25"]),
        ("inet_protocols = ipv4\n", ["0.0.0.0:25"]),
        ("inet_protocols = ipv6\n", ["[::]:25"]),
        ("inet_protocols = ipv6, ipv4\n", ["0.0.0.0:25", "[::]:25"]),
        (
            "inet_interfaces = 127.0.0.1, 192.0.2.5 [2001:db8::1]\n",
            ["127.0.0.1:25", "192.0.2.5:25", "[2001:db8::1]:25"],
        ),
        ("inet_interfaces = $own\nown = 192.0.2.5\n", ["192.0.2.5:25"]),
    ],
)
def test_interfaces_and_protocols_say_the_addresses(configured: Configured, main: str, expected: list[str]) -> None:
    assert places(configured(main)) == expected


def test_loopback_only_is_each_loopback_address_of_the_host(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "local_addresses", lambda: {"127.0.0.1", "::1", "172.16.11.95"})
    monkeypatch.setattr(listen, "_has_ipv6", lambda: True)
    assert places(configured("inet_interfaces = loopback-only\n")) == ["127.0.0.1:25", "[::1]:25"]
    assert places(configured("inet_interfaces = loopback-only\ninet_protocols = ipv4\n")) == ["127.0.0.1:25"]


def test_a_host_without_ipv6_has_nothing_to_listen_on_there(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_has_ipv6", lambda: False)
    assert places(configured()) == ["0.0.0.0:25"]


def test_ipv6_that_is_switched_off_is_not_asked_for(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel binds [::] all the same; ::1 is on no interface."""
    monkeypatch.setattr(listener, "local_addresses", lambda: {"127.0.0.1"})
    monkeypatch.setattr(listen, "_has_ipv6", lambda: True)
    configured()
    assert places(listen.asked(str(tmp_path))) == ["0.0.0.0:25"]


def test_a_service_can_have_an_address_and_a_port_of_its_own(configured: Configured) -> None:
    master = "127.0.0.1:10025 inet n - n - - smtpd\n[::1]:submission inet n - n - - smtpd\n"
    assert places(configured("inet_interfaces = 192.0.2.5\n", master)) == ["127.0.0.1:10025", "[::1]:587"]
    with pytest.raises(RelayError, match=r"^master.cf: localhost:x/inet: x is no TCP service of /etc/services$"):
        configured("", "localhost:x inet n - n - - smtpd\n")


def test_postconfs_own_refusal_is_told(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("inet_interfaces = 203.0.113.77\n", encoding="utf-8")
    (tmp_path / "master.cf").write_text(SMTP, encoding="utf-8")
    with pytest.raises(RelayError, match=r"no local interface found for 203\.0\.113\.77"):
        listen.endpoints(str(tmp_path))


def test_postconf_is_asked_once_of_files_that_stay_as_they_are(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    postconf = conf.postconf
    monkeypatch.setattr(conf, "postconf", lambda directory, *words: asked.append(words) or postconf(directory, *words))
    first = configured("inet_interfaces = 192.0.2.5\ninet_protocols = ipv4\n")
    once = len(asked)
    assert listen.endpoints(str(tmp_path)) == first
    assert len(asked) == once
    # As long as the other, in the same file, of the same time: what a hand does within a clock's tick.
    assert places(configured("inet_interfaces = 192.0.2.7\ninet_protocols = ipv4\n")) == ["192.0.2.7:25"]


def test_a_name_without_address_is_named(configured: Configured) -> None:
    with pytest.raises(RelayError, match=r"nowhere\.invalid has no address"):
        configured("inet_interfaces = 192.0.2.5 nowhere.invalid\ninet_protocols = ipv4\n")


def test_how_a_service_wants_to_be_talked_to_is_in_main_and_in_its_options(configured: Configured) -> None:
    master = (
        "10025 inet n - n - - smtpd\n"
        "465 inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes\n  -o { smtpd_upstream_proxy_protocol = $balancer }\n"
        "25 inet n - n - 1 postscreen\n"
        "smtpd pass - - n - - smtpd\n"
        "10026 inet n n n - 0 spawn user=nobody argv=/bin/true\n"
    )
    main = "inet_protocols = ipv4\nbalancer = haproxy\npostscreen_upstream_proxy_protocol = haproxy\n"
    found = {each.port: each for each in configured(main, master)}
    assert found[10025][2:] == ("smtpd", "10025/inet", False, False)
    assert found[465][2:] == ("smtpd", "465/inet", True, True)
    assert found[25][2:] == ("postscreen", "25/inet", False, True)
    assert not found[10026].speaks_smtp
    assert len(found) == 4


def test_an_option_of_a_service_is_stronger_than_main(configured: Configured) -> None:
    main = "inet_protocols = ipv4\nsmtpd_upstream_proxy_protocol = haproxy\nsmtpd_tls_wrappermode = yes\n"
    options = "  -o smtpd_upstream_proxy_protocol= -o smtpd_tls_wrappermode=no\n"
    (endpoint,) = configured(main, SMTP + options)
    assert (endpoint.tls, endpoint.proxy) == (False, False)


WANTED = [listen.Endpoint("172.16.11.95", 25, "smtpd", "smtp/inet")]


def test_what_listens_elsewhere_is_said_in_both_directions() -> None:
    said = listen.difference(WANTED, {("0.0.0.0", 25), ("::", 25)}, "postfix@-")  # noqa: S104
    assert said == (
        "Postfix doesn't listen on 172.16.11.95:25 and listens still on 0.0.0.0:25, [::]:25, against its configuration:"
        " it takes a stop and start (systemctl restart postfix@-)"
    )
    assert "doesn't listen on 172.16.11.95:25, against" in str(listen.difference(WANTED, set(), "postfix"))
    assert listen.difference(WANTED, {("172.16.11.95", 25)}, "postfix") is None


def test_a_units_own_sockets_are_found_by_its_programs_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_belongs", lambda _, units: units == ["postfix"])
    name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as two:
        ports = {("127.0.0.1", one.getsockname()[1]), ("::1", two.getsockname()[1])}
        assert ports <= listener.held("postfix", name)
        assert not ports & listener.held("postfix", "another")
        assert not ports & listener.held("another", name)


def test_the_hosts_addresses_are_those_of_its_interfaces() -> None:
    found = listener.local_addresses()
    assert "127.0.0.1" in found
    assert ("::1" in found) == ("00000000000000000000000000000001" in Path("/proc/net/if_inet6").read_text())


def test_checks_that_ask_at_once_get_each_its_own_port() -> None:
    ports = {"smtp": 25, "submission": 587, "domain": 53, "ldap": 389, "https": 443, "ssh": 22}

    def wrong(name: str) -> int:
        return sum(listen.where(name) != ("", ports[name]) for _ in range(2000))

    with ThreadPoolExecutor(len(ports)) as pool:
        assert list(pool.map(wrong, ports)) == [0] * len(ports)
