"""Salt doing nothing, with the lab's own minion: what no apply of any formula can go below."""

from lab.host import Host

from bench.peers import FOLDER, Peer, salt_tally

SALT_CALL = ("salt-call", "--local", "--log-level=error", "--out=json")
STATES = f"{FOLDER}/nothing"


def _nothing(_: Host) -> None:
    """Salt answers test.ping without any preparation."""


def _empty_state(host: Host) -> None:
    # Salt calls it a failure to have no state at all.
    host.write(f"{STATES}/nothing.sls", "Nothing:\n  test.nop\n")


EMPTY = (*SALT_CALL, f"--file-root={STATES}", "state.apply", "nothing")
FLOORS = (
    Peer("test.ping", _nothing, (*SALT_CALL, "test.ping"), None, salt_tally),
    Peer("empty state.apply", _empty_state, EMPTY, (*EMPTY, "test=True"), salt_tally),
)
