"""Whatever text the pillar holds: the daemon reads it back as it was written, or the pillar is refused.

Each property goes the whole way, from a pillar through the formula's templates to the daemon's own parser. Maps are in
``test_postmap_module``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import salt.loader
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ldap_recorder import Recorder, recording
from minions import GRAINS
from smtpout_core.change.parts import File
from smtpout_core.change.templates import Templates
from smtpout_core.host import Host
from smtpout_core.site.written import folded
from support import load, minion_opts
from test_saslauthd import wait_for

# What parsers trip over, as often as all the rest.
TEXT = st.text(alphabet=st.sampled_from("#\"'\\$%{}()*&|!=;:,<>@ /\t\n\ra1é€\x00\x0b\x1b\x7f\x85\u2028"), max_size=20)
TEXT |= st.text(max_size=40)
QUICKLY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
ASKING = settings(QUICKLY, max_examples=25)
PASSWORDS = ('#"\\$', 'a # "b" \\ $c', "contraseña-пароль-€", "{ }%s%u${x}", "a  b\tc", ": ldap_scope: one")

USER = "somebody"


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording() as server:
        yield server


class Site:
    """A site's pillar that a value is put into, and the minion that has it."""

    def __init__(self, root: Path, recorder: Recorder) -> None:
        self.functions = salt.loader.minion_mods(minion_opts(root, grains=GRAINS))
        self.root = root
        self.recorder = recorder

    def rendered(self, source: str, put: Callable[[dict[str, Any]], None], **context: str) -> str | None:
        """Return the text of a file where a value stands in the pillar; None where the pillar is refused."""
        site = load("default")["smtpout"]
        site["directory"]["servers"] = [self.recorder.uri]
        site["directory"]["login"], site["directory"]["login_attribute"] = "uid=%u", "uid"
        put(site)
        for loader in (self.functions, self.functions.pack["__salt__"]):
            loader.opts["pillar"] = loader.pack["__pillar__"] = {"smtpout": site}
        errors = self.functions["smtpout.settings"]()["errors"]
        if errors:
            assert all(error.startswith("smtpout:") and "\n" not in error for error in errors)
            return None
        host = Host(cache_dir=str(self.root / "templates"), cache_file=self.functions["cp.cache_file"])
        file = File("/etc/x", f"salt://smtpout/{source}", mode="0600", secret=True, context=context)
        return Templates(self.functions["smtpout.settings"](), host).rendered(file).text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Site:
    return Site(tmp_path_factory.mktemp("site"), recorder)


def options(*path: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts values below a path of the pillar."""

    def put(site: dict[str, Any]) -> None:
        for key in path:
            site = site.setdefault(key, {})
        site.update(values)

    return put


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, check=False).stdout.decode()


def written(path: Path, text: str) -> Path:
    """Write a file that is old enough: Postfix rereads one younger than 2 s until it isn't."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time.time() - 3,) * 2)
    return path


def blanks_as_one(text: str) -> str:
    """Return a text as postconf prints it: it folds blanks and tabs, which Postfix itself keeps."""
    return re.sub(r"[ \t]+", " ", text)


# Postfix


@pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix is not installed")
class TestPostfix:
    """What main.cf, master.cf and the LDAP maps hold."""

    @QUICKLY
    @given(value=TEXT)
    @example(value="#not a comment")
    @example(value="a\nrelayhost = [203.0.113.9]")
    def test_a_parameter_is_read_as_it_was_written(self, site: Site, value: str) -> None:
        text = site.rendered("postfix/main.cf.jinja", options("postfix", "main", smtpd_reject_footer=value))
        if text is None:
            assert re.search(r"[\r\0]", value) or value != value.strip()
            return
        written(site.root / "main.cf", text)
        said = run("postconf", "-c", str(site.root), "-h", "smtpd_reject_footer", "relayhost")
        assert said == f"{blanks_as_one(folded(value))}\n\n"

    @ASKING
    @given(value=TEXT)
    @example(value="a } -o { mynetworks = 0.0.0.0/0")
    @example(value="{ a { b } }")
    def test_an_option_of_a_service_is_read_as_it_was_written(self, site: Site, value: str) -> None:
        service = {"smtp/inet": {"options": {"smtpd_reject_footer": value}}}
        text = site.rendered("postfix/master.cf.jinja", options("postfix", "master", **service))
        if text is None:
            return
        written(site.root / "main.cf", "compatibility_level = 3.6\nmyhostname = a.example\n")
        written(site.root / "master.cf", text)
        said = run("postconf", "-c", str(site.root), "-P", "smtp/inet").removesuffix("\n").split("\n")
        assert [line.rstrip(" ") for line in said] == [
            f"smtp/inet/smtpd_reject_footer = {blanks_as_one(folded(value))}".rstrip(" ")
        ]

    @ASKING
    @given(password=TEXT, value=TEXT.filter(bool), address=TEXT)
    @example(password=PASSWORDS[0], value="a", address="*)(uid=*")
    @example(password=PASSWORDS[1], value=")(uid=*", address="x")
    @example(password=PASSWORDS[2], value="%s", address="\\2a")
    @example(password=PASSWORDS[3], value="a\\", address="%s")
    @example(password=PASSWORDS[4], value="#", address="ñ")
    def test_a_recipient_is_searched_for_as_the_pillar_says(
        self, site: Site, recorder: Recorder, password: str, value: str, address: str
    ) -> None:
        put = options(
            "directory", bind_password=password, recipients=f"(&(mail=%s)(cn={escaped(value)}))", **names(value)
        )
        of = {"query": "recipient_filter", "result": "result_attribute"}
        context = {"purpose": "a test", "domains": ["own_domains"], **of}
        text = site.rendered("postfix/ldap.cf.jinja", put, **context)
        if text is None:
            return
        own_domains = written(site.root / "own_domains", "domain01.dom found\n")
        written(site.root / "main.cf", "compatibility_level = 3.6\nmyhostname = a.example\n")
        run("postmap", "-c", str(site.root), f"lmdb:{own_domains}")
        map_file = written(site.root / "people.ldap", text.replace("/etc/postfix/own_domains", str(own_domains)))
        key = f"{re.sub(r'[^!-~]|[@]', 'x', address) or 'x'}@domain01.dom"
        recorder.clear()
        done = subprocess.run(
            ["postmap", "-c", str(site.root), "-q", "-", f"ldap:{map_file}"],
            input=f"{key}\n".encode(),
            capture_output=True,
            check=False,
        )
        assert recorder.binds == [(names(value)["bind_dn"], password)], done.stderr
        assert recorder.searches == [(names(value)["base"], [("and", ""), ("mail", key.lower()), ("cn", value)])]


def escaped(value: str) -> str:
    """Return a value as a filter has it (RFC 4515), with nothing left in it that any parser could stumble over."""
    return "".join(f"\\{byte:02x}" for byte in value.encode())


def names(value: str) -> dict[str, str]:
    """Return distinguished names with a value in them (RFC 4514)."""
    inside = re.sub(r'([\\",+;<>=#])', r"\\\1", value)
    return {"base": f"ou={inside}x,dc=domain01,dc=dom", "bind_dn": f"cn=x{inside}x,dc=domain01,dc=dom"}


# saslauthd


@contextmanager
def saslauthd(configuration: str) -> Iterator[str]:
    """Run a saslauthd, which reads its configuration once; return its socket, whose path has to be short."""
    with tempfile.TemporaryDirectory(prefix="sasl-") as directory:
        conf, mux = Path(directory, "saslauthd.conf"), Path(directory, "mux")
        conf.write_text(configuration, encoding="utf-8")
        command = ["/usr/sbin/saslauthd", "-a", "ldap", "-O", str(conf), "-m", directory, "-n", "0", "-r", "-d"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(str(mux))
                yield str(mux)
            finally:
                process.kill()


@pytest.mark.skipif(not shutil.which("saslauthd", path="/usr/sbin:/usr/bin"), reason="saslauthd is not installed")
class TestSaslauthd:
    """What saslauthd.conf holds."""

    @ASKING
    @given(password=TEXT, value=TEXT.filter(bool), user=TEXT)
    @example(password=PASSWORDS[0], value="a", user="*)(uid=*")
    @example(password=PASSWORDS[1], value=")(uid=*", user="x")
    @example(password=PASSWORDS[2], value="%u", user="\\2a")
    @example(password=PASSWORDS[5], value="#", user="#")
    def test_a_login_is_searched_for_as_the_pillar_says(
        self, modules: Any, site: Site, recorder: Recorder, password: str, value: str, user: str
    ) -> None:
        login = f"(&(uid=%u)(cn={escaped(value)}))"
        put = options("directory", bind_password=password, login=login, **names(value))
        text = site.rendered("saslauthd/saslauthd.conf.jinja", put)
        if text is None:
            return
        name = re.sub(r"[\0@]", "x", user) or "x"
        recorder.clear()
        with saslauthd(text) as socket:
            assert modules["saslauthd.authenticate"](name, "any", socket=socket) is False
        assert recorder.binds == [(names(value)["bind_dn"], password)]
        assert recorder.searches == [(names(value)["base"], [("and", ""), ("uid", name), ("cn", value)])]


# OpenDKIM


@pytest.mark.skipif(not shutil.which("opendkim"), reason="OpenDKIM is not installed")
@QUICKLY
@given(value=TEXT)
@example(value="a # b")
@example(value="a\nMode v")
@example(value="x" * 880)
def test_an_option_of_opendkim_is_read_as_it_was_written(site: Site, value: str) -> None:
    missing = f"/nonexistent/{value}"
    text = site.rendered("opendkim/opendkim.conf.jinja", options("opendkim", "options", TrustAnchorFile=missing))
    if text is None:
        assert re.search(r"[\r\n\0#]", value) or value != value.strip()
        return
    conf = site.root / "opendkim.conf"
    # What it can't open it names, each path as it has read it; the tables of the site would come first.
    conf.write_text(re.sub(r"(?m)^(\w+) file:.*\n", "", text).replace("TrustAnchorFile ", "Include "), encoding="utf-8")
    said = subprocess.run(["opendkim", "-n", "-x", str(conf)], capture_output=True, check=False).stderr.decode()
    assert said.startswith(f"opendkim: {missing}: configuration error at line 0")


# ClamAV


@pytest.mark.skipif(not shutil.which("clamconf"), reason="ClamAV is not installed")
@QUICKLY
@given(value=TEXT)
@example(value="a # b")
@example(value='"a')
@example(value='a" "b')
@example(value="x" * 900)
def test_an_option_of_clamav_is_read_as_it_was_written(site: Site, value: str) -> None:
    text = site.rendered("clamav/freshclam.conf.jinja", options("clamav", "freshclam", HTTPProxyPassword=value))
    if text is None:
        assert not value or re.search(r'[\r\n\0]|^"', value) or value != value.strip()
        return
    (site.root / "freshclam.conf").write_text(text, encoding="utf-8")
    shown = run("clamconf", "-c", str(site.root)).split("\n")
    assert f'HTTPProxyPassword = "{value}"' in shown
    assert "HTTPProxyServer disabled" in shown


def test_a_template_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    source = tmp_path / "a.jinja"
    templates = Templates({}, Host(cache_dir=str(tmp_path / "cache"), cache_file=lambda _source: str(source)))
    for second, text in enumerate(("first\n", "second\n")):
        source.write_text(text)
        os.utime(source, (second, second))
        assert templates.rendered(File("/etc/a", "salt://a.jinja")).text == text
