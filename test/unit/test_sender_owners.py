"""Who owns a sender's address: the table as Postfix reads it, asked of a real slapd, and its answer parted."""

from __future__ import annotations

import base64
import functools
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
    "beyond.ascii": ["josé\u00a0perez"],  # smtpd parts at no such blank
    "syntax": ["%s$1{juan}"],
}


def entry(local: str, names: list[str]) -> str:
    """Return a person in LDIF, with names that need not be printable."""
    logins = "".join(f"uid:: {base64.b64encode(name.encode()).decode()}\n" for name in names)
    person = f"dn: cn={local.replace(',', '')},ou=people,{BASE}\nobjectClass: inetOrgPerson\ncn: {local}\nsn: x\n"
    return f"\n{person}{logins}mail: {local}@domain01.dom\n"


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    shared = entry("shared", ["maria"]) + entry("shared2", ["jose luis"]).replace("shared2@", "shared@")
    group = f"\ndn: cn=perez,ou=people,{BASE}\nobjectClass: groupOfNames\nobjectClass: extensibleObject\n"
    group += f"cn: perez\nuid: sales\nmail: sales@domain01.dom\nmember: {BASE}\n"
    by_mail = entry("m,n", ["mn"])
    with running_slapd(PEOPLE + "".join(map(entry, NAMES, NAMES.values())) + shared + group + by_mail) as server:
        yield server


@pytest.fixture(scope="module")
def owners(slapd: Slapd, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """Return what smtpd takes for an address's owners, on a relay whose directory settings are those given."""

    @functools.cache
    def written(**directory: str) -> str:
        """Write the maps that main.cf names, and return it as postmap takes it."""
        tmp_path = tmp_path_factory.mktemp("maps")
        modules = minion(tmp_path, slapd.pillar(**directory) | {"verify": {}})
        settings = modules["smtpout.settings"]()
        postfix = settings["postfix"]
        of = {"query": "owner_filter", "result": "login_attribute"}
        context = {"purpose": "", "domains": ["own_domains"], **of}
        templates = Templates(settings, Host(cache_dir=str(tmp_path / "cache"), cache_file=modules["cp.cache_file"]))
        texts = {
            path: templates.rendered(File(path, f"salt://smtpout/postfix/{source}.jinja", context=context)).text
            for path, source in (
                (postfix["sender_map"], "ldap.cf"),
                (postfix["sender_names"], "senders.regexp"),
                ("/etc/postfix/main.cf", "main.cf"),
            )
        }
        for path, whole in texts.items():
            text = re.sub(r"\w+:/etc/postfix/own_domains", "domain01.dom", whole)
            (tmp_path / Path(path).name).write_text(text, encoding="utf-8")
        maps = re.search(r"^smtpd_sender_login_maps = proxy:(.+)$", texts["/etc/postfix/main.cf"], re.MULTILINE)
        assert maps
        return maps[1].replace("/etc/postfix/", f"{tmp_path}/")

    def found(address: str, **settings: str) -> set[str]:
        query = ["postmap", "-q", address, written(**settings)]
        asked = subprocess.run(query, check=False, capture_output=True, text=True)
        assert asked.stderr == ""
        return set(re.split(r"[, \t\r\n]+", asked.stdout)) - {""}

    return found


@pytest.mark.parametrize("local", NAMES)
def test_an_address_has_the_one_owner_whose_name_it_is_or_none(owners: Callable[..., set[str]], local: str) -> None:
    names = NAMES[local]
    whole = not any(re.search(r"[, \t\r\n]", name) for name in names)
    assert owners(f"{local}@domain01.dom") == (set(names) if whole else set())


def test_an_address_that_a_divided_name_shares_has_no_owner(owners: Callable[..., set[str]]) -> None:
    assert owners("shared@domain01.dom") == set()


@pytest.mark.parametrize(("local", "mine"), [("plain", True), ("blank", True), ("m,n", False)])
def test_users_who_log_in_with_their_address_own_it_as_a_whole(
    owners: Callable[..., set[str]], local: str, mine: bool
) -> None:
    assert owners(f"{local}@domain01.dom", login="mail") == ({f"{local}@domain01.dom"} if mine else set())


def test_only_what_the_sites_login_filter_finds_owns_an_address(owners: Callable[..., set[str]]) -> None:
    settings = {"login": "(&(objectClass=inetOrgPerson)(cn=%u))", "login_attribute": "cn"}
    assert owners("plain@domain01.dom", **settings) == {"plain"}
    assert owners("sales@domain01.dom", **settings) == set(), "a group, whose cn is perez"


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


@pytest.mark.parametrize("login", ["account_name", "upn"])
def test_in_active_directory_a_group_owns_nothing(settings: Settings, site: dict[str, Any], login: str) -> None:
    site["directory"] |= {"login": login}
    site["verify"] = {}
    assert "(objectClass=user)" in settings(site)["directory"]["owner_filter"]


def test_whose_name_is_divided_is_said(slapd: Slapd, tmp_path: Path) -> None:
    divided = {name for names in NAMES.values() for name in names if re.search(r"[, \t\r\n]", name)} | {"jose luis"}
    assert set(names.divided(minion(tmp_path, slapd.pillar())["smtpout.settings"]())) == divided
    assert names.divided(minion(tmp_path, slapd.pillar())["smtpout.settings"](), most=1) != []
    by_mail = minion(tmp_path, slapd.pillar(login="mail") | {"verify": {}})
    assert names.divided(by_mail["smtpout.settings"]()) == ["m,n@domain01.dom"]


def test_verify_warns_of_who_cannot_send_where_only_own_addresses_are_taken(slapd: Slapd, tmp_path: Path) -> None:
    check = "users can send with their own addresses"
    said = {each["check"]: each for each in minion(tmp_path, slapd.pillar())["smtpout.verify"]()}
    assert said[check]["state"] == "warning"
    assert said[check]["seen"] == (
        "9 can't, for a blank or a comma in the name that they log in with: "
        "'ana perez', 'eva,perez', 'jose luis', ...; rename them"
    )
    anybody = minion(tmp_path, slapd.pillar(senders="any"))
    assert check not in [each["check"] for each in anybody["smtpout.verify"]()]


def test_a_site_where_nobody_could_own_an_address_is_refused(slapd: Slapd, tmp_path: Path) -> None:
    site = slapd.pillar(login="(uid=%u)", login_attribute="mobile") | {"verify": {}}
    *_, whole = ask.trials(minion(tmp_path, site)["smtpout.settings"]())
    with pytest.raises(RelayError, match="smtpout:directory:login_attribute: nobody below"):
        whole.ask()
