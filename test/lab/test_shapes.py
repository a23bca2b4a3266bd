"""Nothing changes a message after it was signed: five hundred of every shape, to receivers that take more or less.

Each arrives with a signature that is right, or was refused in the session; none is lost, none bounces later.
"""

from __future__ import annotations

import base64
import json
import sys
import uuid
from collections.abc import Iterator

import pytest

from lab import mail, shapes
from lab.conftest import SUMMARY, Applied
from lab.lab import CLIENT

RECEIVERS = {
    "all": "silent-discard",
    "no 8BITMIME": "8bitmime, smtputf8, silent-discard",
    "no PIPELINING": "pipelining, chunking, silent-discard",
    "nothing": "8bitmime, smtputf8, chunking, pipelining, dsn, size, silent-discard",
}
MESSAGES = 500
SEND = """
import base64, json, smtplib, sys
given = json.load(sys.stdin)
said = {}
client = smtplib.SMTP(given["host"], 25, timeout=60, local_hostname="app.domain01.dom")
for token, text in given["messages"].items():
    try:
        client.mail(given["sender"], ["BODY=8BITMIME"])
        client.rcpt("somebody@outside.example")
        code, words = client.docmd("DATA")
        if code == 354:
            data = base64.b64decode(text).replace(b"\\r\\n.", b"\\r\\n..")
            data = b"." + data if data.startswith(b".") else data
            client.send(data + (b"" if data.endswith(b"\\r\\n") else b"\\r\\n") + b".\\r\\n")
            code, words = client.getreply()
        said[token] = [code, words.decode(errors="replace")]
        client.rset()
    except smtplib.SMTPServerDisconnected:
        said.setdefault(token, [0, "disconnected"])
        client = smtplib.SMTP(given["host"], 25, timeout=60, local_hostname="app.domain01.dom")
print(json.dumps(said))
"""
ARRIVED = r"""
import json, pathlib, re, sys, time
wanted, ends, found = set(json.load(sys.stdin)), time.monotonic() + 60, {}
while wanted - found.keys() and time.monotonic() < ends:
    for path in pathlib.Path("/srv/mail").rglob("new/*"):
        head = path.read_bytes().partition(b"\n\n")[0].decode(errors="replace")
        for token in re.findall(r"(?m)^X-Token: (\S+)", head):
            if token in wanted:
                results = re.findall(r"(?m)^Authentication-Results:.*(?:\n[ \t].*)*", head)
                found[token] = " ".join(results[:1])
    time.sleep(0.5)
print(json.dumps(found))
"""


@pytest.fixture
def receiver(request: pytest.FixtureRequest, example: Applied) -> Iterator[Applied]:
    """Return the example's relay while the Internet's host offers no more than it is said to."""
    outside = example.lab.host("outside")
    outside.run(["cp", "-a", "/etc/postfix/main.cf", "/root/main.cf"])
    try:
        outside.run(["postconf", "-e", f"smtpd_discard_ehlo_keywords={RECEIVERS[request.param]}"])
        outside.run(["postfix", "reload"])
        yield example
    finally:
        outside.run(["cp", "-a", "/root/main.cf", "/etc/postfix/main.cf"])
        outside.run(["postfix", "reload"])


@pytest.mark.parametrize("receiver", RECEIVERS, indirect=True)
def test_every_shape_arrives_as_it_was_signed(
    receiver: Applied, request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> None:
    offers = list(RECEIVERS).index(request.node.callspec.params["receiver"])
    share = MESSAGES // len(RECEIVERS)
    seeds = range(offers * share, (offers + 1) * share)
    tokens = {uuid.uuid4().hex: seed for seed in seeds}
    messages = {token: base64.b64encode(shapes.made(seed, token)).decode() for token, seed in tokens.items()}
    given = {"host": mail.RELAY, "sender": shapes.AUTHOR, "messages": messages}
    done = receiver.lab.client(CLIENT).run([sys.executable, "-c", SEND], input=json.dumps(given), timeout=180)
    said = json.loads(done.stdout)
    taken = [token for token in tokens if said[token][0] == 250]
    refused = {tokens[token]: said[token] for token in tokens if said[token][0] >= 500}
    outside = receiver.lab.host("outside")
    arrived = json.loads(outside.run(["python3", "-c", ARRIVED], input=json.dumps(taken), timeout=120).stdout)
    failing = {
        tokens[token]: arrived[token] for token in taken if token in arrived and "dkim=pass" not in arrived[token]
    }
    lost = [tokens[token] for token in taken if token not in arrived]
    pytestconfig.stash.setdefault(SUMMARY, []).append(
        f"shapes, {request.node.callspec.params['receiver']} ({receiver.release}): {len(tokens)} sent, "
        f"{len(refused)} refused, {len(arrived)} arrived, {len(failing)} with a broken signature, {len(lost)} lost"
    )
    assert failing == {}
    assert lost == []
    assert len(taken) + len(refused) == len(tokens), {tokens[token]: words for token, words in said.items()}
    assert len(taken) > len(tokens) // 2, refused
