"""What a site says in its pillar comes out on the relay, and can be taken back; and the ways in besides the lab's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from support import PILLARS, load

from lab import mail, raw
from lab.checks import CHECKS, verify
from lab.conftest import Applied, new_lab
from lab.host import Host
from lab.lab import Lab
from lab.test_apply import UNITS


@pytest.fixture
def site(example: Applied) -> Iterator[dict[str, Any]]:
    """Return the example's site, to be changed and applied; afterwards the example is applied again."""
    yield load("default")["smtpout"]
    _apply(example, load("default")["smtpout"], "as it was")
    assert example.failed("as it was") == {}


def _apply(applied: Applied, site: dict[str, Any], step: str) -> None:
    applied.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
    applied.apply(step)


def _changed(applied: Applied, site: dict[str, Any]) -> None:
    """Apply a changed site: nothing fails, and a second time nothing changes."""
    _apply(applied, site, "changed site")
    assert applied.failed("changed site") == {}
    # The watch is told of some.
    changed = [name for name in applied.changed("changed site") if name != "The relay is looked at between applies"]
    assert changed == ["The site changes as one", "Postfix runs the site's configuration"]
    _apply(applied, site, "changed site again")
    assert applied.changed("changed site again") == []


def _postconf(host: Host, *arguments: str) -> str:
    return host.run(["postconf", *arguments]).stdout.strip()


@pytest.mark.usefixtures("on_trixie")
def test_mail_goes_to_a_delivery_layer_that_has_a_name(example: Applied, site: dict[str, Any]) -> None:
    site["delivery"]["nexthop"] = "smtp:smtp-delivery.cloud0.hc.mycompany.dom:25"
    _changed(example, site)
    assert CHECKS["a user's mail to domain01.dom reaches the delivery layer"](example.lab, mail.USERS)


@pytest.mark.usefixtures("on_bookworm")
def test_a_domain_beyond_ascii_is_the_sites_in_both_forms(example: Applied, site: dict[str, Any]) -> None:
    def answer(sender: str, recipient: str) -> str:
        envelope = f"MAIL FROM:<{sender}> SMTPUTF8", f"RCPT TO:<{recipient}>"
        wire = [command.encode().decode("latin-1") for command in envelope]
        return raw.session(example.lab, raw.stranger(), raw.GREETING, "EHLO mx.stranger.example", *wire)[-1].text

    site["domains"].append("xn--espaa-rta.dom")
    site["postfix"] = {"main": {"smtputf8_enable": True}}
    _apply(example, site, "beyond ASCII")
    assert example.failed("beyond ASCII") == {}
    _apply(example, site, "beyond ASCII again")
    assert example.changed("beyond ASCII again") == []
    for domain in ("xn--espaa-rta.dom", "españa.dom", "ESPAÑA.DOM"):
        assert "log in to send" in answer(f"president@{domain}", "usuario01@domain01.dom"), domain
        assert "User unknown in relay recipient table" in answer("a@stranger.example", f"nobody@{domain}"), domain
    assert "Ok" in answer("a@stranger.example", "usuario01@domain01.dom")


@pytest.mark.usefixtures("on_bookworm")
@pytest.mark.timeout(300)
def test_a_filter_that_is_switched_off_is_undone_once_postfix_names_it_no_longer(
    example: Applied, site: dict[str, Any]
) -> None:
    relay = example.lab.host("relay")
    units = ["clamav-daemon.socket", "clamav-daemon", "clamav-milter", "clamav-freshclam", "opendkim"]
    site["clamav"] = {"enabled": False}
    site["opendkim"]["enabled"] = False
    _apply(example, site, "switched off")
    assert example.failed("switched off") == {}
    assert "Postfix runs the site's configuration" in example.changed("switched off")
    for question, answer in (("is-active", "inactive"), ("is-enabled", "disabled")):
        told = relay.run(["systemctl", question, *units], check=False).stdout.split()
        assert told == [answer] * len(units)
    assert "Managed by smtpout" not in relay.read("/etc/clamav/clamd.conf") + relay.read("/etc/opendkim.conf")
    relay.run(["test", "-s", "/etc/opendkim/keys/domain01.dom.default.private"])
    assert CHECKS["a user's mail to domain01.dom reaches the delivery layer"](example.lab, mail.USERS)
    _apply(example, site, "switched off again")
    assert example.changed("switched off again") == []


@pytest.mark.usefixtures("on_trixie")
def test_an_apply_under_a_strict_umask_is_like_any_other(example: Applied, site: dict[str, Any]) -> None:
    """As hardening guides have root's, and README's Salt of one's own inherits it."""
    lab, relay = example.lab, example.lab.host("relay")
    site["postfix"] = {"main": {"smtpd_recipient_limit": 7}}
    lab.set_pillar(yaml.safe_dump({"smtpout": site}))
    call = ["salt-call", "--local", "--retcode-passthrough", "state.apply", "smtpout"]
    for test in ("test=True", "test=False"):
        relay.run(["sh", "-c", 'umask 077; exec "$@"', "sh", *call, test], timeout=300)
    assert _postconf(relay, "-h", "smtpd_recipient_limit") == "7"
    assert relay.run(["find", "/etc/postfix", "-name", "*.cf", "!", "-perm", "-044"]).stdout == ""


@pytest.mark.usefixtures("on_bookworm")
def test_aliases_that_newaliases_takes_stop_no_apply(example: Applied, site: dict[str, Any]) -> None:
    relay = example.lab.host("relay")
    before = relay.read("/etc/aliases")
    relay.write("/etc/aliases", f"{before}www-data: root\nwww-data: root\nempty:\n", mode="0644")
    try:
        site["postfix"] = {"main": {"smtpd_recipient_limit": 7}}
        _apply(example, site, "with aliases by hand")
        assert example.failed("with aliases by hand") == {}
        aliases = example.runs["with aliases by hand"]["Local aliases are a map that Postfix can read"]
        assert "/etc/aliases: " in aliases["warnings"][0]
        assert relay.run(["postalias", "-q", "www-data", "lmdb:/etc/aliases"]).stdout.strip() == "root"
    finally:
        relay.write("/etc/aliases", before, mode="0644")


def _certificate(days: int) -> str:
    """Return a key and its certificate, which ends in so many days."""
    key, now = rsa.generate_private_key(65537, 2048), datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.domain01.dom")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(90)).not_valid_after(now + timedelta(days))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return (private + made.sign(key, hashes.SHA256()).public_bytes(pem)).decode()


@pytest.mark.usefixtures("on_bookworm")
@pytest.mark.timeout(180)
def test_a_certificate_that_has_ended_is_told_and_holds_up_no_other_change(
    example: Applied, site: dict[str, Any]
) -> None:
    relay = example.lab.host("relay")
    for name, days in (("live", 60), ("other", -1)):
        relay.write(f"/etc/site/{name}.pem", _certificate(days))
    site["tls"] = {"chain_file": "/etc/site/live.pem"}
    _changed(example, site)
    relay.write("/etc/site/live.pem", _certificate(-1))
    site["postfix"] = {"main": {"smtpd_recipient_limit": 7}}
    _changed(example, site)
    assert _postconf(relay, "-h", "smtpd_recipient_limit") == "7"
    told = [check["seen"] for check in verify(example.lab, "warning")]
    assert any(seen.startswith("/etc/site/live.pem ended on ") for seen in told), told
    site["tls"] = {"chain_file": "/etc/site/other.pem"}
    _apply(example, site, "one that has ended")
    assert "the certificate in /etc/site/other.pem ended on" in str(example.failed("one that has ended"))


@pytest.mark.usefixtures("on_trixie")
def test_a_certificate_that_is_gone_is_told_and_holds_up_no_other_change(
    example: Applied, site: dict[str, Any]
) -> None:
    relay = example.lab.host("relay")
    relay.write("/etc/site/gone.pem", _certificate(60))
    site["tls"] = {"chain_file": "/etc/site/gone.pem"}
    _changed(example, site)
    relay.run(["rm", "/etc/site/gone.pem"])
    site["postfix"] = {"main": {"smtpd_recipient_limit": 7}}
    _apply(example, site, "without its certificate")
    assert "The site changes as one" not in example.failed("without its certificate")
    told = str(example.runs["without its certificate"]["The site changes as one"])
    assert "As before this change: postfix: smtpd: warning: error opening chain file: /etc/site/gone.pem" in told
    assert _postconf(relay, "-h", "smtpd_recipient_limit") == "7"
    site["tls"] = {"chain_file": "/etc/site/another.pem"}
    _apply(example, site, "one that isn't there")
    assert "error opening chain file: /etc/site/another.pem" in str(example.failed("one that isn't there"))


@pytest.mark.usefixtures("on_bookworm")
def test_one_domain_may_have_a_delivery_layer_of_its_own(example: Applied, site: dict[str, Any]) -> None:
    site["delivery"]["nexthop"] = "smtp:[172.16.11.250]:25"  # nobody
    site["delivery"]["domains"] = {"domain02.dom": "smtp:[172.16.11.96]:25"}
    _apply(example, site, "nobody takes mail")
    said = str(example.failed("nobody takes mail"))
    assert "Servers that mail is handed on to take it: that would be broken" in said
    assert "smtp:[172.16.11.250]:25 doesn't take it: unverified address: connect to 172.16.11.250[" in said
    site["promises"] = {"mail_is_handed_on": False}
    _changed(example, site)
    assert CHECKS["a user's mail to domain02.dom reaches the delivery layer"](example.lab, mail.USERS)


@pytest.mark.usefixtures("on_trixie")
def test_any_parameter_service_and_map_can_be_set_and_removed(example: Applied, site: dict[str, Any]) -> None:
    relay = example.lab.host("relay")
    table = "/etc/postfix/sender_canonical"
    site["postfix"] = {
        "main": {"smtpd_recipient_limit": 7, "biff": None, "sender_canonical_maps": f"lmdb:{table}"},
        "master": {"465/inet": None, "2525/inet": {"private": "n", "command": "smtpd", "options": {"biff": True}}},
        "maps": {"sender_canonical": {"entries": {"app@domain01.dom": "usuario01@domain01.dom"}}},
    }
    _changed(example, site)
    assert _postconf(relay, "-h", "smtpd_recipient_limit") == "7"
    assert "biff" not in _postconf(relay, "-n", "biff")
    assert _postconf(relay, "-M", "465/inet") == ""
    assert _postconf(relay, "-P", "2525/inet/biff") == "2525/inet/biff = yes"
    assert relay.run(["postmap", "-q", "app@domain01.dom", f"lmdb:{table}"]).stdout.strip() == "usuario01@domain01.dom"
    answers = mail.session(example.lab, entry=mail.Entry(2525))
    assert answers[0].code == 220, answers
    _apply(example, load("default")["smtpout"], "taken back")
    assert example.failed("taken back") == {}
    assert _postconf(relay, "-h", "smtpd_recipient_limit") == "200"
    assert relay.run(["test", "-e", f"{table}.lmdb"], check=False).returncode == 1, "the map is gone with its entry"


@pytest.mark.usefixtures("on_bookworm")
def test_a_pillar_made_of_other_formulas_is_applied(example: Applied, site: dict[str, Any]) -> None:
    relay = example.lab.host("relay")
    theirs = {
        "postfix": {
            "config": {
                "myhostname": site["hostname"],
                "relay_domains": "domain01.dom domain02.dom",
                "mynetworks": "127.0.0.0/8 172.16.10.0/24 172.16.11.0/24",
                "smtpd_recipient_limit": 150,
                "transport_maps": "hash:/etc/postfix/transport",
                "sender_canonical_maps": "hash:/etc/postfix/sender_canonical",
                "virtual_alias_maps": "hash:/etc/postfix/virtual",
                "smtpd_sender_restrictions": "check_sender_access $unwanted",
                "unwanted": "hash:/etc/postfix/unwanted",
            },
            "aliases": {"content": "root: usuario01@domain01.dom\n"},
            "mapping": {
                "virtual_alias_maps": {
                    "sales@domain01.dom": ["usuario01@domain01.dom"],
                    f"fax@{site['hostname']}": "usuario01@domain01.dom",
                },
                "unwanted": {"newsletter@stranger.example": "REJECT"},
                "transport_maps": [{domain: "smtp:[172.16.11.96]:25"} for domain in ("domain01.dom", "domain02.dom")],
                "sender_canonical_maps": [{"root": "servers@domain01.dom"}],
            },
            "master_config": {"services": {"smtp": {"maxproc": 50}}},
        },
        "clamav": {"clamd": {"config": {"MaxThreads": 20}}},
    }
    relay.write("/root/theirs.yaml", yaml.safe_dump(theirs), mode="0600")
    relay.run(["rm", "-f", "/root/made.sls"])
    relay.run(["salt-call", "--local", "smtpout.import_pillar", "/root/made.sls", "/root/theirs.yaml"])
    made = yaml.safe_load(relay.read("/root/made.sls"))["smtpout"]
    _apply(example, {**made, "directory": site["directory"], "verify": site["verify"]}, "imported")
    assert example.failed("imported") == {}
    assert _postconf(relay, "-h", "smtpd_recipient_limit") == "150"
    assert _postconf(relay, "-M", "smtp/inet").split()[6] == "50"
    canonical = relay.run(["postmap", "-q", "root", "lmdb:/etc/postfix/sender_canonical"]).stdout
    assert canonical.strip() == "servers@domain01.dom"
    assert "MaxThreads 20" in relay.read("/etc/clamav/clamd.conf")
    stranger: dict[str, Any] = {
        "address": mail.STRANGER,
        "recipients": ["sales@domain01.dom", f"fax@{site['hostname']}"],
    }
    taken = mail.session(example.lab, sender="a@stranger.example", **stranger)
    assert [answer.code for answer in taken if answer.command.startswith("RCPT")] == [250, 250], taken
    assert mail.session(example.lab, sender="newsletter@stranger.example", **stranger)[-1].code == 554
    assert CHECKS["a user's mail to domain01.dom reaches the delivery layer"](example.lab, mail.USERS)


@pytest.mark.usefixtures("on_trixie")
def test_a_wrong_pillar_changes_nothing_and_everything_wrong_is_said(example: Applied, site: dict[str, Any]) -> None:
    site["opendkim"]["bits"] = 512
    site["networks"] = ["0.0.0.0/0"]
    site["directory"]["bind_pasword"] = site["directory"].pop("bind_password")
    _apply(example, site, "wrong pillar")
    assert [*example.runs["wrong pillar"]] == [
        "No change of the mail system is half done",
        "The site's pillar is right",
    ]
    said = example.failed("wrong pillar")["The site's pillar is right"]
    for part in ("smtpout:opendkim:bits", "RFC 8301", "smtpout:directory:bind_pasword", "did you mean bind_password"):
        assert part in said
    assert load("default")["smtpout"]["directory"]["bind_password"] not in said
    assert CHECKS["SMTP AUTH answers 235"](example.lab, mail.USERS)


def test_who_asks_whether_the_relay_serves_is_told_by_the_exit_status(example: Applied) -> None:
    relay = example.lab.host("relay")
    ask = ["/srv/formula/bin/apply", "/srv/pillar/site.sls", "--ask", "smtpout.verify"]
    assert relay.run(ask, check=False, timeout=60).returncode == 0
    relay.run(["systemctl", "stop", "saslauthd"])
    try:
        done = relay.run(ask, check=False, timeout=60)
    finally:
        relay.run(["systemctl", "start", "saslauthd"])
    assert done.returncode == 1
    assert [each["check"] for each in yaml.safe_load(done.stdout) if each["state"] == "failed"] == [
        "logins are checked"
    ]


def test_a_map_of_another_type_brings_its_package(example: Applied, site: dict[str, Any]) -> None:
    rules = {"type": "pcre", "entries": {"/^[a-z]+@old\\.dom$/": "usuario01@domain01.dom"}}
    site["postfix"] = {"maps": {"canonical": rules}, "main": {"canonical_maps": "pcre:/etc/postfix/canonical"}}
    _apply(example, site, "pcre")
    assert example.failed("pcre") == {}
    assert any("packages" in state for state in example.changed("pcre")), example.changed("pcre")
    _apply(example, site, "pcre again")
    assert example.changed("pcre again") == []
    query = ["postmap", "-q", "app@old.dom", "pcre:/etc/postfix/canonical"]
    assert example.lab.host("relay").run(query).stdout.strip() == "usuario01@domain01.dom"


@pytest.mark.usefixtures("on_bookworm")
def test_who_masked_a_daemon_is_told_how_to_have_it_again(example: Applied) -> None:
    relay = example.lab.host("relay")
    relay.run(["sh", "-euc", "systemctl stop opendkim; systemctl mask opendkim"])
    example.apply("masked")
    relay.run(["systemctl", "unmask", "opendkim"])
    said = example.failed("masked")["The site changes as one"]
    assert "`systemctl unmask opendkim.service`, and apply again" in said
    example.apply("unmasked")
    assert example.failed("unmasked") == {}
    assert CHECKS["its DKIM signature verifies through DNS"](example.lab, mail.USERS)


@pytest.mark.usefixtures("on_trixie")
def test_a_password_that_the_directory_refuses_never_goes_live(example: Applied, site: dict[str, Any]) -> None:
    relay, files = example.lab.host("relay"), ("/etc/saslauthd.conf", "/etc/postfix/people-mycompany.ldap")
    before = [relay.read(path) for path in files]
    site["directory"]["bind_password"] = "not the account's"
    for test in (True, False):
        example.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
        example.apply("refused password", test=test)
        failed = example.failed("refused password")
        assert "bind_password is wrong" in failed["The site changes as one"] or "52e" in str(failed)
        assert "not the account's" not in str(failed)
        assert [relay.read(path) for path in files] == before
    assert CHECKS["SMTP AUTH answers 235"](example.lab, mail.USERS)
    assert CHECKS["a user's mail to domain01.dom reaches the delivery layer"](example.lab, mail.USERS)


# Where the directory has its certificate and its authority's (services/build.sh, smb.conf).
TLS, AUTHORITY = "/var/lib/samba/private/tls", "/usr/local/lib/lab/directory-ca.pem"
NEW_AUTHORITY = f"""
cd {TLS}
cp -a cert.pem cert.before; cp -a key.pem key.before; cp -a {AUTHORITY} authority.before
openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj "/CN=another authority" -keyout ca.key -out {AUTHORITY}
openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj "/CN=directory.domain01.dom" -CA {AUTHORITY} -CAkey ca.key \\
    -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:172.16.11.63 -keyout key.pem -out cert.pem
"""
AUTHORITY_BEFORE = f"cd {TLS} && mv cert.before cert.pem && mv key.before key.pem && mv authority.before {AUTHORITY}"


def _six_logins(applied: Applied) -> list[int]:
    """Return what six logins get: one more than saslauthd has processes."""
    return [mail.session(applied.lab, entry=mail.USERS, user="usuario01")[-1].code for _ in range(6)]


def _one_that_vouches_for_nobody_here_is_refused(example: Applied, site: dict[str, Any], file: str) -> None:
    """Put another authority's certificate into the file: the apply is refused, and every login still works."""
    relay = example.lab.host("relay")
    relay.run(["cp", "-a", file, f"{file}.right"])
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-days",
        "30",
        "-subj",
        "/CN=nobody's authority",
    ]
    relay.run([*made, "-keyout", "/dev/null", "-out", file])
    _apply(example, site, "a wrong authority")
    refused = example.failed("a wrong authority")["The site changes as one"]
    assert "ldaps://172.16.11.63 answers: TLS fails" in refused
    assert "fails by itself" not in refused
    assert _six_logins(example) == [235] * 6
    relay.run(["mv", f"{file}.right", file])
    _apply(example, site, "the right authority again")
    assert example.failed("the right authority again") == {}
    assert example.changed("the right authority again") == []
    assert _six_logins(example) == [235] * 6


@pytest.mark.usefixtures("on_bookworm")
def test_a_directorys_new_authority_is_the_one_that_every_login_is_checked_with(
    example: Applied, site: dict[str, Any]
) -> None:
    relay, directory, file = example.lab.host("relay"), example.lab.host("directory"), "/etc/ssl/directory-ca.pem"
    restart = ["/usr/local/lib/lab/boot.sh", "directory"]  # it returns once the directory serves
    site["directory"] |= {"servers": ["ldaps://172.16.11.63"], "ca_file": file}
    relay.write(file, directory.read(AUTHORITY), mode="0644")
    _apply(example, site, "an authority of the site's own")
    assert example.failed("an authority of the site's own") == {}
    assert _six_logins(example) == [235] * 6
    _one_that_vouches_for_nobody_here_is_refused(example, site, file)
    try:
        directory.run(["sh", "-ec", NEW_AUTHORITY])
        directory.run(["systemctl", "stop", "samba-ad-dc"])
        directory.run(restart, timeout=60)
        relay.write(file, directory.read(AUTHORITY), mode="0644")
        _apply(example, site, "another authority")
        assert example.failed("another authority") == {}
        daemons = ("saslauthd checks passwords in the directory", "Postfix runs the site's configuration")
        assert example.changed("another authority") == ["The site changes as one", *daemons]
        done = [example.runs["another authority"][state]["changes"] for state in daemons]
        assert done == [{"service": "restarted (directory-ca.pem)"}, {"service": "reloaded"}]
        assert _six_logins(example) == [235] * 6
        assert CHECKS["a user's mail to domain01.dom reaches the delivery layer"](example.lab, mail.USERS)
        _apply(example, site, "another authority again")
        assert example.changed("another authority again") == []
    finally:
        directory.run(["sh", "-ec", AUTHORITY_BEFORE])
        directory.run(["systemctl", "stop", "samba-ad-dc"])
        directory.run(restart, timeout=60)


@pytest.mark.usefixtures("on_trixie")
def test_one_key_that_cannot_be_made_keeps_no_other_domain_without(example: Applied, site: dict[str, Any]) -> None:
    more = [f"d{number:02}.dom" for number in range(40)]  # many more than cores, and the first one fails
    site["domains"] += more
    site["opendkim"]["domains"] = {more[0]: {"key_file": "/proc/none/d00.private"}}
    _apply(example, site, "one key fails")
    assert "/proc/none" in example.failed("one key fails")["Every domain has its signing key"]
    keys = [f"/etc/opendkim/keys/{domain}.default.private" for domain in more[1:]]
    relay = example.lab.host("relay")
    assert relay.run(["stat", "--format=%a %U", *keys]).stdout.splitlines() == ["600 opendkim"] * len(keys)
    assert CHECKS["SMTP AUTH answers 235"](example.lab, mail.USERS)
    relay.run(["rm", *keys])


@pytest.mark.usefixtures("on_bookworm")
def test_modules_that_were_synced_do_as_well(example: Applied) -> None:
    relay = example.lab.host("relay")
    config = "file_client: local\nfile_roots: {base: [/srv/formula]}\npillar_roots: {base: [/srv/pillar]}\n"
    relay.write("/root/synced/minion", config + "root_dir: /root/synced\n", mode="0600")
    call = ["salt-call", "--local", "--config-dir=/root/synced", "--out=json", "--retcode-passthrough"]
    dry_run = [*call, "state.apply", "smtpout", "test=True"]
    unsynced = relay.run(dry_run, check=False, timeout=120)
    assert unsynced.returncode != 0
    assert "run salt-call saltutil.sync_all" in unsynced.stdout
    relay.run([*call, "saltutil.sync_all"], timeout=120)
    synced = relay.run(dry_run, check=False, timeout=120)
    assert synced.returncode == 0, synced.stdout
    assert '"result": false' not in synced.stdout


@pytest.fixture
def bare(release: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Return a lab with a relay that nothing was done to yet."""
    lab = new_lab("bare", release, request.config)
    yield lab
    lab.down()


def installed(host: Host, package: str) -> bool:
    """Tell whether a package is installed."""
    return host.run(["dpkg-query", "-W", "-f=${db:Status-Abbrev}", package], check=False).stdout.strip() == "ii"


def _serves_nobody_before_it_is_configured(bare: Lab, tmp_path: Path) -> None:
    """Have a first apply refused after its packages are there, and reboot: nothing of theirs may run."""
    pillar = tmp_path / "wrong.sls"
    right = PILLARS["default"].read_text(encoding="utf-8")
    pillar.write_text(right.replace("ldap://172.16.11.63", "ldap://172.16.11.64"), encoding="utf-8")
    relay = bare.host("relay")
    refused = bare.apply(pillar)
    assert refused.returncode == 1, refused.stdout
    assert "ldap://172.16.11.64:389/ answers: port 389 can't be reached" in refused.stdout
    assert re.search("packages were installed, .*exim4-base.* went, .*; nothing else was changed:", refused.stdout)
    assert installed(relay, "postfix")
    relay.reboot()
    assert relay.run(["systemctl", "is-active", *UNITS], check=False).stdout.split() == ["inactive"] * len(UNITS)
    assert relay.run(["ss", "-Hltn", "sport = :25"]).stdout == ""


@pytest.mark.timeout(300)
def test_the_mail_server_that_was_there_before_gives_way(bare: Lab, tmp_path: Path) -> None:
    relay = bare.host("relay")
    relay.run(["apt-get", "-qq", "update"])
    relay.run(["sh", "-c", "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install exim4-daemon-light"], timeout=120)
    assert relay.run(["systemctl", "is-active", "exim4"], check=False).stdout.strip() == "active"
    message = "Subject: invoice\n\nhello\n"
    for _ in range(3):
        relay.run(["exim4", "-odq", "-f", "app@domain01.dom", "somebody@outside.example"], input=message)
    for test in (True, False):
        refused = bare.apply(test=test)
        assert refused.returncode == 1, refused.stdout
        said = "3 messages wait in /var/spool/exim4/input (exim); `exim4 -qff` has them delivered"
        assert said in refused.stdout
        assert installed(relay, "exim4-base")
        assert not installed(relay, "postfix")
    relay.run(["find", "/var/spool/exim4/input", "-type", "f", "-delete"])
    told = bare.apply(test=True).stdout
    assert re.search("exim4-.* would go, as Postfix can't be installed beside another mail server", told)
    _serves_nobody_before_it_is_configured(bare, tmp_path)
    done = bare.apply()
    assert done.returncode == 0, done.stdout
    assert "smtpout: applied" in done.stdout.splitlines()[-1]
    assert not installed(relay, "exim4-base")
    assert CHECKS["SMTP AUTH answers 235"](bare, mail.USERS)
    again = bare.apply()
    assert " 0 changed, 0 failed" in again.stdout.splitlines()[-1]


@pytest.mark.timeout(400)
def test_salt_is_brought_where_it_is_missing(bare: Lab) -> None:
    relay = bare.host("relay")
    relay.run(["rm", "-rf", "/opt/salt", "/usr/local/bin/salt-call", "/etc/salt"])
    site = bare.set_pillar(PILLARS["default"].read_text(encoding="utf-8"))
    # What a registry would answer lies in the host, which reaches none.
    apply = ["env", "PIP_FIND_LINKS=/srv/locked", "/srv/formula/bin/apply", *site]
    done = relay.run(apply, timeout=300)
    assert "Salt is missing: installing it into /opt/smtpout/salt" in done.stderr
    assert "smtpout: applied" in done.stdout.splitlines()[-1]
    assert " 0 changed, 0 failed" in relay.run(apply, timeout=120).stdout.splitlines()[-1]
    records = relay.run([*apply, "--ask", "opendkim.public_records"], timeout=60).stdout
    assert records.startswith("default._domainkey.domain01.dom. IN TXT ( ")
    assert relay.run(["test", "-e", "/etc/salt"], check=False).returncode == 1, "/etc/salt is nobody's but Salt's"
