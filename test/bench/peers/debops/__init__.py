"""DebOps' postfix, saslauthd and opendkim roles, applied by Debian's own Ansible inside the host, without SSH.

As far as they go for the site: Postfix with its maps, LDAP table and submission, saslauthd against LDAP, OpenDKIM with
a key a domain, made on the host. DebOps has no role for ClamAV's daemons: nothing is scanned. It warns of Debian 12's
Ansible, which it doesn't support, and works with it; on Debian 13 all of it runs and logins fail (535).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.host import Host
from lab.images import Image
from lab.process import Progress

from bench.peers import FOLDER, Peer, Site, Tally, send

HERE = Path(__file__).resolve().parent
ANSIBLE = f"{FOLDER}/ansible"
# A local connection runs each module in a process of its own; pipelining spares a temporary file for each.
SETTINGS = f"""\
[defaults]
collections_path = {ANSIBLE}/collections
inventory = {ANSIBLE}/inventory
pipelining = True
nocows = True
"""
INVENTORY = "relay ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"
APPLY = ("env", f"ANSIBLE_CONFIG={ANSIBLE}/ansible.cfg", "ansible-playbook", f"{ANSIBLE}/site.yml")


def peer(release: str, site: Site) -> Peer:
    """
    The three roles as a peer.

    release
        The host's Debian release.
    site
        What to apply.
    """
    image = Image(f"debops-{release}", release, HERE / "image")

    def prepare(host: Host) -> None:
        send(image.ensure(Progress(quiet=True)) / "srv/ansible", host, ANSIBLE)
        host.run(["sh", "-c", f"DEBIAN_FRONTEND=noninteractive dpkg --install {ANSIBLE}/debs/*.deb"])
        host.run(["apt-get", "update"])  # the roles leave that to another one
        host.write(f"{ANSIBLE}/ansible.cfg", SETTINGS)
        host.write(f"{ANSIBLE}/inventory", INVENTORY)
        host.write(f"{ANSIBLE}/site.yml", (HERE / "site.yml").read_text())
        host.write(f"{ANSIBLE}/group_vars/all.json", json.dumps(variables(site)))

    return Peer("DebOps", prepare, APPLY, (*APPLY, "--check"), tally)


def tally(said: str) -> Tally:
    """Read ansible-playbook's own summary."""
    counts = {name: int(count) for name, count in re.findall(r"\b([a-z]+)=(\d+)", said.rpartition("PLAY RECAP")[2])}
    failed = re.findall(r"^fatal: (.*)$", said, re.MULTILINE)
    return Tally(counts["ok"], counts["changed"], tuple(failed))


def variables(site: Site) -> Mapping[str, Any]:
    """The site in the roles' terms."""
    return _postfix(site) | _saslauthd(site) | _opendkim(site)


def _postfix(site: Site) -> dict[str, Any]:
    directory = site["directory"]
    main = {
        "smtpd_banner": f"$myhostname ESMTP $mail_name ({site['organisation']} Mail System)",
        "mydomain": site["domains"][0],
        "myorigin": "$myhostname",
        "mynetworks": site["networks"],
        "relay_domains": ["hash:${config_directory}/own_domains"],
        "relay_recipient_maps": ["proxy:ldap:${config_directory}/people.cf"],
        "transport_maps": ["hash:${config_directory}/transport_maps"],
        "smtpd_sasl_auth_enable": True,
        "smtpd_sasl_security_options": ["noanonymous"],
        "smtpd_milters": ["unix:/opendkim/opendkim.sock"],
        "non_smtpd_milters": ["unix:/opendkim/opendkim.sock"],
        "milter_default_action": "tempfail",
        "message_size_limit": 26214400,
    }
    transport = site["delivery"]["nexthop"]
    people = {
        "server_host": directory["servers"],
        "version": "3",
        "bind": "yes",
        "bind_dn": directory["bind_dn"],
        "bind_pw": directory["bind_password"],
        "search_base": directory["base"],
        "query_filter": "(mail=%s)",
        "result_attribute": "cn",
    }
    return {
        "postfix__fqdn": site["hostname"],
        "postfix__packages": ["postfix-ldap"],
        "postfix__maincf": [{"name": name, "value": value, "state": "present"} for name, value in main.items()],
        "postfix__mastercf": [{"name": "submission", "state": "present"}],
        # Its Makefile builds NAME.db from NAME.in.
        "postfix__lookup_tables": [
            {"name": "own_domains.in", "content": [{"key": each, "value": "OK"} for each in site["domains"]]},
            {"name": "transport_maps.in", "content": [{"key": each, "value": transport} for each in site["domains"]]},
            {"name": "people.cf", "config": people},
        ],
    }


def _saslauthd(site: Site) -> dict[str, Any]:
    directory = site["directory"]
    options = {
        "ldap_servers": " ".join(directory["servers"]),
        "ldap_auth_method": "bind",
        "ldap_bind_dn": directory["bind_dn"],
        "ldap_bind_pw": directory["bind_password"],
        "ldap_search_base": directory["base"],
        "ldap_scope": "sub",
        "ldap_filter": "sAMAccountName=%u",
    }
    listed = [{"name": name, "value": value} for name, value in options.items()]
    return {
        "saslauthd__default_mechanism": "ldap",
        # "global" is /etc/saslauthd.conf: the instance for Postfix reads it where the host has no account of its own.
        "saslauthd__ldap_profiles": [{"name": "global", "state": "present", "options": listed}],
    }


def _opendkim(site: Site) -> dict[str, Any]:
    return {
        "opendkim__default_keys": [],
        "opendkim__default_signing_table": [],
        "opendkim__keys": [{"name": "default", "domain": domain} for domain in site["domains"]],
        "opendkim__signing_table": [
            {"name": "default", "from": domain, "domain": domain} for domain in site["domains"]
        ],
        "opendkim__trusted_hosts": [*site["networks"], *site["opendkim"]["trusted_hosts"]],
    }
