"""Of each file of a whole site it is known what may be shown of it: what generations and differences rely on."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from minions import Settings
from smtpout_core.change import masks
from smtpout_core.change.parts import Content, Part
from smtpout_core.change.templates import Templates
from smtpout_core.daemons import descriptions
from smtpout_core.daemons.postfix import certificate
from smtpout_core.host import Host

KEY = re.compile(rb"-----BEGIN (RSA )?PRIVATE KEY-----\n|" + base64.b64encode(b"-----BEGIN PRIVATE"))
PASSWORDS = ("Bind2016Mail", "Relay2016Mail", "Proxy2016Mail", "User2016Mail")


@pytest.fixture
def made(settings: Settings, site: dict[str, Any], tmp_path: Path) -> list[tuple[Part, dict[str, Content]]]:
    """Return all parts of a site that has every kind of secret, and what they hold."""
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True).stdout
    site["directory"]["bind_password"] = PASSWORDS[0]
    table = {"type": "lmdb", "entries": {"[192.0.2.1]": f"user:{PASSWORDS[1]}"}, "secret": True}
    site.setdefault("postfix", {})["maps"] = {"passwords": table}
    site["clamav"] = {"freshclam": {"HTTPProxyPassword": PASSWORDS[2]}}
    site["verify"] = {"user": "usuario01", "password": PASSWORDS[3]}
    site["opendkim"] = {"domains": {site["domains"][0]: {"private_key": key}}}
    site["tls"] = {"names": {"smtp.domain02.dom": {"chain": certificate.self_signed("smtp.domain02.dom").decode()}}}
    found = settings(site)
    assert found["errors"] == []
    found["postfix"]["certificate_chain"] = str(tmp_path / "self-made.pem")
    found["postfix"]["names_map"] = str(tmp_path / "tls_names")
    aliases = tmp_path / "aliases"
    aliases.write_text("root: somebody\n")
    found["postfix"]["aliases"] = str(aliases)
    host = Host(cache_dir=str(tmp_path / "cache"), cache_file=settings.functions["cp.cache_file"])  # type: ignore[attr-defined]
    templates = Templates(found, host)
    parts = []
    for number, daemon in enumerate(descriptions.described(found, host)):
        for part in [*daemon.parts, *map(templates.rendered, daemon.files)]:
            part.difference({})  # what is missing is made
            folder = tmp_path / f"{number}-{len(parts)}"
            folder.mkdir()
            parts.append((part, part.contents(str(folder))))
    return parts


def test_what_holds_a_private_key_says_so(made: list[tuple[Part, dict[str, Content]]]) -> None:
    private = [part for part, contents in made for content in contents.values() if KEY.search(content.data)]
    # The self-made certificate's, and those of further names, as text and in the database; a DKIM key is in no part.
    assert [part.secret for part in private] == [masks.ALL] * 3


def test_what_holds_a_password_says_so_and_its_difference_shows_none(
    made: list[tuple[Part, dict[str, Content]]],
) -> None:
    held = set()
    for part, contents in made:
        for path, content in contents.items():
            text = content.data.decode(errors="replace")
            shown = masks.unified("", text, part.secret, path, path)
            held |= {password for password in PASSWORDS if password in text}
            assert [password for password in PASSWORDS if password in shown] == [], path
            assert part.secret or not [password for password in PASSWORDS if password in text], path
    assert held == {*PASSWORDS[:3]}  # the user's is for trials alone
