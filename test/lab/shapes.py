"""Messages of every shape that mail programs write, made by a seed: lengths, encodings, MIME, headers, endings.

Each has an author of the site, so that what arrives of it has to be signed, and the signature to be right.
"""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable

AUTHOR = "app@domain01.dom"
LENGTHS = (0, 1, 70, 76, 78, 79, 500, 990, 996, 997, 998, 999, 1000, 2048, 5000, 20_000)
BEYOND = "añadido übermäßig Ελλάδα 日本語 "
LETTERS = "abcdefghij klmnopqrst.uvwxyz,0123456789=/-<>"
FROMS: tuple[str, ...] = (
    "{a}", "<{a}>", "App <{a}>", '"App, of the site" <{a}>', '"an \\"odd\\" one" <{a}>',
    "App (a (nested) comment) <{a}>", "=?utf-8?b?w5FhbmTDug==?= <{a}>", "Ñandú <{a}>", '"ceo@outside.example" <{a}>',
    "App\r\n <{a}>", "\r\n App\r\n\t<{a}>", "APP@DOMAIN01.DOM", "app@Domain01.Dom", " {a}  ", "<{a}> (App)",
    "App <@relay.example:{a}>",
)  # fmt: skip
ODD = ("", " ", "\t", "  two  blanks  ", "no blank")


def made(seed: int, token: str) -> bytes:
    """Return a message with CRLF at its lines' ends, which a header names by a token.

    :param seed: the same makes the same.
    """
    drawn = random.Random(seed)  # noqa: S311 - no secret
    body, described = drawn.choice(BODIES)(drawn)
    headers = [f"X-Token: {token}", *described, *_headers(drawn)]
    # Postfix completes a missing From:, but not beside a Resent-From: (cleanup(8)), and nobody writes that.
    if drawn.random() < 0.95 or any(header.startswith("Resent-From") for header in headers):
        headers.append(f"From: {drawn.choice(FROMS).format(a=AUTHOR)}")
    drawn.shuffle(headers)
    return "\r\n".join([*headers, "", ""]).encode() + body


def _headers(drawn: random.Random) -> list[str]:
    """Return headers, folded or not, of any length up to some kilobytes, written raw beyond ASCII now and then."""
    found = [f"To: {drawn.choice(['somebody@outside.example', 'undisclosed-recipients:;', ''])}"]
    choices: list[Callable[[], str]] = [
        lambda: f"Subject: {_text(drawn, drawn.choice(LENGTHS[:14]))}",
        lambda: f"Subject: {BEYOND * drawn.randint(1, 40)}",
        lambda: "References: " + " ".join(f"<{drawn.random()}@a.example>" for _ in range(drawn.randint(1, 150))),
        lambda: "References: " + "\r\n ".join(f"<{drawn.random()}@a.example>" for _ in range(drawn.randint(1, 90))),
        lambda: f"Date: {drawn.choice(['Fri, 27 Nov 2026 09:00:00 +0000', 'yesterday', ''])}",
        lambda: f"Message-ID: <{drawn.random()}@domain01.dom>",
        lambda: f"X-Odd:{drawn.choice(ODD)}",
        lambda: f"X-Long: {_text(drawn, drawn.choice(LENGTHS[:15]))}",
        lambda: "Reply-To: undisclosed, <reply@domain01.dom>",
        lambda: "Sender: app@domain01.dom",
        lambda: "Resent-From: other@outside.example",
        lambda: "List-Unsubscribe: <mailto:off@domain01.dom>,\r\n <https://domain01.dom/off>",
    ]
    seen = set()
    for each in drawn.sample(choices, drawn.randint(0, 7)):
        header = each()
        if (name := header.partition(":")[0]) not in seen:
            seen.add(name)
            found.append(header)
    return found


def _text(drawn: random.Random, length: int) -> str:
    return "".join(drawn.choice(LETTERS) for _ in range(length))


def _lines(drawn: random.Random, beyond: bool = False) -> bytes:
    """Return lines of any length, with what SMTP and canonicalization mind: dots, blanks, empty ones, an odd end."""
    lines = []
    for _ in range(drawn.randint(0, 6)):
        line = _text(drawn, drawn.choice(LENGTHS))
        if beyond:
            line = (BEYOND + line)[: max(len(line), 20)]
        lines.append(
            drawn.choice(["", "", "", ".", "..", "From ", "\t", " "]) + line + drawn.choice(["", "", " ", " \t "])
        )
    lines += [""] * drawn.choice([0, 0, 1, 3])
    return "\r\n".join(lines).encode() + drawn.choice([b"\r\n", b"\r\n", b""])


def _plain(drawn: random.Random) -> tuple[bytes, list[str]]:
    return _lines(drawn), drawn.choice([[], ["MIME-Version: 1.0", "Content-Type: text/plain; charset=us-ascii"]])


def _eight_bits(drawn: random.Random) -> tuple[bytes, list[str]]:
    declared = ["MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", "Content-Transfer-Encoding: 8bit"]
    return _lines(drawn, beyond=True), drawn.choice([[], declared, declared[:2]])


def _encoded(drawn: random.Random) -> tuple[bytes, list[str]]:
    text = _lines(drawn, beyond=True)
    way = drawn.choice(["base64", "quoted-printable"])
    body = base64.encodebytes(text) if way == "base64" else quopri.encodestring(text.replace(b"\r\n", b"\n"))
    described = ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", f"Content-Transfer-Encoding: {way}"]
    return body.replace(b"\n", b"\r\n"), described


def _parts(drawn: random.Random) -> tuple[bytes, list[str]]:
    """Return several parts: alternatives, attachments, another message, one signed by S/MIME as it stands."""
    kind = drawn.choice(
        ["mixed", "alternative", 'signed; protocol="application/pkcs7-signature"', "mixed; charset=odd"]
    )
    parts = []
    for _ in range(drawn.randint(1, 3)):
        body, described = drawn.choice([_plain, _eight_bits, _encoded])(drawn)
        if drawn.random() < 0.2:
            inner = f"From: x@other.example\r\nSubject: {BEYOND}\r\n\r\n".encode()
            body, described = inner + body, ["Content-Type: message/rfc822"]
        parts.append("\r\n".join([*described, "", ""]).encode() + body)
    whole = b"".join(b"--=_b\r\n" + part + b"\r\n" for part in parts) + drawn.choice([b"--=_b--\r\n", b""])
    return drawn.choice([b"", b"A preamble.\r\n"]) + whole, [
        "MIME-Version: 1.0", f'Content-Type: multipart/{kind}; boundary="=_b"',
    ]  # fmt: skip


def _empty(_drawn: random.Random) -> tuple[bytes, list[str]]:
    return b"", []


BODIES: tuple[Callable[[random.Random], tuple[bytes, list[str]]], ...] = (
    _plain, _plain, _eight_bits, _eight_bits, _encoded, _parts, _parts, _empty,
)  # fmt: skip
