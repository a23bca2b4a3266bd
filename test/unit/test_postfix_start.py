"""What takes a stop and start of Postfix is known before, and read in its log afterwards."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from smtpout_core.daemons.postfix import check, start

# Of a reload (journalctl -u postfix@-), Postfix 3.7.11.
LOG = """\
reload -- version 3.7.11, configuration /etc/postfix
warning: ignoring inet_protocols parameter value change
warning: old value: "all", new value: "ipv4"
warning: to change inet_protocols, stop and start Postfix
warning: service smtp: ignoring inet_interfaces change
warning: to change inet_interfaces, stop and start Postfix
"""


needs_postfix = pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix isn't installed")


@needs_postfix
def test_values_are_expanded_and_defaults_count(tmp_path: Path) -> None:
    (tmp_path / "master.cf").touch()
    main = tmp_path / "main.cf"
    main.write_text("compatibility_level = 3.6\nbase = /srv\nqueue_directory = $base/mailq\n", encoding="utf-8")
    before = start.start_only(str(tmp_path))
    assert before.keys() == set(start.PARAMETERS)
    assert (before["queue_directory"], before["inet_interfaces"]) == ("/srv/mailq", "all")
    main.write_text(main.read_text(encoding="utf-8").replace("/srv", "/data"), encoding="utf-8")
    after = start.start_only(str(tmp_path))
    assert {name for name in after if after[name] != before[name]} == {"queue_directory"}


def test_the_log_of_a_reload_says_what_was_not_followed() -> None:
    said = [match.groupdict() for match in start.IGNORED.finditer(LOG)]
    assert [each["parameter"] or each["stopped"] for each in said] == [
        "inet_protocols",
        "inet_protocols",
        "inet_interfaces",
        "inet_interfaces",
    ]
    assert said[2]["service"] == "smtp"
    assert not start.IGNORED.search("warning: /etc/postfix/main.cf, line 113: overriding earlier entry")


@needs_postfix
@pytest.mark.parametrize(
    ("main", "unit", "said"),
    [
        ("queue_directory = {root}/queue", "{root}/queue", None),
        ("queue_directory = {root}/gone", "{root}/gone", r"queue_directory: there is no directory .*/gone: make it"),
        ("base = {root}\nqueue_directory = $base/queue", "$base/queue", r"write .*/queue/pid/master.pid, and systemd"),
        ("queue_directory = {root}/queue\nprocess_id_directory = p", "{root}/queue", r"/queue/p/master.pid"),
    ],
)
def test_a_queue_that_systemd_would_look_for_elsewhere_is_refused(
    tmp_path: Path, main: str, unit: str, said: str | None
) -> None:
    (tmp_path / "queue").mkdir()
    texts = {
        "/etc/postfix/main.cf": f"compatibility_level = 3.6\n{main}\n",
        "/etc/postfix/master.cf": "",
        "/etc/systemd/system/postfix@-.service.d/smtpout.conf": f"[Service]\nPIDFile={unit}/pid/master.pid\n",
    }
    staged = {live: f"{tmp_path}/staged{live}" for live in texts}
    for live, path in staged.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(texts[live].format(root=tmp_path), encoding="utf-8")
    found = [line for line in check.complaints(staged, unit="postfix@-") if "queue_directory" in line]
    assert len(found) == (said is not None)
    assert not said or re.search(said, found[0])


@needs_postfix
@pytest.mark.parametrize(("address", "here"), [("127.0.0.1", True), ("192.0.2.1", False), ("[2001:db8::1]", False)])
def test_a_service_at_an_address_that_the_host_does_not_have_is_refused(
    tmp_path: Path, address: str, here: bool
) -> None:
    (tmp_path / "etc/postfix").mkdir(parents=True)
    (tmp_path / "etc/postfix/main.cf").write_text("compatibility_level = 3.6\n", encoding="utf-8")
    (tmp_path / "etc/postfix/master.cf").write_text(f"{address}:2525 inet n - n - - smtpd\n", encoding="utf-8")
    staged = {f"/etc/postfix/{name}": f"{tmp_path}/etc/postfix/{name}" for name in ("main.cf", "master.cf")}
    said = f"master.cf: {address}:2525/inet: this host has no address {address.strip('[]')}"
    assert (said in check.complaints(staged)) != here
