"""The receiving end of a load: smtp-sink on the delivery layer and outside, which counts and forgets."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.host import Host
from lab.lab import Lab

COUNT = re.compile(rb"mesg=(\d+)")


class Sink:
    """smtp-sink on one host: how many messages it has had, and when the last one came (the machine's clock)."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.messages = 0
        self.last = 0.0
        host.run(["systemctl", "stop", "postfix"])
        address = host.role.addresses[0]
        command = ["smtp-sink", "-c", "-m", "1000", "-u", "postfix", f"{address}:25", "1000"]
        self.process = subprocess.Popen(host.argv(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        rest = b""
        while said := self.process.stdout.read(65536):
            counts = COUNT.findall(rest + said)
            if counts and int(counts[-1]) != self.messages:
                self.messages, self.last = int(counts[-1]), time.monotonic()
            rest = said[-40:]  # a number may be cut in two, and then the whole of it comes with the next

    def stop(self) -> None:
        self.process.kill()
        self.host.run(["pkill", "-KILL", "-x", "smtp-sink"], check=False)
        self.host.run(["systemctl", "start", "postfix"])


class Sinks:
    """Both of them together."""

    def __init__(self, lab: Lab) -> None:
        self.sinks = [Sink(lab.host(name)) for name in ("delivery", "outside")]

    def messages(self) -> int:
        return sum(sink.messages for sink in self.sinks)

    def last(self) -> float:
        return max(sink.last for sink in self.sinks)


@contextmanager
def sinks(lab: Lab) -> Iterator[Sinks]:
    """Have sinks in the place of the mailboxes for a while."""
    both = Sinks(lab)
    try:
        yield both
    finally:
        for sink in both.sinks:
            sink.stop()
