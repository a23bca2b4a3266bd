"""A real slapd on loopback that knows the recipe's users, for the tests of what asks a directory."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/bin")
needs_slapd = pytest.mark.skipif(SLAPD is None, reason="slapd is not installed")

BASE = "dc=domain01,dc=dom"
BIND_DN = f"cn=correoapp,ou=mailapps,{BASE}"
BIND_PASSWORD = "Pass2016Mail"
USER_PASSWORD = "P@ssw0rd"

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/slapd.pid
TLSCACertificateFile {directory}/ca.pem
TLSCertificateFile {directory}/server.pem
TLSCertificateKeyFile {directory}/server.key
database mdb
suffix "dc=domain01,dc=dom"
directory {directory}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=blind,ou=mailapps,dc=domain01,dc=dom" none by users read by * none
"""

PEOPLE = """
dn: dc=domain01,dc=dom
objectClass: domain
dc: domain01

dn: ou=mailapps,dc=domain01,dc=dom
objectClass: organizationalUnit
ou: mailapps

dn: ou=people,dc=domain01,dc=dom
objectClass: organizationalUnit
ou: people

dn: cn=correoapp,ou=mailapps,dc=domain01,dc=dom
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: correoapp
userPassword: Pass2016Mail

dn: cn=blind,ou=mailapps,dc=domain01,dc=dom
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: blind
userPassword: Pass2016Mail

dn: uid=usuario01,ou=people,dc=domain01,dc=dom
objectClass: inetOrgPerson
uid: usuario01
cn: Usuario Uno
sn: Uno
mail: usuario01@domain01.dom
userPassword: P@ssw0rd

dn: uid=usuario02,ou=people,dc=domain01,dc=dom
objectClass: inetOrgPerson
uid: usuario02
cn: Usuario Dos
cn: U. Dos
sn: Dos
mail: usuario02@domain02.dom
userPassword: P@ssw0rd

dn: uid=twin,ou=people,dc=domain01,dc=dom
objectClass: inetOrgPerson
uid: twin
cn: First twin
sn: twin
userPassword: P@ssw0rd

dn: cn=Second twin,ou=people,dc=domain01,dc=dom
objectClass: inetOrgPerson
uid: twin
cn: Second twin
sn: twin
userPassword: P@ssw0rd
"""


@dataclass
class Slapd:
    """A running slapd: its addresses and its certificate authority."""

    port: int
    tls_port: int
    ca_file: Path
    process: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        """Return its address without encryption from the first byte."""
        return f"ldap://127.0.0.1:{self.port}"

    def pillar(self, **directory: Any) -> dict[str, Any]:
        """Return a site whose directory this is, with these settings of ``smtpout:directory`` instead."""
        site = {
            "servers": [self.uri],
            "base": BASE,
            "bind_dn": BIND_DN,
            "bind_password": BIND_PASSWORD,
            "login": "uid",
            "timeout": 2,
        }
        return {
            "domains": ["domain01.dom", "domain02.dom"],
            "directory": site | directory,
            "delivery": {"nexthop": "smtp:[127.0.0.1]:1"},
            "verify": {"user": "usuario01", "password": USER_PASSWORD},
        }


def saslauthd_conf(uri: str, **changes: str) -> str:
    """Return a saslauthd.conf for the test directory, but for these options."""
    options = {
        "ldap_servers": uri,
        "ldap_bind_dn": BIND_DN,
        "ldap_bind_pw": BIND_PASSWORD,
        "ldap_search_base": BASE,
        "ldap_filter": "uid=%u",
        "ldap_timeout": "2",
    }
    return "".join(f"{key}: {value}\n" for key, value in (options | changes).items())


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running_slapd(people: str = PEOPLE, host: str = "") -> Iterator[Slapd]:
    """Run a slapd that has these entries; its certificate is for 127.0.0.1, or for a host's name instead."""
    assert SLAPD
    # Not below tmp_path: short paths, and nothing of it is worth keeping.
    with tempfile.TemporaryDirectory(prefix="slapd-") as name:
        directory = Path(name)
        (directory / "data").mkdir()
        (directory / "slapd.conf").write_text(CONFIGURATION.format(directory=directory), encoding="utf-8")
        (directory / "people.ldif").write_text(people.lstrip(), encoding="utf-8")
        _certificates(directory, host)
        configuration = ["-f", str(directory / "slapd.conf")]
        subprocess.run(
            [SLAPD, "-T", "add", *configuration, "-l", str(directory / "people.ldif")], check=True, capture_output=True
        )
        port, tls_port = free_port(), free_port()
        # HAProxy takes the first address that a name has, and localhost's may be that of IPv6.
        first = socket.getaddrinfo("localhost", tls_port, type=socket.SOCK_STREAM)[0][4][0]
        hosts = {"127.0.0.1", f"[{first}]" if first == "::1" else "127.0.0.1"}
        addresses = " ".join([f"ldap://127.0.0.1:{port}/", *(f"ldaps://{each}:{tls_port}/" for each in sorted(hosts))])
        process = subprocess.Popen([SLAPD, *configuration, "-h", addresses, "-d", "0"], stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port)
            yield Slapd(port, tls_port, directory / "ca.pem", process)
        finally:
            process.kill()
            process.wait()


def wait_for_port(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("slapd did not start")


def _certificates(directory: Path, host: str) -> None:
    """Write a certificate authority, and a server certificate for 127.0.0.1 or a host's name, and nothing else."""
    now = datetime.datetime.now(datetime.timezone.utc)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Directory CA {directory.name}")])

    def builder(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    name = x509.DNSName(host) if host else x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    names = x509.SubjectAlternativeName([name])
    server = builder(x509.Name([]), key.public_key()).add_extension(names, critical=True)
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (directory / "server.pem").write_bytes(server.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (directory / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
