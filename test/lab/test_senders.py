"""Who may send with an address of the directory, where Active Directory's names are of two words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support import load

from lab import checks, mail
from lab.conftest import Applied

PEOPLE = {name: f"{name.replace(' ', '.')}@domain01.dom" for name in ("juan perez", "juan", "tecnico")}
PEOPLE["perez"] = "don.perez@domain01.dom"
MODIFY = ["ldapmodify", "-x", "-H", "ldap://172.16.11.63", "-w", "Adm1n-of-the-lab", "-D"]
GROUPS = {
    "Soporte Tecnico": "soporte.tecnico@domain01.dom",
    "ventas": "ventas@domain01.dom",
    "avisos": "juan+avisos@domain01.dom",
}
MEMBERS = {"ventas": "juan", "Soporte Tecnico": "ventas,juan perez", "avisos": "tecnico"}

# What users type for each way to log in; a name of two words can't be compared, and its user can't send.
LOGINS: dict[str, dict[str, str]] = {
    "account_name": {name: name for name in PEOPLE},
    "upn": {name: f"{name}@domain01.dom" for name in PEOPLE},
    "mail": PEOPLE,
    "uid": {name: name for name in PEOPLE},
    "(&(objectClass=user)(sAMAccountName=%u))": {name: name for name in PEOPLE},
}


@pytest.fixture(scope="module")
def people(on_trixie: Applied) -> Iterator[Applied]:
    """Return the example's relay, whose directory has these people and groups besides."""
    directory = on_trixie.lab.host("directory")
    for name, address in PEOPLE.items():
        directory.run(
            ["samba-tool", "user", "create", name, mail.PASSWORD, f"--mail-address={address}", f"--uid={name}"]
        )
    for name, address in GROUPS.items():
        directory.run(["samba-tool", "group", "add", name, f"--mail-address={address}"])
    for name, members in MEMBERS.items():
        directory.run(["samba-tool", "group", "addmembers", name, members])
    yield on_trixie
    for kind, names in (("user", PEOPLE), ("group", GROUPS)):
        for name in names:
            directory.run(["samba-tool", kind, "delete", name])


def apply(applied: Applied, keys: dict[str, Any]) -> None:
    """Make the relay that of the example's site with these keys in its pillar."""
    site = load("default")["smtpout"]
    site |= keys | {"directory": site["directory"] | keys.get("directory", {})}
    applied.lab.set_pillar(yaml.safe_dump({"smtpout": site}))
    applied.apply(str(keys))
    assert applied.failed(str(keys)) == {}


def sends(applied: Applied, user: str, sender: str) -> int:
    """Return the code that a user gets who logs in and sends with an address."""
    answers = tried(applied, user, sender)
    assert any((answer.command, answer.code) == ("AUTH", 235) for answer in answers), answers
    return answers[-1].code


def tried(applied: Applied, user: str, sender: str) -> list[mail.Answer]:
    """Return what the relay answers to a login and whatever follows."""
    return mail.session(
        applied.lab, entry=mail.USERS, user=user, sender=sender, recipients=["somebody@outside.example"]
    )


@pytest.mark.parametrize("login", LOGINS, ids=["account name", "upn", "mail", "uid", "filter"])
def test_who_owns_an_address_sends_with_it_and_nobody_else(people: Applied, login: str) -> None:
    own_filter = {"login_attribute": "sAMAccountName"} if "=" in login else {}
    apply(people, {"verify": {}, "directory": {"login": login, **own_filter}})
    names = LOGINS[login]
    seen = {user: sends(people, typed, PEOPLE[user]) for user, typed in names.items()}
    assert seen == {user: 553 if " " in typed else 250 for user, typed in names.items()}
    others = {*PEOPLE.values(), *GROUPS.values()}
    taken = {
        (user, sender)
        for user, typed in names.items()
        for sender in others - {PEOPLE[user]}
        if sends(people, typed, sender) != 553
    }
    assert taken == set()
    warned = [check["seen"] for check in checks.verify(people.lab, "warning") if "users can send" in check["check"]]
    divided = [typed for typed in names.values() if " " in typed]
    assert len(warned) == len(divided), warned
    assert all(typed in seen for typed, seen in zip(divided, warned, strict=True)), warned


def test_with_each_form_of_their_login_users_send_as_themselves_and_as_nobody_else(people: Applied) -> None:
    shared = PEOPLE["perez"]
    people.lab.host("directory").run(["samba-tool", "user", "rename", "tecnico", f"--upn={shared}"])
    apply(people, {"directory": {"login": ["account_name", "upn", "mail"]}})
    forms = {
        "juan perez": ["juan.perez@domain01.dom"],
        "juan": ["juan", "JUAN", "juan@domain01.dom", "Juan@Domain01.DOM"],
        "perez": ["perez", "perez@domain01.dom"],
        "tecnico": ["tecnico", "tecnico@domain01.dom"],
    }
    seen = {
        (typed, sender): sends(people, typed, sender)
        for names in forms.values()
        for typed in names
        for sender in [*PEOPLE.values(), *GROUPS.values()]
    }
    own = {(typed, PEOPLE[user]) for user, names in forms.items() for typed in names}
    assert {each for each, code in seen.items() if code == 250} == own
    assert set(seen.values()) == {250, 553}
    assert {sends(people, "juan perez", sender) for sender in PEOPLE.values()} == {553}
    refused = [tried(people, shared, sender)[-1] for sender in PEOPLE.values()]
    assert {(answer.command, answer.code) for answer in refused} == {("AUTH", 535)}
    assert {tried(people, f"DOMAIN01\\{user}", PEOPLE[user])[-1].code for user in ("juan", "perez")} == {535}


def test_who_shares_an_address_sends_with_it_beside_whoever_has_it(people: Applied) -> None:
    shared = {"no-reply@domain01.dom": ["tecnico"], PEOPLE["juan"]: ["Perez"], GROUPS["ventas"]: ["perez", "juan"]}
    apply(people, {"shared_addresses": shared})
    own = {(user, PEOPLE[user]) for user in ("juan", "perez", "tecnico")}
    granted = {(user.lower(), address) for address, users in shared.items() for user in users}
    seen = {(user, sender): sends(people, user, sender) for user, _ in own for sender in {*PEOPLE.values(), *shared}}
    assert {each for each, code in seen.items() if code == 250} == own | granted
    assert set(seen.values()) == {250, 553}
    assert sends(people, "TECNICO", "No-Reply@Domain01.DOM") == 250


def test_who_sends_with_an_address_sends_with_its_extensions_but_for_those_that_are_others_own(people: Applied) -> None:
    apply(people, {"shared_addresses": {"no-reply@domain01.dom": ["tecnico"]}})
    extended = ["juan+news@domain01.dom", "Juan+a+b@domain01.dom", "juan+@domain01.dom", "no-reply+1@domain01.dom"]
    seen = {user: [sends(people, user, sender) for sender in extended] for user in ("juan", "perez", "tecnico")}
    assert seen == {"juan": [250, 250, 250, 553], "perez": [553] * 4, "tecnico": [553, 553, 553, 250]}
    assert {sends(people, user, GROUPS["avisos"]) for user in seen} == {553}
    to_it = mail.session(people.lab, sender="a@outside.example", recipients=[*extended[:3], GROUPS["avisos"]])
    assert {answer.code for answer in to_it if answer.command.startswith("RCPT")} == {250}


def test_a_groups_members_send_with_its_address_and_those_of_groups_within_it(people: Applied) -> None:
    """A member named "juan perez" has neither word's user send, and a group's own name nobody."""
    apply(people, {"directory": {"delegates": "group_members"}, "shared_addresses": {GROUPS["ventas"]: ["perez"]}})
    seen = {(user, address): sends(people, user, address) for user in ("juan", "perez", "tecnico") for address in
            [*PEOPLE.values(), *GROUPS.values()]}  # fmt: skip
    own = {(user, PEOPLE[user]) for user in ("juan", "perez", "tecnico")}
    delegated = {("juan", GROUPS["ventas"]), ("juan", GROUPS["Soporte Tecnico"]), ("tecnico", GROUPS["avisos"])}
    assert {each for each, code in seen.items() if code == 250} == own | delegated | {("perez", GROUPS["ventas"])}
    assert set(seen.values()) == {250, 553}
    told = people.lab.salt("smtpout_directory.senders", GROUPS["ventas"])
    base = "CN=Users,DC=domain01,DC=dom"
    assert told == {
        "juan": [f"CN=juan,{base} is in CN=ventas,{base}, which has {GROUPS['ventas']}"],
        "perez": [f"smtpout:shared_addresses:{GROUPS['ventas']} names it"],
    }
    assert set(people.lab.salt("smtpout_directory.addresses", "juan")) == {
        PEOPLE["juan"],
        GROUPS["ventas"],
        GROUPS["Soporte Tecnico"],
    }


def test_whom_a_mailbox_or_a_group_names_as_its_delegates_sends_with_its_address(people: Applied) -> None:
    """Beside a group's members; neither the words of a delegate's name do, nor a delegate's own delegates.

    Exchange's publicDelegates isn't in the directory's schema; secretary (RFC 4524) is, and holds names (DNs) as well.
    """
    directory, base = people.lab.host("directory"), "CN=Users,DC=domain01,DC=dom"
    named = {"tecnico": ("juan", "juan perez"), "avisos": ("perez", "ventas"), "juan": ("perez",)}
    for entry, those in named.items():
        lines = [f"dn: CN={entry},{base}", "changetype: modify", "replace: secretary"]
        lines += [f"secretary: CN={name},{base}" for name in those]
        directory.run([*MODIFY, f"cn=administrator,{base}"], input="\n".join([*lines, ""]))
    ways: list[str | list[str]] = ["secretary", ["group_members", "secretary"]]
    for delegates in ways:
        apply(people, {"directory": {"delegates": delegates}})
        seen = {(user, address): sends(people, user, address) for user in ("juan", "perez", "tecnico") for address in
                [*PEOPLE.values(), *GROUPS.values()]}  # fmt: skip
        own = {(user, PEOPLE[user]) for user in ("juan", "perez", "tecnico")}
        own |= {("juan", PEOPLE["tecnico"]), ("perez", GROUPS["avisos"]), ("perez", PEOPLE["juan"])}
        if "group_members" in delegates:
            own |= {("juan", GROUPS["ventas"]), ("juan", GROUPS["Soporte Tecnico"]), ("tecnico", GROUPS["avisos"])}
        assert {each for each, code in seen.items() if code == 250} == own
        assert set(seen.values()) == {250, 553}
    why = f"CN=avisos,{base}, which has {GROUPS['avisos']}, has CN=perez,{base} in secretary"
    assert people.lab.salt("smtpout_directory.senders", GROUPS["avisos"])["perez"] == [why]
    assert set(people.lab.salt("smtpout_directory.addresses", "perez")) == {
        PEOPLE["perez"],
        PEOPLE["juan"],
        GROUPS["avisos"],
    }


def test_who_is_disabled_gets_no_mail_where_the_site_leaves_them_out(people: Applied) -> None:
    people.lab.host("directory").run(["samba-tool", "user", "disable", "tecnico"])
    asked = [PEOPLE["tecnico"], PEOPLE["juan"], GROUPS["ventas"]]
    for choice, code in (("get_mail", 250), ("mailboxes", 550), ("left_out", 550)):
        apply(people, {"directory": {"disabled_accounts": choice}})
        answers = mail.session(people.lab, address=mail.STRANGER, sender="a@outside.example", recipients=asked)
        assert [each.code for each in answers if each.command.startswith("RCPT")] == [code, 250, 250], choice
    assert tried(people, "tecnico", PEOPLE["tecnico"])[-1].code == 535
    assert sends(people, "juan", PEOPLE["juan"]) == 250
    people.lab.host("directory").run(["samba-tool", "user", "enable", "tecnico"])


def test_only_a_groups_members_log_in_and_those_of_groups_within_it(people: Applied) -> None:
    directory = people.lab.host("directory")
    for group, members in (("interno", "juan"), ("correo (todos)", "interno,usuario01")):
        directory.run(["samba-tool", "group", "add", group])
        directory.run(["samba-tool", "group", "addmembers", group, members])
    apply(people, {"directory": {"members_of": "CN=correo (todos),CN=Users,DC=domain01,DC=dom"}})
    assert sends(people, "juan", PEOPLE["juan"]) == 250
    assert tried(people, "perez", PEOPLE["perez"])[-1].code == 535
    for group in ("interno", "correo (todos)"):
        directory.run(["samba-tool", "group", "delete", group])
