"""What daemons read at their start of what the site's own options name is known; what they don't read then isn't."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from smtpout_core import files
from smtpout_core.daemons import descriptions
from smtpout_core.daemons.postfix import named
from smtpout_core.host import Host
from support import load

Read = Callable[..., dict[str, list[str]]]


@pytest.fixture
def read(settings: Callable[..., dict[str, Any]]) -> Read:
    """Return a function that returns the files that each daemon of a site reads because of these rooms' keys."""

    def of(**rooms: Any) -> dict[str, tuple[str, ...]]:
        site = load("default")["smtpout"]
        site |= {name: {**site.get(name, {}), **keys} for name, keys in rooms.items()}
        return {daemon.name: daemon.reads for daemon in descriptions.described(settings(site), Host(test=True))}

    before = of()
    return lambda **rooms: {
        name: added
        for name, paths in of(**rooms).items()
        if (added := [path for path in paths if path not in before[name]])
    }


@pytest.mark.parametrize(
    ("name", "value", "paths"),
    [
        ("smtpd_client_restrictions", "check_client_access cidr:/srv/a, permit", ["/srv/a"]),
        ("smtpd_client_restrictions", ["check_client_access pcre:/srv/a", "permit"], ["/srv/a"]),
        ("smtpd_client_restrictions", {"prepend": "check_client_access regexp:/srv/a"}, ["/srv/a"]),
        (
            "of_the_sites_own",
            "check_client_access texthash:/srv/a\n check_helo_access cidr:/srv/b",
            ["/srv/a", "/srv/b"],
        ),
        ("sender_canonical_maps", "pipemap:{ldap:/srv/a.cf,regexp:/srv/b}", ["/srv/a.cf", "/srv/b"]),
        ("virtual_alias_maps", "proxy:mysql:/srv/a.cf", ["/srv/a.cf"]),
        ("header_checks", "pcre:$config_directory/a", ["/etc/postfix/a"]),
        ("header_checks", "pcre:${config_directory}/a", ["/etc/postfix/a"]),
        ("header_checks", "pcre:$nobody/a", []),
        ("virtual_alias_maps", "hash:/srv/a lmdb:/srv/b", []),
        ("smtpd_tls_CAfile", "/srv/a", ["/srv/a"]),
        ("smtp_tls_chain_files", "/srv/a, /srv/b", ["/srv/a", "/srv/b"]),
        ("smtpd_tls_dh1024_param_file", "auto", []),
        ("mynetworks", "127.0.0.0/8, !/srv/a /srv/b", ["/srv/a", "/srv/b"]),
        ("smtpd_forbid_bare_newline_exclusions", "192.0.2.0/24", []),
        ("queue_directory", "/srv/queue", []),
        ("maillog_file", "/var/log/postfix.log", []),
        ("smtpd_milters", "unix:/srv/socket", []),
        ("soft_bounce", True, []),
        ("header_checks", None, []),
    ],
)
def test_of_a_parameter_what_processes_read_once(name: str, value: Any, paths: list[str]) -> None:
    facts = {"directory": "/etc/postfix", "main": {name: value}, "services": {}}
    assert named.by_the_site(facts) == paths
    if not isinstance(value, dict):
        service = {"command": "smtpd", "options": {name: value}}
        assert named.by_the_site({**facts, "main": {}, "services": {"smtp/inet": service}}) == paths


def test_a_parameter_of_the_sites_own_may_name_the_place() -> None:
    main = {
        "tables": "$base/tables",
        "base": "/srv",
        "header_checks": "pcre:$tables/a",
        "body_checks": "pcre:$body_checks",
    }
    assert named.by_the_site({"directory": "/etc/postfix", "main": main, "services": {}}) == ["/srv/tables/a"]


def test_an_argument_of_a_services_command_is_an_option_too() -> None:
    services = {"smtp/inet": {"command": "smtpd -o smtpd_client_restrictions=cidr:/srv/a"}}
    assert named.by_the_site({"directory": "/etc/postfix", "main": {}, "services": services}) == ["/srv/a"]


def test_each_daemon_reads_what_its_options_name(read: Read) -> None:
    found = read(
        postfix={"main": {"header_checks": "regexp:/srv/headers"}},
        opendkim={"options": {"PeerList": "refile:/srv/peers", "TrustAnchorFile": "/srv/root.key", "LogWhy": True}},
        clamav={"milter": {"AllowList": "/srv/allowed", "SkipAuthenticated": "file:/srv/skipped"}},
        saslauthd={"options": {"ldap_tls_key": "/srv/login.key", "ldap_size_limit": 1}},
    )
    assert found == {
        "postfix": ["/srv/headers"],
        "opendkim": ["/srv/peers", "/srv/root.key"],
        "clamav-milter": ["/srv/allowed", "/srv/skipped"],
        "saslauthd": ["/srv/login.key"],
    }


def test_what_a_daemon_writes_or_takes_no_file_for_is_not_among_it(read: Read) -> None:
    found = read(
        opendkim={"options": {"PidFile": "/run/opendkim/other.pid", "BaseDirectory": "/", "MinimumKeyBits": 2048}},
        clamav={"milter": {"SkipAuthenticated": "^robot@", "LogFile": "/var/log/clamav/milter.log"}},
    )
    assert found == {}


def test_a_table_that_the_formula_writes_is_known_without_that(read: Read) -> None:
    table = {"type": "cidr", "entries": {"192.0.2.0/24": "REJECT"}}
    main = {"smtpd_client_restrictions": "check_client_access cidr:$config_directory/clients"}
    assert read(postfix={"maps": {"clients": table}, "main": main}) == {}


def test_only_what_can_be_read_is_a_file(tmp_path: Path) -> None:
    file, gone, folder, place = (tmp_path / name for name in ("file", "gone", "folder", "socket"))
    file.touch()
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        assert files.plain(map(str, (file, gone, folder, place, file))) == [str(file), str(gone)]
