"""A route to another's domain is asked before mail takes it: connection, certificate, login, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, real  # type: ignore[attr-defined]
from lab.partner import Partner
from slapd_server import free_port
from smtpout_core.daemons.postfix import certificate, nexthop
from smtpout_core.errors import RelayError
from smtpout_core.promises import asked
from smtpout_core.promises.promise import Outcome, Verdict

LOGIN = {"user": "mycompany", "password": "p@ss word:1"}


@contextmanager
def partner(folder: Path, user: str = "-", password: str = "", *, tls: bool = True) -> Iterator[Partner]:
    """Give a partner's server on loopback, with a certificate that it made itself."""
    chain = folder / "chain.pem"
    if tls:
        certificate.create_self_signed(str(chain), "mx.partner.example")
    with Partner(str(free_port()), folder / "kept", str(chain) if tls else "-", user, password) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def handed(site: Callable[..., Site], server: Partner, **route: Any) -> tuple[Site, dict[str, Verdict]]:
    """Return a site with a route to a server, and what its trial says."""
    where = {"nexthop": f"smtp:[127.0.0.1]:{server.server_address[1]}", **route}
    made = site(routes={"partner.example": where, "second.example": where})
    return made, made.verdicts()


@real
def test_a_login_that_is_taken_is_asked_once_whatever_the_number_of_routes(
    site: Callable[..., Site], tmp_path: Path
) -> None:
    with partner(tmp_path, *LOGIN.values()) as server:
        _, verdicts = handed(site, server, **LOGIN)
        assert server.logins == 1
    for name in ("mail_takes_its_route", "mail_is_handed_on"):
        assert (verdicts[name].outcome, verdicts[name].seen) == (Outcome.KEPT, [])


@real
@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ({"user": "mycompany", "password": "wrong"}, "535 5.7.8 Nobody here has that password"),
        ({"tls": "verified", "match": ["mx.partner.example"]}, "Server certificate not verified"),
    ],
    ids=["password", "certificate"],
)  # fmt: skip
def test_what_the_server_refuses_is_seen_with_the_routes_key(
    site: Callable[..., Site], tmp_path: Path, wrong: dict[str, Any], seen: str
) -> None:
    login = LOGIN if "user" in wrong else {}
    with partner(tmp_path, *login.values()) as server:
        made, verdicts = handed(site, server, **wrong)
    verdict = verdicts["mail_is_handed_on"]
    assert verdict.outcome is Outcome.BROKEN
    assert seen in verdict.seen[0]
    said = asked.causes(made.settings, verdict.promise, verdict.wrong)
    assert said.startswith("Look at smtpout:routes:partner.example; ")


@real
def test_a_smart_host_takes_mail_to_outside(site: Callable[..., Site], tmp_path: Path) -> None:
    with partner(tmp_path, *LOGIN.values()) as server:
        where = {"nexthop": f"smtp:[127.0.0.1]:{server.server_address[1]}", **LOGIN}
        verdicts = site(routes={"default": where}).verdicts()
        assert server.logins == 1
    for name in ("mail_takes_its_route", "mail_is_handed_on"):
        assert (verdicts[name].outcome, verdicts[name].seen) == (Outcome.KEPT, [])


def test_a_server_that_offers_no_login_is_told(tmp_path: Path) -> None:
    with partner(tmp_path) as server:
        where = nexthop.read(f"smtp:[127.0.0.1]:{server.server_address[1]}")
        assert nexthop.ask(where, "smtp", encrypted=True).where == f"127.0.0.1:{server.server_address[1]}"
        with pytest.raises(RelayError, match="it offers no login"):
            nexthop.ask(where, "smtp", encrypted=True, login=True)
    with partner(tmp_path, *LOGIN.values()) as server:
        where = nexthop.read(f"smtp:[127.0.0.1]:{server.server_address[1]}")
        nexthop.ask(where, "smtp", encrypted=True, login=True)
