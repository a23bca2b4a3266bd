"""What each format takes, what it refuses, and what it says then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtpout_core.site import formats

RIGHT: dict[str, list[object]] = {
    "address": ["192.0.2.25", "2001:db8::25", "::1"],
    "cidr": ["192.0.2.0/24", "192.0.2.25", "2001:db8::/32", "::1/128", "127.0.0.0/8"],
    "dn": [
        "dc=domain01,dc=dom",
        "cn=correoapp,ou=mailapps,dc=domain01,dc=dom",
        "CN=Smith\\, John,OU=a b,DC=x",
        "cn=a+uid=b, dc=x",
        "2.5.4.3=#04024869",
        "cn=Lu\\C4\\8Di\\C4\\87",
    ],
    "domain": ["domain01.dom", "Example.COM", "xn--bcher-kva.example", "a-b.c--d.example", f"{'a' * 63}.example"],
    "duration": ["60s", "4h", "1d", "1w", "300", 300, 0],
    "hostname": ["relay", "localhost", "vm-172-16-11-95.cloud0.hc.mycompany.dom"],
    "ldap-filter": [
        "sAMAccountName=%U",
        "(mail=%s)",
        "(|(&(mail=%s)(mail=*@domain01.dom))(&(mail=%s)(mail=*@domain02.dom)))",
        "&(objectClass=person)(!(userAccountControl:1.2.840.113556.1.4.803:=2))",
        "(&(uid=%u)(mail=*@%d)(cn=a\\28b\\29)(age>=3)(sn~=x)(photo=*))",
        "(memberOf:1.2.840.113556.1.4.1941:=cn=mail,dc=x)",
        "(cn;lang-de:dn:2.4.6.8.10:=Dino)",
        "(:dn:2.4.6.8.10:=Dino)",
        "(&)",
        "(cn=100%%)",
    ],
    "ldap-uri": [
        "ldap://172.16.11.63:389/",
        "ldaps://dc1.example.com",
        "ldap://[2001:db8::1]:389",
        "ldapi://",
        "ldapi://%2Frun%2Fslapd%2Fldapi/",
    ],
    "nexthop": [
        "smtp:[172.16.11.96]:25",
        "smtp:smtp-delivery.cloud0.hc.mycompany.dom:25",
        "[delivery.example.com]:submission",
        "[172.16.11.96]",
        "delivery.example.com",
        ":delivery.example.com",
        ":[172.16.11.96]:2525",
        "smtp:[ipv6:2001:db8::1]:25",
        "smtp:[192.0.2.1]:25, [192.0.2.2]:25",
        "lmtp:unix:/run/lmtp.sock",
        "lmtp:inet:[192.0.2.1]:24",
        "smtp:",
        "error:5.1.1 no such user here",
    ],
    "password": ["P@ss w0rd", "ñ" * 63, '#"\\$'],
    "path": ["/etc/ssl/private/relay.pem", "/srv/é@a+b~c=d_e.pem"],
    "mail-address": ["helpdesk@example.com", "o'neill+list@mail.example.com", "a.b@xn--mnchen-3ya.example"],
    "route": ["default", "example.com", ".example.com"],
    "selector": ["default", "s2026", "2026", "2026.mail"],
    "sender": ["scanner@example.com", "a.b+c=d@example.com", "@example.com"],
    "single-line": ["", "P@ssw0rd, with blanks"],
    "size": [26214400, "25M", "10k", "0"],
    "socket": ["unix:/run/opendkim/opendkim.sock", "inet:8891@localhost", "inet:127.0.0.1:7357", "inet:[::1]:8891"],
    "url": ["https://mirror.example.com/clamav", "file:///srv/signatures/site.ndb", "http://u:p@192.0.2.1:8080/"],
}

WRONG: dict[str, list[tuple[object, str]]] = {
    "address": [("192.0.2", ""), ("192.0.2.256", ""), ("[::1]", "without brackets, ::1"), ("fe80::1%eth0", "a zone")],
    "cidr": [
        ("10.1.2.3/8", "10.0.0.0/8 was meant"),
        ("2001:db8::1/32", "2001:db8::/32 was meant"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8 was meant"),
        ("[::1]/128", "without brackets, ::1/128"),
        ("::ffff:10.0.0.0/104", "an IPv4 network is written as one, 10.0.0.0/8 was meant"),
        ("::ffff:0:0/96", "0.0.0.0/0 was meant"),
        ("10.0.0.0/33", ""),
        ("example.com", ""),
    ],
    "dn": [
        ("ou=100%u,dc=x", "write \\25"),
        ("", '"" is not attribute=value'),
        ("domain01.dom", '"domain01.dom" is not attribute=value'),
        ("dc=domain01,", '"" is not attribute=value'),
        ("cn=Smith; John,dc=x", '"cn=Smith; John"'),
        ("cn=a\\", '"cn=a\\"'),
    ],
    "domain": [
        ("", "it is empty"),
        ("localhost", "one label only"),
        ("example.com.", "without the dot at the end"),
        ("a..example", "an empty label"),
        ("*.example.com", '"*" may hold letters'),
        ("-a.example", '"-a" may hold letters'),
        ("exa mple.com", '"exa mple" may hold letters'),
        ("bücher.example", "A-label form, xn--bcher-kva.example (RFC 5890)"),
        ("straße.example", "A-label form (RFC 5890)"),  # IDNA 2003 would say strasse, another domain
        ("xn--a-.example", '"xn--a-" may hold'),
        ("xn--99999999.example", "is no A-label"),
        ("192.0.2.1", "reads as an address"),
        (f"{'a' * 64}.example", "64 characters, 63 at most"),
        (".".join(["a" * 62] * 5), "314 characters, 253 at most"),
    ],
    "duration": [("1.5h", "s, m, h, d or w"), ("1y", "s, m, h, d or w"), (-1, "s, m, h"), ("99999w", "2147483647")],
    "hostname": [("relay_1", "may hold letters"), ("192.0.2.1", "reads as an address"), ("25", "reads as a number")],
    "ldap-filter": [
        ("(mail=%s", "a ) is missing"),
        ("(mail=%s))", "a ) too many"),
        ("(mail=%s)(cn=x)", "joined by (&...)"),
        ("(&(mail=%s) (cn=x))", "stands between parentheses"),
        ("(!(a=b)(c=d))", "exactly one part"),
        ("(mail %s)", "is not attribute=value"),
        ("mail", "is not attribute=value"),
        ("(cn=a\\2)", "is not attribute=value"),
        ("(mail=%x)", "a % begins a token"),
        ("", "is not attribute=value"),
        ("(" * 100_000, "is not attribute=value"),
        ("(&" * 100_000, "a ) is missing"),
    ],
    "ldap-uri": [
        ("172.16.11.63", "it begins with ldap://"),
        ("http://dc1.example.com", "it begins with ldap://"),
        ("ldap://dc1.example.com/dc=x", "a host and a port"),
        ("ldap://a ldap://b", "a host and a port"),
        ("ldap://dc1:0", "from 1 to 65535"),
        ("ldap://fe80::1", "in brackets"),
        ("ldap://", "the host: it is empty"),
        ("ldapi:///run/ldapi", "a host and a port"),
    ],
    "nexthop": [
        ("172.16.11.96:25", "smtp:[172.16.11.96]:25 was meant"),
        ("delivery.example.com:25", "smtp:delivery.example.com:25 was meant"),
        ("smtp:172.16.11.96:25", "brackets, [172.16.11.96]"),
        ("smtp:[2001:db8::1]", "[ipv6:2001:db8::1]"),
        ("smtp:[host]:99999", "from 1 to 65535"),
        ("smtp:[host", "is not host"),
        ("smtp:[ho_st]", "may hold letters"),
        ("", "names no host"),
        (":", "names no host"),
        ("lmtp:unix:", "the path behind unix: is missing"),
    ],
    "password": [(" x", "a blank"), ("x ", "a blank"), ("ñ" * 64, "127 bytes"), ("a\nb", "a line break")],
    "path": [
        ("etc/passwd", "begins with a slash"),
        ("/a b", "a blank"),
        ("/a#b", 'it has "#"'),
        ("/etc/ssl/", "a directory's"),
        ("/etc/ssl/../shadow", "goes up by .."),
        (f"/{'a' * 256}", "too long"),
    ],
    "mail-address": [
        ("helpdesk", "it has no @"),
        ("help desk@example.com", ""),
        ('"a b"@example.com', ""),
        (".a@example.com", ""),
        ("a@b", "one label"),
        ("a,b@example.com", ""),
        ("#a@example.com", ""),
        ("@example.com", ""),
    ],
    "route": [("example", "one label only"), ("..example.com", "an empty label"), ("*", "may hold letters")],
    "selector": [("s_1", "may hold letters"), ("", "it is empty"), ("a.", "the dot at the end")],
    "sender": [
        ("scanner", ""),
        ("${x}@example.com", ""),
        ('"a b"@example.com', ""),
        ("a@example", "one label only"),
    ],
    "single-line": [
        ("a\nb", "a line break"),
        ("a\r", "a line break"),
        ("a\0", "a NUL character"),
        ("\ud800", "half a char"),
    ],
    "size": [("25G", "K or M"), ("1.5M", "K or M"), (-1, "K or M"), (2**70, "too large")],
    "socket": [
        ("/run/opendkim.sock", "unix: or inet:"),
        ("unix:run/opendkim.sock", "begins with a slash"),
        (f"unix:/{'a' * 107}", "over 107 bytes"),
        ("inet:localhost", "the port is missing"),
        ("inet:99999@localhost", "from 1 to 65535"),
        ("inet:8891@", "the host: it is empty"),
    ],
    "url": [
        ("mirror.example.com", "it begins with"),
        ("https://", "the host: it is empty"),
        ("file://host/x", "three slashes"),
        ("https://a b/", "the host"),
        ("https://host:x/", "from 1 to 65535"),
    ],
}


def test_every_format_is_tried() -> None:
    assert set(formats.known()) == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize(("format", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_takes(format: str, value: object) -> None:
    assert formats.problem(format, value) is None


@pytest.mark.parametrize(
    ("format", "value", "words"),
    [pytest.param(name, *case, id=f"{name}-{str(case[0])[:40]}") for name, cases in WRONG.items() for case in cases],
)
def test_refuses_and_says_why(format: str, value: object, words: str) -> None:
    found = formats.problem(format, value)
    assert found is not None
    assert words in found
    assert len(found) < 400


@pytest.mark.parametrize("format", RIGHT)
def test_a_line_break_never_passes(format: str) -> None:
    for value in RIGHT[format]:
        assert formats.problem(format, f"{value}\n") == "it has a line break"


@pytest.mark.parametrize("format", RIGHT)
def test_what_the_error_calls_right_is_right(format: str) -> None:
    right, check = formats.known()[format]
    _, such_as, examples = right.partition(" such as ")
    for example in examples.replace(" or ", ", ").split(", ") if such_as else ():
        assert check(example) is None


@given(text=st.text() | st.text(alphabet="a.:@[]()/=%,*&|!\\ #1x-"))
def test_no_text_raises(text: str) -> None:
    for _, check in formats.known().values():
        assert isinstance(check(text), (str, type(None)))
