"""A Postfix on ports of its own is asked as its clients ask it: in clear, with TLS first, behind the PROXY protocol."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from smtpout_core.daemons.postfix import certificate, listen, smtp
from smtpout_core.errors import RelayError

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Postfix"),
    pytest.mark.skipif(not shutil.which("postfix"), reason="Postfix isn't installed"),
]

MAIN = """
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
myhostname = relay.example.com
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
smtpd_tls_chain_files = {root}/relay.pem
smtpd_tls_security_level = may
"""
MASTER = """
{clear} inet n - n - - smtpd
{tls} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
{proxy} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy
{both} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy -o smtpd_tls_wrappermode=yes
{refuses} inet n - n - - smtpd -o smtpd_client_restrictions=reject -o smtpd_delay_reject=no
{screen} inet n - n - 1 postscreen
smtpd pass - - n - - smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy
proxymap unix - - n - - proxymap
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as once:
        return once.getsockname()[1]


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, int]]]:
    """Return the configuration directory of a Postfix that runs, and the ports of its services."""
    root = tmp_path_factory.mktemp("postfix")
    for folder in [*root.parents, root]:  # Postfix's own user has to get there
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    names = ("clear", "tls", "proxy", "both", "refuses", "screen")
    ports = {name: free_port() for name in names}
    certificate.create_self_signed(str(root / "relay.pem"), "relay.example.com")
    for name in ("queue", "data", "config"):
        (root / name).mkdir()
        (root / name).chmod(0o755)
    shutil.chown(root / "data", "postfix")
    (root / "config/main.cf").write_text(MAIN.format(root=root), encoding="utf-8")
    (root / "config/master.cf").write_text(MASTER.lstrip().format(**ports), encoding="utf-8")
    config = str(root / "config")
    subprocess.run(["postfix", "-c", config, "start"], check=True, capture_output=True)
    yield config, ports
    subprocess.run(["postfix", "-c", config, "stop"], check=True, capture_output=True)


@pytest.fixture
def endpoint(postfix: tuple[str, dict[str, int]]) -> Callable[[str], listen.Endpoint]:
    """Return a function that gives an endpoint by its name here."""
    config, ports = postfix
    found = {each.port: each for each in listen.asked(config)}
    return lambda name: found[ports[name]]


@pytest.mark.parametrize("name", ["clear", "tls", "proxy", "both", "screen"])
def test_each_service_greets_who_talks_as_it_wants(endpoint: Callable[..., listen.Endpoint], name: str) -> None:
    answer = smtp.greeting(endpoint(name))
    assert (answer.code, answer.text.split()[0]) == (220, "relay.example.com")
    assert ("starttls" in answer.offers) == (name not in ("tls", "both"))


@pytest.mark.parametrize("name", ["clear", "tls", "proxy", "both"])
def test_what_is_offered_with_tls_is_seen(endpoint: Callable[..., listen.Endpoint], name: str) -> None:
    offers = smtp.greeting(endpoint(name), secured=True).offers
    assert "8bitmime" in offers
    assert "starttls" not in offers


def test_a_line_of_the_proxy_protocol_that_nobody_wants_is_a_fault(endpoint: Callable[..., listen.Endpoint]) -> None:
    """Smtpd takes it for a command, and from then on each answer is that of the command before."""
    wrong = endpoint("clear")._replace(proxy=True)
    said = f"^127.0.0.1:{wrong.port} does not answer as a mail server after a line of the PROXY protocol: "
    for _ in range(50):  # the answers may come in one piece or in several, and the session may end between them
        with pytest.raises(RelayError, match=said):
            smtp.greeting(wrong)


def test_a_refusal_is_an_answer_but_for_the_formulas_own_services(endpoint: Callable[..., listen.Endpoint]) -> None:
    refuses = endpoint("refuses")
    answer = smtp.greeting(refuses)
    assert answer.code == 554
    smtp.refuse(refuses, answer)
    for service in ("smtp/inet", "submission/inet", "465/inet"):
        with pytest.raises(RelayError, match=f"^127.0.0.1:{refuses.port} greets with 554 "):
            smtp.refuse(refuses._replace(service=service), answer)


@pytest.mark.parametrize("name", ["clear", "tls", "proxy"])
def test_a_program_on_the_host_is_answered_up_to_a_recipient(
    endpoint: Callable[..., listen.Endpoint], name: str
) -> None:
    outside = "somebody@[198.51.100.25]"
    assert smtp.answer(endpoint(name), "postmaster@relay.example.com", outside)[:2] == ("RCPT", 250)
    assert smtp.answer(endpoint("refuses"), "postmaster@relay.example.com", outside)[:2] == ("the greeting", 554)


def test_a_directory_that_is_down_closes_the_way_of_servers_alone(endpoint: Callable[..., listen.Endpoint]) -> None:
    later = smtp.Greeting(451, "4.3.0 try again later", {})
    smtp.refuse(endpoint("clear")._replace(service="submission/inet"), later)
    with pytest.raises(RelayError, match="greets with 451"):
        smtp.refuse(endpoint("clear")._replace(service="smtp/inet"), later)


def test_a_probe_asks_every_endpoint(postfix: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    config, _ = postfix
    settings: dict[str, Any] = {"postfix": {"directory": config}}
    smtp.probe(settings)
    other = tmp_path / "other"
    shutil.copytree(config, other)
    dead = free_port()
    with (other / "master.cf").open("a", encoding="utf-8") as file:
        file.write(f"{dead} inet n - n - - smtpd\n")
    with pytest.raises(RelayError, match=f"^127.0.0.1:{dead} does not answer as a mail server: .*refused"):
        smtp.probe({"postfix": {"directory": str(other)}})


def test_a_certificate_that_is_gone_closes_the_way_of_tls_and_leaves_postfix_serving(
    postfix: tuple[str, dict[str, int]], endpoint: Callable[..., listen.Endpoint]
) -> None:
    config, _ = postfix
    [chain] = map(Path, certificate.served(config))
    reload = ["postfix", "-c", config, "reload"]
    kept = chain.rename(chain.with_name("kept.pem"))
    try:
        subprocess.run(reload, check=True, capture_output=True)
        with pytest.raises(RelayError, match=r"does not answer as a mail server: .*HANDSHAKE_FAILURE"):
            smtp.greeting(endpoint("tls"))
        smtp.probe({"postfix": {"directory": config}})
    finally:
        kept.rename(chain)
        subprocess.run(reload, check=True, capture_output=True)


def test_a_configuration_without_a_service_for_mail_serves_nobody(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n", encoding="utf-8")
    (tmp_path / "master.cf").write_text("pickup unix n - n 60 1 pickup\n", encoding="utf-8")
    with pytest.raises(RelayError, match="no service that listens for mail"):
        smtp.probe({"postfix": {"directory": str(tmp_path)}})
