"""Root file systems of the lab's hosts: built once, kept in a cache outside the repository.

An image is a Debian base system and, on top, a folder of this package: its `packages` are installed and its
`build.sh` is run in the image's chroot. The name of an image ends in a hash of what it is made from, so a change of
the folder makes a new image and an unchanged one is never built again.
"""

import configparser
import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from lab.process import CACHE, LabError, Progress, run

FOLDER = Path(__file__).resolve().parent
# The relay's release by platform, as kitchen.yml and smtpout/platforms.yaml call it.
PLATFORMS = {"debian-12": "bookworm", "debian-13": "trixie"}
RELEASES = tuple(PLATFORMS.values())
UNUSED = 24 * 3600  # seconds after which an image of other content goes: two branches may take turns
SALT_VERSION = "3008"
LOCKS = {"3008": "bin/requirements.txt"} | {old: f"test/requirements-{old}.txt" for old in ("3007", "3006")}

BASE = [
    "--variant=minbase",
    "--include=systemd,systemd-sysv,dbus,iproute2,procps,python3,apt-utils",
    # A host lives minutes, in memory: what only people read stays out, and nothing waits for a disk.
    *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "info", "locale")),
    "--dpkgopt=force-unsafe-io",
]

# A command in namespaces of its own: whatever it mounts and starts is gone with it, and it with this process.
ALONE = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"),
]
CHROOT = """
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for names in /etc/resolv.conf /etc/hosts; do
    if [ -e "$names" ]; then mount --bind "$names" "$root$names"; fi
done
mount --bind "$PIP_DOWNLOADS" "$root/var/cache/pip"
unset PIP_DOWNLOADS
exec chroot "$root" "$@"
"""

# In a copy of a root file system that is gone with the command: what it writes goes into memory.
WITHIN = """
image=$1 copy=$2; shift 2
mount -t tmpfs -o mode=755 copy "$copy"
mkdir "$copy/written" "$copy/work" "$copy/root"
root=$copy/root
mount -t overlay -o "lowerdir=$image,upperdir=$copy/written,workdir=$copy/work" copy "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    shift
done
shift
exec chroot "$root" env -i "$@"
"""


@dataclass(frozen=True)
class Image:
    """A root file system: its name, its Debian release, its folder, and more files, by their name beside build.sh."""

    name: str
    release: str
    folder: Path | None = None
    files: dict[str, Path] = field(default_factory=dict)

    @functools.cached_property
    def key(self) -> str:
        """A hash of what the image is made from, as it was when first asked for."""
        parts = [self.release, *BASE]
        for path in [*sorted(self.folder.rglob("*")), *self.files.values()] if self.folder else []:
            if path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                parts.append(f"{os.path.relpath(path, FOLDER)} {path.stat().st_mode:o} {content}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        return CACHE / "images" / f"{self.name}-{self.key}"

    @property
    def log(self) -> Path:
        return CACHE / "log" / f"{self.name}.log"

    def ensure(self, progress: Progress) -> Path:
        """Return the image's path; build it first where it is missing."""
        for folder in ("images", "building", "log", "pip"):
            (CACHE / folder).mkdir(parents=True, exist_ok=True)
        if not self.path.is_dir():
            with self._alone(progress):
                if not self.path.is_dir():
                    self._build(progress)
        os.utime(self.path)  # the time of its last use
        return self.path

    @contextlib.contextmanager
    def _alone(self, progress: Progress) -> Iterator[None]:
        """Hold the image's lock: who else needs the same image waits for it instead of building another."""
        with open(CACHE / "building" / f"{self.name}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(f"image {self.name}: waiting for the one that builds it already")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _build(self, progress: Progress) -> None:
        """Build aside and rename: an aborted build leaves no half image, and the next one sweeps its rest away."""
        if replace(self).key != self.key:
            raise LabError(f"image {self.name}: {self.folder} has changed since this began: start again")
        aside = CACHE / "building" / self.name
        remove(aside)
        progress(f"image {self.name}: building (log: {self.log})")
        with open(self.log, "w") as log:
            try:
                if self.folder is None:
                    self._build_base(aside, log)
                else:
                    base = Image(f"base-{self.release}", self.release).ensure(progress)
                    subprocess.run(["cp", "--archive", "--reflink=auto", base, aside], check=True)
                    self._build_folder(aside, self.folder, log, progress)
            except subprocess.CalledProcessError as failed:
                remove(aside)
                log.flush()
                said = self.log.read_text(errors="replace").strip().splitlines()[-1:]
                raise LabError(f"image {self.name}: not built, see {self.log}: {' '.join(said)}") from failed
        for older in (CACHE / "images").glob(f"{self.name}-" + "[0-9a-f]" * 12):
            if not in_use(older) and time.time() - older.stat().st_mtime > UNUSED:
                remove(older)
        aside.rename(self.path)
        progress(f"image {self.name}: ready")

    def _build_base(self, root: Path, log: TextIO) -> None:
        subprocess.run(
            [*ALONE, "mmdebstrap", "--mode=root", *BASE, self.release, root],
            check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        # The build machine's own, copied by mmdebstrap; every host gets its own at boot.
        (root / "etc/hostname").unlink(missing_ok=True)
        (root / "etc/machine-id").write_text("")
        (root / "etc/resolv.conf").unlink(missing_ok=True)
        (root / "etc/resolv.conf").write_text("")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")

    def _build_folder(self, root: Path, folder: Path, log: TextIO, progress: Progress) -> None:
        inside = root / "usr/local/lib/lab"
        shutil.copytree(folder, inside)
        for name, file in self.files.items():
            shutil.copy(file, inside / name)
        # A package's own start script must not start anything in the chroot.
        hold = root / "usr/sbin/policy-rc.d"
        hold.write_text("#!/bin/sh\nexit 101\n")
        hold.chmod(0o755)
        settings = root / "run/lab"
        settings.mkdir()
        environment = machine_settings(settings)
        if (inside / "packages").exists():
            progress(f"image {self.name}: installing its packages")
            install = "apt-get update && xargs apt-get install --yes --no-install-recommends <$1/packages"
            self._chroot(["sh", "-euc", install, "sh", "/usr/local/lib/lab"], root, environment, log, progress)
        self._chroot(["/usr/local/lib/lab/build.sh"], root, environment, log, progress)
        hold.unlink()
        (root / "etc/machine-id").write_text("")
        for leftovers in ("run", "tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt", "var/cache/pip"):
            for entry in (root / leftovers).iterdir():
                remove(entry)

    def _chroot(self, argv: list[str], root: Path, environment: dict[str, str], log: TextIO, show: Progress) -> None:
        """Run a command in the image's chroot; its lines go to the log, its "step: ..." lines to the terminal."""
        (root / "var/cache/pip").mkdir(exist_ok=True)
        with subprocess.Popen(
            [*ALONE, "bash", "-euc", CHROOT, "bash", root, *argv],
            env=environment | {"PIP_DOWNLOADS": str(CACHE / "pip"), "PIP_CACHE_DIR": "/var/cache/pip"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                log.write(f"{time.strftime('%H:%M:%S')} {line}")
                if line.startswith("step: "):
                    show(f"image {self.name}: {line.removeprefix('step: ').strip()}")
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, argv)


def machine_settings(folder: Path) -> dict[str, str]:
    """
    The environment for a build: how this machine reaches package registries.

    Proxies of apt and of the environment, pip's settings and the certificate authorities that this machine trusts.
    None of it stays in the image.

    folder
        A folder of the chroot (below its root's run/) for the files that the environment names.
    """
    inside = Path("/run") / folder.name
    settings = run(["apt-config", "dump"]).stdout.splitlines()
    proxies = [line for line in settings if line.startswith(("Acquire::http::Proxy ", "Acquire::https::Proxy "))]
    (folder / "apt.conf").write_text("\n".join([*proxies, 'Acquire::Retries "3";', ""]))
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "APT_CONFIG": str(inside / "apt.conf"),
    }
    environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    pip = pip_settings()
    authorities = Path(pip.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"))
    if authorities.exists():
        shutil.copy(authorities, folder / "authorities.crt")
        pip["PIP_CERT"] = str(inside / "authorities.crt")
    return environment | pip


def pip_settings() -> dict[str, str]:
    """This machine's settings of pip as environment variables, without running pip: a fresh machine has none."""
    settings = configparser.RawConfigParser()
    settings.read(["/etc/pip.conf", *(Path.home() / each for each in (".pip/pip.conf", ".config/pip/pip.conf"))])
    pairs = settings.items("global") if settings.has_section("global") else []
    variables = {f"PIP_{key.upper().replace('-', '_')}": " ".join(value.split()) for key, value in pairs}
    return variables | {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def within(image: Path, copy: Path, shared: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """
    The command that runs a command in a throw-away copy of a root file system, on this machine's network.

    image
        The root file system, which stays as it is.
    copy
        An empty folder, where the copy is mounted, for the command alone.
    shared
        Folders of this machine that are there, too, at their own paths.
    argv
        The command, after assignments of its environment.
    """
    return [*ALONE, "bash", "-euc", WITHIN, "bash", str(image), str(copy), *map(str, shared), "--", *argv]


def in_use(path: Path) -> bool:
    """Whether a booted host has this root file system below it."""
    argument = str(path).encode()  # of the host's keeper
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument in process.read_bytes().split(b"\0"):
                return True
    return False


def forget() -> None:
    """Delete all images; raise LabError where a host is up that needs one."""
    built = list((CACHE / "images").glob("*"))
    needed = [path.name for path in built if in_use(path)]
    if needed:
        raise LabError(f"hosts are up from {', '.join(needed)}: first bin/lab down")
    for path in built:
        remove(path)


def remove(path: Path) -> None:
    """Delete a file or a tree, where it exists."""
    run(["rm", "--recursive", "--force", "--one-file-system", str(path)])


def relay(release: str, salt_version: str = SALT_VERSION) -> Image:
    """The image of a relay to be: bare, with Salt and everything that the formula will install beside it."""
    files = {"salt.txt": LOCKS[salt_version], "apply.txt": LOCKS["3008"], "formula.txt": "smtpout/requirements.txt"}
    paths = {name: FOLDER.parents[1] / path for name, path in files.items()}
    return Image(f"relay-{release}-salt{salt_version}", release, FOLDER / "relay", paths)


def tests() -> Image:
    """The image in which unit and rendering tests run on another Python and other daemons than this machine's."""
    return Image("tests-trixie", "trixie", FOLDER / "tests", {"requirements.txt": FOLDER.parent / "requirements.txt"})


def services() -> Image:
    """The image of the directory, the delivery server and the outside world."""
    return Image("services", "bookworm", FOLDER / "services")
