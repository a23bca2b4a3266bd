"""The policy service, as the transaction brings it: socket, unit, program, and the site's limits."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from smtpout_core.change.made import Made
from smtpout_core.change.parts import Daemon, File, Part, Probe
from smtpout_core.daemons import program
from smtpout_core.host import Host

PROGRAM = "/usr/local/lib/smtpout/policy.pyz"
SITE = "/etc/smtpout/limits.json"
ACCOUNTS = "/etc/smtpout/accounts.ldap"
UNIT = "smtpout-policy"
UNITS = "/etc/systemd/system"
ROOMS = (
    "daemons/__init__.py",
    *(f"daemons/limits/{name}.py" for name in ("__init__", "accounts", "clients", "counts", "notice", "policy")),
)
"""What the program is made of: all else of the package may change without a restart."""


def described(settings: dict[str, Any], _host: Host) -> list[Daemon]:
    """Return the policy service: what is wanted of it on a site; nothing where a site limits nobody.

    :param settings: the site's.
    """
    facts = settings["limits"]
    if not facts["enabled"]:
        return []
    units = (f"{UNIT}.socket", f"{UNIT}.service")
    asked = {"purpose": "whose name somebody has logged in with", "query": "login_query", "result": "login_attributes"}
    of_accounts = (
        [
            File(
                ACCOUNTS,
                "salt://smtpout/postfix/ldap.cf.jinja",
                mode="0600",
                secret=True,
                restart=True,  # systemd hands it over at the start
                context={**asked, "domains": (), "direct": True},
            )
        ]
        if knows_accounts(settings)
        else []
    )
    context = {"program": PROGRAM, "site": SITE, "accounts": ACCOUNTS if of_accounts else ""}
    parts: tuple[Part, ...] = (
        Made(PROGRAM, partial(program.archive, "smtpout_core.daemons.limits.policy", ROOMS), 0o644, restart=True),
        Made(SITE, partial(known, settings), 0o644),
    )
    return [
        Daemon(
            "limits",
            units=units,
            working=units[1],
            files=(
                *of_accounts,
                *(
                    File(f"{UNITS}/{unit}", f"salt://smtpout/limits/{unit}.jinja", restart=True, context=context)
                    for unit in units
                ),
            ),
            parts=parts,
            probes=(Probe("limits", {"socket": facts["socket"]}),),
        )
    ]


def knows_accounts(settings: dict[str, Any]) -> bool:
    """Tell whether the directory is to say which names an account has: not where no attribute is known to hold them."""
    return bool(settings["limits"]["of_logins"] and settings["directory"]["login_attributes"])


def known(settings: dict[str, Any]) -> bytes:
    """Return what the service is told: nothing secret."""
    facts, relay = settings["limits"], settings["hostname"].lower()
    site = {
        **{name: facts[name] for name in ("messages", "recipients", "exceptions")},
        "accounts": "ldap:accounts" if knows_accounts(settings) else "",
        **({"clients": facts["of_clients"]} if facts["of_clients"] else {}),
        "notice": {"to": f"root@{relay}", "from": f"root@{relay}", "host": relay},
    }
    return json.dumps(site, sort_keys=True).encode() + b"\n"
