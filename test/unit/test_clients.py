"""Clients with addresses of their own: what Postfix looks up, whom OpenDKIM signs for, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from minions import Settings
from smtpout_core.daemons.limits import daemon
from smtpout_core.promises import derived

PRINTER = {"networks": ["172.16.30.0/24"], "senders": ["Scanner@Domain01.dom"]}
Made = Callable[..., dict[str, Any]]


@pytest.fixture
def made(settings: Settings, site: dict[str, Any]) -> Made:
    """Return a function that makes the settings of the example with these clients."""
    return lambda *clients, **more: settings({**site, "clients": list(clients), **more})


def test_who_a_client_is_and_with_whom_it_sends_are_tables(made: Made) -> None:
    other = {
        "networks": ["172.16.31.7/32", "2001:DB8:0::/64"],
        "senders": ["@domain02.dom"],
        "outside": True,
        "tls": True,
    }
    found = made(PRINTER, other)
    assert found["valid"], found["errors"]
    maps = found["postfix"]["maps"]
    assert maps["clients_senders"]["entries"] == [
        ["172.16.30.0/24", "clients_1"], ["172.16.31.7/32", "clients_2"], ["2001:db8::/64", "clients_2"],
    ]  # fmt: skip
    assert maps["clients_outside"]["entries"] == [["172.16.31.7/32", "clients_2"], ["2001:db8::/64", "clients_2"]]
    assert maps["clients_1"]["entries"] == {"scanner@domain01.dom": "OK"}
    assert maps["clients_2"]["entries"] == {"domain02.dom": "OK"}
    assert {"172.16.30.0/24", "172.16.31.7/32", "2001:db8::/64"} <= set(found["opendkim"]["hosts"])
    assert "172.16.30.0/24" not in found["postfix"]["trusted_networks"]


def test_a_site_without_clients_has_nothing_of_them(made: Made) -> None:
    assert not [name for name in made()["postfix"]["maps"] if name.startswith("clients")]
    assert "clients_send_as_they_may" not in {each.name for each in derived.everything(made())}


def test_a_client_is_told_of_some_of_many_addresses(made: Made) -> None:
    senders = [f"device{number}@domain01.dom" for number in range(5)]
    whom = made({**PRINTER, "senders": senders})["clients"][0]["whom"]
    assert whom == "device0@domain01.dom, device1@domain01.dom, device2@domain01.dom and 2 more"


LIMITED = {**PRINTER, "limit": 200}


def test_who_is_counted_is_a_table_and_the_service_is_told_how_much(made: Made) -> None:
    found = made(PRINTER, {"networks": ["172.16.31.7/32", "2001:DB8:0::/64"], "senders": ["@domain02.dom"], "limit": 5})
    assert found["valid"], found["errors"]
    table = found["postfix"]["maps"]["clients_limited"]
    assert table["entries"] == [["172.16.31.7/32", "clients_limited"], ["2001:db8::/64", "clients_limited"]]
    assert (found["limits"]["enabled"], found["limits"]["of_logins"]) == (True, False)
    assert "python3" in found["packages"]
    told = json.loads(daemon.known(found))
    assert told["clients"] == [{"networks": ["172.16.31.7/32", "2001:db8::/64"], "messages": 5}]
    assert told["accounts"] == "", "nobody asks whose a login is"
    assert "clients_are_limited" in {each.name for each in derived.everything(found)}


def test_without_a_limit_nobody_is_counted(made: Made) -> None:
    found = made(PRINTER)
    assert found["limits"]["enabled"] is False
    assert "clients_limited" not in found["postfix"]["maps"]
    assert "clients" not in json.loads(daemon.known(made(PRINTER, limits={"messages": {"hour": 1}})))


@pytest.mark.parametrize("limit", [0, -1, "many", True, {"hour": 3}])
def test_a_limit_is_a_number_of_messages(made: Made, limit: Any) -> None:
    assert "smtpout:clients:0:limit" in "\n".join(made({**PRINTER, "limit": limit})["errors"])


@pytest.mark.parametrize("name", ["smtpd_data_restrictions", "smtpd_restriction_classes", "clients_limited"])
def test_a_parameter_that_hides_limits_is_refused(made: Made, name: str) -> None:
    errors = made(PRINTER, {**LIMITED, "networks": ["172.16.31.7/32"]}, postfix={"main": {name: "permit"}})["errors"]
    assert f'smtpout:postfix:main:{name}: "permit" hides what smtpout:clients:1:limit says; use prepend or append' in (
        errors
    )


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "servers of the site": (
        [{**PRINTER, "networks": ["172.16.11.128/25"]}],
        'smtpout:clients:0:networks:0: "172.16.11.128/25" overlaps with smtpout:networks:1, 172.16.11.0/24; leave',
    ),
    "more than the site's servers": (
        [{**PRINTER, "networks": ["172.16.0.0/16"]}],
        'smtpout:clients:0:networks:0: "172.16.0.0/16" overlaps with smtpout:networks:0, 172.16.10.0/24',
    ),
    "each other": (
        [PRINTER, {**PRINTER, "networks": ["172.16.30.9/32"]}],
        'smtpout:clients:1:networks:0: "172.16.30.9/32" overlaps with smtpout:clients:0:networks:0, 172.16.30.0/24',
    ),
    "the relay itself": ([{**PRINTER, "networks": ["127.0.0.1/32"]}], "overlaps with 127.0.0.0/8"),
    "everybody": ([{**PRINTER, "networks": ["0.0.0.0/1"]}], "smtpout:clients:0:networks:0: "),
    "no address": ([{**PRINTER, "senders": ["scanner"]}], "an address, or @ and a domain for all of it"),
    "an address that is another's word": ([{**PRINTER, "senders": ["${mail}@domain01.dom"]}], "an address, or @ and"),
    "no senders": ([{"networks": ["172.16.30.0/24"]}], "smtpout:clients:0:senders"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_client_of_whom_it_is_not_clear_who_it_is_is_refused(made: Made, case: str) -> None:
    clients, said = WRONG[case]
    assert said in "\n".join(made(*clients)["errors"])


@pytest.mark.parametrize(
    ("name", "outside", "refused"),
    [("smtpd_sender_restrictions", False, True),
     ("smtpd_relay_restrictions", False, False), ("smtpd_relay_restrictions", True, True)],
)  # fmt: skip
def test_a_parameter_that_hides_them_is_refused(made: Made, name: str, outside: bool, refused: bool) -> None:
    given = {"main": {name: "reject_unauth_destination"}}
    errors = made({**PRINTER, "outside": outside}, postfix=given)["errors"]
    hidden = f'smtpout:postfix:main:{name}: "reject_unauth_destination" hides what smtpout:clients says'
    assert any(hidden in error for error in errors) is refused
    assert made(PRINTER, postfix={"main": {name: {"append": "reject_unknown_sender_domain"}}})["valid"]


def test_a_map_of_the_sites_own_of_such_a_name_is_refused(made: Made) -> None:
    errors = made(postfix={"maps": {"clients_3": {"entries": {"a": "b"}}}})["errors"]
    assert "can't be a map of the site's: smtpout:clients makes it" in str(errors)


def test_a_single_host_is_asked_as(made: Made) -> None:
    found = made({**PRINTER, "networks": ["172.16.30.9/32"]}, networks=["172.16.12.7/32"])
    clients = {question.client for each in derived.everything(found) for question in each.questions}
    assert {"172.16.30.9", "172.16.12.7"} <= clients
