"""Who owns a sender's address: the table as Postfix reads it, asked of a real slapd, and its answer parted."""

from __future__ import annotations

import base64
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from minions import Settings, minion
from slapd_server import BASE, PEOPLE, Slapd, needs_slapd, running_slapd
from smtpout_core.change.parts import File
from smtpout_core.change.templates import Templates
from smtpout_core.daemons.postfix import senders
from smtpout_core.directory import ask, names
from smtpout_core.errors import RelayError
from smtpout_core.host import Host

TYPES = (
    subprocess.run(["postconf", "-m"], check=False, capture_output=True, text=True)
    if shutil.which("postconf")
    else None
)
pytestmark = [
    needs_slapd,
    pytest.mark.skipif(not TYPES or "ldap" not in TYPES.stdout.split(), reason="postfix-ldap is not installed"),
]

Relay = Callable[[str], tuple[dict[str, Any], list[str]]]
Owners = Callable[..., set[str] | None]

# Names that users log in with, by the part of their address before the @.
NAMES = {
    "plain": ["juan"],
    "capitals": ["Perez"],
    "blank": ["juan perez"],
    "comma": ["juan,perez"],
    "comma.and.blank": ["juan, perez"],
    "tab": ["juan\tperez"],
    "newline": ["juan\nperez"],
    "return": ["juan\rperez"],
    "one.of.two": ["ana", "ana perez"],
    "one.of.two.by.comma": ["eva", "eva,perez"],
    "three.of.four": ["luis", "luis a", "luis b", "luis c"],
    "four.of.five": ["rosa", "rosa a", "rosa b", "rosa c", "rosa d"],
    "beyond.ascii": ["josé\u00a0perez"],  # smtpd parts at no such blank
    "syntax": ["%s$1{juan}"],
}


def entry(local: str, names: list[str]) -> str:
    """Return a person in LDIF, with names that need not be printable."""
    logins = "".join(f"uid:: {base64.b64encode(name.encode()).decode()}\n" for name in names)
    person = f"dn: cn={local.replace(',', '')},ou=people,{BASE}\nobjectClass: inetOrgPerson\ncn: {local}\nsn: x\n"
    return f"\n{person}{logins}mail: {local}@domain01.dom\n"


# Whom a shared mailbox names, by the part of its address before the @. Each person is one of PEOPLE and NAMES, an owner
# of a mailbox of their own included, whose delegates are nobody else's.
ONE, TWO = f"uid=usuario01,ou=people,{BASE}", f"uid=usuario02,ou=people,{BASE}"
DELEGATES = {
    "one": [ONE],
    "two": [ONE, TWO.upper()],
    "divided": [f"cn={name},ou=people,{BASE}" for name in ("blank", "comma", "tab", "comma.and.blank", "plain")],
    "a.group": [f"cn=perez,ou=people,{BASE}", f"ou=people,{BASE}"],
    "chained": [f"cn=two,ou=people,{BASE}", f"cn=gone,ou=people,{BASE}"],
    "odd": [f"cn=josé \\3Cpérez\\3E\\2C sr,ou=people,{BASE}", ONE],
    "many": [*(f"cn=gone{number},ou=people,{BASE}" for number in range(19)), ONE, TWO],
}


def mailbox(local: str, delegates: list[str]) -> str:
    """Return a mailbox in LDIF that nobody logs in at, with its delegates."""
    dn = f"dn: cn={local},ou=people,{BASE}\nobjectClass: groupOfNames\nobjectClass: extensibleObject\ncn: {local}\n"
    names = "".join(f"member:: {base64.b64encode(name.encode()).decode()}\n" for name in delegates)
    return f"\n{dn}mail: {local}@domain01.dom\n{names}"


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    shared = entry("shared", ["maria"]) + entry("shared2", ["jose luis"]).replace("shared2@", "shared@")
    odd = entry("odd.one", ["pepe"])
    for key, value in (("dn", DELEGATES["odd"][0]), ("cn", "josé <pérez>, sr")):
        coded = base64.b64encode(value.encode()).decode()
        odd = re.sub(f"^{key}: .*$", f"{key}:: {coded}", odd, flags=re.MULTILINE)
    group = f"\ndn: cn=perez,ou=people,{BASE}\nobjectClass: groupOfNames\nobjectClass: extensibleObject\n"
    group += f"mail: juan+perez@domain01.dom\ncn: perez\nuid: sales\nmail: sales@domain01.dom\nmember: {BASE}\n"
    by_mail = entry("m,n", ["mn"])
    people = PEOPLE + "".join(map(entry, NAMES, NAMES.values())) + shared + group + by_mail + odd
    with running_slapd(people + "".join(map(mailbox, DELEGATES, DELEGATES.values()))) as server:
        yield server


@pytest.fixture(scope="module")
def owners(relay: Relay) -> Owners:
    """Return what smtpd takes for an address's owners, on a relay whose directory settings are those given.

    None for an address that nothing is known of: smtpd asks again without an extension.
    """

    def asked(address: str, **given: Any) -> set[str] | None:
        _, tables = relay(json.dumps(given))
        for table in tables:  # the first that answers wins
            asked = subprocess.run(["postmap", "-q", address, table], check=False, capture_output=True, text=True)
            assert asked.stderr == ""
            if asked.stdout:
                return set(re.split(r"[, \t\r\n]+", asked.stdout)) - {""}
        return None

    return asked


@pytest.fixture(scope="module")
def relay(slapd: Slapd, tmp_path_factory: pytest.TempPathFactory) -> Relay:
    """Return the settings of a relay, and its tables as postmap takes them, by what they say of the directory."""

    @functools.cache
    def written(given: str) -> tuple[dict[str, Any], list[str]]:
        """Write main.cf and the maps that it names."""
        directory = json.loads(given)
        tmp_path = tmp_path_factory.mktemp("maps")
        shared = {"shared_addresses": directory.pop("shared", {})}
        modules = minion(tmp_path, slapd.pillar(**directory) | {"verify": {}} | shared)
        settings = modules["smtpout.settings"]()
        postfix = settings["postfix"]
        of = {"purpose": "", "domains": ["own_domains"]}
        owned = {**of, "query": "owner_filter", "result": "login_attributes"}
        existing = {**of, "query": "recipient_filter", "result": "result_attribute"}
        templates = Templates(settings, Host(cache_dir=str(tmp_path / "cache"), cache_file=modules["cp.cache_file"]))
        delegating = {**of, "query": "delegating_filter", "result": "delegating", "format": "<%s>"}
        delegate = {"purpose": "", "domains": [], "query": "delegate_filter", "result": "login_attributes"}
        texts = {
            path: templates.rendered(File(path, f"salt://smtpout/postfix/{source}.jinja", context=context)).text
            for path, source, context in (
                (postfix["sender_map"], "ldap.cf", owned),
                (postfix["recipient_map"], "ldap.cf", existing),
                (postfix["delegating_map"], "ldap.cf", delegating),
                (postfix["delegate_map"], "ldap.cf", delegate),
                (postfix["delegate_first"], "delegates.regexp", {"first": True}),
                (postfix["delegate_others"], "delegates.regexp", {"first": False}),
                (postfix["sender_names"], "senders.regexp", {}),
                ("/etc/postfix/main.cf", "main.cf", {}),
            )
        }
        for path, whole in texts.items():
            text = re.sub(r"\w+:/etc/postfix/own_domains", "domain01.dom", whole).replace("/etc/postfix", str(tmp_path))
            (tmp_path / Path(path).name).write_text(text, encoding="utf-8")
        if "shared_addresses" in postfix["maps"]:
            entries = postfix["maps"]["shared_addresses"]["entries"].items()
            (tmp_path / "shared_addresses").write_text("".join(f"{key} {value}\n" for key, value in entries))
            subprocess.run(["postmap", f"lmdb:{tmp_path}/shared_addresses"], check=True)
        maps = re.search(r"^smtpd_sender_login_maps = proxy:(.+)$", texts["/etc/postfix/main.cf"], re.MULTILINE)
        assert maps
        postfix["directory"] = str(tmp_path)
        return settings, maps[1].replace("/etc/postfix/", f"{tmp_path}/").split(", proxy:")

    return written


@pytest.mark.parametrize("local", NAMES)
def test_an_address_has_the_one_owner_whose_name_it_is_or_none(owners: Owners, local: str) -> None:
    names = NAMES[local]
    whole = [name for name in names if not re.search(r"[ \t\r\n]", name)]
    lost = any("," in name for name in names) or len(names) - len(whole) > 3
    assert owners(f"{local}@domain01.dom") == (set() if lost else set(whole))


def test_a_divided_name_that_shares_an_address_owns_nothing_of_it(owners: Owners) -> None:
    assert owners("shared@domain01.dom") == {"maria"}


@pytest.mark.parametrize(
    ("local", "names"),
    [
        ("plain", {"juan", "plain@domain01.dom"}),
        ("blank", {"blank@domain01.dom"}),
        ("comma", set()),
        ("m,n", set()),
        ("one.of.two", {"ana", "one.of.two@domain01.dom"}),
        ("shared", {"maria", "shared@domain01.dom"}),
        ("sales", {"sales", "sales@domain01.dom", "juan+perez@domain01.dom"}),
    ],
)
def test_each_form_of_a_login_owns_what_its_account_does(owners: Owners, local: str, names: set[str]) -> None:
    assert owners(f"{local}@domain01.dom", login=["uid", "mail"]) == names
    by_filter = {"login": "(|(uid=%u)(mail=%u))", "login_attribute": ["uid", "mail"]}
    assert owners(f"{local}@domain01.dom", **by_filter) == names


@pytest.mark.parametrize(("local", "mine"), [("plain", True), ("blank", True), ("m,n", False)])
def test_users_who_log_in_with_their_address_own_it_as_a_whole(owners: Owners, local: str, mine: bool) -> None:
    assert owners(f"{local}@domain01.dom", login="mail") == ({f"{local}@domain01.dom"} if mine else set())


def test_only_what_the_sites_login_filter_finds_owns_an_address(owners: Owners) -> None:
    settings = {"login": "(&(objectClass=inetOrgPerson)(cn=%u))", "login_attribute": "cn"}
    assert owners("plain@domain01.dom", **settings) == {"plain"}
    assert owners("sales@domain01.dom", **settings) == set(), "a group, whose cn is perez"


def test_who_shares_an_address_owns_it_beside_whoever_has_it(owners: Owners) -> None:
    shared = {
        "Plain@domain01.dom": ["app"],
        "sales@domain01.dom": ["juan", "ana"],
        "noreply@domain01.dom": ["app"],
        "comma@domain01.dom": ["app"],
    }
    seen = {address: owners(address, shared=shared, login=["uid", "mail"]) for address in map(str.lower, shared)}
    assert seen == {
        "plain@domain01.dom": {"juan", "plain@domain01.dom", "app"},
        "sales@domain01.dom": {"sales", "sales@domain01.dom", "juan+perez@domain01.dom", "juan", "ana"},
        "noreply@domain01.dom": {"app"},
        "comma@domain01.dom": {"app"},
    }
    assert owners("PLAIN@domain01.dom", shared=shared) == {"juan", "app"}
    assert owners("capitals@domain01.dom", shared=shared) == {"Perez"}


def test_an_address_that_exists_with_its_extension_is_nobody_elses(owners: Owners) -> None:
    accounts_only = {"login": "(&(objectClass=inetOrgPerson)(cn=%u))", "login_attribute": "cn"}
    assert owners("juan+perez@domain01.dom", **accounts_only) == set(), "a group's"
    assert owners("plain+news@domain01.dom", **accounts_only) is None
    assert owners("plain@domain01.dom", **accounts_only) == {"plain"}


@pytest.mark.parametrize(
    ("login", "accounts"),
    [
        ("uid=%u", "(uid=*)"),
        ("(mail=%U@%d)", "(mail=*@*)(uid=*)"),
        ("(mail=%U%R)", "(mail=*)(uid=*)"),
        ("(&(uid=%u)(description=100%%))", "(&(uid=*)(description=100%%))(uid=*)"),
        ("(uid:caseExactMatch:=%u)", "(uid=*)"),
    ],
)
def test_a_login_filter_finds_all_who_can_log_in(
    settings: Settings, site: dict[str, Any], login: str, accounts: str
) -> None:
    site["directory"] |= {"login": login, "login_attribute": "uid"}
    assert settings(site)["directory"]["owner_filter"] == f"(&(mail=%s){accounts}(!(uid=*,*)))"


@pytest.mark.parametrize("login", ["account_name", "upn", ["mail", "upn"]])
def test_in_active_directory_a_group_owns_nothing(
    settings: Settings, site: dict[str, Any], login: str | list[str]
) -> None:
    site["directory"] |= {"login": login}
    site["verify"] = {}
    assert "(objectClass=user)" in settings(site)["directory"]["owner_filter"]


def test_whose_name_is_divided_is_said(slapd: Slapd, tmp_path: Path) -> None:
    divided = {name for names in NAMES.values() for name in names if re.search(r"[, \t\r\n]|[^\0-\x7f]", name)}
    divided |= {"jose luis"}
    assert set(names.divided(minion(tmp_path, slapd.pillar())["smtpout.settings"]())) == divided
    assert names.divided(minion(tmp_path, slapd.pillar())["smtpout.settings"](), most=1) != []
    by_mail = minion(tmp_path, slapd.pillar(login="mail") | {"verify": {}})
    assert names.divided(by_mail["smtpout.settings"]()) == ["m,n@domain01.dom"]
    by_either = minion(tmp_path, slapd.pillar(login=["mail", "uid"]))
    assert set(names.divided(by_either["smtpout.settings"]())) == {*divided, "m,n@domain01.dom"}


def test_verify_warns_of_who_cannot_send_where_only_own_addresses_are_taken(slapd: Slapd, tmp_path: Path) -> None:
    check = "users can send with their own addresses"
    said = {each["check"]: each for each in minion(tmp_path, slapd.pillar())["smtpout.verify"]()}
    assert said[check]["state"] == "warning"
    assert said[check]["seen"] == (
        "17 can't, for a blank, a comma or a letter beyond ASCII in the name that they log in with: "
        "'ana perez', 'eva,perez', 'jose luis', ...; rename them"
    )
    anybody = minion(tmp_path, slapd.pillar(senders="any"))
    assert check not in [each["check"] for each in anybody["smtpout.verify"]()]


def test_a_site_where_nobody_could_own_an_address_is_refused(slapd: Slapd, tmp_path: Path) -> None:
    site = slapd.pillar(login="(uid=%U)", login_attribute="mobile") | {"verify": {}}
    *_, whole = ask.trials(minion(tmp_path, site)["smtpout.settings"]())
    with pytest.raises(RelayError, match="smtpout:directory:login_attribute: nobody below"):
        whole.ask()


SHARED = {"sales@domain01.dom": ["Juan"], "noreply@domain01.dom": ["app"]}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("plain@domain01.dom", {"juan": ["cn=plain,ou=people,dc=domain01,dc=dom has plain@domain01.dom"]}),
        ("Plain+News@Domain01.dom", {"juan": ["cn=plain,ou=people,dc=domain01,dc=dom has plain@domain01.dom"]}),
        ("noreply@domain01.dom", {"app": ["smtpout:shared_addresses:noreply@domain01.dom names it"]}),
        (
            "sales@domain01.dom",
            {
                "Juan": ["smtpout:shared_addresses:sales@domain01.dom names it"],
                "sales": ["cn=perez,ou=people,dc=domain01,dc=dom has sales@domain01.dom"],
            },
        ),
        ("blank@domain01.dom", {}),
        ("nobody@domain01.dom", {}),
        ("somebody@outside.example", {}),
    ],
)
def test_who_sends_with_an_address_is_told_with_its_reason(
    relay: Relay, address: str, expected: dict[str, list[str]]
) -> None:
    settings, _ = relay(json.dumps({"shared": SHARED}))
    assert senders.owners(settings, address) == expected


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("JUAN", {"plain@domain01.dom", "sales@domain01.dom"}),
        ("app", {"noreply@domain01.dom"}),
        ("juan perez", set()),
        ("sales", {"sales@domain01.dom", "juan+perez@domain01.dom"}),
        ("nobody", set()),
    ],
)
def test_which_addresses_somebody_sends_with_is_told(relay: Relay, login: str, expected: set[str]) -> None:
    settings, _ = relay(json.dumps({"shared": SHARED}))
    assert set(senders.addresses(settings, login)) == expected


def test_what_cannot_be_told_of_senders_says_why(relay: Relay) -> None:
    settings, _ = relay(json.dumps({}))
    with pytest.raises(RelayError, match="'juan' is no address; right would be user@domain01"):
        senders.owners(settings, "juan")
    with pytest.raises(RelayError, match="finds 2 entries for twin"):
        senders.addresses(settings, "twin")
    main = Path(settings["postfix"]["directory"], "main.cf")
    whole = main.read_text(encoding="utf-8")
    main.write_text(re.sub("smtpd_sender_login_maps.*", "", whole), encoding="utf-8")
    with pytest.raises(RelayError, match="whoever logs in sends with every address"):
        senders.owners(settings, "plain@domain01.dom")
    main.write_text(whole, encoding="utf-8")


NOT_DISABLED = "(!(userAccountControl:1.2.840.113556.1.4.803:=2))"


def test_whom_the_site_keeps_out_neither_logs_in_nor_owns_an_address(settings: Settings, site: dict[str, Any]) -> None:
    group = "cn=mail (all)*,dc=domain01,dc=dom"
    site["directory"] |= {"login": "account_name", "members_of": group, "disabled_accounts": "left_out"}
    made = settings(site)["directory"]
    member = r"(memberOf:1.2.840.113556.1.4.1941:=cn=mail \28all\29\2a,dc=domain01,dc=dom)"
    assert made["login_filter"] == f"(&(sAMAccountName=%u){NOT_DISABLED}{member})"
    assert made["account_filter"] == f"(&(sAMAccountName=*)(objectClass=user){NOT_DISABLED}{member})"
    assert made["account_filter"].removeprefix("(&").removesuffix(")") in made["owner_filter"]


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("get_mail", "(mail=%s)"),
        ("left_out", f"(&(mail=%s)(|(!(userAccountControl=*)){NOT_DISABLED}))"),
    ],
)
def test_a_disabled_account_gets_mail_where_the_site_says_so(
    settings: Settings, site: dict[str, Any], choice: str, found: str
) -> None:
    site["directory"]["disabled_accounts"] = choice
    assert settings(site)["directory"]["recipient_filter"] == found


def test_a_group_that_nobody_is_in_is_refused(slapd: Slapd, tmp_path: Path) -> None:
    site = slapd.pillar(members_of=f"cn=nobody,{BASE}")
    *_, whole = ask.trials(minion(tmp_path, site)["smtpout.settings"]())
    with pytest.raises(RelayError, match="smtpout:directory:login and members_of: nobody below"):
        whole.ask()


def test_a_groups_members_own_its_address_as_accounts_alone(settings: Settings, site: dict[str, Any]) -> None:
    site["directory"] |= {"login": ["account_name", "mail"], "delegates": "group_members"}
    made = settings(site)["directory"]
    assert made["group_filter"] == "(&(mail=%s)(objectClass=group))"
    assert made["member_filter"] == (
        "(&(|(sAMAccountName=*)(mail=*))(objectClass=user)(!(sAMAccountName=*,*))(!(mail=*,*))"
        "(memberOf:1.2.840.113556.1.4.1941:=%s))"
    )


def test_a_directory_without_groups_that_have_addresses_is_told(slapd: Slapd, tmp_path: Path) -> None:
    *_, whole = ask.trials(minion(tmp_path, slapd.pillar(delegates="group_members"))["smtpout.settings"]())
    with pytest.raises(RelayError, match="smtpout:directory:delegates: nobody below"):
        whole.ask()


# A directory that isn't Active Directory, in which an attribute of mailboxes holds whom they name.
BY_ATTRIBUTE = {"login": "(&(objectClass=inetOrgPerson)(uid=%u))", "login_attribute": "uid", "delegates": "member"}


@pytest.mark.parametrize(
    ("local", "names"),
    [
        ("one", {"usuario01"}),
        ("two", {"usuario01", "usuario02"}),
        ("divided", {"juan"}),
        ("a.group", set()),
        ("chained", set()),
        ("odd", {"usuario01", "pepe"}),
        ("many", {"usuario01"}),
        ("sales", set()),
        ("plain", {"juan"}),
    ],
)
def test_whom_an_addresss_entry_names_owns_it_as_an_account_alone(owners: Owners, local: str, names: set[str]) -> None:
    assert owners(f"{local}@domain01.dom", **BY_ATTRIBUTE) == names
    assert owners(f"{local}@domain01.dom", **BY_ATTRIBUTE | {"delegates": ["member", "owner"]}) == names
    alone = {"juan"} if local == "plain" else set()
    assert owners(f"{local}@domain01.dom", **BY_ATTRIBUTE | {"delegates": "none"}) == alone


@pytest.mark.parametrize(
    ("answer", "first", "others"),
    [
        (r"<cn=a>,<cn=b\, c>,<cn=d>", "cn=a", r"<cn=b\, c>,<cn=d>"),
        (r"<cn=a \<b\>\, c>,<cn=d>", r"cn=a \<b\>\, c", "<cn=d>"),  # as Active Directory has it
        (r"<cn=a \\>", r"cn=a \\", ""),
        ("<cn=a>,cn=b>,<cn=c>", "", ""),
        ("cn=a", "", ""),
    ],
)
def test_names_of_delegates_are_parted_where_they_end(relay: Relay, answer: str, first: str, others: str) -> None:
    settings, _ = relay(json.dumps(BY_ATTRIBUTE))
    for which, expected in (("first", first), ("others", others)):
        table = f"regexp:{settings['postfix']['directory']}/delegates-{which}.regexp"
        asked = subprocess.run(["postmap", "-q", answer, table], check=False, capture_output=True, text=True)
        assert (asked.stdout.rstrip("\n"), asked.stderr) == (expected, "")


def test_delegates_are_told_with_their_reason(relay: Relay) -> None:
    settings, _ = relay(json.dumps(BY_ATTRIBUTE))
    two = f"cn=two,ou=people,{BASE}, which has two@domain01.dom, has"
    assert senders.owners(settings, "two@domain01.dom") == {
        "usuario01": [f"{two} {ONE} in member"],
        "usuario02": [f"{two} {TWO} in member"],
    }
    assert set(senders.addresses(settings, "usuario02")) == {"two@domain01.dom"}
    assert set(senders.addresses(settings, "Usuario01")) == {
        f"{local}@domain01.dom" for local in ("usuario01", "one", "two", "odd", "many")
    }
    assert names.crowded(settings) == [f"cn=many,ou=people,{BASE}"]


def test_an_attribute_that_names_nobody_is_told(slapd: Slapd, tmp_path: Path) -> None:
    *_, whole = ask.trials(
        minion(tmp_path, slapd.pillar(delegates=["member", "publicDelegates"]))["smtpout.settings"]()
    )
    whole.ask()
    *_, whole = ask.trials(minion(tmp_path, slapd.pillar(delegates="publicDelegates"))["smtpout.settings"]())
    with pytest.raises(RelayError, match="smtpout:directory:delegates: nobody below"):
        whole.ask()


def test_verify_warns_of_a_name_that_two_accounts_have(slapd: Slapd, tmp_path: Path) -> None:
    check = "users can log in with each of their names"
    either = minion(tmp_path, slapd.pillar(login=["uid", "mail"]))
    assert names.shared(either["smtpout.settings"]()) == ["shared@domain01.dom", "twin"]
    [said] = [each["seen"] for each in either["smtpout.verify"]() if each["check"] == check]
    assert said == (
        "2 of them are two accounts', and log nobody in: 'shared@domain01.dom', 'twin'; change one account's"
    )
