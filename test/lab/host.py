"""A booted host: systemd-nspawn on a throw-away layer of memory over an image."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.process import LabError, run

# systemd wants a cgroup tree of its own for each host: a cgroup2 tree mounted where only this host's starter sees it
# leaves the machine's, of whatever form, untouched.
BOOT = """
cgroup=$1 pid=$2; shift 2
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$cgroup"
echo $$ >"/sys/fs/cgroup/$cgroup/cgroup.procs"
echo $$ >"$pid.new"
mv "$pid.new" "$pid"  # never seen empty
export SYSTEMD_NSPAWN_LOCK=0
exec systemd-nspawn "$@"
"""
FORGET_CGROUP = """
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
cgroup=/sys/fs/cgroup/$1
# Killed processes stay in it for a moment.
for _ in {1..100}; do
    if [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; then exit 0; fi
    sleep 0.05
done
rmdir "$cgroup"
"""
ENVIRONMENT = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    f"TERM={os.environ.get('TERM', 'dumb')}",
]
BOOT_TIMEOUT = 60
STOP_TIMEOUT = 20


@dataclass(frozen=True)
class Role:
    """What a host of the lab is: its addresses, its full name, whom it asks for names."""

    name: str
    addresses: tuple[str, ...]
    fqdn: str
    nameserver: str


class Host:
    """A host of a lab: boot, run, write, read, stop."""

    def __init__(self, machine: str, role: Role, namespace: Path, folder: Path):
        self.machine = machine
        self.role = role
        self.namespace = namespace
        self.folder = folder

    @property
    def name(self) -> str:
        return self.role.name

    @property
    def console(self) -> Path:
        """What the host's systemd printed."""
        return self.folder / "console"

    @property
    def image(self) -> str:
        """The name of the image that the running host was booted from."""
        return (self.folder / "image").read_text()

    def boot(self, image: Path, formula: Path) -> None:
        """
        Boot the host and wait until systemd has started everything.

        image
            The root file system, which stays as it is: the host writes into memory.
        formula
            The repository, bound read-only at /srv/formula.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "image").write_text(image.name)
        short = self.role.fqdn.partition(".")[0]
        nspawn = [
            "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--volatile=overlay",
            f"--machine={self.machine}", f"--hostname={short}", f"--directory={image}",
            f"--network-namespace-path={self.namespace}", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            f"--bind-ro={formula}:/srv/formula",
        ]  # fmt: skip
        alone = ["setsid", "--fork", "unshare", "--mount", "--propagation", "private"]
        with open(self.console, "w") as console:
            subprocess.run(
                [*alone, "bash", "-euc", BOOT, "bash", self.machine, self.folder / "pid", *nspawn],
                check=True, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        self._wait_until_booted()
        names = f"{self.role.addresses[0]} {self.role.fqdn} {short}"
        self.write("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{names}\n", mode="0644")
        self.write("/etc/resolv.conf", f"nameserver {self.role.nameserver}\n", mode="0644")

    def _wait_until_booted(self) -> None:
        ends = time.monotonic() + BOOT_TIMEOUT
        gone = 0
        while time.monotonic() < ends and gone < 20:
            time.sleep(0.05)
            if self.state() in ("running", "degraded"):
                return
            # A process that just becomes another program has no arguments for a moment.
            gone = gone + 1 if (self.folder / "pid").exists() and not self.is_up() else 0
        said = self.console.read_text(errors="replace").strip().splitlines()[-1:]
        raise LabError(f"{self.name}: did not boot, see {self.console}: {' '.join(said)}")

    def _starter(self) -> int | None:
        """The process id of the host's systemd-nspawn, where that runs."""
        try:
            pid = int((self.folder / "pid").read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        # A zombie has no arguments: the machine's first process may be late in collecting it.
        known = f"--machine={self.machine}".encode()
        return pid if known in arguments else None

    def leader(self) -> int | None:
        """The process id, on the machine, of the host's own first process."""
        starter = self._starter()
        for child in _children(starter) if starter else []:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{child}/status").read_text()
                ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
                if len(ids) > 1 and ids[-1] == "1":
                    return child
        return None

    def is_up(self) -> bool:
        """Whether the host is there, booted or booting."""
        return self._starter() is not None

    def serves(self) -> bool:
        """Whether the host is up and, when booted, came to serve."""
        return self.is_up() and (self.folder / "serves").exists()

    def note_that_it_serves(self) -> None:
        (self.folder / "serves").touch()

    def state(self) -> str:
        """What systemd says of the host: running, degraded (a unit failed), starting ..."""
        if not self.leader():
            return "starting" if self.is_up() else "down"
        said = self.run(["systemctl", "is-system-running"], check=False)
        return said.stdout.strip() or said.stderr.strip()

    def failed_units(self) -> list[str]:
        listing = self.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout
        return [line.split()[0] for line in listing.splitlines()]

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command of the machine that runs a command in the host, as root, in /root."""
        leader = self.leader()
        if leader is None:
            raise LabError(f"{self.name} is not up: bin/lab up {self.name}")
        # The time of day is the machine's: nobody sets it from in here.
        timeless = ["setpriv", "--bounding-set=-sys_time", "--"]
        enter = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return [*timeless, *enter, "--", "env", "-i", "--chdir=/root", *ENVIRONMENT, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host; the parameters are those of lab.process.run."""
        return run(self.argv(argv), shown=argv, where=self.name, input=input, check=check, timeout=timeout)

    def write(self, path: str, text: str, mode: str = "0600") -> None:
        """Write a file of the host, with its folders where they are missing."""
        self.run(["install", "-D", "-m", mode, "/dev/stdin", path], input=text)

    def read(self, path: str) -> str:
        """Read a file of the host."""
        return self.run(["cat", path]).stdout

    def stop(self) -> None:
        """Pull the host's plug; nothing of it stays."""
        starter, leader = self._starter(), self.leader()
        if process := leader or starter:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        ends = time.monotonic() + STOP_TIMEOUT
        while self.is_up():
            if time.monotonic() > ends:
                raise LabError(f"{self.name}: systemd-nspawn (process {starter}) does not end")
            time.sleep(0.02)
        run(["unshare", "--mount", "--propagation", "private", "bash", "-euc", FORGET_CGROUP, "bash", self.machine])
        shutil.rmtree(self.folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
