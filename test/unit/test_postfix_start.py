"""What takes a stop and start of Postfix is known before, and read in its log afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from smtpout_core.daemons.postfix import start

# Of a reload (journalctl -u postfix@-), Postfix 3.7.11.
LOG = """\
reload -- version 3.7.11, configuration /etc/postfix
warning: ignoring inet_protocols parameter value change
warning: old value: "all", new value: "ipv4"
warning: to change inet_protocols, stop and start Postfix
warning: service smtp: ignoring inet_interfaces change
warning: to change inet_interfaces, stop and start Postfix
"""


@pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix isn't installed")
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
