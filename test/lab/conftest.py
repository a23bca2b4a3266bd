"""The relays that the suites look at: each booted bare, applied with a suite's pillar, and kept for all its tests."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from support import PILLARS, PLATFORMS, REPOSITORY, STATES
from xdist.scheduler import LoadScopeScheduling

from lab import checks, images
from lab.lab import HOSTS, Lab

# What changes on any running host, or is Salt's own bookkeeping, and not the formula's doing.
NOT_COMPARED = (
    "/dev", "/proc", "/sys", "/run/systemd", "/run/log", "/run/udev", "/var/log/journal", "/var/log/salt",
    "/var/cache/salt", "/var/cache/smtpout/salt", "/opt/salt", "/srv/formula", "/root/.cache",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what bin/test hands on."""
    parser.addoption("--release", action="append", choices=images.RELEASES, help="default: kitchen.yml's")
    parser.addoption(
        "--salt", choices=images.LOCKS, default=images.SALT_VERSION, help="the relay's Salt (default: %(default)s)"
    )
    parser.addoption("--keep", action="store_true", help="leave the hosts up")
    soak = "10,000 messages a fault instead of some dozens, and 60 kills of an apply instead of 10"
    parser.addoption("--soak", action="store_true", help=soak)


SUMMARY = pytest.StashKey[list[str]]()


def new_lab(suite: str, release: str, config: pytest.Config, hosts: Iterable[str] = HOSTS) -> Lab:
    """Return a suite's lab, booted anew; it is this checkout's and this process's own: others may be at it, too."""
    process = os.environ.get("PYTEST_XDIST_WORKER", "")
    own = hashlib.sha256(f"{REPOSITORY} {process}".encode()).hexdigest()
    lab = Lab(f"{suite[:4]}{release[:4]}{own[:4]}", release, config.getoption("salt"), quiet=True)
    lab.down()  # what an interrupted run left
    lab.up(hosts)
    return lab


class ByRelease(LoadScopeScheduling):
    """Keeps a release's tests in one process: they share its relays. Long ones of one release go where time is left."""

    def _split_scope(self, nodeid: str) -> str:
        groups = ("test_ways", "test_faults", *images.RELEASES)
        return next((group for group in groups if group in nodeid), "none")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByRelease:
    """Say how tests are shared out where bin/test runs two processes."""
    return ByRelease(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand on what a suite has to show from the process that ran it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["summary"] = session.config.stash.get(SUMMARY, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process has handed on."""
    node.config.stash.setdefault(SUMMARY, []).extend(node.workeroutput["summary"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what a suite has to show for itself, and how long each took."""
    for line in config.stash.get(SUMMARY, []):
        terminalreporter.write_line(line)
    for suite, seconds in suites(report for reports in terminalreporter.stats.values() for report in reports):
        terminalreporter.write_line(f"{seconds:6.0f} s  {suite}")


def suites(reports: Iterable[Any]) -> list[tuple[str, float]]:
    """Return each suite with its seconds, the longest first; a relay's boot is in those of the first that asks for it.

    :param reports: all that pytest keeps of a run; of another process's tests as well.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.partition("::")[0]] += report.duration
    return sorted(seconds.items(), key=lambda each: -each[1])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on every release; what the release makes no difference to on the one that its relay names."""
    if "release" in metafunc.fixturenames:
        releases = metafunc.config.getoption("release") or [images.PLATFORMS[name] for name in PLATFORMS]
        for only in images.RELEASES:
            if f"on_{only}" in metafunc.fixturenames:
                releases = [release for release in releases if release == only]
        metafunc.parametrize("release", releases, scope="session")


@dataclass
class Applied:
    """A relay that has been applied: the lab, and what each step of it said."""

    lab: Lab
    suite: str
    release: str
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    touched: dict[str, list[str]] = field(default_factory=dict)

    def apply(self, step: str, sls: str = STATES, test: bool = False) -> dict[str, Any]:
        """Apply and remember, under the step's name, each state's answer, the time and (in test mode) touched files.

        :param sls: what to apply; empty for the highstate.
        """
        before = self._files() if test else {}
        started = time.monotonic()
        answer = self.lab.salt("state.apply", *filter(None, [sls]), f"test={test}", check=False, timeout=600)
        self.seconds[step] = time.monotonic() - started
        assert isinstance(answer, dict), answer
        self.runs[step] = {state["__id__"]: state for state in answer.values()}
        if test:
            after = self._files()
            self.touched[step] = sorted(
                path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
            )
        return self.runs[step]

    def changed(self, step: str) -> list[str]:
        """Return the states that changed something in a step, or would."""
        return [name for name, state in self.runs[step].items() if state["changes"]]

    def failed(self, step: str) -> dict[str, str]:
        """Return the comments of the states that failed."""
        return {name: state["comment"] for name, state in self.runs[step].items() if state["result"] is False}

    def _files(self) -> dict[str, str]:
        """Return each file of the relay with what tells a change: mode, owner, size, times."""
        pruned = " -o ".join(f"-path {path}" for path in NOT_COMPARED)
        # /tmp itself: parsers read what is staged there, and nothing of it stays.
        command = f"find / \\( {pruned} \\) -prune -o -path /tmp -o -printf '%p\\t%m %U:%G %s %T@ %C@\\n'"
        listing = self.lab.host("relay").run(["sh", "-c", command], timeout=60).stdout
        return dict(line.split("\t", 1) for line in listing.splitlines())


Relay = Callable[[str], Applied]


@pytest.fixture(scope="session")
def relay_of(release: str, request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Return a function that gives a suite's applied relay, booting and applying it when it is first asked for."""
    made: dict[str, Applied] = {}

    def applied(suite: str) -> Applied:
        if suite not in made:
            lab = new_lab(suite, release, request.config)
            made[suite] = Applied(lab, suite, release)
            lab.set_pillar(PILLARS[suite].read_text(encoding="utf-8"))
            lab.host("relay").run(["salt-call", "--local", "test.ping"])  # Salt makes files of its own on first use
            for step, test in (("dry run", True), ("first", False), ("second", False), ("dry run again", True)):
                made[suite].apply(step, test=test)
            checks.publish_keys(lab)
        return made[suite]

    yield applied
    if not request.config.getoption("keep"):
        for each in made.values():
            each.lab.down()


@pytest.fixture
def example(relay_of: Relay) -> Applied:
    """Return the relay of pillar.example."""
    return relay_of("default")


@pytest.fixture
def recipe(relay_of: Relay) -> Applied:
    """Return the relay that is the recipe to the letter."""
    return relay_of("recipe")


@pytest.fixture(scope="module")
def borrowed(relay_of: Relay) -> Iterator[Applied]:
    """Return the relay of pillar.example to be changed; afterwards it is as before."""
    applied = relay_of("default")
    yield applied
    applied.lab.set_pillar(PILLARS["default"].read_text(encoding="utf-8"))
    applied.apply("as before")
    assert applied.failed("as before") == {}


@pytest.fixture(scope="module")
def on_bookworm(borrowed: Applied) -> Applied:
    """Return the relay of pillar.example to be changed, on Debian 12 only; afterwards it is as before."""
    return borrowed


@pytest.fixture(scope="module")
def on_trixie(borrowed: Applied) -> Applied:
    """Return the relay of pillar.example to be changed, on Debian 13 only; afterwards it is as before."""
    return borrowed


@pytest.fixture(params=PILLARS)
def applied(request: pytest.FixtureRequest, relay_of: Relay) -> Applied:
    """Return the relay of each suite in turn."""
    return relay_of(request.param)
