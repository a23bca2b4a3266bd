"""A dry run on a host without any package asks what can be asked, says what can't, and touches nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from slapd_server import free_port
from smtpout_core.change.parts import Wanted
from smtpout_core.change.templates import Templates
from smtpout_core.change.transaction import Outcome, Transaction
from smtpout_core.daemons import descriptions
from smtpout_core.errors import RelayError
from smtpout_core.host import Host

# None of its units is there.
SYSTEMCTL = """#!/bin/sh
shift 2
for unit; do
    printf 'ActiveState=inactive\\nSubState=dead\\nUnitFileState=\\nNeedDaemonReload=no\\nInvocationID=\\n\\n'
done
"""


@pytest.fixture
def dry_run(
    settings: Settings, site: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Return what predicts an apply of the example's site, but for some keys, without any package and ldap3."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    for program in ("sh", "printf"):
        (programs / program).symlink_to(f"/usr/bin/{program}")

    def run(**changes: Any) -> Outcome:
        found = settings({**site, **changes})
        assert found["errors"] == []
        found["postfix"]["aliases"] = str(tmp_path / "aliases")
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setitem(sys.modules, "ldap3", None)
        cached = settings.functions["cp.cache_file"]  # type: ignore[attr-defined]
        host = Host(test=True, state_dir=f"{tmp_path}/state", cache_dir=f"{tmp_path}/cache", cache_file=cached)
        wanted = Wanted(descriptions.described(found, host))
        return Transaction(host, descriptions.ways()).bring(wanted, Templates(found, host))

    return run


def test_it_says_of_each_thing_that_nobody_could_ask_why(
    dry_run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("smtpout_core.directory.servers.answers", lambda _server, _site: None)
    outcome = dry_run()
    assert [step.daemon.name for step in outcome.changed][:2] == ["saslauthd", "freshclam"]
    tables = ("own_domains", "transport_maps", "virtual_aliases", "ehlo_keywords")
    unasked = [note.removeprefix("Not checked: ").split(": ") for note in outcome.notes]
    assert [(what, "not installed" in why or "isn't installed" in why) for what, why, *_ in unasked] == [
        (", ".join(f"/etc/postfix/{name}" for name in tables), True),
        ("freshclam's configuration", True),
        ("clamd's configuration", True),
        ("clamav-milter's configuration", True),
        ("opendkim's configuration", True),
        ("postfix's configuration", True),
        ("the directory has what the site asks for", False),
        ("what the site promises", False),
    ]
    assert "ldap3 is missing" in outcome.notes[-2]
    assert not (tmp_path / "state").exists()


def test_what_can_be_asked_is_refused_as_an_apply_would(dry_run: Callable[..., Outcome], site: dict[str, Any]) -> None:
    dead = f"ldap://127.0.0.1:{free_port()}"
    with pytest.raises(RelayError) as refusal:
        dry_run(
            directory={**site["directory"], "servers": [dead]},
            saslauthd={"options": {"ldap_deref": "sometimes"}},
            tls={"chain_file": "/nowhere/relay.pem"},
        )
    said = str(refusal.value)
    assert f"{dead} answers: port" in said
    assert "ldap_deref is 'sometimes'" in said
    assert "smtpout:tls:chain_file: /nowhere/relay.pem: No such file or directory" in said
