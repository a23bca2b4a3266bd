"""A real server is asked; only Active Directory's refusals are played by a stand-in."""

from __future__ import annotations

import datetime as dt
import importlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from minions import apply, minion
from salt.exceptions import CommandExecutionError, CommandNotFoundError
from slapd_server import BASE, BIND_DN, BIND_PASSWORD, USER_PASSWORD, Slapd, free_port, needs_slapd, running_slapd
from smtpout_core.change.parts import digest
from smtpout_core.daemons import descriptions
from smtpout_core.directory import ask, servers
from smtpout_core.errors import RelayError
from smtpout_core.host import Host
from smtpout_core.verify import ageing

pytestmark = needs_slapd

POSTFIX_TYPES = (
    subprocess.run(["postconf", "-m"], check=True, capture_output=True, text=True).stdout.split()
    if shutil.which("postconf")
    else []
)


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    with running_slapd() as server:
        yield server


@pytest.fixture
def directory(slapd: Slapd, tmp_path: Path) -> Callable[..., Any]:
    """Return the functions of a minion whose site has the test directory, but for the settings given."""
    return lambda **settings: minion(tmp_path, slapd.pillar(**settings))


@pytest.fixture
def fault(directory: Callable[..., Any]) -> Callable[..., str]:
    """Return what ``smtpout_directory.check`` says is wrong with a site that differs in the settings given."""

    def said(**settings: Any) -> str:
        with pytest.raises(CommandExecutionError) as error:
            directory(**settings)["smtpout_directory.check"]()
        assert BIND_PASSWORD not in str(error.value)
        return str(error.value)

    return said


@pytest.fixture
def refusing() -> Iterator[Callable[..., str]]:
    """Return what starts a server that refuses each bind with a result and a message, or without any never answers."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(result: tuple[int, str] | None) -> None:
        held = []
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            held.append(connection)
            if result and (request := connection.recv(4096)):
                connection.sendall(refusal(request, *result))

    def start(*result: Any) -> str:
        threading.Thread(target=serve, args=[result], daemon=True).start()
        return f"ldap://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def refusal(request: bytes, code: int, message: str) -> bytes:
    """Return the BindResponse to a short BindRequest (RFC 4511, 4.2.2): all lengths are below 128."""
    number = request[2 : 4 + request[3]]
    text = message.encode()
    response = bytes([0x0A, 1, code, 0x04, 0, 0x04, len(text)]) + text
    body = number + bytes([0x61, len(response)]) + response
    return bytes([0x30, len(body)]) + body


def test_right_settings_pass(slapd: Slapd, directory: Callable[..., Any]) -> None:
    assert directory()["smtpout_directory.check"]() == [slapd.uri]


def failing(settings: dict[str, Any]) -> dict[str, str]:
    """Return what doesn't work of the directory, with its words, by the trial's name."""
    said = {}
    for trial in ask.trials(settings):
        try:
            trial.ask()
        except RelayError as error:
            said[trial.name] = str(error)
    return said


WHOLE = "the directory has what the site asks for"


def test_what_a_server_refuses_is_said_also_while_another_is_down(slapd: Slapd, directory: Callable[..., Any]) -> None:
    dead = f"ldap://127.0.0.1:{free_port()}"
    assert failing(directory()["smtpout.settings"]()) == {}
    for wrong in ({"bind_password": "wrong"}, {"base": f"ou=nobody,{BASE}"}, {"result_attribute": "mobile"}):
        said = failing(directory(servers=[dead, slapd.uri], **wrong)["smtpout.settings"]())
        assert list(said) == [f"{dead} answers", WHOLE], wrong
        assert said[WHOLE].startswith(f"{slapd.uri}: smtpout:directory:"), wrong


def test_one_server_that_serves_is_enough_for_what_the_site_asks(slapd: Slapd, directory: Callable[..., Any]) -> None:
    dead = f"ldap://127.0.0.1:{free_port()}"
    assert list(failing(directory(servers=[dead, slapd.uri])["smtpout.settings"]())) == [f"{dead} answers"]
    assert list(failing(directory(servers=[dead])["smtpout.settings"]())) == [f"{dead} answers", WHOLE]


def test_what_a_server_has_proved_does_not_hang_on_the_password(directory: Callable[..., Any]) -> None:
    about = [
        {trial.name: digest(trial.about) for trial in ask.trials(directory(bind_password=word)["smtpout.settings"]())}
        for word in ("one", "two")
    ]
    assert [name for name in about[0] if about[0][name] != about[1][name]] == [WHOLE]


def test_what_a_server_has_proved_hangs_on_what_the_sites_authority_holds(
    slapd: Slapd, directory: Callable[..., Any], tmp_path: Path
) -> None:
    ours = tmp_path / "ca.pem"
    shutil.copy(slapd.ca_file, ours)
    server = f"ldaps://127.0.0.1:{slapd.tls_port}"
    settings = directory(servers=[server], ca_file=str(ours))["smtpout.settings"]()

    def about() -> dict[str, str]:
        described = descriptions.described(settings, Host(test=True))
        return {trial.name: digest(trial.about) for daemon in described for trial in daemon.trials}

    assert failing(settings) == {}
    before = about()
    assert about() == before
    with running_slapd() as other:
        shutil.copy(other.ca_file, ours)
    after = about()
    names = [f"{server} answers", WHOLE, "Postfix's user can read the directory's authorities"]
    assert sorted(name for name in before if after[name] != before[name]) == sorted(names)
    said = failing(settings)
    assert list(said) == names[:2]
    assert all("certificate verify failed" in words for words in said.values())


def test_what_a_server_has_proved_does_not_hang_on_what_the_host_trusts(
    directory: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = directory(start_tls=True)["smtpout.settings"]()
    before = [digest(trial.about) for trial in ask.trials(settings)]
    monkeypatch.setattr(ask.files, "digest", lambda _path: "another")
    assert [digest(trial.about) for trial in ask.trials(settings)] == before


def test_ldaps_and_starttls_pass_with_the_right_authority(slapd: Slapd, directory: Callable[..., Any]) -> None:
    ldaps = f"ldaps://127.0.0.1:{slapd.tls_port}/"
    assert directory(servers=[ldaps], ca_file=str(slapd.ca_file))["smtpout_directory.check"]() == [ldaps]
    assert directory(start_tls=True, ca_file=str(slapd.ca_file))["smtpout_directory.check"]() == [slapd.uri]


def test_an_unknown_authority_is_a_tls_fault(slapd: Slapd, fault: Callable[..., str]) -> None:
    for settings in ({"servers": [f"ldaps://127.0.0.1:{slapd.tls_port}"]}, {"start_tls": True}):
        said = fault(**settings)
        assert "TLS fails" in said
        assert "certificate verify failed" in said


def test_a_certificate_for_another_name_is_a_tls_fault(slapd: Slapd, fault: Callable[..., str]) -> None:
    said = fault(servers=[f"ldaps://localhost:{slapd.tls_port}"], ca_file=str(slapd.ca_file))
    assert "TLS fails" in said
    assert "localhost" in said


def test_a_missing_authority_file_is_named(slapd: Slapd, fault: Callable[..., str]) -> None:
    said = fault(servers=[f"ldaps://127.0.0.1:{slapd.tls_port}"], ca_file="/nowhere/ca.pem")
    assert "/nowhere/ca.pem" in said


def test_an_unreachable_server_is_named_and_the_others_are_still_tried(slapd: Slapd, fault: Callable[..., str]) -> None:
    dead = f"ldap://127.0.0.1:{free_port()}"
    said = fault(servers=[slapd.uri, dead, "ldap://nowhere.invalid"])
    assert f"{dead}: port" in said
    assert "Connection refused" in said
    assert "ldap://nowhere.invalid: the name nowhere.invalid has no address" in said
    assert slapd.uri not in said


def test_a_wrong_bind_password_is_named(fault: Callable[..., str]) -> None:
    said = fault(bind_password="wrong")
    assert f"smtpout:directory:bind_dn: {BIND_DN} is refused" in said


def test_a_base_that_does_not_exist_is_named(fault: Callable[..., str]) -> None:
    assert f"smtpout:directory:base: ou=nobody,{BASE} does not exist" in fault(base=f"ou=nobody,{BASE}")
    assert f"what exists is {BASE}" in fault(base=f"ou=nobody,{BASE}")


def test_an_account_that_may_read_nothing_is_named(fault: Callable[..., str]) -> None:
    said = fault(bind_dn=f"cn=blind,ou=mailapps,{BASE}")
    assert f"smtpout:directory:base: {BASE} does not exist, or cn=blind" in said


@pytest.mark.parametrize("setting", ["recipient_filter", "login_filter"])
def test_a_malformed_filter_is_named(directory: Callable[..., Any], setting: str) -> None:
    with pytest.raises(CommandExecutionError, match=r"\(\|\(mail=\*\) is not a filter"):
        directory()["smtpout_directory.check"](**{setting: "(|(mail=%s)"})


@pytest.mark.parametrize(
    ("setting", "path"), [("recipient_filter", "recipients"), ("login_filter", "login")], ids=["recipients", "login"]
)
def test_a_filter_that_nobody_matches_is_named(directory: Callable[..., Any], setting: str, path: str) -> None:
    with pytest.raises(CommandExecutionError, match=f"smtpout:directory:{path}: nobody below {BASE} matches"):
        directory()["smtpout_directory.check"](**{setting: "(sAMAccountName=%u)"})


def test_an_attribute_that_no_recipient_has_is_named(fault: Callable[..., str]) -> None:
    assert "smtpout:directory:result_attribute: none of the recipients has mobile" in fault(result_attribute="mobile")


def test_a_filter_that_no_wildcard_fits_is_still_parsed(directory: Callable[..., Any]) -> None:
    modules = directory()
    assert modules["smtpout_directory.check"](recipient_filter="(mail:caseIgnoreMatch:=%s)")
    with pytest.raises(CommandExecutionError, match="is not a filter"):
        modules["smtpout_directory.check"](recipient_filter="(mail:caseIgnoreMatch:=%s")


@pytest.mark.parametrize(
    ("subcode", "reason"),
    [("52e", "password is wrong"), ("533", "disabled"), ("701", "expired"), ("775", "locked"), ("532", "expired")],
)
def test_active_directory_says_why_it_refuses(
    refusing: Callable[..., str], fault: Callable[..., str], subcode: str, reason: str
) -> None:
    message = f"80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data {subcode}, v3839"
    said = fault(servers=[refusing(49, message)])
    assert reason in said
    assert subcode in said


def test_a_server_that_wants_encryption_says_so(refusing: Callable[..., str], fault: Callable[..., str]) -> None:
    said = fault(servers=[refusing(8, "BindSimple: Transport encryption required.")])
    assert "takes no password in clear text: use ldaps:// or smtpout:directory:start_tls" in said


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_server_that_never_answers_does_not_hang_the_check(
    refusing: Callable[..., str], fault: Callable[..., str], scheme: str
) -> None:
    said = fault(servers=[refusing().replace("ldap", scheme)], timeout=1)
    assert "answer within 1 s" in said if scheme == "ldap" else "TLS fails" in said


def test_a_recipient_is_found_whatever_its_case(directory: Callable[..., Any]) -> None:
    modules = directory()
    assert modules["smtpout_directory.recipient"]("usuario01@domain01.dom") == ["Usuario Uno"]
    assert modules["smtpout_directory.recipient"]("USUARIO01@Domain01.DOM") == ["Usuario Uno"]
    assert sorted(modules["smtpout_directory.recipient"]("usuario02@domain02.dom")) == ["U. Dos", "Usuario Dos"]


@pytest.mark.skipif("ldap" not in POSTFIX_TYPES, reason="postfix-ldap is not installed")
@pytest.mark.parametrize(
    "query",
    ["(mail=%s)", "(|(&(mail=%s)(mail=*@domain01.dom))(&(mail=%s)(mail=*@domain02.dom)))", "(uid=%u)", "(mail=%u@%d)"],
)
def test_postfix_finds_the_same(slapd: Slapd, directory: Callable[..., Any], tmp_path: Path, query: str) -> None:
    modules = directory(recipients=query)
    table = tmp_path / "recipients.cf"
    table.write_text(
        f"version = 3\nserver_host = {slapd.uri}\nsearch_base = {BASE}\nquery_filter = {query}\nresult_attribute = cn\n"
        f"domain = domain01.dom, domain02.dom\nbind = yes\nbind_dn = {BIND_DN}\nbind_pw = {BIND_PASSWORD}\n",
        encoding="utf-8",
    )
    for address in (
        "usuario01@domain01.dom",
        "USUARIO02@DOMAIN02.DOM",
        "usuario01@domain02.dom",
        "nobody@domain01.dom",
        "usuario01@elsewhere.example",
        "usuario01",
        "usuario0*@domain01.dom",
        "x)(uid=*@domain01.dom",
        "@domain01.dom",
    ):
        postmap = subprocess.run(
            ["postmap", "-q", address, f"ldap:{table}"], check=False, capture_output=True, text=True
        )
        assert postmap.stderr == ""
        assert ",".join(modules["smtpout_directory.recipient"](address) or []) == postmap.stdout.strip(), address


def test_an_unknown_recipient_is_not_found(directory: Callable[..., Any]) -> None:
    modules = directory()
    assert modules["smtpout_directory.recipient"]("nobody@domain01.dom") is None
    assert modules["smtpout_directory.recipient"]("usuario01") is None


def test_an_address_of_another_domain_is_not_asked_for(directory: Callable[..., Any]) -> None:
    assert (
        directory(recipients="(|(mail=%s)(uid=%u))")["smtpout_directory.recipient"]("usuario01@elsewhere.example")
        is None
    )


def test_an_address_cannot_change_the_filter(directory: Callable[..., Any]) -> None:
    modules = directory()
    for address in ("*@domain01.dom", "usuario0*@domain01.dom", "x)(uid=*@domain01.dom", "usuario01\\2a@domain01.dom"):
        assert modules["smtpout_directory.recipient"](address) is None


def test_a_recipient_without_the_result_attribute_is_not_found(directory: Callable[..., Any]) -> None:
    assert directory(result_attribute="mobile")["smtpout_directory.recipient"]("usuario01@domain01.dom") is None


def test_parts_of_the_address_fill_their_tokens(directory: Callable[..., Any]) -> None:
    modules = directory(recipients="(&(uid=%u)(mail=*@%d)(mail=*%2.%1))")
    assert modules["smtpout_directory.recipient"]("usuario01@domain01.dom") == ["Usuario Uno"]
    assert modules["smtpout_directory.recipient"]("usuario01@domain02.dom") is None


def test_the_next_server_is_asked_when_the_first_is_down(slapd: Slapd, directory: Callable[..., Any]) -> None:
    modules = directory(servers=[f"ldap://127.0.0.1:{free_port()}", slapd.uri])
    assert modules["smtpout_directory.recipient"]("usuario01@domain01.dom") == ["Usuario Uno"]


def test_a_login_finds_its_entry(directory: Callable[..., Any]) -> None:
    modules = directory()
    assert modules["smtpout_directory.login"]("usuario01") == f"uid=usuario01,ou=people,{BASE}"
    assert modules["smtpout_directory.login"]("usuario01@domain01.dom") is None
    assert modules["smtpout_directory.login"]("usuario0*") is None


def test_a_login_by_mail_address_keeps_its_domain(slapd: Slapd, tmp_path: Path) -> None:
    modules = minion(tmp_path, slapd.pillar(login="mail") | {"verify": {}})
    assert modules["smtpout_directory.login"]("usuario01@domain01.dom") == f"uid=usuario01,ou=people,{BASE}"
    assert modules["smtpout_directory.login"]("usuario01@evil.test") is None


def test_a_login_without_parentheses_and_with_tokens(directory: Callable[..., Any]) -> None:
    entry = f"uid=usuario01,ou=people,{BASE}"
    assert directory(login="mail=%U@%d", senders="any")["smtpout_directory.login"]("usuario01@domain01.dom") == entry
    assert directory(login="mail=%U%R", senders="any")["smtpout_directory.login"]("usuario01@domain01.dom") == entry


def test_a_login_with_two_entries_is_refused_as_saslauthd_does(directory: Callable[..., Any]) -> None:
    with pytest.raises(CommandExecutionError, match="finds 2 entries for twin"):
        directory()["smtpout_directory.login"]("twin")


@pytest.mark.parametrize("test", [False, True])
def test_reachable_reads_and_changes_nothing(directory: Callable[..., Any], test: bool) -> None:
    ret = apply(directory(), "directory.reachable", test=test)
    assert (ret["result"], ret["changes"]) == (True, {})


@pytest.mark.parametrize("test", [True, False])
def test_one_server_of_several_that_is_down_is_a_warning(
    slapd: Slapd, directory: Callable[..., Any], test: bool
) -> None:
    dead = f"ldap://127.0.0.1:{free_port()}"
    functions = directory(servers=[dead, slapd.uri])
    ret = apply(functions, "directory.reachable", test=test)
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["warnings"][0].startswith(f"{dead}: port ")
    said = {each["check"]: each for each in functions["smtpout.verify"]()}["the directory answers as the pillar says"]
    assert said["state"] == "warning"
    assert said["seen"].startswith(f"{dead}: port ")
    assert apply(directory(servers=[dead]), "directory.reachable", test=test)["result"] is False


@pytest.mark.parametrize("test", [False, True])
def test_reachable_says_what_is_wrong(directory: Callable[..., Any], test: bool) -> None:
    ret = apply(directory(base=f"ou=nobody,{BASE}"), "directory.reachable", test=test)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "smtpout:directory:base" in ret["comment"]


@pytest.fixture
def without_ldap3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Salt's Python lack ldap3."""
    found = importlib.import_module

    def importing(name: str, package: str | None = None) -> Any:
        if name == "ldap3":
            raise ImportError(name)
        return found(name, package)

    monkeypatch.setattr(importlib, "import_module", importing)


@pytest.mark.usefixtures("without_ldap3")
def test_a_missing_ldap3_is_said_in_so_many_words(directory: Callable[..., Any]) -> None:
    modules = directory()
    with pytest.raises(CommandNotFoundError, match="ldap3 is missing from Salt's Python"):
        modules["smtpout_directory.recipient"]("usuario01@domain01.dom")
    ret = apply(modules, "directory.reachable")
    assert ret["result"] is False
    assert "ldap3 is missing from Salt's Python" in ret["comment"]


def ageing_check(made: dict[str, Any], sentence: str) -> str:
    """Return what a check of verify sees."""
    return dict(ageing.checks(made))[sentence]()


@pytest.mark.parametrize("how", ["ldaps", "start_tls"])
def test_a_directorys_certificate_is_told_before_it_ends(slapd: Slapd, directory: Callable[..., Any], how: str) -> None:
    server = f"ldaps://127.0.0.1:{slapd.tls_port}" if how == "ldaps" else slapd.uri
    modules = directory(servers=[server], start_tls=how == "start_tls", ca_file=str(slapd.ca_file))
    made = modules["smtpout.settings"]()
    left = (servers.ends(made)[server] - dt.datetime.now(dt.timezone.utc)).days
    sentence = "the directory's certificates are good for {} days".format
    made["warnings"]["certificate_days"] = left - 1
    assert f"{server}: its certificate ends on " in ageing_check(made, sentence(left - 1))
    made["warnings"]["certificate_days"] = left + 2
    with pytest.raises(ageing.Doubt, match=r"then neither recipients nor logins are known by it"):
        ageing_check(made, sentence(left + 2))


def test_a_directory_server_that_is_down_or_without_tls_has_no_certificate_to_tell_of(
    slapd: Slapd, directory: Callable[..., Any]
) -> None:
    made = directory(servers=["ldaps://127.0.0.1:1"], ca_file=str(slapd.ca_file))["smtpout.settings"]()
    assert servers.ends(made) == {}
    assert ageing_check(made, "the directory's certificates are good for 30 days") == "no server that is up says"
    clear = directory(servers=[slapd.uri])["smtpout.settings"]()
    assert not any("directory" in sentence for sentence, _ in ageing.checks(clear))


@pytest.mark.usefixtures("without_ldap3")
@pytest.mark.parametrize("how", ["clear", "start_tls", "ldaps"])
def test_without_ldap3_a_dry_run_asks_for_a_connection_and_a_certificate_and_says_what_it_left_out(
    slapd: Slapd, directory: Callable[..., Any], how: str
) -> None:
    server = f"ldaps://127.0.0.1:{slapd.tls_port}" if how == "ldaps" else slapd.uri
    authority = {} if how == "clear" else {"ca_file": str(slapd.ca_file)}
    modules = directory(servers=[server], start_tls=how == "start_tls", **authority)
    ret = apply(modules, "directory.reachable", test=True)
    assert (ret["result"], ret["comment"]) == (True, f"Each server answers: {server}.")
    [warning] = ret["warnings"]
    assert warning.startswith("Not checked: account, base, filters and attribute: ldap3 is missing from Salt's Python")


@pytest.mark.usefixtures("without_ldap3")
def test_without_ldap3_a_dry_run_says_of_each_server_why_it_does_not_answer(
    slapd: Slapd, directory: Callable[..., Any], refusing: Callable[..., str]
) -> None:
    dead, hung = f"ldap://127.0.0.1:{free_port()}", refusing()
    for named, authority, said in (
        ([slapd.uri, dead], slapd.ca_file, [f"{dead}: port", "Connection refused"]),
        ([slapd.uri], "/nowhere/ca.pem", ["TLS fails", "smtpout:directory:ca_file is /nowhere/ca.pem"]),
        ([f"{slapd.uri.replace('127.0.0.1', 'localhost')}"], slapd.ca_file, ["TLS fails", "localhost"]),
        ([hung], slapd.ca_file, [f"{hung}: TLS fails: timed out"]),
    ):
        modules = directory(servers=named, start_tls=True, ca_file=str(authority), timeout=1)
        ret = apply(modules, "directory.reachable", test=True)
        assert ret["result"] is False
        assert [word for word in said if word not in ret["comment"]] == []


def test_a_refused_starttls_is_told_with_its_result(directory: Callable[..., Any]) -> None:
    answer = bytes.fromhex("30 84 00 00 00 0c 02 01 01 78 84 00 00 00 03 0a 01 34 04 00 04 00")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            listener.accept()[0].close()  # the first one sees whether there is a server at all
            connection = listener.accept()[0]
            connection.recv(4096)
            connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        server = f"ldap://127.0.0.1:{listener.getsockname()[1]}"
        settings = directory(servers=[server], start_tls=True)["smtpout.settings"]()
        with pytest.raises(RelayError, match="the server refuses StartTLS, result 52 "):
            servers.answering(settings)


def test_a_login_is_tried_at_the_directory_itself(directory: Callable[..., Any]) -> None:
    settings = directory()["smtpout.settings"]()
    ask.try_login(settings, "usuario01", USER_PASSWORD)
    for user, password, said in (
        ("usuario01", "wrong", f"smtpout:verify:user: uid=usuario01,ou=people,{BASE} is refused: "),
        ("nobody", "x", "smtpout:directory:login finds no entry for nobody"),
    ):
        with pytest.raises(RelayError) as refusal:
            ask.try_login(settings, user, password)
        assert said in str(refusal.value)
        assert password not in str(refusal.value).replace("the name or password is wrong", "")
