"""What two daemons' files have to agree on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from smtpout_core.daemons import agreements

pytestmark = pytest.mark.skipif(not shutil.which("postconf"), reason="Postfix isn't installed")

SCANNER, SIGNER = "unix:/run/clamav/milter.sock", "inet:127.0.0.1:8891"
SETTINGS: dict[str, Any] = {
    "postfix": {"directory": "/etc/postfix"},
    "milters": [{"name": "clamav", "socket": SCANNER}, {"name": "opendkim", "socket": SIGNER}],
}
MAIN = "compatibility_level = 3.6\nsmtpd_milters = {milters}\n"
MASTER = """
smtp inet n - n - - smtpd
submission inet n - n - - smtpd
{options}
10025 inet n - n - - smtpd
  -o smtpd_milters=
"""
OPEN = "mail would pass"


@pytest.mark.parametrize(
    ("milters", "options", "said"),
    [
        (f"{SCANNER}, {SIGNER}", "", []),
        (f"{{ {SCANNER}, default_action=accept }} {SIGNER}", "", []),
        (SIGNER, "", [("main", SCANNER)] * 2),
        (f"{SCANNER}, {SIGNER}", f"  -o smtpd_milters={SCANNER}", [("master:submission/inet", SIGNER)]),
        (
            f"{SCANNER}, {SIGNER}",
            "  -o smtpd_milters=",
            [("master:submission/inet", each) for each in (SCANNER, SIGNER)],
        ),
    ],
)
def test_a_service_that_mail_comes_in_by_asks_every_filter(
    tmp_path: Path, milters: str, options: str, said: list[tuple[str, str]]
) -> None:
    (tmp_path / "main.cf").write_text(MAIN.format(milters=milters), encoding="utf-8")
    (tmp_path / "master.cf").write_text(
        MASTER.format(options=options or "  -o syslog_name=x").lstrip(), encoding="utf-8"
    )
    found = agreements.compared(
        {f"/etc/postfix/{name}": f"{tmp_path}/{name}" for name in ("main.cf", "master.cf")}, SETTINGS
    )
    assert [line.partition(": mail would pass")[0] for line in found] == [
        f"smtpout:postfix:{where}: smtpd_milters leaves out {socket}" for where, socket in said
    ]
