"""What the lab needs of the machine it runs on: root and a few Debian packages."""

import fcntl
import os
import shutil
from pathlib import Path

from lab.process import LabError, Progress, run

# Commands and the packages that bring them; what else the lab calls is on every Debian system.
COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "testssl": "testssl.sh",
}

# Each host's systemd holds some six of them, all counted for root; a few labs at once exhaust the kernel's 128, and
# then a host's systemd stops without a word. The limit stays raised until the machine restarts.
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_INSTANCES = 1024


def prepare(progress: Progress) -> None:
    """Install what is missing; raise LabError where this is not root's or not a Debian machine."""
    if os.geteuid() != 0:
        raise LabError("only root can build images and boot hosts: use sudo")
    if int(INOTIFY_INSTANCES.read_text()) < ENOUGH_INSTANCES:
        INOTIFY_INSTANCES.write_text(str(ENOUGH_INSTANCES))
    with open("/run/lock/smtpout-lab", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another lab of this machine may be at it
        _install(progress)


def _install(progress: Progress) -> None:
    missing = [package for command, package in COMMANDS.items() if not shutil.which(command)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"this machine lacks {', '.join(missing)} and has no apt-get to install that with")
    progress(f"installing {', '.join(missing)}")
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet"]
    run([*quietly, "update"])
    run([*quietly, "install", "--no-install-recommends", *missing])
