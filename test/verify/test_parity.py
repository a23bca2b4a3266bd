"""Every line of the recipe is on the applied relay, or in README's table of differences.

``recipe.yaml`` is the recipe, README's table is the list of differences: each row of it is one, and one that is none
any longer fails here as well.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from support import REPOSITORY
from testinfra.host import Host

from verify.conftest import Salt

RECIPE = yaml.safe_load((REPOSITORY / "test/lab/recipe.yaml").read_text(encoding="utf-8"))

# Where each of the recipe's files is on Debian, and what stands between a name and its value.
FILES = {
    "main.cf": ("/etc/postfix/main.cf", r"\s*=\s*"),
    "people-mycompany.ldap": ("/etc/postfix/people-mycompany.ldap", r"\s*=\s*"),
    "transport_maps": ("/etc/postfix/transport_maps", r"\s+"),
    "saslauthd": ("/etc/default/saslauthd", r"="),
    "saslauthd.conf": ("/etc/saslauthd.conf", r":\s*"),
    "freshclam.conf": ("/etc/clamav/freshclam.conf", r"\s+"),
    "scan.conf": ("/etc/clamav/clamd.conf", r"\s+"),
    "clamav-milter.conf": ("/etc/clamav/clamav-milter.conf", r"\s+"),
    "opendkim.conf": ("/etc/opendkim.conf", r"\s+"),
    "KeyTable": ("/etc/opendkim/KeyTable", r"\s+"),
    "SigningTable": ("/etc/opendkim/SigningTable", r"\s+"),
}
UNITS = {"clamd": "clamav-daemon"}
COPIES = {"main.cf.ORG": "/etc/postfix/main.cf.ORG", "opendkim.conf.ORG": "/etc/opendkim.conf.ORG"}

# What recipe.sls can't take back, and why.
IMPOSSIBLE = {
    "main.cf: sendmail_path": "Debian's name differs",
    "main.cf: newaliases_path": "Debian's name differs",
    "main.cf: mailq_path": "Debian's name differs",
    "saslauthd: MECH": "Debian's name differs",
    "freshclam.conf: AllowSupplementaryGroups": "today's freshclam refuses it",
    "freshclam.conf: SafeBrowsing": "today's freshclam refuses it",
    "scan.conf: PidFile": "Debian's clamd may write below /run/clamav only",
    "scan.conf: LocalSocket": "Debian's clamd takes its socket from systemd",
    "clamav-milter.conf: PidFile": "Debian's directory",
    "opendkim.conf: KeyTable": "the pillar says how many domains there are, not how they are looked up",
    "opendkim.conf: SigningTable": "the same",
    "opendkim.conf: ExternalIgnoreList": "the same",
    "opendkim.conf: InternalHosts": "the same",
    "SigningTable: *@domain01.dom": "a file: is looked up by the domain",
    "SigningTable: *@domain02.dom": "a file: is looked up by the domain",
    "keys: selector": "the recipe's own record name could not be found by its own signatures",
}


def differences() -> list[str]:
    """Return the rows of README's table, as ``file: parameter``."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Differences from the recipe") : text.index("## Layout")]
    rows = re.findall(r"^\| ([\w.-]+: [^|]+?) \|", section, re.MULTILINE)
    return rows[1:]  # the first is the heading


def parameters(host: Host, path: str, separator: str) -> dict[str, str]:
    """Return the parameters of a configuration file by name."""
    lines = (line.strip() for line in host.file(path).content_string.splitlines())
    pairs = (re.split(separator, line, maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {pair[0]: pair[1].strip('"') if len(pair) > 1 else "" for pair in pairs}


def key_facts(host: Host, salt: Salt) -> dict[str, str]:
    """Return what the recipe's opendkim-genkey line says, of the first domain's key."""
    path = parameters(host, "/etc/opendkim/KeyTable", r"\s+")["default._domainkey.domain01.dom"].split(":")[2]
    text = host.check_output("openssl pkey -in %s -noout -text", path)
    record = salt("opendkim.public_records")
    return {
        "bits": re.findall(r"\((\d+) bit", text)[0],
        "restrict": "yes" if "s=email" in record else "no",
        "selector": re.findall(r"(\S+)\._domainkey\.domain01\.dom", record)[0],
    }


def unlike_the_recipe(host: Host, salt: Salt) -> dict[str, tuple[str, Any]]:
    """Return every line of the recipe that the relay has otherwise: the recipe's value and the relay's."""
    found: dict[str, tuple[str, Any]] = {}

    def compare(file: str, actual: dict[str, str]) -> None:
        for name, value in RECIPE[file].items():
            if actual.get(name) != value:
                found[f"{file}: {name}"] = (value, actual.get(name))

    for file, (path, separator) in FILES.items():
        compare(file, parameters(host, path, separator))
    compare("keys", key_facts(host, salt))
    trusted = host.file("/etc/opendkim/TrustedHosts").content_string.splitlines()
    found |= {f"TrustedHosts: {line}": (line, None) for line in RECIPE["TrustedHosts"] if line not in trusted}
    for service in RECIPE["services"]:
        unit = UNITS.get(service, service)
        if host.run("systemctl is-enabled %s", unit).stdout.strip() != "enabled":
            found[f"services: {service}"] = ("enabled", None)
    for copy in RECIPE["copies"]:
        if host.run("test -s %s", COPIES[copy]).rc != 0:
            found[f"copies: {copy}"] = ("kept", None)
    return found


def test_the_recipe_has_every_file_here() -> None:
    assert set(RECIPE) == set(FILES) | {"TrustedHosts", "services", "keys", "copies"}


def test_the_relay_is_the_recipe_but_for_what_is_stated(host: Host, suite: str, salt: Salt) -> None:
    unlike = unlike_the_recipe(host, salt)
    if suite == "recipe":
        # its own pillar takes every difference back that can be
        assert {name: values for name, values in unlike.items() if name not in IMPOSSIBLE} == {}
    else:
        assert sorted(unlike) == sorted(differences())


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_taken_back_is_a_stated_difference(name: str) -> None:
    assert name in differences()


def test_only_options_that_the_installed_version_does_not_know_are_left_out(salt: Salt) -> None:
    platforms = yaml.safe_load((REPOSITORY / "smtpout/platforms.yaml").read_text(encoding="utf-8"))
    clamav = platforms[salt("smtpout.platform")]["clamav"]
    for room, program in (("clamd", "clamd"), ("milter", "clamav-milter"), ("freshclam", "freshclam")):
        known = salt("clamav.known_options", program)
        assert "PidFile" in known or room == "freshclam"
        assert not set(clamav[room]["unknown_options"]) & set(known), program
