"""A relay that is drained: what is remembered of it, and what master.cf says then.

It is state of the relay's operation, below ``/var/lib/smtpout/drain``, and part of no generation: an apply leaves the
relay as it is, and no way back takes a drain back. While ``drained.json`` is there, each service of master.cf that
takes sessions has two options more, which every apply writes and nobody else: clients are judged at once, and all but
this host's own are sent away with 421 (RFC 5321, 3.8; access(5)). What programs hand to sendmail(1), or to a loopback
address, is still taken.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from smtpout_core import files
from smtpout_core.change.parts import Operated
from smtpout_core.errors import RelayError, os_errors_told
from smtpout_core.host import STATE_DIR

PATH = f"{STATE_DIR}/drain/drained.json"
TOLD = "this relay is being maintained; try again later, or another one"
"""What a client is told, behind 421 4.3.2."""
RESTRICTIONS = f"check_client_access inline:{{127.0.0.1=OK, ::1=OK}}, check_client_access static:{{421 4.3.2 {TOLD}}}"
OPTIONS = """\
  -o {{ smtpd_client_restrictions = {} }}
  -o {{ smtpd_delay_reject = no }}
"""
"""Lines of a service in master.cf (master(5)). Of an option that is given twice the last one counts."""
LINES = re.compile(re.escape(OPTIONS.format("*")).replace(r"\*", re.escape(RESTRICTIONS) + r"(?:, .*)?"))
OWN = re.compile(r"^\s+-o \{ smtpd_client_restrictions = (.+) \}$", re.MULTILINE)
SESSIONS = ("inet", "pass")
"""Types of the services that strangers reach: by a port, or by postscreen(8)."""


@dataclass
class Drained:
    """A relay that is drained.

    :param since: when that began, in seconds since 1970.
    :param by: who did it.
    :param reason: why, in their words.
    """

    since: int
    by: str = ""
    reason: str = ""


def read() -> Drained | None:
    """Return what is remembered; None where the relay isn't drained.

    :raises RelayError: it can't be read.
    """
    try:
        return Drained(**json.loads(Path(PATH).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise RelayError(
            f"{PATH} can't be read, so nobody knows whether this relay is drained: {error}. smtpout_drain.start "
            "writes it anew, smtpout_drain.ready ends it"
        ) from error


def write(state: Drained | None) -> None:
    """Remember it; None forgets it."""
    with os_errors_told(PATH):
        if state:
            folder = Path(PATH).parent
            for each in (folder.parent, folder):
                if not each.exists():
                    each.mkdir(parents=True, exist_ok=True)
                    each.chmod(0o700)
            files.write(PATH, json.dumps(asdict(state), indent=1).encode() + b"\n", 0o600)
        elif Path(PATH).exists():
            Path(PATH).unlink()
            files.sync(str(Path(PATH).parent))


def added(master: str) -> str:
    """Return a master.cf with the options that send clients away."""
    made, service = [], ""
    for line in [*without(master).splitlines(keepends=True), ""]:
        if not line[:1].isspace():  # where a service begins, the one before it ends
            made.append(_closed(service))
            service = ""
        service += line
    return "".join(made)


def _closed(service: str) -> str:
    """Return the lines of a service with those options, if it takes sessions."""
    columns = service.split(None, 8)
    if service.startswith("#") or len(columns) < 8 or columns[1] not in SESSIONS or columns[7] != "smtpd":
        return service
    # Behind what sends everybody away: a parameter of the site's that nothing names any more is complained of.
    return service + OPTIONS.format(", ".join([RESTRICTIONS, *OWN.findall(service)]))


def without(master: str) -> str:
    """Return a master.cf as the site has it."""
    return LINES.sub("", master)


def sends_away(code: int, text: str) -> bool:
    """Tell whether a greeting is that of a relay that is drained."""
    return code == 421 and TOLD in text


def operated() -> Operated | None:
    """Return what a drain makes of master.cf; None where there is none. What can't be read counts as one."""
    try:
        state = read()
    except RelayError as error:
        return Operated(added, str(error))
    return Operated(added, f"{said(state)}. It stays so until smtpout_drain.ready") if state else None


def said(state: Drained) -> str:
    """Return a sentence that says who has drained the relay, and why."""
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state.since))
    why = f" ({state.reason})" if state.reason else ""
    return f"the relay is drained since {since}, by {state.by or 'somebody'}{why}: new sessions get 421"
