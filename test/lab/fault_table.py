"""docs/faults.md: the table that is made of the faults, and what is to be known besides."""

from __future__ import annotations

from lab.faults import FAULTS

HEAD = """# What fails, and what happens then

Generated from `test/lab/faults.py`; `test/lab/test_faults.py` brings each fault about on a booted relay under load, and
counts at the receiving end: `sudo bin/test lab -k mail_survives`, with `--soak` 10,000 messages a fault. Every message
that was answered with 250 has to arrive, and none that was to be refused.

A message arrives twice where SMTP has no way around it (RFC 5321, 4.5.3.2.6; RFC 1047): a connection breaks after the
message and before the answer. The last column says where Postfix itself may be the one that sends again.

| What fails | Clients get | For how long | The operator sees | Recovery | Twice |
|---|---|---|---|---|---|
"""
TAIL = """
## What is left to know

* Directory down: on 587 and 465 Postfix asks the directory before it greets, so that users get 451 and no mail program
  asks for a password. On port 25 with AUTH there is no such question: saslauthd says NO for a wrong password and for an
  unreachable directory alike, and without `directory:proxy` Postfix answers 535 to both. Asked there too, a hung
  directory would hold up the site's servers, whose mail to others needs none. Let users use 587 or 465, or have the
  proxy with a single server, too.
* Several servers (`directory:proxy`): logins and recipients go on by those that answer, in 3 s at most, whatever one of
  them does: it refuses, dies, hangs, drops packets, or shows a wrong certificate. None answers: 451 for the greeting on
  587 and 465 and after RCPT, 454 after AUTH on each port, 25 too. Without the proxy, as with StartTLS, each server that
  hangs is waited for, by each process anew.
* Within a session that began while a milter was down, Postfix answers 451 until its end, also when the milter is back.
* A milter that is down lets nothing pass (`clamav:on_fail: Defer`, `opendkim:on_fail: tempfail`). With `Accept` and
  `accept` everything passes, viruses too and unsigned; `smtpout.verify` warns of the choice, not of each message.
* A clock set back leaves messages from the future in the queue: `postqueue -f` delivers them. The lab can't turn a
  host's clock: only such a message is tried.
* `postfix stop` by hand stops Postfix for good; a master that dies is started again.

## Patch day: the directory's servers are restarted

One after the other, with `directory:proxy`. Nothing has to be done on the relay.

1. Before: `smtpout.verify` has no warning of the directory, so that those that stay are up.
2. Restart one server. What waits for it goes on by another within 3 s, mail to the site's domains too, and nobody is
   told that a password is wrong. Until then a process of Postfix's that has just turned to it says 451; after that
   nothing fails. `smtpout.verify` warns, by name: "passed by until they answer".
3. The next one when that warning has gone: the server is used again 2 s after it answers. One that answers and hasn't
   read its database yet would be used too early, so wait until it has.
4. All at once, or the last one: users get 451 or 454, servers that write to the site's users 451, and all try again by
   themselves. Mail of the site's servers to others goes on.
5. A server that gets another address: HAProxy looks names up when it starts, so `systemctl restart smtpout-haproxy`.
   What comes meanwhile waits, and open questions are asked again.
"""


def table() -> str:
    """Return docs/faults.md as the faults have it."""
    rows = []
    for fault in FAULTS:
        verify = f"`smtpout.verify`: {fault.verify.split('.*')[0]}; " if fault.verify else ""
        twice = "possible" if fault.repeats else "-"
        cells = [fault.name, fault.gets, fault.lasts or "-", f"{verify}journal", fault.recovery, twice]
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(rows) + TAIL
