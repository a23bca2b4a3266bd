"""One applied relay: its services, its files, and that there is nothing left to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support import STATES, load
from testinfra.host import Host

from verify.conftest import Salt

UNITS = ["postfix", "saslauthd", "clamav-daemon", "clamav-milter", "clamav-freshclam", "opendkim"]

# The only ones that other hosts reach: everything else listens on the loopback or on a unix-domain socket.
PORTS = {"default": {25, 465, 587}, "recipe": {25}}


def apply(salt: Salt, *arguments: str) -> dict[str, dict[str, Any]]:
    """Apply the suite's states, and return each one's answer by its ID."""
    answer = salt("state.apply", STATES, *arguments)
    assert isinstance(answer, dict), answer
    return {state["__id__"]: state for state in answer.values()}


@pytest.mark.parametrize("unit", UNITS)
def test_services_run_and_start_at_boot(host: Host, unit: str) -> None:
    assert host.check_output("systemctl is-active %s", unit) == "active"
    assert host.check_output("systemctl is-enabled %s", unit) == "enabled"


def test_the_relay_says_of_itself_that_it_does_what_the_pillar_says(salt: Salt) -> None:
    checks = salt("smtpout.verify")
    assert len(checks) > 5
    assert [check for check in checks if check["state"] == "failed"] == []


def test_other_hosts_reach_the_mail_ports_and_no_others(host: Host, suite: str) -> None:
    listening = host.check_output("ss --listening --tcp --numeric --no-header --processes")
    lines = [re.split(r"\s+", line, maxsplit=5) for line in listening.splitlines()]
    ours = {
        int(local.rpartition(":")[2])
        for _, _, _, local, _, process in lines
        if not local.startswith(("127.", "[::1]")) and '"sshd"' not in process  # kitchen's own way in
    }
    assert ours == PORTS[suite]


def test_the_milters_sockets_are_their_users_and_postfix_own(host: Host, suite: str) -> None:
    sockets = host.check_output("postconf -h smtpd_milters").replace(",", " ").split()
    assert len(sockets) == 2
    for socket in sockets:
        kind, _, place = socket.partition(":")
        if suite == "recipe":
            assert (kind, place.rpartition(":")[0]) == ("inet", "127.0.0.1")
        else:
            assert kind == "unix"
            assert host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups test -w %s", place).rc == 1, place
            assert host.run("setpriv --reuid=postfix --init-groups test -w %s", place).rc == 0, place


def test_the_original_configuration_is_kept_once(host: Host) -> None:
    assert "main.cf.dist" in host.file("/etc/postfix/main.cf.ORG").content_string
    assert "Managed by smtpout" not in host.file("/etc/opendkim.conf.ORG").content_string


@pytest.fixture(scope="module")
def places(salt: Salt) -> list[str]:
    """Return where a secret may turn up; the repository itself, which holds the tests' passwords, is not among them."""
    salts_own = [*salt("config.get", "pillar_roots")["base"], salt("config.get", "cachedir")]
    return ["/etc", "/var", "/run", "/tmp", "/root", "/home", "/opt", "/usr/local", *salts_own]


def test_no_other_user_can_read_a_file_with_a_secret(host: Host, suite: str, places: list[str]) -> None:
    site = load(suite)["smtpout"]
    for secret in (site["directory"]["bind_password"], site["verify"]["password"]):
        paths = host.run("grep -rlsF -- %s " + " ".join(places), secret).stdout.splitlines()
        assert any(path.endswith("/site.sls") for path in paths)
        for path in paths:
            read = host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups cat %s", path)
            assert read.rc != 0, f"nobody can read {path}"


def test_a_secret_is_nowhere_but_where_its_daemon_reads_it(host: Host, suite: str, places: list[str]) -> None:
    password = load(suite)["smtpout"]["directory"]["bind_password"]
    paths = set(host.run("grep -rlsF -- %s " + " ".join(places), password).stdout.splitlines())
    owners = {f"{name}-mycompany.ldap" for name in ("senders", "addresses", "directory") if suite == "default"}
    maps = {
        f"{name}.ldap" for name in ("people-mycompany", "postmasters-mycompany", "accounts-mycompany-samaccountname")
    }
    expected = {"saslauthd.conf", "watch.json", "site.sls"} | maps | owners
    # Salt's cache holds the pillar; the generations (root's alone) are what earlier pillars had the daemons read.
    own = [
        path for path in paths if "/cache/salt/" not in path and not path.startswith("/var/lib/smtpout/generations/")
    ]
    assert {path.rpartition("/")[2] for path in own} == expected


# The last: an apply would put right what the tests above have to find.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["test=True", "test=False"], ids=["dry run", "apply"])
def test_there_is_nothing_left_to_do(salt: Salt, mode: str) -> None:
    states = apply(salt, mode)
    assert len(states) > 15
    assert {name: state["comment"] for name, state in states.items() if state["result"] is not True} == {}
    assert [name for name, state in states.items() if state["changes"]] == []
