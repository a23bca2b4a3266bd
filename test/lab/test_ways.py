"""The ways in besides the masterless one: a master that serves files or git, and salt-ssh. One behaviour after each.

On one release of Debian: what differs between releases is no matter of how the states come in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from support import REPOSITORY

from lab import checks, mail
from lab.checks import CHECKS
from lab.conftest import Applied, new_lab
from lab.host import Host
from lab.images import RELEASES
from lab.lab import HOSTS
from lab.master import MINION, NEIGHBOUR, RELAY, Master, make_accounts

pytestmark = pytest.mark.timeout(900)

# A sentence of the formula's own code that is printed, before an update and after.
OLD_WORDS, NEW_WORDS = "Anybody's mail to the site's users is taken", "What anybody writes to the site's users is taken"
# What a minion that lies about the sender of its request is told.
OTHERS_PILLAR = """
import sys
import salt.channel.client
import salt.config
options = salt.config.minion_config("/etc/salt/minion")
options["master_uri"] = "tcp://172.16.11.94:4506"
load = {"cmd": "_pillar", "id": sys.argv[1], "grains": {}, "saltenv": "base", "pillarenv": None, "ver": "2"}
with salt.channel.client.ReqChannel.factory(options) as channel:
    try:
        print(channel.crypted_transfer_decode_dictentry(load, dictkey="pillar", tries=1, timeout=20))
    except Exception as refused:
        print("refused:", type(refused).__name__)
"""


@pytest.fixture(scope="module")
def master(request: pytest.FixtureRequest) -> Iterator[Master]:
    """Return the master of a lab whose relay is bare."""
    release = (request.config.getoption("release") or RELEASES)[0]
    lab = new_lab("ways", release, request.config, [*HOSTS, "master", "neighbour"])
    make_accounts(lab)
    yield Master(lab)
    if not request.config.getoption("keep"):
        lab.down()


@pytest.fixture(scope="module", params=["file_roots", "gitfs", "salt-ssh"])
def way(request: pytest.FixtureRequest, master: Master) -> Applied:
    """Return a relay that was bare, applied in each way; a second site's with the first of them."""
    lab = master.lab
    relay = lab.host("relay")
    relay.stop()
    lab.up(["relay"])
    if request.param == "salt-ssh":
        lab.way = master.reach_by_ssh()
    else:
        (master.serve_git if request.param == "gitfs" else master.serve_file_roots)()
        lab.way = master.join("relay", RELAY)
    applied = Applied(lab, request.param, "")
    for step, test in (("first", False), ("second", False), ("dry run", True)):
        applied.apply(step, sls="", test=test)
    checks.publish_keys(lab)
    return applied


def test_first_apply_has_no_failure(way: Applied) -> None:
    assert way.failed("first") == {}
    assert "Postfix runs the site's configuration" in way.changed("first")


def test_second_apply_changes_nothing(way: Applied) -> None:
    assert way.failed("second") == {}
    assert way.changed("second") == []


def test_dry_run_predicts_nothing(way: Applied) -> None:
    assert way.failed("dry run") == {}
    assert way.changed("dry run") == []


def test_the_running_relay_does_what_the_pillar_says(way: Applied) -> None:
    assert len(checks.verify(way.lab, "ok")) > 5
    assert checks.verify(way.lab, "failed") == []
    checks.publish_keys(way.lab)
    # The recipe's directory is asked by plain ldap://.
    warned = [check["check"] for check in checks.verify(way.lab, "warning")]
    assert warned == ["passwords are encrypted on their way to the directory"]


@pytest.mark.parametrize("sentence", CHECKS)
def test_mail_behaves_as_after_any_apply(way: Applied, sentence: str) -> None:
    if (way.suite, sentence) == ("salt-ssh", "saslauthd refuses a wrong password"):
        pytest.skip("smtpout.ask takes an answer of False for a failure; the apply itself has asked the same")
    assert CHECKS[sentence](way.lab, mail.USERS)


two_sites = pytest.mark.parametrize("way", ["gitfs"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def neighbour(master: Master, way: Applied) -> Master:  # noqa: ARG001 - it sees to the relay
    """Return the master when another site's relay is applied, too."""
    master.join("neighbour", NEIGHBOUR)
    master.first, master.second = (master.salt(NEIGHBOUR, "state.apply") for _ in range(2))
    return master


@two_sites
def test_another_site_on_the_same_master_is_applied_with_its_own_pillar(neighbour: Master) -> None:
    assert {state["__id__"]: state["comment"] for state in neighbour.first.values() if not state["result"]} == {}
    assert [state["__id__"] for state in neighbour.second.values() if state["changes"]] == []
    host = neighbour.lab.host("neighbour")
    assert host.run(["postconf", "-h", "mydomain"]).stdout.strip() == "domain02.dom"
    assert neighbour.secrets_b[0] in host.read("/etc/saslauthd.conf")
    assert neighbour.secrets_b[2] in host.read("/etc/opendkim/keys/domain02.dom.default.private")


@two_sites
def test_no_file_of_a_relay_holds_another_sites_secret(neighbour: Master) -> None:
    relay, other = (neighbour.lab.host(name) for name in ("relay", "neighbour"))
    assert _files_with(relay, neighbour.secrets_b) == []
    assert _files_with(other, neighbour.secrets_a) == []
    assert "/etc/saslauthd.conf" in _files_with(relay, neighbour.secrets_a)
    assert "/etc/saslauthd.conf" in _files_with(other, neighbour.secrets_b)


@two_sites
def test_salt_itself_keeps_no_secret_outside_the_pillar(neighbour: Master) -> None:
    secrets = neighbour.secrets_a + neighbour.secrets_b
    for name in ("relay", "neighbour"):
        kept = _files_with(neighbour.lab.host(name), secrets)
        assert [path for path in kept if "salt" in path] == []
    assert [path for path in _files_with(neighbour.host, secrets) if not path.startswith("/srv/pillar/")] == []
    jobs = neighbour.host.run(["find", "/var/cache/salt/master/jobs", "-name", "return.p"]).stdout
    assert len(jobs.split()) > 5


# From here on, the master's job cache holds pillars: what salt-call asks for is reported to the master.
@two_sites
@pytest.mark.parametrize(
    "asked",
    [
        ["pillar.items"],
        ["smtpout.settings"],
        ["--id", NEIGHBOUR, "pillar.items"],
        ["publish.publish", NEIGHBOUR, "pillar.items"],
        ["mine.get", NEIGHBOUR, "pillar.items"],
        ["cp.list_master"],
        ["cp.get_file_str", "salt://../pillar/smtpout/site-b.sls"],
        ["cp.get_file_str", "salt://smtpout/site-b.sls"],
    ],
    ids=" ".join,
)
def test_a_relay_is_told_nothing_of_another_site(neighbour: Master, asked: list[str]) -> None:
    said = _asked(neighbour, *asked)
    assert len(said) > 0
    assert not [secret for secret in neighbour.secrets_b if secret in said]
    # 3008 shows a pillar's values as asterisks; smtpout.settings has them as they are.
    assert ("bind_password" in said) == (asked[0] in {"pillar.items", "smtpout.settings"}), said


@two_sites
def test_a_relay_that_lies_about_its_grains_is_told_no_more(neighbour: Master) -> None:
    relay = neighbour.lab.host("relay")
    lies = {"id": NEIGHBOUR, "fqdn": "relay.site-b.example", "host": "relay", "domain": "site-b.example"}
    relay.write("/etc/salt/grains", json.dumps(lies))
    try:
        assert "relay.site-b.example" in _asked(neighbour, "grains.item", "fqdn")
        said = _asked(neighbour, "smtpout.settings")
    finally:
        relay.run(["rm", "/etc/salt/grains"])
    assert "MYCOMPANY" in said
    assert not [secret for secret in neighbour.secrets_b if secret in said]


@two_sites
def test_a_request_in_another_relays_name_brings_nothing_of_its_pillar(neighbour: Master) -> None:
    relay = neighbour.lab.host("relay")
    own, others = (
        relay.run(["/opt/salt/bin/python", "-c", OTHERS_PILLAR, minion], check=False, timeout=120)
        for minion in (RELAY, NEIGHBOUR)
    )
    assert "MYCOMPANY" in own.stdout, own
    assert others.stdout, others
    assert not [secret for secret in neighbour.secrets_b if secret in others.stdout + others.stderr]


@pytest.mark.parametrize("way", ["file_roots"], indirect=True, scope="module")
def test_an_update_reaches_a_minion_that_runs_its_jobs_in_one_process(master: Master, way: Applied) -> None:
    relay, name, digests = way.lab.host("relay"), "_utils/smtpout_core/promises/derived.py", "smtpout/code.sha256"
    own = (REPOSITORY / name).read_text(encoding="utf-8")
    new = own.replace(OLD_WORDS, NEW_WORDS)
    listed = (REPOSITORY / digests).read_text(encoding="utf-8")
    before, after = (hashlib.sha256(text.encode()).hexdigest() for text in (own, new))
    listed = listed.replace(before, after)
    relay.write("/etc/salt/minion", f"{MINION.format(RELAY)}multiprocessing: False\n", mode="0644")
    master.restart("relay", RELAY)

    def sentences() -> str:
        return " ".join(each["sentence"] for each in master.salt(RELAY, "smtpout.promises"))

    assert OLD_WORDS in sentences()
    master.serve_update({name: new, digests: listed}, RELAY)
    stale = master.salt(RELAY, "state.apply", "smtpout")
    told = [state["comment"] for state in stale.values() if not state["result"]]
    assert any("saltutil.sync_all" in comment for comment in told), stale
    assert not any(state["changes"] for state in stale.values())
    master.salt(RELAY, "saltutil.sync_all")
    assert NEW_WORDS in sentences()
    current = master.salt(RELAY, "state.apply", "smtpout")
    assert {state["__id__"]: state["comment"] for state in current.values() if not state["result"]} == {}


def _asked(master: Master, *words: str) -> str:
    """Return all that site-a's relay prints when its root asks the master."""
    done = master.lab.host("relay").run(["salt-call", "--out=json", *words], check=False, timeout=180)
    return done.stdout + done.stderr


def _files_with(host: Host, secrets: list[str]) -> list[str]:
    """Return the files of a host that hold one of the secrets."""
    patterns = [argument for secret in secrets for argument in ("-e", secret)]
    places = ["/etc", "/var", "/run", "/tmp", "/root", "/home", "/opt", "/usr/local", "/srv/pillar", "/srv/salt"]
    found = host.run(["grep", "-rlaF", *patterns, *places], check=False, timeout=120).stdout
    return sorted(found.splitlines())
