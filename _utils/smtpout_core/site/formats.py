"""The kinds of text that a site pillar holds: domains, networks, nexthops, LDAP filters and the like.

Each format is a function that says what is wrong with a text, named with the source of its rule; the schema of the
pillar names them in ``format``. Nothing here asks the network, the directory or a daemon.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:@]*)(?::([^:@]*))?")
_TRANSPORT = re.compile(r"[A-Za-z0-9_-]+")
_DESTINATION = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::([^:]*))?")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"(?!#){_ATOM}(?:\.{_ATOM})*")
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9-]*")

_ATTRIBUTE = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)"
_FILTER_VALUE = r"(?:[^()*\\]|\\[0-9A-Fa-f]{2})*"
_FILTER_ITEM = re.compile(
    rf"{_ATTRIBUTE}(?:;[A-Za-z0-9-]+)*(?:[~<>]={_FILTER_VALUE}|={_FILTER_VALUE}(?:\*{_FILTER_VALUE})*)"
    rf"|{_ATTRIBUTE}(?:;[A-Za-z0-9-]+)*(?::dn)?(?::{_ATTRIBUTE})?:={_FILTER_VALUE}"
    rf"|(?::dn)?:{_ATTRIBUTE}:={_FILTER_VALUE}"
)
_FILTER_TOKEN = re.compile(r"%[%sSuUdDrR1-9]")
_DN_PAIR = rf'\s*{_ATTRIBUTE}\s*=(?:#(?:[0-9A-Fa-f]{{2}})+|(?!#)(?:[^\\,+";<>]|\\(?:[ "#+,;<=>\\]|[0-9A-Fa-f]{{2}}))*)'
_DN_PART = re.compile(rf"{_DN_PAIR}(?:\+{_DN_PAIR})*")


def known() -> dict[str, tuple[str, Callable[[object], str | None]]]:
    """Return every format: what it takes, in words, and the function that checks it.

    The functions are ``problem`` with the format filled in: a pillar of ten thousand domains is checked without as many
    passes through Salt's loader.
    """
    return {name: (right, functools.partial(problem, name)) for name, (right, _) in _FORMATS.items()}


def problem(format: str, value: object) -> str | None:
    """Return what is wrong with ``value``, such as ``it has a line break``; None for nothing.

    :param format: one of ``known``.
    :param value: what to check. Only text is checked, as JSON Schema has it, and numbers for ``size`` and ``duration``.
        No format allows a line break or a NUL: what stands behind one would be read as a setting of its own.

    The complaint is empty where there is nothing to add to what ``known`` says the format takes.

    Raises KeyError for an unknown format.
    """
    check = _FORMATS[format][1]
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and " " not in value:  # most are
            return check(value)
        padded = format != "single-line" and value != value.strip()
        wrong = _single_line(value) or ("it begins or ends with a blank, which gets lost" if padded else None)
        return wrong or check(value)
    if isinstance(value, int) and not isinstance(value, bool) and format in {"size", "duration"}:
        return check(str(value)) if value.bit_length() <= 64 else "it is too large"
    return None


def _single_line(text: str) -> str | None:
    if "\n" in text or "\r" in text:
        return "it has a line break"
    if re.search("[\ud800-\udfff]", text):
        return "it has half a character, which no file can hold"
    return "it has a NUL character" if "\0" in text else None


def _password(text: str) -> str | None:
    """What saslauthd (lak.h, 127 bytes) reads back whole."""
    return "it has more than 127 bytes, and saslauthd cuts it there" if _bytes(text) > 127 else None


def _bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


def _labels(text: str) -> str | None:
    """Letters, digits and inner hyphens (RFC 1123 section 2.1) in labels of 63 octets (RFC 1035 section 2.3.4).

    Beyond ASCII in A-labels only, since that is what stands in DNS, maps and signatures (RFC 5890 section 2.3.2.1).
    """
    if len(text) > 253:
        return f"it has {len(text)} characters, 253 at most (RFC 1035)"
    if not text.isascii():
        return f"beyond ASCII, a name is written in its A-label form{_a_label(text)} (RFC 5890)"
    if text.endswith(".") and text != ".":
        return "it is written without the dot at the end"
    for label in text.split("."):
        if not label:
            return "it has an empty label" if text else "it is empty"
        if len(label) > 63:
            return f"a label has {len(label)} characters, 63 at most (RFC 1035)"
        if not _LABEL.fullmatch(label):
            return f'"{label}" may hold letters, digits and, inside, hyphens only (RFC 1123)'
        if label[:4].lower() == "xn--" and not _decodes(label[4:]):
            return f'"{label}" is no A-label (RFC 5890)'
    return None


def _a_label(text: str) -> str:
    """Return ``, xn--...`` where Python's own (IDNA 2003) coding is sure, that is, where it turns back to the same."""
    try:
        written = text.encode("idna").decode("ascii")
        return f", {written}" if written.encode("ascii").decode("idna") == text.lower() else ""
    except UnicodeError:
        return ""


def _decodes(punycode: str) -> bool:
    try:
        return bool(punycode.encode("ascii").decode("punycode"))
    except (ValueError, OverflowError):
        return False


def _hostname(text: str) -> str | None:
    """RFC 1123 section 2.1: a name, and never one that reads as an address."""
    wrong = _labels(text)
    if not wrong and text.rpartition(".")[2].isdigit():
        return "it reads as an address" if "." in text else "it reads as a number"
    return wrong


def _domain(text: str) -> str | None:
    """RFC 5321 section 2.3.5: mail needs a fully qualified name, so two labels at least."""
    return _hostname(text) or (None if "." in text else "it has one label only")


def _mail_address(text: str) -> str | None:
    """RFC 5321 section 4.1.2, with a local part that needs no quotes: tables part at blanks, and have comments."""
    local, at, domain = text.rpartition("@")
    if not at:
        return "it has no @"
    return _domain(domain) if _LOCAL.fullmatch(local) and len(local) <= 64 else ""


def _route(text: str) -> str | None:
    """transport(5), TABLE SEARCH ORDER: a domain, or what is below one."""
    return None if text == "default" else _domain(text.removeprefix("."))


def _sender(text: str) -> str | None:
    """An address, or all of a domain, without what main.cf, in which clients are told of it, would take for a name."""
    if re.search(r"[${}]", text):
        return ""
    return _domain(text[1:]) if text.startswith("@") else _mail_address(text)


def _selector(text: str) -> str | None:
    """RFC 6376 section 3.1: sub-domains joined by dots."""
    return _labels(text)


def _address(text: str) -> str | None:
    """IPv4 in four decimals, IPv6 in RFC 4291's text form; no zone, which means nothing to another host."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        bare = text.strip("[]")
        return f"it is written without brackets, {bare}" if bare != text and _address(bare) is None else ""
    return "it has a zone" if "%" in text else None


def _cidr(text: str) -> str | None:
    """RFC 4632 and RFC 4291 section 2.3; Postfix refuses a mynetworks entry with host bits set (postconf(5))."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        bare = re.sub(r"[\[\]]", "", text)
        return f"it is written without brackets, {bare}" if bare != text and _cidr(bare) is None else ""
    if "%" in text:
        return "it has a zone"
    address, slash, prefix = text.partition("/")
    if slash and not prefix.isdigit():
        return f"a prefix length follows the slash, {network} was meant"
    if ipaddress.ip_address(address) != network.network_address:
        return f"it has bits set behind the prefix, {network} was meant"
    if isinstance(network, ipaddress.IPv6Network) and (mapped := network.network_address.ipv4_mapped):
        return f"an IPv4 network is written as one, {mapped}/{network.prefixlen - 96} was meant"
    return None


def _authority(text: str, port_needed: bool = False) -> str | None:
    """``host``, ``host:port``, ``[IPv6]:port`` (RFC 3986 section 3.2)."""
    parts = _AUTHORITY.fullmatch(text)
    if not parts:
        return "an IPv6 address stands in brackets" if text.count(":") > 1 else ""
    host, port = parts[1], parts[2]
    if host.startswith("["):
        if ":" not in host or _address(host[1:-1]) is not None:
            return f"{host} is no IPv6 address"
    elif _address(host) is not None and (wrong := _hostname(host)):
        return f"the host: {wrong}"
    if port is None:
        return "the port is missing" if port_needed else None
    return _port(port)


def _port(text: str) -> str | None:
    return None if _PORT.fullmatch(text) and 0 < int(text) < 65536 else "the port is a number from 1 to 65535"


def _ldap_uri(text: str) -> str | None:
    """RFC 4516 without what the pillar says in keys of its own: base, scope and filter."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in {"ldap", "ldaps", "ldapi"}:
        return "it begins with ldap://, ldaps:// or ldapi://"
    rest = rest.removesuffix("/")
    if re.search(r"[/?#@\s,]", rest):
        return "a host and a port are all that may stand in it"
    if scheme.lower() == "ldapi":  # a socket's path, percent-encoded; empty, the library's default
        return None if re.fullmatch(r"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*", rest) else "its path is percent-encoded"
    return _authority(rest)


def _ldap_filter(text: str) -> str | None:
    """RFC 4515 and RFC 4526 (an empty and, an empty or), with the tokens of ldap_table(5) and saslauthd.

    The outermost parentheses may be left out, as libldap allows.
    """
    unknown = _FILTER_TOKEN.sub("", text).find("%")
    if unknown >= 0:
        return "a % begins a token of Postfix or saslauthd (%s, %u, %U, %d, %D, %1), or is written %%"
    if not text.startswith("("):
        text = f"({text})"
    opened: list[str] = []
    parts = [0]  # how many each open parenthesis holds, the outermost first
    position = 0
    while position < len(text):
        rest = text[position : position + 2]
        if rest[0] == "(" and rest[1:] in {"&", "|", "!"}:
            opened.append(rest[1:])
            parts.append(0)
            position += 2
        elif rest[0] == "(":
            item = _FILTER_ITEM.match(text, position + 1)
            if item and item.end() == len(text):
                return "a ) is missing"
            if not item or text[item.end()] != ")":
                return f'"{_excerpt(text[position + 1 :])}" is not attribute=value with a ) behind it'
            parts[-1] += 1
            position = item.end() + 1
        elif rest[0] == ")":
            if not opened:
                return "it has a ) too many"
            if opened.pop() == "!" and parts[-1] != 1:
                return "a ! stands before exactly one part"
            parts.pop()
            parts[-1] += 1
            position += 1
        else:
            return f'"{_excerpt(text[position:])}" stands between parentheses'
    if opened:
        return "a ) is missing"
    return None if parts == [1] else "several parts are joined by (&...) or (|...)"


def _excerpt(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:30]}..."


def _dn(text: str) -> str | None:
    """RFC 4514, with the blanks around commas and equal signs that every LDAP library takes (RFC 2253 section 4).

    Postfix and saslauthd look for tokens in the base of a search too (ldap_table(5)).
    """
    if "%" in text:
        return r"a % would be taken for a token, write \25"
    start = 0
    for length in map(len, re.sub(r"\\.", "__", text).split(",")):  # an escaped comma separates nothing
        part = text[start : start + length]
        if not _DN_PART.fullmatch(part):
            return f'"{_excerpt(part)}" is not attribute=value'
        start += length + 1
    return None


def _nexthop(text: str) -> str | None:
    """transport(5) and smtp(8), "SMTP DESTINATION SYNTAX".

    Without a transport no port can follow a bare host: transport(5) would take the host for a transport.
    """
    transport, colon, destinations = text.partition(":")
    if text.startswith("[") or not colon:
        transport, destinations = "", text
    elif transport and (destinations.isdigit() or not _TRANSPORT.fullmatch(transport)):
        host = f"[{transport}]" if _address(transport) is None else _excerpt(transport)
        return f'"{_excerpt(transport)}" would be read as the transport, smtp:{host}:{_excerpt(destinations)} was meant'
    if transport in {"error", "retry", "discard"}:  # a reason, not a host
        return None
    if not destinations.strip():
        return None if transport else "it names no host"
    return next(filter(None, map(_lmtp if transport == "lmtp" else _smtp, re.split(r"[,\s]+", destinations))), None)


def _smtp(destination: str) -> str | None:
    parts = _DESTINATION.fullmatch(destination)
    if not parts:
        return f'"{_excerpt(destination)}" is not host, host:port, [host]:port or [address]:port'
    bracketed, bare, port = parts.groups()
    if port is not None and not _SERVICE.fullmatch(port) and (wrong := _port(port)):
        return wrong
    if bare is not None:
        return f"an address stands in brackets, [{bare}]" if _address(bare) is None else _hostname(bare)
    if bracketed[:5].lower() == "ipv6:":
        return None if ":" in bracketed[5:] and _address(bracketed[5:]) is None else f"[{bracketed}] is no IPv6 address"
    if _address(bracketed) is None:
        return f"Postfix wants [ipv6:{bracketed}]" if ":" in bracketed else None
    return _hostname(bracketed)


def _lmtp(destination: str) -> str | None:
    """lmtp(8): ``unix:path`` or ``inet:`` and a destination; without either it is a host."""
    if destination.startswith("unix:"):
        return None if len(destination) > 5 else "the path behind unix: is missing"
    return _smtp(destination.removeprefix("inet:"))


def _socket(text: str) -> str | None:
    """Port@host as libmilter has it (opendkim(8) ``-p``), host:port as Postfix has it (postconf(5), smtpd_milters).

    A socket's path has 107 bytes at most (unix(7)).
    """
    if text.startswith("unix:"):
        return _path(text[5:]) or (None if _bytes(text[5:]) <= 107 else "its path is over 107 bytes")
    if not text.startswith("inet:"):
        return "it begins with unix: or inet:"
    port, at, host = text[5:].partition("@")
    return (_port(port) or _authority(host)) if at else _authority(text[5:], port_needed=True)


def _path(text: str) -> str | None:
    """A file's: absolute, and of characters that mean nothing else in any daemon's configuration file."""
    if not text.startswith("/"):
        return "it begins with a slash"
    if text.endswith("/"):
        return "it is a directory's"
    if ".." in text.split("/"):
        return "it goes up by .., write the path itself"
    if found := re.search(r"[^\w/.@+~=-]", text):
        return f"it has {_character(found[0])}, which means something else in a configuration file"
    return "it is too long" if _bytes(text) > 1000 or any(_bytes(part) > 255 for part in text.split("/")) else None


def _character(character: str) -> str:
    return "a blank" if character.isspace() else f'"{character}"'


def _size(text: str) -> str | None:
    """clamd.conf(5), SIZE: bytes, or a number with K or M."""
    return None if re.fullmatch(r"[0-9]{1,15}[KkMm]?", text) else "a number of bytes, or one with K or M behind it"


def _duration(text: str) -> str | None:
    """postconf(5): a number and s, m, h, d or w; Postfix counts in 32 bits."""
    parts = re.fullmatch(r"([0-9]{1,10})([smhdw]?)", text)
    if not parts:
        return "a number with s, m, h, d or w behind it"
    seconds = int(parts[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[parts[2]]
    return None if seconds < 2**31 else "it is over 2147483647 seconds"


def _url(text: str) -> str | None:
    """RFC 3986, in the schemes that freshclam.conf(5) knows."""
    parts = re.fullmatch(r"(https?|ftps?|file)://([^/?#]*)([^\s\x00-\x1f\x7f]*)", text)
    if not parts or _bytes(text) > 900:
        return "it begins with https://, http://, ftps://, ftp:// or file:///, has no blank, and 900 bytes at most"
    scheme, authority, path = parts.groups()
    if scheme == "file":
        return None if not authority and len(path) > 1 else "three slashes and the path follow file:"
    return _authority(authority.rpartition("@")[2])


_FORMATS: dict[str, tuple[str, Callable[[str], str | None]]] = {
    "address": ("an IP address such as 192.0.2.25", _address),
    "cidr": ("a network such as 192.0.2.0/24", _cidr),
    "dn": ("a distinguished name such as ou=people,dc=example,dc=com", _dn),
    "domain": ("a domain name such as example.com", _domain),
    "duration": ("a time such as 60s, 4h or 1d", _duration),
    "hostname": ("a host name such as relay.example.com", _hostname),
    "ldap-filter": ("an LDAP filter such as (mail=%s)", _ldap_filter),
    "ldap-uri": ("an LDAP URI such as ldaps://directory.example.com", _ldap_uri),
    "mail-address": ("a mail address such as helpdesk@example.com", _mail_address),
    "nexthop": ("a nexthop such as smtp:[192.0.2.25]:25", _nexthop),
    "password": ("a password of at most 127 bytes without outer blanks", _password),
    "path": ("an absolute path such as /etc/ssl/certs/ca.pem", _path),
    "route": ("default, a domain, or a dot and a domain for what is below it, such as .example.com", _route),
    "selector": ("a selector such as s2026", _selector),
    "sender": ("an address, or @ and a domain for all of it, such as scanner@example.com", _sender),
    "single-line": ("one line of text", _single_line),
    "size": ("a size such as 25M", _size),
    "socket": ("a socket such as unix:/run/opendkim.sock or inet:8891@localhost", _socket),
    "url": ("a URL such as https://mirror.example.com/", _url),
}
