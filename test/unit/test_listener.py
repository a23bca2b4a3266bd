"""A taken port is found, with the name of who has it; one's own is none."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

import pytest
from smtpout_core import listener


@pytest.fixture
def listening() -> Any:
    """Return a function that listens on an address until the test ends, and returns the port."""
    opened = []

    def listen(address: str, family: int = socket.AF_INET) -> int:
        opened.append(socket.socket(family, socket.SOCK_STREAM))
        opened[-1].bind((address, 0))
        opened[-1].listen()
        return opened[-1].getsockname()[1]

    yield listen
    for each in opened:
        each.close()


@pytest.mark.parametrize("address", ["", "127.0.0.1"])
def test_a_listener_is_named_with_its_process(listening: Any, address: str) -> None:
    port = listening("127.0.0.1")
    assert re.fullmatch(rf".+ \(process {os.getpid()}\)", listener.conflict(port, address))


def test_a_listener_on_all_addresses_takes_each(listening: Any) -> None:
    assert listener.conflict(listening("0.0.0.0"), "127.0.0.1")  # noqa: S104


def test_a_listener_on_all_addresses_of_ipv6_takes_those_of_ipv4_too(listening: Any) -> None:
    assert listener.conflict(listening("::", socket.AF_INET6), "127.0.0.1")


def test_a_listener_on_another_address_is_in_nobodys_way(listening: Any) -> None:
    assert listener.conflict(listening("127.0.0.2"), "127.0.0.1") is None


def test_a_milters_socket_is_read_as_libmilter_reads_it(listening: Any) -> None:
    port = listening("127.0.0.1")
    assert listener.socket_conflict(f"inet:{port}@localhost")
    assert listener.socket_conflict(f"inet:{port}")
    assert listener.socket_conflict("unix:/run/x.sock") is None


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    assert listener.conflict(port) is None
