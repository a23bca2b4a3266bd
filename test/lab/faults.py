"""What can go wrong around and inside a relay, and what it then has to look like; docs/faults.md is made of this."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lab.breaking import (
    MASTER,
    configuration_changed,
    directory_fast,
    directory_signalled,
    directory_slow,
    directory_up,
    each,
    killed,
    killed_as_it_starts,
    master_killed,
    queue_emptied,
    queue_filled,
    samba,
    systemctl,
    wait,
)
from lab.lab import Lab


class Fault(NamedTuple):
    """A fault, what the senders are told meanwhile, and how an operator learns of it."""

    name: str
    begin: Callable[[Lab], object]
    end: Callable[[Lab], object] | None = None  # None: the relay mends itself
    replies: str = ""  # regular expression: what is tried again after, "COMMAND CODE"; the code "lost": no answer
    needed: bool = False  # at least one such reply has to come before the fault ends
    verify: str = ""  # what smtpout.verify says meanwhile
    journal: str = ""  # what the journal says
    repeats: bool = False  # whether a message may arrive twice although its sender was answered
    within: float = 30  # seconds after the end: then nobody is asked to try again any more
    gets: str = ""  # for docs/faults.md: what clients get
    lasts: str = ""  # for how long
    recovery: str = ""


AGAIN = r"\w+ (lost|421|4\d\d)"
DAEMONS = [MASTER, "saslauthd", "clamav-daemon", "clamav-milter", "opendkim"]
MILTER_DOWN = r"(MAIL|RCPT|DATA|AUTH|CONNECT|EHLO|STARTTLS) 4\d\d"
NO_HAND = "systemd starts it again"

KILLED = [
    Fault(
        "smtpd killed",
        killed(MASTER, "smtpd"),
        replies=AGAIN,
        gets="the connection breaks",
        lasts="at once served anew",
        journal="smtpd pid \\d+ killed by signal 9",
        recovery="master starts another",
    ),
    Fault(
        "cleanup killed",
        killed(MASTER, "cleanup"),
        replies=AGAIN,
        gets="451 after DATA",
        lasts="that message",
        recovery="master starts another",
    ),
    Fault(
        "qmgr killed",
        killed(MASTER, "qmgr"),
        replies=AGAIN,
        repeats=True,
        gets="nothing: 250",
        lasts="",
        journal="qmgr pid \\d+ killed by signal 9",
        recovery="master starts another, which reads the queue again",
    ),
    Fault(
        "the delivery agents and proxymap killed",
        killed(MASTER, "smtp", "proxymap", "trivial-rewrite"),
        replies=AGAIN,
        repeats=True,
        gets="451 where a lookup was under way",
        lasts="that message",
        recovery="master starts others",
    ),
    Fault(
        "Postfix's master killed",
        master_killed,
        replies=AGAIN,
        repeats=True,
        gets="no connection, or it breaks",
        lasts="2 s",
        journal="Main process exited, code=killed",
        recovery=NO_HAND,
    ),
    Fault(
        "saslauthd killed",
        killed("saslauthd"),
        replies=r"AUTH 454",
        gets="454 after AUTH",
        lasts="2 s",
        journal="saslauthd",
        recovery=NO_HAND,
    ),
    Fault(
        "saslauthd's workers killed",
        killed("saslauthd", "worker"),
        replies=r"AUTH 454",
        gets="454 after AUTH, where a login was under way",
        lasts="that login",
        recovery="saslauthd starts others",
    ),
    Fault(
        "clamd killed",
        killed("clamav-daemon"),
        replies=r"DATA 451",
        within=75,
        gets="451 after DATA, where a scan was under way",
        lasts="up to a minute",
        recovery=NO_HAND,
    ),
    Fault(
        "clamav-milter killed",
        killed("clamav-milter"),
        replies=MILTER_DOWN,
        gets="451 (STARTTLS or AUTH 454)",
        lasts="2 s",
        recovery=NO_HAND,
    ),
    Fault(
        "opendkim killed",
        killed("opendkim"),
        replies=MILTER_DOWN,
        gets="451 (STARTTLS or AUTH 454)",
        lasts="2 s",
        recovery=NO_HAND,
    ),
    Fault(
        "every daemon killed at once",
        each(*(killed(name) for name in DAEMONS)),
        replies=AGAIN,
        repeats=True,
        within=75,
        gets="no connection, then 451",
        lasts="2 s",
        recovery=NO_HAND,
    ),
    Fault(
        "a daemon killed seven times in a row",
        each(*[killed("opendkim"), wait(1.2)] * 7),
        replies=MILTER_DOWN,
        within=45,
        gets="451 (STARTTLS or AUTH 454)",
        lasts="2 s after the last",
        recovery=NO_HAND,
    ),
    Fault(
        "opendkim killed once more, as it starts",
        killed_as_it_starts,
        replies=MILTER_DOWN,
        needed=True,
        gets="451 (STARTTLS or AUTH 454)",
        lasts="30 s, a start's time",
        journal="opendkim.service: start operation timed out",
        recovery=NO_HAND,
    ),
]
RESTARTED = [
    Fault(
        "every daemon restarted in turn",
        each(*(systemctl("restart", name) for name in DAEMONS)),
        replies=AGAIN,
        repeats=True,
        within=75,
        gets="451 (STARTTLS or AUTH 454), no connection while Postfix starts",
        lasts="until each is up; opendkim stops for 5 s",
        recovery="none needed",
    ),
    Fault(
        "every daemon's configuration changed by an apply, and back",
        configuration_changed,
        replies=AGAIN,
        repeats=True,
        within=75,
        gets="451 (STARTTLS or AUTH 454) from a daemon that has to restart",
        lasts="until it is up",
        recovery="none needed",
    ),
]
AROUND = [
    Fault(
        "delivery layer down",
        systemctl("stop", "postfix@-", host="delivery"),
        systemctl("start", "postfix@-", host="delivery"),
        verify="mail leaves the relay.*Connection refused",
        journal="status=deferred",
        repeats=True,
        gets="250: mail waits in the queue",
        lasts="as long as it is down, at most maximal_queue_lifetime (1 day)",
        recovery="the queue is tried again by itself",
    ),
    Fault(
        "directory down",
        systemctl("stop", "samba-ad-dc", host="directory"),
        directory_up,
        replies=r"(CONNECT|RCPT|MAIL) 451|AUTH 535",
        needed=True,
        verify="the directory answers.*can't be reached",
        journal="Can't contact LDAP server",
        gets="users: 451 instead of the greeting; mail to the site's domains: 451 after RCPT; "
        "mail of the site's servers to others: 250",
        lasts="as long as it is down",
        recovery="none needed",
    ),
    Fault(
        "directory hung (it takes connections and never answers)",
        directory_signalled("STOP"),
        directory_signalled("CONT"),
        replies=r"(CONNECT|RCPT|MAIL) 451|AUTH 535",
        needed=True,
        verify="the directory answers",
        journal="Timed out|lookup error",
        gets="the same, each after directory:timeout (10 s)",
        lasts="as long as it hangs",
        recovery="none needed",
    ),
    Fault(
        "directory slow (a tenth of its speed)",
        directory_slow,
        directory_fast,
        replies=r"(CONNECT|RCPT|MAIL) 451",
        gets="250, later",
        lasts="",
        recovery="none needed",
    ),
    Fault(
        "directory refuses the relay's account: its password was changed",
        samba("user", "setpassword", "correoapp", "--newpassword=Another2016Pass"),
        samba("user", "setpassword", "correoapp", "--newpassword=Pass2016Mail"),
        replies=r"(CONNECT|RCPT|MAIL) 451|AUTH 535",
        needed=True,
        verify="the directory answers.*(refused|wrong)",
        journal="Invalid credentials|authentication failed",
        gets="users: 535 from a process whose directory connection is older than the change (ten sessions at most), "
        "then 451 instead of the greeting",
        lasts="until pillar and directory agree again",
        recovery="correct either side",
    ),
    Fault(
        "directory refuses the relay's account: it expired or was disabled",
        samba("user", "disable", "correoapp"),
        samba("user", "enable", "correoapp"),
        replies=r"(CONNECT|RCPT|MAIL) 451|AUTH 535",
        needed=True,
        verify="the directory answers.*refused",
        journal="Invalid credentials|authentication failed",
        gets="the same",
        lasts="until the account is renewed",
        recovery="none needed on the relay",
    ),
    Fault(
        "a user's account expired or was disabled",
        samba("user", "disable", "usuario02"),
        samba("user", "enable", "usuario02"),
        replies=r"AUTH 535",
        needed=True,
        journal="authentication failed",
        gets="that user: 535 after AUTH, from the next login on",
        lasts="until it is renewed (with saslauthd:cache_seconds, up to that much later)",
        recovery="none needed",
    ),
]
INSIDE = [
    Fault(
        "clamd down",
        systemctl("stop", "clamav-daemon.socket", "clamav-daemon.service"),
        systemctl("start", "clamav-daemon.socket", "clamav-daemon.service"),
        replies=r"DATA 451",
        needed=True,
        verify="the scanner.*clamd",
        journal="No clamd server appears to be available|socket",
        within=75,
        gets="451 after DATA",
        lasts="as long as it is down, at most a minute more",
        recovery="none needed",
    ),
    Fault(
        "clamd loading its signatures (or hung)",
        systemctl("kill --signal=STOP", "clamav-daemon"),
        systemctl("kill --signal=CONT", "clamav-daemon"),
        replies=r"DATA (451|lost)",
        verify="the scanner.*still loads",
        gets="an answer as soon as it has loaded",
        lasts="as long as it loads",
        recovery="none needed",
    ),
    Fault(
        "clamav-milter down",
        systemctl("stop", "clamav-milter"),
        systemctl("start", "clamav-milter"),
        replies=MILTER_DOWN,
        needed=True,
        verify="the clamav milter answers.*clamav-milter",
        journal="connect to Milter service",
        gets="451 (STARTTLS or AUTH 454)",
        lasts="as long as it is down",
        recovery="start it",
    ),
    Fault(
        "opendkim down",
        systemctl("stop", "opendkim"),
        systemctl("start", "opendkim"),
        replies=MILTER_DOWN,
        needed=True,
        verify="the opendkim milter answers.*opendkim",
        journal="connect to Milter service",
        gets="451 (STARTTLS or AUTH 454)",
        lasts="as long as it is down",
        recovery="start it",
    ),
    Fault(
        "saslauthd down",
        systemctl("stop", "saslauthd"),
        systemctl("start", "saslauthd"),
        replies=r"AUTH 454",
        needed=True,
        verify="logins are checked.*saslauthd",
        journal="cannot connect to saslauthd server",
        gets="users: 454 after AUTH",
        lasts="as long as it is down",
        recovery="start it",
    ),
    Fault(
        "smtpout-policy down (smtpout:limits)",
        systemctl("stop", "smtpout-policy.socket", "smtpout-policy.service"),
        systemctl("start", "smtpout-policy.socket", "smtpout-policy.service"),
        verify="what logins send is counted.*passes uncounted",
        journal="problem talking to server",
        gets="250: nobody is over a limit",
        lasts="as long as it is down",
        recovery="start it",
    ),
    Fault(
        "smtpout-policy hung",
        systemctl("kill --signal=STOP", "smtpout-policy.service"),
        systemctl("kill --signal=CONT", "smtpout-policy.service"),
        verify="what logins send is counted.*passes uncounted",
        journal="problem talking to server",
        gets="250, two seconds later",
        lasts="ten seconds, until systemd starts it again",
        recovery=NO_HAND,
    ),
    Fault(
        "the queue's disk full",
        queue_filled,
        queue_emptied,
        replies=r"(MAIL 452|DATA 45[12]|\w+ (451|lost))",
        needed=True,
        verify="the queue has room.*452",
        journal="not enough free space|No space left",
        gets="452 after MAIL",
        lasts="until there is room",
        recovery="make room: mail goes on by itself",
    ),
]
FAULTS = [*KILLED, *RESTARTED, *AROUND, *INSIDE]
