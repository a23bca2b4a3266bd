"""The postfix, opendkim and clamav formulas of saltstack-formulas, applied together by the host's own Salt.

As far as they go for the site, with nothing but a pillar and a minion's configuration:

* postfix-formula writes main.cf, master.cf, the transport and domain maps, and the LDAP table, whose "name = value"
  comes out of its "key value" lines with the sign in the key, world-readable with the directory's password in it. It
  installs one package; postfix-ldap brings Postfix with it. It sets no saslauthd up, so there is no AUTH.
* opendkim-formula makes no keys: they come in the pillar. It puts them into a folder a domain, and its KeyTable looks
  for them in the folder above: mail from the site's domains is put off (451) for want of a key.
* clamav-formula knows no milter, so nothing is scanned, though clamd and freshclam run.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.host import Host
from lab.lab import REPOSITORY
from lab.process import LabError, run

from bench.peers import FOLDER, Peer, Site, salt_tally, send

# The part of a formula's checkout that Salt serves.
FORMULAS = {"postfix-formula": "postfix", "opendkim-formula": "opendkim", "clamav-formula": "clamav"}
CONFIGURATION, STATES, PILLAR = (f"{FOLDER}/{part}" for part in ("salt", "states", "pillar"))
SALT_CALL = ("salt-call", "--local", f"--config-dir={CONFIGURATION}", "--log-level=error", "--out=json")
APPLY = (*SALT_CALL, "state.apply", "postfix.config,opendkim,clamav")
SIGNATURES = REPOSITORY / "test/lab/signatures/lab.ndb"
# The lab's minion, but for where it finds states and pillar.
MINION = {
    "file_client": "local",
    "file_roots": {"base": [STATES]},
    "pillar_roots": {"base": [PILLAR]},
    "log_file": "/var/log/salt/minion",
    "enable_fqdns_grains": False,
    "enable_gpu_grains": False,
}


def peer(checkouts: Path, site: Site) -> Peer:
    """
    The three formulas as a peer.

    checkouts
        A folder with postfix-formula, opendkim-formula and clamav-formula.
    site
        What to apply.
    """
    for formula, served in FORMULAS.items():
        if not (checkouts / formula / served / "init.sls").is_file():
            raise LabError(f"{checkouts}: no checkout of {formula}")

    def prepare(host: Host) -> None:
        for formula, served in FORMULAS.items():
            send(checkouts / formula, host, STATES, [served])
        host.write(f"{CONFIGURATION}/minion", json.dumps(MINION))
        host.write(f"{PILLAR}/top.sls", json.dumps({"base": {"*": ["site"]}}))
        host.write(f"{PILLAR}/site.sls", json.dumps(pillar(site)))
        # The lab has no way to ClamAV's mirrors. A signature of its own is there from the start, and clamd's unit asks
        # for no other.
        host.write("/var/lib/clamav/lab.ndb", SIGNATURES.read_text(), mode="0644")
        unit = "[Unit]\nConditionPathExistsGlob=\n"
        for name in ("clamav-daemon.service", "clamav-daemon.socket"):
            host.write(f"/etc/systemd/system/{name}.d/lab.conf", unit, mode="0644")

    return Peer("formulas", prepare, APPLY, (*APPLY, "test=True"), salt_tally)


def pillar(site: Site) -> Mapping[str, Any]:
    """The site in the three formulas' terms."""
    return {"postfix": _postfix(site), "opendkim": _opendkim(site), "clamav": _clamav()}


def _postfix(site: Site) -> Mapping[str, Any]:
    directory = site["directory"]
    return {
        "lookup": {"package": "postfix-ldap"},
        "config": {
            "smtpd_banner": f"$myhostname ESMTP $mail_name ({site['organisation']} Mail System)",
            "myhostname": site["hostname"],
            "mydomain": site["domains"][0],
            "myorigin": "$myhostname",
            "mydestination": "$myhostname, localhost.$mydomain, localhost",
            "mynetworks": ["127.0.0.0/8", *site["networks"]],
            "relay_domains": "hash:/etc/postfix/own_domains",
            "relay_recipient_maps": "proxy:ldap:/etc/postfix/people.ldap",
            "transport_maps": "hash:/etc/postfix/transport_maps",
            "smtpd_sasl_auth_enable": "no",
            "smtpd_milters": "inet:127.0.0.1:8891",
            "non_smtpd_milters": "$smtpd_milters",
            "milter_default_action": "tempfail",
            "message_size_limit": "26214400",
        },
        "mapping": {
            "relay_domains": dict.fromkeys(site["domains"], "OK"),
            "transport_maps": dict.fromkeys(site["domains"], site["delivery"]["nexthop"]),
            "relay_recipient_maps": {
                "server_host =": " ".join(directory["servers"]),
                "version =": "3",
                "bind =": "yes",
                "bind_dn =": directory["bind_dn"],
                "bind_pw =": directory["bind_password"],
                "search_base =": directory["base"],
                "query_filter =": "(mail=%s)",
                "result_attribute =": "cn",
            },
        },
    }


def _opendkim(site: Site) -> Mapping[str, Any]:
    inside = ["127.0.0.1", *site["networks"], *site["opendkim"]["trusted_hosts"]]
    return {
        "conf": {
            "UserID": "opendkim:opendkim",
            "PidFile": "/run/opendkim/opendkim.pid",
            "Socket": "inet:8891@127.0.0.1",
            "Mode": "sv",
            "Syslog": "yes",
            "SyslogSuccess": "yes",
            "LogWhy": "yes",
            "Canonicalization": "relaxed/relaxed",
            "MinimumKeyBits": "1024",
            "OversignHeaders": "From",
            "KeyTable": "/etc/opendkim/KeyTable",
            "SigningTable": "refile:/etc/opendkim/SigningTable",
            "InternalHosts": ",".join(inside),
            "ExternalIgnoreList": ",".join(inside),
        },
        "manageKeyTable": True,
        "manageSigningTable": True,
        "privateKey": {
            "directory": "/etc/opendkim/keys",
            "key": {domain: {"default": _private_key()} for domain in site["domains"]},
        },
    }


@functools.cache
def _private_key() -> str:
    """A private key for all domains: how long it takes to make them is nothing of the formula's."""
    return run(["openssl", "genrsa", "2048"]).stdout


def _clamav() -> Mapping[str, Any]:
    """ClamAV as the formula's own example has it, with the socket that systemd opens and no way to the mirrors."""
    return {
        "clamd": {
            "config": {
                "LocalSocket": "/run/clamav/clamd.ctl",
                "LocalSocketMode": "660",
                "DatabaseDirectory": "/var/lib/clamav",
                "LogSyslog": "yes",
            },
        },
        "freshclam": {
            "config": {
                "DatabaseDirectory": "/var/lib/clamav",
                "DatabaseOwner": "clamav",
                "DatabaseMirror": "localhost",
                "ExcludeDatabase": ["main", "daily", "bytecode"],
                "DatabaseCustomURL": f"file:///srv/formula/{SIGNATURES.relative_to(REPOSITORY)}",
                "NotifyClamd": "/etc/clamav/clamd.conf",
            },
        },
    }
