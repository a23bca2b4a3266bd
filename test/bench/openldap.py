"""A directory that costs little: OpenLDAP in the place of the lab's Samba, at its address and with its users.

Samba takes some 7 ms of CPU for a login, off the same cores as the relay: beside it, no relay is seen at its limit.
"""

import shutil
import subprocess
from pathlib import Path

from lab import images
from lab.lab import Lab
from lab.process import CACHE, run

PACKAGES = CACHE / "bench-openldap"
# The services' image has no slapd, and a booted host no network: fetched in a copy of the image, with this machine's.
FETCH = """
cp "$1/resolv.conf" "$1/hosts" /etc/
apt-get update
apt-get install --yes --no-install-recommends --download-only -o Dir::Cache::archives="$1" \
    -o APT::Sandbox::User=root slapd
"""
# No install: its scripts would make a directory of their own and start it.
UNPACK = "dpkg-deb --fsys-tarfile /dev/stdin | tar --extract --keep-directory-symlink --directory=/"
SITE = """
dn: dc=domain01,dc=dom
objectClass: dcObject
objectClass: organization
dc: domain01
o: MYCOMPANY

dn: ou=mailapps,dc=domain01,dc=dom
objectClass: organizationalUnit
ou: mailapps

dn: cn=correoapp,ou=mailapps,dc=domain01,dc=dom
objectClass: person
cn: correoapp
sn: correoapp
userPassword: Pass2016Mail
"""
USER = """
dn: cn={name},dc=domain01,dc=dom
objectClass: inetOrgPerson
objectClass: accountOfTheLab
cn: {name}
sn: {name}
mail: {address}
sAMAccountName: {name}
userPassword: P@ssw0rd
"""
# The package's own schema of Active Directory's attributes allows no index of sAMAccountName.
CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9999 NAME 'accountOfTheLab' SUP top AUXILIARY MUST sAMAccountName )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /run/slapd.pid
allow bind_v2
loglevel 0
threads 8
database mdb
maxsize 1073741824
suffix "dc=domain01,dc=dom"
directory /var/lib/bench-ldap
index objectClass,mail,sAMAccountName eq
access to attrs=userPassword by anonymous auth by * none
access to * by users read
"""


def fetch() -> None:
    """Download the packages once."""
    if any(PACKAGES.glob("slapd_*.deb")):
        return
    PACKAGES.mkdir(parents=True, exist_ok=True)
    settings = images.machine_settings(PACKAGES)
    environment = {name: value.replace(f"/run/{PACKAGES.name}", str(PACKAGES)) for name, value in settings.items()}
    for names in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc") / names, PACKAGES)
    copy = CACHE / "building" / "bench-copy"
    copy.mkdir(parents=True, exist_ok=True)
    assignments = [f"{name}={value}" for name, value in environment.items()]
    argv = [*assignments, "sh", "-euc", FETCH, "sh", str(PACKAGES)]
    run(images.within(images.services().path, copy, [PACKAGES], argv))
    copy.rmdir()


def start(lab: Lab) -> None:
    """Put OpenLDAP into Samba's place."""
    fetch()
    host = lab.host("directory")
    host.run(["systemctl", "stop", "samba-ad-dc"])
    for package in sorted(PACKAGES.glob("*.deb")):
        with package.open("rb") as content:
            subprocess.run(host.argv(["sh", "-euc", UNPACK]), check=True, stdin=content, capture_output=True)
    host.run(["ldconfig"])
    host.write("/etc/ldap/slapd.conf", CONFIGURATION)
    host.run(["mkdir", "-p", "/var/lib/bench-ldap"])
    users = [("usuario01", "usuario01@domain01.dom"), ("usuario02", "usuario02@domain02.dom")]
    entries = SITE + "".join(USER.format(name=name, address=address) for name, address in users)
    host.run(["/usr/sbin/slapadd", "-f", "/etc/ldap/slapd.conf"], input=entries)
    host.run(["/usr/sbin/slapd", "-f", "/etc/ldap/slapd.conf", "-h", "ldap://172.16.11.63:389/"])


def stop(lab: Lab) -> None:
    """Put Samba back into its place."""
    host = lab.host("directory")
    host.run(["sh", "-euc", "kill $(cat /run/slapd.pid)"])
    host.run(["/usr/local/lib/lab/boot.sh", "directory"])
