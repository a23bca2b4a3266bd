"""What DNS has of a key that waits, asked of name servers, and what that opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dns_servers import RESOLVER, Behaviour, served
from smtpout_core.daemons.opendkim import keys as private
from smtpout_core.daemons.opendkim import record as records
from smtpout_core.dns import comparison
from smtpout_core.errors import RelayError
from smtpout_core.stages import gate, moves
from smtpout_core.stages.moves import ALL, NOBODY, SOME, UNKNOWN, Answer
from smtpout_core.stages.record import MADE, Key

D = "domain01.dom"
HEAD = "$TTL 60\n@ SOA ns.domain01.dom. h.domain01.dom. 1 3600 600 86400 60\n@ NS ns1\n@ NS ns2\n"
HEAD += "ns1 A 127.0.1.1\nns2 A 127.0.1.2\n"

Ask = Callable[..., dict[str, str]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function that asks two servers of a zone for a key's record."""
    path = str(tmp_path / "key")
    public = private.generate_key(path)
    good = f'new._domainkey TXT "{records.value(public)[:200]}" "{records.value(public)[200:]}"\n'
    texts = {"good": good, "none": "", "other": 'new._domainkey TXT "v=DKIM1; p="\n'}

    def run(first: str, second: str, how: str = moves.AUTHORITATIVE) -> Answer:
        servers = {
            f"127.0.1.{n}": Behaviour({D: HEAD + texts.get(each, "")}, silent=each == "silent")
            for n, each in enumerate((first, second), 1)
        }
        with served(servers) as world:
            way = comparison.Way([RESOLVER], port=world.port, seconds=20)
            return gate.answers([Key(D, "new", path, MADE, 0)], how, [D], way)[D, "new"]

    return run


@pytest.mark.parametrize(
    ("servers", "state", "said"),
    [
        (("good", "good"), ALL, ""),
        (("good", "none"), SOME, "ns2.domain01.dom. (127.0.1.2): missing, no such record"),
        (("good", "other"), SOME, "the key is revoked"),
        (("none", "none"), NOBODY, "ns1.domain01.dom. (127.0.1.1), ns2.domain01.dom. (127.0.1.2): no such record"),
        (("other", "other"), NOBODY, "(127.0.1.2): the key is revoked"),
        (("good", "silent"), UNKNOWN, "ns2.domain01.dom. (127.0.1.2) doesn't answer"),
        (("none", "silent"), UNKNOWN, "doesn't answer"),
    ],
)
def test_the_gate_is_open_where_every_server_has_the_one_record_that_matches(
    servers: tuple[str, str], state: str, said: str, ask: Ask
) -> None:
    answer = ask(*servers)
    assert answer.state == state
    assert said in answer.seen


def test_a_resolver_s_word_is_enough_where_the_pillar_says_so(ask: Ask) -> None:
    assert ask("good", "none", moves.RESOLVER).state == ALL  # the resolver of these servers has the first one's
    assert ask("none", "none", moves.RESOLVER) == Answer(NOBODY, "the resolver has no TXT record")


def test_where_nobody_can_be_asked_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_work: Any) -> None:
        raise RelayError("dnspython isn't installed")

    monkeypatch.setattr(comparison, "run_aside", missing)
    asked = [Key(D, "new", str(tmp_path), MADE, 0)]
    assert gate.answers(asked, moves.AUTHORITATIVE, [D], comparison.Way())[D, "new"].state == UNKNOWN
