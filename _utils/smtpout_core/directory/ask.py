"""
Ask the directory what Postfix and saslauthd ask it, and say in words which of the site's settings is wrong.

Needs ldap3 in Salt's own Python; without it every function here raises ``NotInstalledError``, which says so.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from smtpout_core import files, packages
from smtpout_core.change.parts import Trial
from smtpout_core.directory import filters, servers
from smtpout_core.errors import RelayError

# What Active Directory (and Samba) add to "invalid credentials": the Win32 error in hexadecimal, [MS-ERREF] 2.2.
AD_SUBCODES = {
    "525": "there is no such account",
    "52e": "the password is wrong",
    "530": "the account may not log in at this hour",
    "531": "the account may not log in from this computer",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed before the first login",
    "775": "the account is locked",
}


class Entry(NamedTuple):
    """An entry: its name (DN), and the values of each attribute that was asked for."""

    name: str
    values: dict[str, list[str]]


class _Refused(RelayError):
    """The directory answers, and the site's settings are not what it has."""


def check(settings: dict[str, Any], **changes: Any) -> list[str]:
    """Try the whole of the site's directory settings on every server, and return the servers, which are all fine then.

    Certificates are checked always, against ``ca_file`` or the system's authorities.

    :param settings: the site's.
    :param changes: what is tried instead of a value of ``smtpout:directory``, such as ``servers``; None is no change.
    :raises RelayError: says of each server which setting is wrong: not reachable, TLS, bind, base, a filter, an
        attribute that no recipient has.
    :raises NotInstalledError: ldap3 is missing.
    """
    changed = {name: value for name, value in changes.items() if value is not None}
    if found := faults({**settings, "directory": settings["directory"] | changed}):
        raise RelayError("\n".join(found.values()))
    return changed.get("servers", settings["directory"]["servers"])


def faults(settings: dict[str, Any]) -> dict[str, str]:
    """Return which setting is wrong, in a sentence, by each server on which one is.

    :param settings: the site's.
    :raises NotInstalledError: ldap3 is missing.
    """
    site = _site(settings)
    found = {server: _server_fault(server, site) for server in site["servers"]}
    return {server: f"{server}: {fault}" for server, fault in found.items() if fault}


def trials(settings: dict[str, Any]) -> list[Trial]:
    """Return what has to work of the directory before a relay is told of it: each server, and one whole search.

    A server that is named for the first time has to answer; of those that did and are down, one that serves is enough.

    :param settings: the site's.
    """
    site, authority = settings["directory"], held_authority(settings)
    how = {name: site.get(name) for name in ("ca_file", "start_tls")} | authority
    answering = [
        Trial(f"{each} answers", [each, how], partial(servers.answers, each, site)) for each in site["servers"]
    ]
    return [*answering, Trial("the directory has what the site asks for", site | authority, partial(_holds, settings))]


def held_authority(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the site's own authority holds, for what depends on it; the host's own change by themselves.

    :param settings: the site's.
    """
    site = settings["directory"]
    return {"authority": [files.digest(path) for path in site["authorities"]]} if site.get("ca_file") else {}


def readable(settings: dict[str, Any], user: str) -> tuple[list[Any], Callable[[], None]]:
    """Return the directory's authorities, and what raises where a daemon's user can't read one.

    :param settings: the site's.
    :param user: the daemon's.
    """
    paths = settings["directory"]["authorities"]

    def read() -> None:
        if closed := files.unreadable([path for path in paths if os.path.exists(path)], user):
            raise RelayError(f"smtpout:directory:ca_file: {user} can't read {', '.join(closed)}; it needs no secret")

    return [*paths, *held_authority(settings).values()], read


def _holds(settings: dict[str, Any]) -> None:
    """Raise where a server refuses what the site asks for, or none serves it."""
    site = _site(settings)
    faults = {server: _server_fault(server, site) for server in site["servers"]}
    refused = {server: fault for server, fault in faults.items() if isinstance(fault, _Refused)}
    if refused or None not in faults.values():
        raise RelayError("\n".join(f"{server}: {fault}" for server, fault in (refused or faults).items()))


def recipient(settings: dict[str, Any], address: str) -> list[str] | None:
    """Return what Postfix's recipient map finds for an address, or None where it finds nothing and refuses it.

    Does what ``postmap -q ADDRESS ldap:FILE`` does: the address in small letters and of a domain of the site, tokens of
    ``query_filter`` filled in with RFC 4515 escapes, the values of ``result_attribute`` of all entries; an entry that
    lacks it is not found (ldap_table(5)).

    :param settings: the site's.
    :param address: the whole address.
    :raises RelayError: no server serves or the filter is malformed.
    """
    site = _site(settings)
    address = address.lower()
    filled = filters.postfix(site["recipient_filter"], address)
    domains = {domain.lower() for domain in settings["domains"]}
    if filled is None or address.rpartition("@")[2] not in domains:
        return None
    return [value for entry in values(settings, filled, site["result_attribute"]) for value in entry] or None


def login(settings: dict[str, Any], user: str) -> str | None:
    """Return the name (DN) of the entry that saslauthd would log in as, or None where it would refuse the user.

    Holds for a saslauthd that runs with ``-r``: without it ``%u`` has lost the part after the ``@``.

    :param settings: the site's.
    :param user: name as typed into the mail program.
    :raises RelayError: the filter finds several entries (saslauthd refuses such a user), when it is
        malformed, or when no server serves.
    """
    site = _site(settings)
    with _serving(site) as connection:
        filled = filters.saslauthd(site["login_filter"], user)
        entries = _search(connection, site, filled, "login")
    if len(entries) > 1:
        raise RelayError(
            f"smtpout:directory:login finds {len(entries)} entries for {user}, and saslauthd then refuses the user:"
            f" {'; '.join(sorted(entry['dn'] for entry in entries))}"
        )
    return entries[0]["dn"] if entries else None


def try_login(settings: dict[str, Any], user: str, password: str) -> None:
    """Try a login at the directory itself, as saslauthd would have it.

    :param settings: the site's.
    :param user: name as typed into the mail program.
    :param password: the user's.
    :raises RelayError: why it fails.
    """
    entry = login(settings, user)
    if entry is None:
        raise RelayError(f"smtpout:directory:login finds no entry for {user}")
    with _serving(_site(settings) | {"bind_dn": entry, "bind_password": password, "account": "smtpout:verify:user"}):
        pass


def values(settings: dict[str, Any], ldap_filter: str, attribute: str, most: int = 0) -> list[list[str]]:
    """Return an attribute's values of each entry that a filter finds, ``most`` entries at most; 0 for all.

    :raises RelayError: no server serves or the filter is malformed.
    """
    return [entry[attribute] for entry in entries(settings, ldap_filter, [attribute], most)]


def entries(
    settings: dict[str, Any], ldap_filter: str, attributes: list[str], most: int = 0
) -> list[dict[str, list[str]]]:
    """Return these attributes' values of each entry that a filter finds, ``most`` entries at most; 0 for all.

    :raises RelayError: no server serves or the filter is malformed.
    """
    return [each.values for each in found(settings, ldap_filter, attributes, most)]


def found(settings: dict[str, Any], ldap_filter: str, attributes: list[str], most: int = 0) -> list[Entry]:
    """Return each entry that a filter finds, ``most`` at most; 0 for all.

    :raises RelayError: no server serves or the filter is malformed.
    """
    site = _site(settings)
    with _serving(site) as connection:
        seen = _search(connection, site, ldap_filter, "recipients", attributes, most)
    return [Entry(each["dn"], {name: _texts(each["attributes"].get(name, ())) for name in attributes}) for each in seen]


def _texts(values: Iterable[Any]) -> list[str]:
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values]


def _site(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the site's directory settings, which nothing can be done with without ldap3."""
    packages.imported("ldap3", "ldap3")
    return settings["directory"]


def _server_fault(server: str, site: dict[str, Any]) -> RelayError | None:
    """Return the first setting that is wrong on one server; the next ones need it."""
    try:
        with _bound(server, site) as connection:
            _check_base(connection, site)
            recipients = _check_filter(connection, site, "recipients", site["recipient_filter"])
            attribute = site["result_attribute"]
            if recipients and not _search(connection, site, f"(&{recipients}({attribute}=*))", "recipients", most=1):
                raise _Refused(
                    f"smtpout:directory:result_attribute: none of the recipients has {attribute}, or {site['bind_dn']}"
                    " may not read it; Postfix would refuse them all"
                )
            login = "login and members_of" if "members_of" in site else "login"
            _check_filter(connection, site, login, site["login_filter"])
            if site["senders"] != "any":
                _check_filter(connection, site, "login_attribute", site["owner_filter"])
            if site["members_send"]:
                _check_filter(connection, site, "delegates", site["group_filter"])
            if site["delegating"]:
                _check_filter(connection, site, "delegates", site["delegating_filter"])
    except RelayError as err:
        return err
    return None


def _check_filter(connection: Any, site: dict[str, Any], path: str, pattern: str) -> str | None:
    """Raise when the filter is malformed or finds nobody; return it as one that finds everybody, if there is such."""
    # An extensible match compares with a whole value, where no wildcard can stand (RFC 4515).
    wild = not re.search(r":=[^)]*%[^%]", pattern)
    filled = re.sub(r"%(.)", lambda token: "%" if token[1] == "%" else "*" if wild else "x", pattern)
    filled = _parenthesised(re.sub(r"\*+", "*", filled))
    found = _search(connection, site, filled, path, most=1)
    if wild and not found:
        raise _Refused(
            f"smtpout:directory:{path}: nobody below {site['base']} matches {filled}; the filter or the base is wrong,"
            f" or {site['bind_dn']} may not read those attributes"
        )
    return filled if wild else None


def _check_base(connection: Any, site: dict[str, Any]) -> None:
    """Raise when the base can't be read."""
    ldap3 = packages.imported("ldap3", "ldap3")
    wrong = f"smtpout:directory:base: {site['base']}"
    try:
        connection.search(site["base"], "(objectClass=*)", ldap3.BASE, attributes=[ldap3.NO_ATTRIBUTES])
    except ldap3.core.exceptions.LDAPNoSuchObjectResult as err:
        nearest = f"; what exists is {err.dn}" if err.dn else ""
        raise _Refused(f"{wrong} does not exist, or {site['bind_dn']} may not read it{nearest}") from None
    except ldap3.core.exceptions.LDAPException as err:
        raise RelayError(f"{wrong}: {servers.words(err)}") from None
    if not _entries(connection):
        raise _Refused(f"{wrong} is held by another server, or {site['bind_dn']} may not read it")


def _search(
    connection: Any,
    site: dict[str, Any],
    ldap_filter: str,
    path: str,
    attributes: list[str] | None = None,
    most: int = 0,
) -> list[dict[str, Any]]:
    """Return the entries that a filter finds, ``most`` at most; ``path`` is the setting that the filter comes from."""
    ldap3 = packages.imported("ldap3", "ldap3")
    scopes = {"sub": ldap3.SUBTREE, "one": ldap3.LEVEL, "base": ldap3.BASE}
    whole = _parenthesised(ldap_filter)
    try:
        connection.search(
            site["base"],
            whole,
            scopes[site["scope"]],
            attributes=attributes or [ldap3.NO_ATTRIBUTES],
            size_limit=most,
        )
    except ldap3.core.exceptions.LDAPInvalidFilterError:
        raise _Refused(f"smtpout:directory:{path}: {whole} is not a filter (RFC 4515)") from None
    except ldap3.core.exceptions.LDAPException as err:
        raise RelayError(f"smtpout:directory:{path}: {whole}: {servers.words(err)}") from None
    return _entries(connection)


def _entries(connection: Any) -> list[dict[str, Any]]:
    """Return the entries of an answer without the references to other servers, which nobody here follows."""
    return [entry for entry in connection.response or [] if entry["type"] == "searchResEntry"]


@contextlib.contextmanager
def _serving(site: dict[str, Any]) -> Iterator[Any]:
    """Yield a connection to the first server that serves."""
    faults = []
    for server in site["servers"]:
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(_bound(server, site))
            except RelayError as err:
                faults.append(f"{server}: {err}")
                continue
            yield connection
            return
    raise RelayError("\n".join(faults))


@contextlib.contextmanager
def _bound(server: str, site: dict[str, Any]) -> Iterator[Any]:
    """Yield a connection that is bound as the site's account."""
    ldap3 = packages.imported("ldap3", "ldap3")
    host, port, encrypted = servers.address(server)
    timeout = site["timeout"]
    servers.check_reachable(host, port, timeout)
    connection = ldap3.Connection(
        ldap3.Server(
            host, port, use_ssl=encrypted, tls=_tls(ldap3, site), connect_timeout=timeout, get_info=ldap3.NONE
        ),
        user=site["bind_dn"],
        password=site["bind_password"],
        receive_timeout=timeout,
        auto_referrals=False,
        raise_exceptions=True,
    )
    try:
        _open(ldap3, connection, site)
        _bind(ldap3, connection, site, timeout)
        yield connection
    finally:
        with contextlib.suppress(ldap3.core.exceptions.LDAPException, OSError):
            connection.unbind()


def _tls(ldap3: Any, site: dict[str, Any]) -> Any:
    """Return ldap3's TLS with Python's own check of the server's name."""

    class Tls(ldap3.Tls):
        def wrap_socket(self, connection: Any, **_: Any) -> None:
            # ldap3 2.9.1 knows no addresses in certificates from Python 3.12 on, and has no time limit here.
            connection.socket = servers.wrapped(connection.socket, connection.server.host, site)

    return Tls()


def _open(ldap3: Any, connection: Any, site: dict[str, Any]) -> None:
    """Connect, with TLS where the site has it."""
    try:
        connection.open(read_server_info=False)
        if site.get("start_tls") and not connection.server.ssl:
            connection.start_tls(read_server_info=False)
    except (ldap3.core.exceptions.LDAPException, OSError) as err:
        raise servers.tls_fault(err, site) from None


def _bind(ldap3: Any, connection: Any, site: dict[str, Any], timeout: float) -> None:
    """Bind as the site's account."""
    exceptions = ldap3.core.exceptions
    account = f"{site.get('account', 'smtpout:directory:bind_dn')}: {site['bind_dn']}"
    try:
        connection.bind(read_server_info=False)
    except exceptions.LDAPInvalidCredentialsResult as err:
        subcode = re.search(r"\bdata ([0-9a-f]+)\b", err.message or "")
        said = f"the name or {'password' if 'account' in site else 'bind_password'} is wrong"
        if subcode and subcode[1] in AD_SUBCODES:
            said = f"{AD_SUBCODES[subcode[1]]} (Active Directory says {subcode[1]})"
        raise _Refused(f"{account} is refused: {said}") from None
    except (exceptions.LDAPStrongerAuthRequiredResult, exceptions.LDAPConfidentialityRequiredResult):
        said = "the server takes no password in clear text: use ldaps:// or smtpout:directory:start_tls"
        raise _Refused(said) from None
    except (exceptions.LDAPSocketReceiveError, exceptions.LDAPResponseTimeoutError, TimeoutError):
        said = f"takes connections and doesn't answer within {timeout} s"
        raise RelayError(f"{said}; Postfix and saslauthd hang on it and never ask the next one") from None
    except (exceptions.LDAPException, OSError) as err:
        raise RelayError(f"{account} is refused: {servers.words(err)}") from None
    except (LookupError, TypeError, ValueError):  # what ldap3 makes of bytes that are no message of LDAP's
        raise RelayError("what answers there speaks no LDAP") from None


def _parenthesised(ldap_filter: str) -> str:
    """Return a filter as ldap3 wants it; libldap, behind Postfix and saslauthd, takes ``a=b`` too."""
    return ldap_filter if ldap_filter.startswith("(") else f"({ldap_filter})"
