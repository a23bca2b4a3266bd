"""What a site says in its pillar comes out on the relay, and can be taken back; and the ways in besides the lab's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support import PILLARS, load

from lab import mail, raw
from lab.checks import CHECKS
from lab.conftest import Applied, new_lab
from lab.host import Host
from lab.lab import Lab


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
    assert applied.changed("changed site") == ["Postfix runs the site's configuration"]
    _apply(applied, site, "changed site again")
    assert applied.changed("changed site again") == []


def _postconf(host: Host, *arguments: str) -> str:
    return host.run(["postconf", *arguments]).stdout.strip()


def test_mail_goes_to_a_delivery_layer_that_has_a_name(example: Applied, site: dict[str, Any]) -> None:
    site["delivery"]["nexthop"] = "smtp:smtp-delivery.cloud0.hc.mycompany.dom:25"
    _changed(example, site)
    assert CHECKS["a user's mail to domain01.dom reaches the delivery layer"](example.lab, mail.USERS)


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


def test_one_domain_may_have_a_delivery_layer_of_its_own(example: Applied, site: dict[str, Any]) -> None:
    site["delivery"]["nexthop"] = "smtp:[172.16.11.250]:25"  # nobody
    site["delivery"]["domains"] = {"domain02.dom": "smtp:[172.16.11.96]:25"}
    _changed(example, site)
    assert CHECKS["a user's mail to domain02.dom reaches the delivery layer"](example.lab, mail.USERS)


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
            },
            "mapping": {
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
    assert CHECKS["a user's mail to domain01.dom reaches the delivery layer"](example.lab, mail.USERS)


def test_a_wrong_pillar_changes_nothing_and_everything_wrong_is_said(example: Applied, site: dict[str, Any]) -> None:
    site["opendkim"]["bits"] = 512
    site["networks"] = ["0.0.0.0/0"]
    site["directory"]["bind_pasword"] = site["directory"].pop("bind_password")
    _apply(example, site, "wrong pillar")
    assert list(example.runs["wrong pillar"]) == ["The site's pillar is right"]
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


def test_a_password_that_the_directory_refuses_never_goes_live(example: Applied, site: dict[str, Any]) -> None:
    relay, files = example.lab.host("relay"), ("/etc/saslauthd.conf", "/etc/postfix/people-mycompany.ldap")
    before = [relay.read(path) for path in files]
    site["directory"]["bind_password"] = "not the account's"
    for test in (True, False):
        example.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
        example.apply("refused password", test=test)
        failed = example.failed("refused password")
        assert "bind_password is wrong" in failed["saslauthd checks passwords in the directory"] or "52e" in str(failed)
        assert "Postfix runs the site's configuration" in failed
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
    try:
        directory.run(["sh", "-ec", NEW_AUTHORITY])
        directory.run(["systemctl", "stop", "samba-ad-dc"])
        directory.run(restart, timeout=60)
        relay.write(file, directory.read(AUTHORITY), mode="0644")
        _apply(example, site, "another authority")
        assert example.failed("another authority") == {}
        daemons = ("saslauthd checks passwords in the directory", "Postfix runs the site's configuration")
        assert example.changed("another authority") == [*daemons]
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


@pytest.mark.timeout(300)
def test_the_mail_server_that_was_there_before_gives_way(bare: Lab) -> None:
    relay = bare.host("relay")
    relay.run(["apt-get", "-qq", "update"])
    relay.run(["sh", "-c", "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install exim4-daemon-light"], timeout=120)
    assert relay.run(["systemctl", "is-active", "exim4"], check=False).stdout.strip() == "active"
    done = bare.apply()
    assert done.returncode == 0, done.stdout
    assert "smtpout: applied" in done.stdout.splitlines()[-1]
    assert relay.run(["dpkg-query", "-W", "-f=${db:Status-Abbrev}", "exim4-base"], check=False).stdout.strip() != "ii"
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
