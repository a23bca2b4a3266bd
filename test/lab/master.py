"""A Salt master in the lab: its minions, two sites, file_roots or git, and salt-ssh. README says the same in short."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support import PILLARS, REPOSITORY, load

from lab.host import Host
from lab.lab import Lab, Way
from lab.process import LabError

BIN = "/opt/salt/bin"
RELAY, NEIGHBOUR = "relay1.site-a.example", "relay1.site-b.example"
STATES_TOP = "base:\n  'relay*':\n    - smtpout\n"
# Matched by minion id, which a minion's key stands for; grains are what a minion says of itself.
PILLAR_TOP = """base:
  'relay*.site-a.example':
    - smtpout.site-a
    - smtpout.lab
  'relay*.site-b.example':
    - smtpout.site-b
    - smtpout.lab
"""
CONFIGURATION = """
interface: 172.16.11.94
pillar_roots: {base: [/srv/pillar]}
file_roots: {base: [%s]}
log_level_logfile: warning
# Or the master keeps every minion's pillar in clear text.
minion_data_cache: False
"""
FILE_ROOTS = "/srv/salt, /srv/formula"
GITFS = """
fileserver_backend: [roots, gitfs]
gitfs_provider: gitpython
gitfs_base: main
gitfs_remotes: ['file:///srv/git/smtpout.git']
"""
SALT_SSH = """
module_dirs: [/srv/formula]
thin_extra_mods: ldap3,dkim,dns,pyasn1,cryptography,smtpout_core
"""
# salt-ssh packs what the master's own Salt can import.
IMPORTED = """import pathlib, site
pathlib.Path(site.getsitepackages()[0], "smtpout.pth").write_text("/srv/formula/_utils\\n")
"""
ROSTER = f"{RELAY}:\n  host: 172.16.11.95\n  user: root\n  minion_opts: {{enable_fqdns_grains: false}}\n"
MINION = "master: 172.16.11.94\nid: {}\nenable_fqdns_grains: False\nenable_gpu_grains: False\n"
UNIT = "[Service]\nExecStart=/opt/salt/bin/{}\nKillMode=process\nLimitNOFILE=8192\n"
WAIT = 180
# Until then salt doesn't ask whether the job still runs: a busy minion may be late in saying so, and salt would leave.
PATIENCE = "--timeout=600"


def until(what: str, seen: Callable[[], Any]) -> None:
    """Wait until something is so; raise LabError after WAIT seconds."""
    ends = time.monotonic() + WAIT
    while not seen():
        if time.monotonic() > ends:
            raise LabError(f"{what}: not so after {WAIT} s")
        time.sleep(0.5)


def install(host: Host, *packages: str) -> None:
    """Install Debian packages from the host's own repository."""
    install = 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install "$@"'
    host.run(["sh", "-c", install, "sh", *packages], timeout=300)


def serve(host: Host, program: str) -> None:
    """Start one of Salt's daemons under systemd, or start it again."""
    host.write(f"/etc/systemd/system/{program}.service", UNIT.format(program), mode="0644")
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "restart", program], timeout=120)


class Master:
    """The lab's master with the pillars of two sites; site-a is pillar.example."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.host = lab.host("master")
        self.first: dict[str, Any] = {}
        self.second: dict[str, Any] = {}
        self.site_b, self.secrets_b = site_b()
        site_a = load("default")["smtpout"]
        self.secrets_a = [site_a["directory"]["bind_password"], site_a["verify"]["password"]]
        self.host.write("/srv/salt/top.sls", STATES_TOP, mode="0644")
        self.host.write("/srv/pillar/top.sls", PILLAR_TOP)
        self.host.write("/srv/pillar/smtpout/lab.sls", (REPOSITORY / "test/salt/pillar/lab.sls").read_text())
        self.host.write("/srv/pillar/smtpout/site-a.sls", PILLARS["default"].read_text())
        self.host.write("/srv/pillar/smtpout/site-b.sls", json.dumps({"smtpout": self.site_b}))

    def run(self, *words: str, check: bool = True, timeout: float = 600) -> str:
        """Run one of Salt's programs on the master and return what it printed."""
        return self.host.run([f"{BIN}/{words[0]}", *words[1:]], check=check, timeout=timeout).stdout

    def salt(self, minion: str, *words: str) -> Any:
        """Return what a minion answers to its master."""
        said = self.run("salt", "--out=json", "--static", PATIENCE, minion, *words, check=False)
        return json.loads(said)[minion]

    def serve_file_roots(self) -> None:
        """Serve the working tree from a directory."""
        self.host.write("/etc/salt/master", CONFIGURATION % FILE_ROOTS, mode="0644")
        serve(self.host, "salt-master")

    def serve_update(self, files: dict[str, str], minion: str) -> None:
        """Serve files of the formula, by their names in it, that differ from the working tree's; a minion is back."""
        for name, text in files.items():
            self.host.write(f"/srv/update/{name}", text, mode="0644")
        self.host.write("/etc/salt/master", CONFIGURATION % f"/srv/update, {FILE_ROOTS}", mode="0644")
        serve(self.host, "salt-master")
        self._answers(minion)

    def serve_git(self) -> None:
        """Serve the working tree, as it is, from a bare repository."""
        install(self.host, "git")
        self.run("pip", "install", "--quiet", "gitpython")
        git = ["git", "--git-dir=/srv/git/smtpout.git", "--work-tree=/srv/formula"]
        author = ["-c", "user.name=lab", "-c", "user.email=lab@lab.example"]
        self.host.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", "/srv/git/smtpout.git"])
        self.host.run([*git, "add", "--all"], timeout=60)
        self.host.run([*git, *author, "commit", "--quiet", "--message=The working tree"], timeout=60)
        self.host.write("/etc/salt/master", CONFIGURATION % "/srv/salt" + GITFS, mode="0644")
        serve(self.host, "salt-master")

    def join(self, name: str, minion: str) -> Way:
        """Make a bare host a minion, accept its key, and return the way to ask it."""
        host = self.lab.host(name)
        self.run("salt-key", "--yes", "--quiet", "--delete", minion, check=False)
        host.write("/etc/salt/minion", MINION.format(minion), mode="0644")
        serve(host, "salt-minion")
        until(f"{minion} shows its key", lambda: minion in self.run("salt-key", "--list=unaccepted"))
        self.run("salt-key", "--yes", "--accept", minion)
        self._answers(minion)
        return Way("master", (f"{BIN}/salt", "--static", PATIENCE, minion))

    def restart(self, name: str, minion: str) -> None:
        """Restart a minion, and wait until it answers."""
        serve(self.lab.host(name), "salt-minion")
        self._answers(minion)

    def _answers(self, minion: str) -> None:
        ping = [f"{BIN}/salt", "--timeout=5", minion, "test.ping"]
        until(f"{minion} answers", lambda: self.host.run(ping, check=False, timeout=60).returncode == 0)

    def reach_by_ssh(self) -> Way:
        """Let the master's root in at the relay, on which no Salt is left, and return the way to ask it."""
        relay, key = self.lab.host("relay"), "/etc/salt/pki/master/ssh/salt-ssh.rsa"
        relay.run(["rm", "-rf", "/opt/salt", "/usr/local/bin/salt-call", "/etc/salt"])
        install(relay, "openssh-server")
        install(self.host, "openssh-client")
        self.run("pip", "install", "--quiet", "ldap3", "dkimpy", "dnspython")
        self.run("python", "-c", IMPORTED)
        self.host.write("/etc/salt/master", CONFIGURATION % FILE_ROOTS + SALT_SSH, mode="0644")
        self.host.write("/etc/salt/roster", ROSTER, mode="0644")
        self.host.run(["mkdir", "-p", "/etc/salt/pki/master/ssh", "/root/.ssh"])
        self.host.run(["ssh-keygen", "-q", "-N", "", "-t", "rsa", "-f", key])
        self.host.run(["sh", "-c", "ssh-keyscan 172.16.11.95 >/root/.ssh/known_hosts"])
        relay.write("/root/.ssh/authorized_keys", self.host.read(f"{key}.pub"))
        # The one thing that salt-ssh can't bring, since it is made for the host's Python.
        self.run("salt-ssh", "--raw", RELAY, "apt-get -qq update && apt-get -qq -y install python3-cffi-backend")
        return Way("master", (f"{BIN}/salt-ssh", RELAY), ask=("smtpout.ask",))


def site_b() -> tuple[dict[str, Any], list[str]]:
    """Return another site's pillar, and its secrets."""
    site = load("default")["smtpout"]
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = key.private_bytes(*form).decode()
    site |= {"organisation": "SITEB", "hostname": "relay.site-b.example", "domains": ["domain02.dom"]}
    site["directory"] |= {"bind_dn": "cn=siteb,ou=mailapps,dc=domain01,dc=dom", "bind_password": "Bind-of-Site-B-1"}
    site["verify"] = {"user": "verifyb", "password": "Verify-of-Site-B-1"}
    site["opendkim"] = {"domains": {"domain02.dom": {"private_key": pem}}}
    # The middle of the key: however a copy may wrap or escape its lines, one of them stays whole.
    return site, ["Bind-of-Site-B-1", "Verify-of-Site-B-1", pem.splitlines()[5]]


def make_accounts(lab: Lab) -> None:
    """Make the accounts of site-b in the directory, and its host's name in DNS."""
    create = ["samba-tool", "user", "create"]
    directory = lab.host("directory")
    directory.run([*create, "siteb", "Bind-of-Site-B-1", "--userou=OU=mailapps"], timeout=60)
    directory.run([*create, "verifyb", "Verify-of-Site-B-1", "--mail-address=verifyb@domain02.dom"], timeout=60)
    name = "relay.site-b.example. 0 IN A 172.16.11.97\n97.11.16.172.in-addr.arpa. 0 IN PTR relay.site-b.example.\n"
    lab.host("outside").run(["/usr/local/lib/lab/publish", "-"], input=name, timeout=30)
