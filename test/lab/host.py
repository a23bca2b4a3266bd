"""A booted host: systemd-nspawn on a throw-away layer of memory over an image, which reboots keep."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.process import CommandFailed, LabError, run

# A host's keeper. What the host writes lies in memory that is mounted where only the keeper and the host see it: it
# outlives each boot, and it is gone with the keeper, however that ends.
# systemd wants a cgroup tree of its own for each host: a cgroup2 tree mounted where only this host's keeper sees it
# leaves the machine's, of whatever form, untouched. Within it, each boot begins in a group that nothing was done to.
KEEP = """
image=$1 folder=$2 cgroup=/sys/fs/cgroup/$3; shift 3
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "$cgroup/keeper"
echo $$ >"$cgroup/keeper/cgroup.procs"
echo $$ >"$folder/pid.new"
mv "$folder/pid.new" "$folder/pid"  # never seen empty
memory=$folder/memory
mkdir "$memory"
mount -t tmpfs -o mode=755,size=25% memory "$memory"
mkdir "$memory/written" "$memory/work" "$memory/root"
mount -t overlay -o "lowerdir=$image,upperdir=$memory/written,workdir=$memory/work" memory "$memory/root"
export SYSTEMD_NSPAWN_LOCK=0
boot() {
    mkdir "$cgroup/$boots" && echo $BASHPID >"$cgroup/$boots/cgroup.procs" &&
        exec setpriv --pdeathsig KILL systemd-nspawn --directory="$memory/root" "$@"
}
boots=0 status=133  # systemd-nspawn's with --keep-unit for a host that asks to be rebooted
while rm "$folder/again" 2>/dev/null || [ "$status" = 133 ]; do
    boots=$((boots + 1)) status=0
    (boot "$@") || status=$?
done
exit "$status"
"""
END = """
rmdir "/run/systemd/nspawn/propagate/$1" 2>/dev/null || true  # systemd-nspawn's, of no use by itself
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
cgroup=/sys/fs/cgroup/$1
# Killed processes stay in it for a moment.
for _ in {1..200}; do
    if [ ! -d "$cgroup" ]; then exit 0; fi
    find "$cgroup" -name cgroup.procs -exec cat {} + | xargs --no-run-if-empty kill -KILL || true
    if find "$cgroup" -depth -type d -exec rmdir {} +; then exit 0; fi
    sleep 0.02
done 2>/dev/null
rmdir "$cgroup"
"""
ENVIRONMENT = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    f"TERM={os.environ.get('TERM', 'dumb')}",
]
BOOT_TIMEOUT = 60
SHUTDOWN_TIMEOUT = 100  # systemd kills what has not stopped after 90 s: systemd-system.conf(5)
STATE_TIMEOUT = 10


@dataclass(frozen=True)
class Role:
    """What a host of the lab is: its addresses, its full name, whom it asks for names, whether it serves nothing."""

    name: str
    addresses: tuple[str, ...]
    fqdn: str
    nameserver: str
    bare: bool = False


class Host:
    """A host of a lab: boot, run, write, read, reboot, stop."""

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
        """What the host's systemd printed, at each boot."""
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
            "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe",
            f"--machine={self.machine}", f"--hostname={short}",
            f"--network-namespace-path={self.namespace}", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            f"--bind-ro={formula}:/srv/formula",
        ]  # fmt: skip
        alone = ["setsid", "--fork", "unshare", "--mount", "--propagation", "private"]
        with open(self.console, "w") as console:
            subprocess.run(
                [*alone, "bash", "-euc", KEEP, "bash", image, self.folder, self.machine, *nspawn],
                check=True, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        self._wait_until_booted()
        names = f"{self.role.addresses[0]} {self.role.fqdn} {short}"
        self.write("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{names}\n", mode="0644")
        self.write("/etc/resolv.conf", f"nameserver {self.role.nameserver}\n", mode="0644")

    def serve(self) -> None:
        """Start what the host's role serves and return once that answers."""
        if not self.role.bare:
            self.run(["/usr/local/lib/lab/boot.sh", self.name])
        (self.folder / "serves").touch()

    def reboot(self, power_cut: bool = False) -> None:
        """
        Boot the host again, with all that it has written, and return when it serves.

        power_cut
            Kill all of its processes at once; else systemd stops them first. All that they have written stays, even
            what no fsync was asked for: the memory is the machine's. Lost is what they held in memory of their own.
        """
        leader = self.leader()
        if leader is None:
            raise self._not_up()
        (self.folder / "serves").unlink(missing_ok=True)
        if power_cut:
            (self.folder / "again").touch()
            os.kill(leader, signal.SIGKILL)
        else:
            asked = self.run(["systemctl", "reboot"], check=False)
            if asked.returncode > 0:  # below: the shutdown has killed the command itself
                raise CommandFailed(self.name, asked)
        self._wait_until_booted(other_than=leader, timeout=BOOT_TIMEOUT + SHUTDOWN_TIMEOUT)
        self.serve()

    def _wait_until_booted(self, other_than: int | None = None, timeout: float = BOOT_TIMEOUT) -> None:
        ends = time.monotonic() + timeout
        gone = 0
        while time.monotonic() < ends and gone < 20:
            time.sleep(0.05)
            leader = self.leader()
            if leader != other_than and self.state() in ("running", "degraded"):
                return
            # A process that just becomes another program has no arguments for a moment.
            gone = gone + 1 if (self.folder / "pid").exists() and not self.is_up() else 0
        said = self.console.read_text(errors="replace").strip().splitlines()[-1:]
        raise LabError(f"{self.name}: did not boot, see {self.console}: {' '.join(said)}")

    def _keeper(self) -> int | None:
        """The process id of the host's keeper, where that runs."""
        try:
            pid = int((self.folder / "pid").read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        # A zombie has no arguments: the machine's first process may be late in collecting it.
        known = f"--machine={self.machine}".encode()
        return pid if known in arguments else None

    def leader(self) -> int | None:
        """The process id, on the machine, of the host's own first process: a child of the keeper's systemd-nspawn."""
        keeper = self._keeper()
        for child in [child for starter in _children(keeper) for child in _children(starter)] if keeper else []:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{child}/status").read_text()
                ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
                if len(ids) > 1 and ids[-1] == "1":
                    return child
        return None

    def is_up(self) -> bool:
        """Whether the host is there, booted or booting."""
        return self._keeper() is not None

    def serves(self) -> bool:
        """Whether the host is up and, when booted, came to serve."""
        return self.is_up() and (self.folder / "serves").exists()

    def state(self) -> str:
        """What systemd says of the host: running, degraded (a unit failed), starting ..."""
        leader = self.leader()
        if leader is None:
            return "starting" if self.is_up() else "down"
        asking = _entering(leader, ["systemctl", "is-system-running"])
        try:
            said = run(asking, where=self.name, check=False, timeout=STATE_TIMEOUT)
        except subprocess.TimeoutExpired:  # who asks in the moment of a reboot may wait for a systemd that is gone
            return "silent"
        return said.stdout.strip() or said.stderr.strip()

    def failed_units(self) -> list[str]:
        listing = self.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout
        return [line.split()[0] for line in listing.splitlines()]

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command of the machine that runs a command in the host, as root, in /root."""
        leader = self.leader()
        if leader is None:
            raise self._not_up()
        return _entering(leader, argv)

    def _not_up(self) -> LabError:
        return LabError(f"{self.name} is not up: bin/lab up {self.name}")

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
        """Pull the host's plug; nothing of it stays, whatever an interrupted run has left of it."""
        run(["unshare", "--mount", "--propagation", "private", "bash", "-euc", END, "bash", self.machine])
        shutil.rmtree(self.folder, ignore_errors=True)


def _entering(leader: int, argv: Sequence[str]) -> list[str]:
    # The time of day is the machine's: nobody sets it from in here.
    timeless = ["setpriv", "--bounding-set=-sys_time", "--"]
    enter = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
    return [*timeless, *enter, "--", "env", "-i", "--chdir=/root", *ENVIRONMENT, *argv]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
