"""A secret of the pillar is in no process's arguments, no log, no return, and in no file that another user can read."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support import load

from lab.conftest import Applied

# Reads every process's arguments again and again, and says which held a secret; the secrets come by standard input.
WATCHER = """
import glob, json, sys
secrets = [secret.encode() for secret in json.loads(sys.stdin.readline())]
print("watching", flush=True)
looked, seen = 0, set()
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            arguments = open(path, "rb").read()
        except OSError:
            continue
        looked += 1
        seen |= {arguments.split(b"\\0")[0].decode() for secret in secrets if secret in arguments}
print(json.dumps({"looked": looked, "seen": sorted(seen)}))
"""


@pytest.fixture
def secrets(applied: Applied) -> list[str]:
    """Return the secrets of a suite's pillar."""
    site = load(applied.suite)["smtpout"]
    return [site["directory"]["bind_password"], site["verify"]["password"]]


def test_no_process_is_given_a_secret(applied: Applied, secrets: list[str]) -> None:
    import subprocess

    relay = applied.lab.host("relay")
    # One that has everything to do again.
    relay.run(
        ["rm", "-f", "/etc/saslauthd.conf", "/etc/postfix/people-mycompany.ldap", "/var/lib/smtpout/postfix.json"]
    )
    with subprocess.Popen(
        relay.argv(["python3", "-c", WATCHER]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdin
        assert watcher.stdout
        watcher.stdin.write(json.dumps(secrets) + "\n")
        watcher.stdin.flush()
        assert watcher.stdout.readline().strip() == "watching"
        applied.apply("watched")
        said = json.loads(watcher.communicate("end\n", timeout=30)[0])
    assert applied.failed("watched") == {}
    assert applied.changed("watched")
    assert said["looked"] > 1000
    assert said["seen"] == []


def test_no_answer_of_a_state_holds_a_secret(applied: Applied, secrets: list[str]) -> None:
    said = json.dumps(applied.runs)
    assert not [secret for secret in secrets if secret in said]


def test_no_log_holds_a_secret(applied: Applied, secrets: list[str]) -> None:
    relay = applied.lab.host("relay")
    logs = relay.run(["journalctl", "--no-pager", "--output=cat"]).stdout
    logs += relay.run(["sh", "-c", "find /var/log -type f ! -path '*/journal/*' -exec cat {} +"]).stdout
    assert "postfix" in logs
    assert not [secret for secret in secrets if secret in logs]


def files_with(applied: Applied, secret: str) -> Iterator[tuple[str, str]]:
    """Yield the files of the relay that hold a secret, with the mode of each."""
    places = ["/etc", "/var", "/run", "/tmp", "/root", "/home", "/opt", "/srv/pillar", "/usr/local"]
    found = applied.lab.host("relay").run(["grep", "-rlF", "--", secret, *places], check=False, timeout=60).stdout
    for path in found.splitlines():
        mode = applied.lab.host("relay").run(["stat", "--format=%a %U:%G", path], check=False).stdout.strip()
        yield path, mode


def test_no_other_user_can_read_a_file_with_a_secret(applied: Applied, secrets: list[str]) -> None:
    relay = applied.lab.host("relay")
    for secret in secrets:
        paths = [path for path, _ in files_with(applied, secret)]
        assert "/srv/pillar/site.sls" in paths
        for path in paths:
            reader = relay.run(
                ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat", path], check=False
            )
            assert reader.returncode != 0, f"nobody can read {path}"


def test_a_secret_is_nowhere_but_where_its_daemon_reads_it(example: Applied) -> None:
    password = load("default")["smtpout"]["directory"]["bind_password"]
    paths = {path for path, _ in files_with(example, password)}
    expected = {
        "/etc/saslauthd.conf",
        "/etc/postfix/people-mycompany.ldap",
        "/etc/postfix/senders-mycompany.ldap",
        "/etc/postfix/directory-mycompany.ldap",
        "/srv/pillar/site.sls",
    }
    assert {path for path in paths if not path.startswith("/var/cache/salt/")} == expected
