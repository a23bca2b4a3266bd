"""
Ask saslauthd itself whether it serves, and write and check its LDAP settings.

Logins are tried over saslauthd's own socket: testsaslauthd takes the password as an argument, where ``ps`` shows it.

The facts on ``saslauthd.conf`` come from the source of cyrus-sasl 2.1.28 (``saslauthd/lak.c``): an unknown option and a
value that is none are ignored without a word, and a text that is too long is cut.
"""

from __future__ import annotations

import os
import pwd
import re
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smtpout_core import sockets
from smtpout_core.errors import RelayError

SOCKET = "/run/saslauthd/mux"

# saslauthd/globals.h, MAX_REQ_LEN: a longer field is answered with NO, as if the password were wrong.
FIELD_BYTES = 256

# saslauthd/lak.c reads a line with its end into 4096 bytes, the last of which is NUL.
LINE_BYTES = 4095

_SWITCH = "switch"
_NUMBER = "number"
_SCOPE = ("sub", "one", "base")

# What lak_config_read() knows: words to choose from, a switch, a number, or a text of at most so many bytes.
OPTIONS: dict[str, str | int | tuple[str, ...]] = {
    "ldap_auth_method": ("bind", "custom", "fastbind"),
    "ldap_authz_id": 127,
    "ldap_bind_dn": 4095,
    "ldap_bind_pw": 127,
    "ldap_debug": _NUMBER,
    "ldap_default_domain": 127,
    "ldap_default_realm": 127,
    "ldap_deref": ("search", "find", "always", "never"),
    "ldap_filter": 4095,
    "ldap_group_attr": 127,
    "ldap_group_dn": 4095,
    "ldap_group_filter": 127,
    "ldap_group_match_method": ("attr", "filter"),
    "ldap_group_scope": _SCOPE,
    "ldap_group_search_base": 127,
    "ldap_id": 127,
    "ldap_mech": 127,
    "ldap_password": 127,
    "ldap_password_attr": 127,
    "ldap_realm": 127,
    "ldap_referrals": _SWITCH,
    "ldap_restart": _SWITCH,
    "ldap_sasl_authc_id": 127,
    "ldap_sasl_authz_id": 127,
    "ldap_sasl_mech": 127,
    "ldap_sasl_realm": 127,
    "ldap_sasl_secprops": 127,
    "ldap_scope": _SCOPE,
    "ldap_search_base": 4095,
    "ldap_servers": 1023,
    "ldap_size_limit": _NUMBER,
    "ldap_start_tls": _SWITCH,
    "ldap_time_limit": _NUMBER,
    "ldap_timeout": _NUMBER,
    "ldap_tls_cacert_dir": 1023,
    "ldap_tls_cacert_file": 1023,
    "ldap_tls_cert": 1023,
    "ldap_tls_check_peer": _SWITCH,
    "ldap_tls_ciphers": 127,
    "ldap_tls_key": 1023,
    "ldap_use_sasl": _SWITCH,
    "ldap_version": ("3", "2"),
}


def _asked(socket: str, fields: list[bytes], timeout: float) -> str:
    """Return saslauthd's answer to one request."""
    # Released daemons read four fields. A fifth, the client's address, is in unreleased sources, which wait for it;
    # released ones read past an empty one.
    request = b"".join(struct.pack("!H", len(field)) + field for field in [*fields, b""])
    said = {
        FileNotFoundError: (
            f"There is no socket {socket}: saslauthd isn't running, or its option -m names another directory"
        ),
        ConnectionRefusedError: (
            f"Nothing listens on {socket}: saslauthd died and left its socket behind; start it again"
        ),
        PermissionError: (
            f"{_name(os.geteuid())} may not use {socket}: its directory is for root and one group (sasl, saslauth)"
        ),
        TimeoutError: (
            f"saslauthd didn't answer on {socket} within {timeout} s: all its processes are busy, mostly because they"
            " wait for a directory that doesn't answer"
        ),
        EOFError: (
            "saslauthd closed the connection without a whole answer; so does HAProxy before it"
            " (smtpout:directory:proxy) as long as no directory server answers"
        ),
        OSError: f"saslauthd can't be asked on {socket}",
    }
    with sockets.conversation(socket, timeout, said) as daemon:
        daemon.send(request)
        length = struct.unpack("!H", daemon.receive(2))[0]
        return daemon.receive(length).decode("utf-8", "replace")


def _name(uid: int) -> str:
    """Return the user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def authenticate(
    user: str, password: str, service: str = "smtp", realm: str = "", socket: str = SOCKET, timeout: float = 10
) -> bool:
    """Return whether saslauthd accepts a login, asked over its socket as Postfix asks it.

    A user name with ``@`` is parted at the last one into user and realm, as libsasl does before it asks
    (``lib/checkpw.c``, ``saslauthd_verify_password``). saslauthd puts them together again when it runs with ``-r``.

    :param user: name of the user as typed into the mail program.
    :param password: the user's.
    :param service: name of the service; Postfix says ``smtp``.
    :param realm: realm, for a name without ``@``.
    :param socket: path of the daemon's socket.
    :param timeout: seconds for the whole answer. An unreachable directory takes saslauthd twice ``ldap_timeout``.
    :raises RelayError: a field is over 256 bytes, there is no socket, nothing listens, the socket may not be used, no
        answer comes in time, or the answer is neither OK nor NO.
    """
    if "@" in user:
        user, realm = user.rsplit("@", 1)
    named = {"user": user, "password": password, "service": service, "realm": realm}
    fields = [value.encode() for value in named.values()]
    for name, field in zip(named, fields, strict=True):
        if len(field) > FIELD_BYTES:
            raise RelayError(f"The {name} has {len(field)} bytes; saslauthd takes {FIELD_BYTES} at most (MAX_REQ_LEN)")
    answer = _asked(socket, fields, timeout)
    if answer[:2] not in ("OK", "NO"):
        raise RelayError(f"saslauthd answered neither OK nor NO on {socket}, but {answer[:40]!r}")
    return answer.startswith("OK")


def verify_password(settings: dict[str, Any], user: str) -> str:
    """Return the password of the site's verify user.

    :param settings: the site's.
    :param user: who it has to be.
    :raises RelayError: it is another one, or there is none.
    """
    verify = settings["verify"]
    if not verify.get("password") or user != verify.get("user"):
        raise RelayError(
            f"No password is known for {user}: smtpout:verify has another user or none. Put the user and its password"
            " there; a password in a command line would be seen by others"
        )
    return verify["password"]


def ping(socket: str = SOCKET, timeout: float = 10) -> bool:
    """Return True when a saslauthd answers.

    Asks with an empty user name, which the daemon refuses without asking the directory. A connection alone would prove
    nothing: the kernel accepts it for a daemon that hangs.

    :param socket: Path of the daemon's socket.
    :param timeout: Seconds to wait for the answer.
    :raises RelayError: as in ``authenticate``.
    """
    answer = _asked(socket, [b"", b"", b"smtp", b""], timeout)
    if not answer.startswith("NO"):
        raise RelayError(f"saslauthd let an empty user name in on {socket}, or isn't what answers there")
    return True


def client_faults(socket: str = SOCKET, user: str = "postfix") -> list[str]:
    """Return why Postfix could not use saslauthd's socket; nothing when it can.

    root can always connect, so a login tried by Salt doesn't show these faults.

    :param socket: Path of the daemon's socket.
    :param user: The user that smtpd runs as (``mail_owner``).
    :raises RelayError: there is no such user.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise RelayError(f"There is no user {user}") from None
    groups = os.getgrouplist(user, account.pw_gid)
    allowed = subprocess.run(
        ["test", "-w", socket], user=account.pw_uid, group=account.pw_gid, extra_groups=groups, check=False
    )
    if allowed.returncode:
        owner = Path(socket).parent
        return [
            f"{user} may not use {socket}: add it to the group {owner.group()} of {owner} and restart Postfix"
            if owner.is_dir()
            else f"{user} may not use {socket}: there is no directory {owner}"
        ]
    # smtpd takes its groups when it starts; one that was started earlier still lacks the new one.
    stale = [pid for pid, its in _processes("smtpd", account.pw_uid) if not set(groups) <= its]
    if stale:
        return [f"smtpd processes {', '.join(stale)} were started before {user} got its groups: restart Postfix"]
    return []


def _processes(name: str, uid: int) -> list[tuple[str, set[int]]]:
    """Return the number and the groups of each process of that name and user."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text(encoding="utf-8", errors="replace")
        except OSError:  # gone meanwhile
            continue
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        if fields["Name"].strip() == name and int(fields["Uid"].split()[0]) == uid:
            groups = f"{fields['Gid']} {fields['Groups']}".split()
            found.append((status.parent.name, {int(group) for group in groups}))
    return found


def complaints(staged: Mapping[str, str], config: str) -> list[str]:
    """Return everything that is wrong with a saslauthd.conf by itself; nothing when it is right.

    saslauthd reads the file at the first login, says nothing of an option that it doesn't know, and takes a value that
    it doesn't understand for its default, for 0 or for *no*. So the check is made here.

    :param staged: where each file of the set stands for the check, by its final path.
    :param config: final path of saslauthd.conf.
    """
    said = []
    found: dict[str, str] = {}
    # Bytes, and parted at line feeds only, as fgets() does.
    lines = Path(staged[config]).read_bytes().decode("utf-8", "surrogateescape").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip(" \t\v\f\r") or line.lstrip(" \t\v\f\r").startswith("#"):
            continue
        parsed = re.fullmatch(r"[ \t\v\f\r]*([A-Za-z0-9_-]*):[ \t\v\f\r]*(.+)", line, re.DOTALL)
        if parsed is None:
            said.append(f"{config}:{number}: not an option, a colon and a value")
            continue
        key, value = parsed[1].lower(), parsed[2]
        if key in found:
            said.append(f"{config}:{number}: {key} is here a second time; this one counts")
        found[key] = value
        if len(os.fsencode(line)) >= LINE_BYTES:
            said.append(f"{config}:{number}: {key}: a line can have {LINE_BYTES - 1} bytes")
        if complaint := _value_complaint(key, value):
            said.append(f"{config}:{number}: {complaint}")
    return said + [f"{config}: {complaint}" for complaint in _whole_complaints(found)]


def _value_complaint(key: str, value: str) -> str | None:
    """Return what is wrong with one option, without the value of a secret."""
    kind = OPTIONS.get(key)
    if kind is None:
        return f"saslauthd knows no option {key}"
    if isinstance(kind, int):
        if len(os.fsencode(value)) <= kind:
            return None
        return f"{key} has {len(os.fsencode(value))} bytes; saslauthd cuts it after {kind}"
    if kind == _SWITCH:
        right = value in ("yes", "no", "on", "off", "true", "false", "1", "0")
        return None if right else f"{key} is {value!r}; saslauthd understands yes and no, in small letters only"
    if kind == _NUMBER:
        return None if re.fullmatch(r"-?[0-9]+", value) else f"{key} is {value!r}, which is not a whole number"
    return None if value.lower() in kind else f"{key} is {value!r}; right would be one of {', '.join(kind)}"


def _whole_complaints(found: dict[str, str]) -> list[str]:
    """Return what is wrong between options."""
    complaints = []
    servers = re.split(r"[ ,]+", found.get("ldap_servers", "ldap://localhost/").strip())
    complaints += [
        f"ldap_servers has {server!r}; right would be ldap://, ldaps:// or ldapi:// and a host"
        for server in servers
        if not re.fullmatch(r"(?i)ldap[si]?://\S+", server)
    ]
    start_tls = found.get("ldap_start_tls") in ("yes", "on", "true", "1")
    if start_tls and any(server.lower().startswith("ldaps:") for server in servers):
        complaints.append("ldap_start_tls is for ldap:// servers; an ldaps:// one is encrypted from the first byte")
    if not re.search(r"%[uU]", found.get("ldap_filter", "(uid=%u)").replace("%%", "")):
        complaints.append("ldap_filter has neither %u nor %U: whoever logs in, it would find the same entry")
    return complaints
