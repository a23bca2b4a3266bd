"""What follows from the pillar for the host's firewall, SELinux and AppArmor."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from minions import GRAINS, minion
from salt import loader
from smtpout_core.change.memory import Memory
from support import REPOSITORY, load, minion_opts


@pytest.fixture
def site() -> dict[str, Any]:
    """Return the example's site, to be changed at will."""
    return load("default")["smtpout"]


@pytest.mark.parametrize(
    ("change", "services"),
    [
        ({}, {"smtp": 25, "smtps": 465, "smtp-submission": 587}),
        ({"authentication": {"submission": False}}, {"smtp": 25}),
        ({"authentication": {"old_devices_port": 2587}}, {"smtp": 25, "smtps": 465, "smtp-submission": 587}),
        ({"postfix": {"master": {"465/inet": None}}}, {"smtp": 25, "smtp-submission": 587}),
        (
            {"postfix": {"master": {"10026/inet": {"command": "smtpd"}}}, "authentication": {"submission": False}},
            {"smtp": 25},
        ),
    ],
)
def test_the_firewall_lets_in_what_clients_come_in_by(
    tmp_path: Path, site: dict[str, Any], change: dict[str, Any], services: dict[str, int]
) -> None:
    settings = minion(tmp_path, {**site, **change})["smtpout.settings"]()
    assert settings["errors"] == []
    assert settings["firewall"]["services"] == services


@pytest.mark.parametrize(
    ("daemon", "option", "value", "right"),
    [
        ("clamd", "LogFile", "/var/log/clamd.log", "right is /var/log/clamav/* or /tmp/**"),
        ("clamd", "logfile", "/var/log/clamav/deep/clamd.log", "right is /var/log/clamav/*"),
        ("clamd", "PidFile", "/run/clamd.pid", "right is /run/clamav/clamd.pid"),
        ("clamd", "TemporaryDirectory", "/var/tmp", "right is /tmp or /tmp/**"),
        ("clamd", "VirusEvent", "/usr/local/bin/alarm", "right is to leave it out"),
        ("milter", "TemporaryDirectory", "/var/spool/scan", "right is /tmp or /tmp/**"),
        ("freshclam", "UpdateLogFile", "/var/log/freshclam.log", "right is /var/log/clamav/*"),
    ],
)
def test_what_apparmor_refuses_is_an_error_unless_the_site_has_seen_to_it(
    tmp_path: Path, site: dict[str, Any], daemon: str, option: str, value: str, right: str
) -> None:
    site["clamav"] = {daemon: {option: value}}
    (error,) = minion(tmp_path, site)["smtpout.errors"]()
    assert error.startswith(f"smtpout:clamav:{daemon}:{option}: ")
    assert "AppArmor" in error
    assert right in error
    site["apparmor"] = {"checked": False}
    assert minion(tmp_path, site)["smtpout.errors"]() == []


@pytest.mark.parametrize(
    ("daemon", "option", "value"),
    [
        ("clamd", "LogFile", "/var/log/clamav/clamd.log"),
        ("clamd", "TemporaryDirectory", "/tmp/scan"),
        ("clamd", "VirusEvent", None),
        ("freshclam", "PidFile", "/run/clamav/freshclam.pid"),
    ],
)
def test_what_apparmor_allows_is_right(
    tmp_path: Path, site: dict[str, Any], daemon: str, option: str, value: str | None
) -> None:
    site["clamav"] = {daemon: {option: value}}
    assert minion(tmp_path, site)["smtpout.errors"]() == []


@pytest.mark.parametrize(("running", "managed"), [(True, True), (False, True), (True, False)])
def test_selinux_is_told_of_what_its_policy_may_not_know(
    tmp_path: Path, site: dict[str, Any], running: bool, managed: bool
) -> None:
    formula = tmp_path / "formula"
    shutil.copytree(REPOSITORY / "smtpout", formula / "smtpout")
    platforms = formula / "smtpout/platforms.yaml"  # with Debian as a platform that has Red Hat's policy
    text = platforms.read_text(encoding="utf-8")
    with_policy = text.replace("apparmor: *debian_apparmor", "selinux: *targeted_selinux")
    assert with_policy != text
    platforms.write_text(with_policy, encoding="utf-8")
    site["opendkim"]["socket"] = "inet:8892@127.0.0.1"
    site["clamav"] = {"clamd_socket": "tcp:127.0.0.1:3311"}
    site["selinux"] = {"managed": managed}
    site["authentication"] = {"old_devices_port": 2587}
    grains = {**GRAINS, "selinux": {"enabled": running}}
    opts = minion_opts(tmp_path, pillar={"smtpout": site}, grains=grains, file_roots={"base": [str(formula)]})
    settings = loader.minion_mods(opts)["smtpout.settings"]()
    assert settings["errors"] == []
    selinux = settings["selinux"]
    assert selinux["active"] is (running and managed)
    assert ("policycoreutils-python-utils" in settings["packages"]) is (running and managed)
    if selinux["active"]:
        assert selinux["ports"] == {"8892": "milter_port_t", "3311": "clamd_port_t", "2587": "smtp_port_t"}
        assert selinux["labels"]["/etc/aliases.lmdb"] == "etc_aliases_t"
        assert selinux["labels"]["/etc/opendkim/keys/domain01.dom.default.private"] == "dkim_milter_private_key_t"


@pytest.mark.parametrize(("function", "arguments"), [("opened", {"services": {"smtp": 25}}), ("closed", {})])
def test_while_another_run_is_at_work_the_firewall_stays(states: Any, function: str, arguments: dict[str, Any]) -> None:
    with Memory(states.opts["smtpout_state_dir"]).locked():
        ret = states(f"host_firewall.{function}", name="mail", **arguments)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "Another run is changing this relay." in ret["comment"]
