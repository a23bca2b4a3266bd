"""A secret of the pillar is in no process's arguments, no log, no return, and in no file that another user can read."""

from __future__ import annotations

import json

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
    relay.run(["rm", "-f", "/etc/saslauthd.conf", "/etc/postfix/people-mycompany.ldap", "/var/lib/smtpout/whole.json"])
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
