"""Who is blocked: what Postfix looks up, what is refused of a pillar, and what is remembered of blocks by command."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core.change.memory import Memory
from smtpout_core.daemons.postfix import blocking, maps
from smtpout_core.daemons.postfix.blocks import Block, Blocks, Kept
from smtpout_core.directory.people import Person
from smtpout_core.errors import Doubt, RelayError
from smtpout_core.promises import derived
from smtpout_core.promises.posed import Posed
from smtpout_core.site import blocked
from smtpout_core.verify import blocked as verified

Made = Callable[..., dict[str, Any]]
needs_postmap = pytest.mark.skipif(not shutil.which("postmap") or os.geteuid() != 0, reason="as root, with Postfix")

GIVEN = {
    "logins": ["Juan", "María Paz@domain01.dom"],
    "senders": ["Noisy@partner.example", "@bad.example"],
    "recipients": ["drop@phisher.example"],
    "clients": ["172.16.10.7", "2001:DB8:0::/48"],
}


@pytest.fixture
def made(settings: Settings, site: dict[str, Any]) -> Made:
    """Return a function that makes the settings of the example with these keys."""
    return lambda **keys: settings({**site, **keys})


def test_a_site_that_blocks_nobody_asks_the_table_of_the_command_alone(made: Made) -> None:
    postfix = made()["postfix"]
    gate = ["check_sasl_access pipemap:{static:*,lmdb:/var/lib/smtpout/blocked/logins}"]
    assert postfix["restrictions"]["smtpd_recipient_restrictions"] == gate
    assert postfix["restrictions"]["smtpd_end_of_data_restrictions"] == gate
    assert not [name for name in postfix["maps"] if name.startswith("blocked")]
    assert "blocked_are_refused" not in {each.name for each in derived.everything(made())}


def test_each_form_of_a_login_is_looked_up_by_what_the_directory_finds(made: Made, site: dict[str, Any]) -> None:
    found = made(directory=site["directory"] | {"login": ["account_name", "upn"]})
    told = "static:{REJECT this account is blocked; ask your administrator}"
    table = "regexp:/etc/postfix/logins.regexp,lmdb:/var/lib/smtpout/blocked/logins"
    assert found["postfix"]["restrictions"]["blocked_accounts"] == [
        f"check_sasl_access pipemap:{{{table},{told}}}",
        f"check_sasl_access pipemap:{{ldap:/etc/postfix/accounts-mycompany-samaccountname.ldap,{table},{told}}}",
        f"check_sasl_access pipemap:{{ldap:/etc/postfix/accounts-mycompany-userprincipalname.ldap,{table},{told}}}",
    ]
    either = "(|(sAMAccountName=%s)(userPrincipalName=%s))"
    assert found["directory"]["named_filter"] == f"(&(objectClass=user){either})"


@pytest.mark.parametrize(
    ("login", "finds"),
    [("uid=%u", "(uid=%s)"), ("(|(uid=%U)(mail=%u))", "(|(uid=%u)(mail=%s))"), ("mail=%U@%d", "(|(mail=%s))"),
     ("(cn=100%%)(uid=%u)", "(cn=100%%)(uid=%s)")],
)  # fmt: skip
def test_a_filter_of_the_sites_own_finds_accounts_too(site: dict[str, Any], login: str, finds: str) -> None:
    attribute = "mail" if "%d" in login else "uid"
    own = site["directory"] | {"login": login, "login_attribute": attribute}
    assert blocked.named_filter({**own, "named_attributes": [attribute]}) == finds


def test_who_the_pillar_blocks_is_a_search_and_tables(made: Made) -> None:
    found = made(blocked=GIVEN)
    assert found["valid"], found["errors"]
    tables = {name: table for name, table in found["postfix"]["maps"].items() if name.startswith("blocked")}
    assert tables["blocked_logins"]["entries"].keys() == {"juan", '"maría paz@domain01.dom"'}
    assert tables["blocked_senders"]["entries"].keys() == {"noisy@partner.example", "bad.example"}
    assert [network for network, _ in tables["blocked_clients"]["entries"]] == ["172.16.10.7", "2001:db8::/48"]
    assert tables["blocked_clients"]["type"] == "cidr"
    names = r"(|(sAMAccountName=Juan)(sAMAccountName=Mar\c3\ada\20Paz@domain01.dom))"
    assert found["directory"]["blocked_filter"] == f"(&(sAMAccountName=%s){names})"
    first, *others = found["postfix"]["restrictions"]["smtpd_recipient_restrictions"]
    assert first.startswith("check_sasl_access ")
    kinds = [each.split()[0] for each in others]
    assert kinds == ["check_sasl_access"] * 2 + ["check_recipient_access"] * 3 + [
        "check_client_access",
        "check_sender_access",
    ]


WRONG = {
    "loopback": ({"clients": ["0.0.0.0/1"]}, 'smtpout:blocked:clients:0: "0.0.0.0/1" has the relay\'s own address'),
    "a domain of the site's": ({"senders": ["@Domain01.dom"]}, "is all of a domain of the site's"),
    "a postmaster": ({"recipients": ["Postmaster@domain02.dom"]}, "can't be blocked: a domain has to have it (RFC"),
    "as a sender": ({"senders": ["abuse+x@domain01.dom"]}, "can't be blocked: a domain has to have it (RFC"),
    "anybody": ({"logins": ["*"]}, "smtpout:blocked:logins:0: "),
    "an alias": ({"logins": ["juan:"]}, "smtpout:blocked:logins:0: "),
    "no network": ({"clients": ["printer"]}, "smtpout:blocked:clients:0: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_pillar_that_would_cut_off_too_much_is_refused(made: Made, case: str) -> None:
    given, said = WRONG[case]
    assert said in "\n".join(made(blocked=given)["errors"])


def test_a_parameter_that_hides_them_is_refused(made: Made) -> None:
    def errors(name: str, value: Any, **more: Any) -> list[str]:
        return list(made(postfix={"main": {name: value}}, **more)["errors"])

    name = "smtpd_recipient_restrictions"
    assert errors(name, "permit_mynetworks") == []
    assert "hides what smtpout:blocked says; use prepend or append" in str(errors(name, "permit", blocked=GIVEN))
    assert errors(name, {"append": "permit"}, blocked=GIVEN) == []
    assert "hides what accounts are blocked by" in str(errors("smtpd_restriction_classes", "strict"))
    assert errors("smtpd_restriction_classes", {"append": ", strict"}) == []


def test_nobody_who_is_blocked_is_posed_as(made: Made) -> None:
    people = [
        Person(("juan", "j@domain01.dom"), ("j@domain01.dom",)),
        Person(("ana",), ("ana@domain01.dom", "ana+x@domain01.dom", "maria@domain01.dom")),
        Person(("eva",), ("eva@domain02.dom",)),
    ]
    given = {**GIVEN, "recipients": ["ana@domain01.dom"], "clients": ["172.16.10.0/24", "203.0.113.0/24"]}
    posed = Posed(made(blocked=given), people, [4], by_command=["EVA"])
    assert [each.login for each in posed.people] == ["ana"]
    assert posed.people[0].addresses == ("maria@domain01.dom",)
    assert posed.servers == ["172.16.11.1"]
    assert posed.strangers == ["198.51.100.9"]
    asked = list(posed.refused())
    assert {each.login for each in asked if each.key == "blocked:logins"} == {*given["logins"], "EVA"}
    assert {each.sender for each in asked if each.login == "EVA"} == {"eva@domain02.dom"}
    assert {each.client for each in asked if each.key == "blocked:clients"} == {"172.16.10.1", "203.0.113.1"}
    assert len({each.kind for each in asked}) == len(asked)


@pytest.fixture
def state(tmp_path: Path) -> Blocks:
    """Return the blocks of a relay that has none yet."""
    return Blocks(str(tmp_path / "state/blocked/logins"))


@needs_postmap
def test_the_table_is_made_then_written_in_place(state: Blocks) -> None:
    kept = Kept(state)
    assert kept.differences()["blocked accounts"]["old"] == "missing"
    kept.bring()
    assert (kept.differences(), maps.dump(state.table, "lmdb")) == ({}, {})
    assert Path(state.database).stat().st_mode & 0o777 == 0o600
    inode = Path(state.database).stat().st_ino
    names = ["juan", "juan perez", "maría paz@domain01.dom", "a,b"]
    state.write([Block("Juan", names, int(time.time()))])
    assert state.fault().startswith("without ")
    state.bring()
    assert maps.dump(state.table, "lmdb") == {
        **dict.fromkeys(map(blocked.key, names), "blocked"),
        "*": "blocked_accounts",
    }
    state.write([Block("Juan", names, 0, ended=True)])
    assert state.fault() == "with others"
    state.bring()
    assert (state.fault(), maps.dump(state.table, "lmdb")) == ("", {})
    assert Path(state.database).stat().st_ino == inode


@needs_postmap
def test_what_is_wrong_with_the_table_is_mended(state: Blocks) -> None:
    with state.locked():
        state.write([Block("juan", ["juan"], 0)])
        with pytest.raises(RelayError, match="apply makes it anew"):
            state.bring()
        state.make()
    Path(state.database).chmod(0o644)
    assert state.fault() == "root:root 0644"
    state.make()
    assert state.fault() == ""
    Path(state.database).write_bytes(os.urandom(8192))
    assert state.fault() == "unreadable"
    state.make()
    assert maps.dump(state.table, "lmdb")["juan"] == "blocked"


def test_what_is_remembered_and_can_not_be_read_is_an_error(state: Blocks) -> None:
    assert state.read() == []
    state.record.parent.mkdir(parents=True)
    state.record.write_text("[{]")
    with pytest.raises(RelayError, match="nobody knows who is blocked by command"):
        state.read()


@needs_postmap
def test_a_block_is_told_of_after_a_week(made: Made, state: Blocks) -> None:
    settings = made()
    settings = {**settings, "postfix": {**settings["postfix"], "blocked": {"table": state.table, "type": "lmdb"}}}
    assert verified.forgotten(settings) == "nobody is blocked by command"
    state.record.parent.mkdir(parents=True)
    state.write([Block("juan", ["juan"], int(time.time()) - 86_400, reason="phished")])
    assert verified.forgotten(settings) == "juan for 1 day (phished)"
    state.write([Block("juan", ["juan"], int(time.time()) - 8 * 86_400)])
    with pytest.raises(Doubt, match="juan for 8 days: unblock"):
        verified.forgotten(settings)


@pytest.mark.parametrize("login", ["", "*", "a\nb", '"x"', "#x", "a,b", "x" * 255])
def test_what_is_no_login_is_refused(login: str) -> None:
    with pytest.raises(RelayError, match="is no login"):
        blocking._right(login)


def test_the_blocks_go_with_all_that_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked/logins.json").write_text("[]")
    Memory(str(tmp_path)).forget()
    assert not (tmp_path / "blocked").exists()
