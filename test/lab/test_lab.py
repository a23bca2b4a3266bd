"""The lab itself: a host keeps what it has written when it reboots, and nothing of a lab outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import REPOSITORY

from lab.conftest import new_lab
from lab.host import Host
from lab.images import RELEASES
from lab.lab import Lab

UNIT = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c "echo started >>/srv/unit"
ExecStop=/bin/sh -c "echo stopped >>/srv/unit"
[Install]
WantedBy=multi-user.target
"""
BEFORE_A_REBOOT = """\
echo kept >/srv/kept
sync
echo 192.0.2.1 named.by.a.test >>/etc/hosts
touch /run/volatile
systemctl --quiet enable --now counted
systemd-run --quiet --unit=lasting sleep infinity
"""
POWER_CUT = pytest.mark.parametrize("power_cut", [False, True], ids=["orderly", "power cut"])


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return a lab of one bare host. It is the machine's matter, so one release is enough."""
    release = (request.config.getoption("release") or RELEASES)[0]
    made = new_lab("lab", release, request.config, ["relay"])
    yield made
    if not request.config.getoption("keep"):
        made.down()


@pytest.fixture
def host(lab: Lab) -> Host:
    """Return a new host in which something has been written and something runs."""
    made = lab.host("relay")
    made.stop()
    lab.up(["relay"])
    made.write("/etc/systemd/system/counted.service", UNIT, mode="0644")
    made.run(["sh", "-euc", BEFORE_A_REBOOT])
    return made


def boot_id(host: Host) -> str:
    """Return what is another one after each boot."""
    return host.run(["cat", "/proc/sys/kernel/random/boot_id"], check=False).stdout


@POWER_CUT
def test_what_was_written_outlives_a_reboot(host: Host, power_cut: bool) -> None:
    before = boot_id(host)
    host.reboot(power_cut)
    assert boot_id(host) != before
    assert host.read("/srv/kept") == "kept\n"
    assert "named.by.a.test" in host.read("/etc/hosts")


@POWER_CUT
def test_processes_and_run_do_not_outlive_a_reboot(host: Host, power_cut: bool) -> None:
    host.reboot(power_cut)
    assert host.run(["pgrep", "sleep"], check=False).stdout == ""
    assert host.run(["test", "-e", "/run/volatile"], check=False).returncode == 1


@pytest.mark.parametrize(
    ("power_cut", "seen"),
    [(False, "started stopped started"), (True, "started started")],
    ids=["orderly", "power cut"],
)
def test_enabled_units_start_again_and_only_an_orderly_reboot_stops_them(
    host: Host, power_cut: bool, seen: str
) -> None:
    host.reboot(power_cut)
    assert host.read("/srv/unit").split() == seen.split()


@POWER_CUT
def test_the_journal_of_the_boot_before_can_be_read(host: Host, power_cut: bool) -> None:
    host.run(["systemd-cat", "echo", "said before"])
    host.run(["journalctl", "--sync"])
    host.reboot(power_cut)
    assert "said before" in host.run(["journalctl", "--boot=-1"]).stdout


def test_a_host_can_be_rebooted_from_within(host: Host) -> None:
    before = boot_id(host)
    host.run(["systemctl", "reboot"], check=False)
    ends = time.monotonic() + 30
    while time.monotonic() < ends and not (host.state() == "running" and boot_id(host) != before):
        time.sleep(0.1)
    assert host.read("/srv/unit").split() == ["started", "stopped", "started"]


def test_a_host_that_went_down_is_a_new_one_when_it_is_up_again(lab: Lab, host: Host) -> None:
    lab.down(["relay"])
    assert not host.is_up()
    assert not host.namespace.exists()
    lab.up(["relay"])
    assert host.run(["test", "-e", "/srv/kept"], check=False).returncode == 1


@pytest.mark.parametrize("killed", ["nothing", "leader", "keeper"])
def test_nothing_of_a_lab_outlives_its_end(lab: Lab, host: Host, killed: str) -> None:
    processes = {"leader": host.leader(), "keeper": int((host.folder / "pid").read_text())}
    assert mentioned(str(host.folder), "mountinfo") != []
    if process := processes.get(killed):
        os.kill(process, signal.SIGKILL)
    lab.down()
    assert mentioned(str(host.folder), "mountinfo") == []
    assert mentioned(host.machine, "cmdline") == []
    assert not lab.folder.exists()


def mentioned(name: str, where: str) -> list[str]:
    """Return this machine's processes that a name occurs with: in their mounts, in any namespace, or arguments."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{where}"):
        try:
            text = path.read_text(errors="replace")
        except OSError:  # it has just ended
            continue
        if name in text:
            found.append(path.parent.name)
    return found


def test_a_reader_who_stops_reading_is_no_error(lab: Lab, host: Host) -> None:
    command = [str(REPOSITORY / "bin/lab"), "--name", lab.name, "status"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert host.is_up()
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE
