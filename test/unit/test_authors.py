"""Whom a user's message says it is from: what the signer's script and Postfix's table make of a From: by themselves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minions import minion
from smtpout_core.change.parts import File
from smtpout_core.change.templates import Templates
from smtpout_core.daemons.opendkim.check import complaints
from smtpout_core.host import Host
from support import load

OWN, OTHER = "sender@example.org", "boss@example.org"
"""The envelope's sender of every message that ``opendkim -t`` reads, whose login is not empty; and another address."""
CONFIG = """\
Mode sv
Syslog no
Socket local:{place}/socket
KeyTable file:{place}/KeyTable
SigningTable file:{place}/SigningTable
RequireSafeKeys no
InternalHosts csl:127.0.0.1
SetupPolicyScript {place}/authors.lua
FinalPolicyScript {place}/authors.lua
"""
MESSAGE = "{extra}{authors}To: x@other.example\r\nSubject: hi\r\n\r\nhello\r\n"
SEVERAL, ELSE, POSES = "one From: header", "it alone", "another address than yours"

opendkim = pytest.mark.skipif(not shutil.which("opendkim"), reason="opendkim isn't installed")
postmap = pytest.mark.skipif(not shutil.which("postmap"), reason="Postfix isn't installed")

Rendered = Callable[..., str]


@pytest.fixture
def rendered(tmp_path: Path) -> Rendered:
    """Return a function that gives a file's text, from its template and a site with these keys of the directory."""

    def text(source: str, **directory: Any) -> str:
        site = load("default")["smtpout"]
        modules = minion(tmp_path, {**site, "directory": {**site["directory"], **directory}})
        settings = modules["smtpout.settings"]()
        assert settings["valid"], settings["errors"]
        host = Host(cache_dir=str(tmp_path / "cache"), cache_file=modules["cp.cache_file"])
        return Templates(settings, host).rendered(File("/x", f"salt://smtpout/{source}.jinja")).text

    return text


Judged = Callable[..., tuple[bool, str]]


@pytest.fixture
def judged(rendered: Rendered, modules: Any, tmp_path: Path) -> Judged:
    """Return a function that gives whether a user's message with these From: headers is refused, and in which words."""
    modules["opendkim.generate_key"](str(tmp_path / "key"), bits=1024)
    name = "default._domainkey.domain01.dom"
    (tmp_path / "KeyTable").write_text(f"{name} domain01.dom:default:{tmp_path}/key\n", encoding="utf-8")
    (tmp_path / "SigningTable").write_text(f"domain01.dom {name}\n", encoding="utf-8")
    (tmp_path / "opendkim.conf").write_text(CONFIG.format(place=tmp_path), encoding="utf-8")

    def asked(*authors: str, extra: str = "", **directory: Any) -> tuple[bool, str]:
        (tmp_path / "authors.lua").write_text(rendered("opendkim/authors.lua", **directory), encoding="utf-8")
        head = "".join(f"From: {author}\r\n" for author in authors)
        (tmp_path / "message").write_bytes(MESSAGE.format(extra=extra, authors=head).encode())
        command = ["opendkim", "-x", f"{tmp_path}/opendkim.conf", "-v", "-v", "-t", f"{tmp_path}/message"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode >= 0, done
        words = [line.partition("replytxt=")[2] for line in done.stdout.splitlines() if "SETREPLY" in line]
        return "SMFIS_REJECT" in done.stderr, "".join(words).strip("'")

    return asked


OWN_FORMS = [
    f"<{OWN}>",
    OWN,
    "Ana <Sender@Example.ORG>",
    f'"Perez, Ana" <{OWN}>',
    f"{OWN} (Ana (from the office))",
    f'"{OWN}" <{OWN}>',
    f"'{OWN}' <{OWN}>",
    f"=?utf-8?q?Jos=C3=A9?=\r\n\t<{OWN}>",
    f'"a\\"b" <{OWN}>',
    f"Ana me@work <{OWN}>",
]
OTHERS = {
    f"<{OTHER}>": ELSE,
    f"{OWN}, {OTHER}": ELSE,
    f"{OTHER}, {OWN}": ELSE,
    f"<{OWN}> <{OTHER}>": ELSE,
    f'"{OWN}" <{OTHER}>': ELSE,
    f"{OWN} <{OTHER}>": ELSE,
    f"({OWN}) <{OTHER}>": ELSE,
    f"Team: {OWN};": ELSE,
    f"Team: {OTHER}, {OWN};": ELSE,
    f"<@relay.example:{OWN}>": ELSE,
    f"sender(x)@example.org, {OTHER}": ELSE,
    f'"{OTHER}" <{OWN}>': POSES,
    f"{OTHER} <{OWN}>": POSES,
    f"{OWN} ({OTHER})": POSES,
    f"=?utf-8?q?boss=40example.org?= <{OWN}>": POSES,
    f"=?utf-8?b?Ym9zc0BleGFtcGxlLm9yZw==?= <{OWN}>": POSES,
    f"=?utf-8?q?bo?=\r\n =?utf-8?q?ss=40example.org?= <{OWN}>": POSES,
    f'"a\\" <{OTHER}>" <{OWN}>': POSES,
}


@opendkim
def test_an_own_address_is_taken_however_it_is_written(judged: Judged) -> None:
    seen = {author: judged(author, senders="own_header") for author in OWN_FORMS}
    assert seen == dict.fromkeys(OWN_FORMS, (False, ""))


@opendkim
def test_anything_else_is_refused_and_said_why(judged: Judged) -> None:
    seen = {author: judged(author, senders="own_header") for author in OTHERS}
    assert all(refused for refused, _ in seen.values()), seen
    assert {author: words for author, (_, words) in seen.items() if OTHERS[author] not in words} == {}


@opendkim
@pytest.mark.parametrize("senders", ["own", "own_header"])
def test_a_second_from_is_refused(judged: Judged, senders: str) -> None:
    refused, words = judged(OWN, OTHER, senders=senders)
    assert refused
    assert SEVERAL in words


@opendkim
def test_a_broken_signature_is_no_way_around_it(judged: Judged) -> None:
    for author in OTHERS:
        assert judged(author, extra="DKIM-Signature: v=\r\n", senders="own_header")[0], author


@opendkim
def test_only_who_is_excepted_writes_as_others_where_the_header_counts(judged: Judged) -> None:
    assert judged(f"<{OTHER}>", senders="own") == (False, "")
    everybody = {"senders": "own_header", "any_author": ["Secretary", "DEBUG-{auth_authen}"]}  # as opendkim -t has it
    assert judged(f"<{OTHER}>", **everybody) == (False, "")
    assert judged(OWN, OTHER, **everybody)[0]
    assert judged(f"<{OTHER}>", senders="own_header", any_author=["secretary"])[0]


@opendkim
@pytest.mark.parametrize("script", ["local x =\n", 'error("at its first run")\n'])
def test_a_script_that_would_end_the_daemon_is_refused(tmp_path: Path, script: str) -> None:
    (tmp_path / "authors.lua").write_text(script, encoding="utf-8")
    for name in ("KeyTable", "SigningTable"):
        (tmp_path / name).touch()
    (tmp_path / "opendkim.conf").write_text(CONFIG.format(place=tmp_path), encoding="utf-8")
    (said,) = complaints({"/etc/opendkim.conf": f"{tmp_path}/opendkim.conf"}, "/etc/opendkim.conf")
    assert said.startswith(f"{tmp_path}/authors.lua: the script is wrong: ")


READ = [
    "a@b.c", "<a@b.c>", "Ana <a@b.c>", '"Perez, Ana" <a@b.c>', "Perez, Ana <a@b.c>", "a@b.c (Ana)", "(Ana) a@b.c",
    "a@b.c, c@d.e", "Team: a@b.c;", "=?utf-8?q?Jos=C3=A9?= <a@b.c>", "José <a@b.c>", "Ana\n\t<a@b.c>",
    "[EXT] Ana <a@b.c>", "Ana :) <a@b.c>", '"a\\"b" <a@b.c>', '"a b"@c.d', "O'Brien <o'brien@b.c>",
    "x (a (b) c) <a@b.c>", "a@[192.0.2.1]", "Re: x <a@b.c>", "< a@b.c >",
]  # fmt: skip
COMPLETED = ["scanner", "<scanner>", "Scanner <scanner>"]
UNREAD = [
    "", " ", "<>", "Ana <>", '"a@b.c" <>', "The President", '"x <a@b.c>', '"a@b.c"', "(a@b.c)", "x (a <a@b.c>",
    "[x <a@b.c>", ",", 'a@b.c "x', "a@b.c (x", "undisclosed:;", "@b.c", "a@", "<@b.c>", "\n\t",
]  # fmt: skip


@postmap
@pytest.mark.parametrize("senders", ["own", "own_header"])
def test_a_from_without_an_address_that_can_be_read_is_refused(
    rendered: Rendered, tmp_path: Path, senders: str
) -> None:
    table = tmp_path / "authors.regexp"
    table.write_text(rendered("postfix/authors.regexp", senders=senders), encoding="utf-8")

    def refused(header: str) -> bool:
        asked = subprocess.run(
            ["postmap", "-q", header, f"regexp:{table}"], check=False, capture_output=True, text=True
        )
        assert asked.stderr == ""
        return asked.stdout.startswith("REJECT ")

    assert [each for each in READ if refused(f"From: {each}") or refused(f"from :{each}")] == []
    assert [each for each in COMPLETED if refused(f"From: {each}") != (senders == "own_header")] == []
    assert [each for each in UNREAD if not refused(f"From: {each}") or not refused(f"FROM:{each}")] == []
    assert not any(map(refused, ("Subject: ", "Fromage: ", "X-From: <>", "Resent-From: <>")))
