"""Whatever a daemon's files name and it doesn't write is watched, or there is a reason that it need not be."""

from __future__ import annotations

import re
from typing import Any

import pytest
from renderer import GRAINS, Renderer
from smtpout_core.change.templates import Rendered
from support import load

SITES: dict[str, dict[str, Any]] = {
    "the example": {},
    "a directory of an authority of its own": {
        "directory": {"servers": ["ldaps://directory.domain01.dom"], "ca_file": "/etc/ssl/directory-ca.pem"},
        "tls": {"chain_file": "/etc/ssl/relay.pem"},
    },
    "a directory of an authority that the host trusts": {"directory": {"start_tls": True}},
    "files of the site's own": {
        "postfix": {
            "main": {
                "smtpd_client_restrictions": ["check_client_access cidr:$config_directory/clients.cidr", "permit"],
                "header_checks": "pcre:/etc/postfix/headers.pcre",
                "smtpd_sender_restrictions": {"append": ["check_sender_access texthash:/srv/mail/senders"]},
                "mynetworks": {"append": "/srv/mail/networks"},
                "sender_canonical_maps": "pipemap:{ldap:/srv/mail/people.cf,regexp:/srv/mail/names.regexp}",
                "smtp_tls_CAfile": "/etc/ssl/delivery-ca.pem",
                "smtp_tls_chain_files": "/etc/ssl/client.key, /etc/ssl/client.pem",
            },
            "master": {
                "smtp/inet": {"options": {"smtpd_client_restrictions": "check_client_access regexp:/srv/port25"}}
            },
        },
        "opendkim": {"options": {"PeerList": "refile:/srv/mail/peers", "TrustAnchorFile": "/srv/mail/root.key"}},
        "clamav": {"milter": {"AllowList": "/srv/mail/allowed", "SkipAuthenticated": "file:/srv/mail/skipped"}},
        "saslauthd": {"options": {"ldap_tls_cert": "/etc/ssl/login.pem", "ldap_tls_key": "/etc/ssl/login.key"}},
    },
}

# Of which daemon, which path, why nothing is to be done once it has changed.
EXCEPTIONS = [
    ("*", r"(/usr)?/s?bin/.*|/usr/lib(exec)?/.*", "a program: its package restarts what runs it"),
    ("*", r"(/var)?/run/.*", "a socket or a PID file, made by a daemon of the site"),
    ("*", r"/tmp|/var/(tmp|lib|spool)/?.*", "a directory of what the daemon itself writes, or looks after (SelfCheck)"),
    ("freshclam", r"/etc/.*clamd.*|/etc/clamd\.d/scan\.conf", "clamd's file, read anew at each notice to clamd"),
    ("opendkim", r".*\.private", "a signing key, which is read anew for every message"),
    ("postfix", r"/etc/aliases", "a map: Postfix looks whether it is another one (DATABASE_README)"),
    ("postfix", r"/etc/postfix/sasl|/etc/sasl2", "the directory of its own smtpd.conf"),
]
PATH = re.compile(r"(?<![\w/.*@%$\]-])/[\w.@-][\w./@-]*")


def named(text: str) -> set[str]:
    """Return the absolute paths of a configuration file, but for those in comments and in URLs."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {path.rstrip("/.") for line in lines for path in PATH.findall(re.sub(r"\w+://\S*", "", line))}


def left_out(renderer: Renderer, changes: dict[str, Any]) -> set[tuple[str, str]]:
    """Return each daemon with the paths that its files name and that it neither writes nor watches."""
    pillar = load("default")
    for key, value in changes.items():
        pillar["smtpout"][key] = {**pillar["smtpout"].get(key, {}), **value}
    renderer.use(pillar)
    found = set()
    for daemon in renderer.daemons():
        parts = renderer.parts(daemon)
        known = {path for part in parts for path in part.paths} | {*daemon.reads}
        paths = {path for part in parts if isinstance(part, Rendered) for path in named(part.text)}
        found |= {(daemon.name, path) for path in paths - known}
    return found


@pytest.fixture(scope="module")
def unwatched(renderers: dict[str, Renderer]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return what is left out on each platform and each site."""
    return {
        (platform, site): left_out(renderers[platform], changes)
        for platform in GRAINS
        if platform != "el-7"
        for site, changes in SITES.items()
    }


def test_whatever_a_file_names_is_written_or_watched_or_has_a_reason(
    unwatched: dict[tuple[str, str], set[tuple[str, str]]],
) -> None:
    unexplained = {
        (*case, daemon, path)
        for case, found in unwatched.items()
        for daemon, path in found
        if not any(of in ("*", daemon) and re.fullmatch(pattern, path) for of, pattern, _ in EXCEPTIONS)
    }
    assert unexplained == set()


def test_every_exception_is_needed(unwatched: dict[tuple[str, str], set[tuple[str, str]]]) -> None:
    found = {each for one in unwatched.values() for each in one}
    needed = [
        each for each in EXCEPTIONS if any(each[0] in ("*", of) and re.fullmatch(each[1], path) for of, path in found)
    ]
    assert needed == EXCEPTIONS


@pytest.mark.parametrize(
    ("site", "authority"), zip(list(SITES)[:3], (None, "/etc/ssl/directory-ca.pem", "trust_store"), strict=True)
)
def test_both_that_ask_the_directory_watch_the_authority(renderer: Renderer, site: str, authority: str | None) -> None:
    pillar = load("default")
    for key, value in SITES[site].items():
        pillar["smtpout"][key] = {**pillar["smtpout"].get(key, {}), **value}
    renderer.use(pillar)
    watched = {daemon.name: [*daemon.reads] for daemon in renderer.daemons()}
    if authority == "trust_store":
        authority = renderer.state.functions["smtpout.settings"]()["postfix"]["trust_store"]
    assert watched["saslauthd"] == ([authority] if authority else [])
    assert not authority or authority in watched["postfix"]
