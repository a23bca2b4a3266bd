"""How long an apply takes: ours beside the floors and the peers, on one lab's hosts, in turn."""

from __future__ import annotations

import contextlib
import copy
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lab.host import Host
from lab.lab import EXAMPLE, Lab
from lab.process import LabError

from bench.measure import Figure, Goal, Run, run, shown, traced
from bench.peers import Peer, debops, floors, formulas, salt_tally

Site = dict[str, Any]
Values = dict[tuple[str, str, str], list[float]]

APPLY = (*floors.SALT_CALL, "state.apply", "smtpout")
OURS, FLOOR, RECIPE = "smtpout", "empty state.apply", "shell script"
PROMISES = (*floors.SALT_CALL, "smtpout.promises")
SHELL = ("env", "SIGNATURES=/srv/formula/test/lab/signatures", "/srv/formula/test/bench/peers/recipe.sh")
KEY = "/etc/opendkim/keys/domain01.dom.default.private"  # made by the first apply, and shared by the domains added

PROOF = "s of proof"
NOTHING, DRY, ONE, ASKED = "no change", "test=True", "one value changed", "all promises asked"


class Size(NamedTuple):
    """How large a site is: its domains, and the entries of a transport map of its own."""

    domains: int
    routes: int = 0

    def __str__(self) -> str:
        return f"{self.domains:,} domains" + (f", {self.routes:,} routes" if self.routes else "")


SIZES = [Size(2), Size(100), Size(1_000), Size(10_000), Size(2, 100), Size(2, 1_000), Size(2, 10_000), Size(2, 100_000)]
QUICK = [Size(2), Size(1_000)]


class Bench:
    """The figures of a run, as they come in."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.values: Values = defaultdict(list)
        self.example: Site = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["smtpout"]

    def figures(self) -> list[Figure]:
        """Return what was measured so far."""
        return [Figure(*key, tuple(values)) for key, values in self.values.items()]

    def note(self, case: str, subject: str, measured: Run) -> None:
        """Keep a run's figures."""
        self.values[case, subject, "s"].append(measured.wall)
        self.values[case, subject, "s of CPU"].append(measured.cpu)
        self.values[case, subject, "MiB"].append(measured.memory)
        self.lab.progress(f"{case}: {subject}: {measured.wall:.2f} s, {measured.cpu:.2f} s of CPU")

    def fresh(self, role: str) -> Host:
        """Return a host that nothing was done to yet."""
        host = self.lab.host(role)
        host.stop()
        self.lab.up([role])
        return host

    def site(self, size: Size) -> Site:
        """Return a site of a size."""
        site = copy.deepcopy(self.example)
        more = [f"domain{number}.example" for number in range(size.domains - len(site["domains"]))]
        site["domains"] += more
        site["opendkim"]["domains"] = {domain: {"key_file": KEY} for domain in more}
        if size.routes:
            routes = {f"partner{number}.example": "smtp:[192.0.2.1]:25" for number in range(size.routes)}
            site["postfix"] = {"maps": {"routes": {"entries": routes}}}
        return site

    def set_site(self, site: Site) -> None:
        """Give the relay a site's pillar."""
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        self.lab.set_pillar(yaml.dump({"smtpout": site}, Dumper=dumper))


def measured(lab: Lab, quick: bool, rounds: int, checkouts: Path | None) -> list[Figure]:
    """Measure the state runs on a lab's hosts.

    :param quick: two sizes only, and no DebOps.
    :param rounds: how often each run is repeated; one more comes first and isn't counted, but for first applies.
    :param checkouts: a folder with the three formulas; None leaves them out.
    """
    bench = Bench(lab)
    lab.up(["directory", "relay", "delivery", "outside"])
    peers = [formulas.peer(checkouts, bench.example)] if checkouts else []
    if not quick:
        peers.append(debops.peer(lab.host("relay").image.split("-")[1], bench.example))
    _first(bench, peers, 1 if quick else rounds)
    for size in QUICK if quick else SIZES:
        _again(bench, size, rounds)
    for peer in peers:
        _peer_again(bench, peer, rounds)
    return bench.figures()


def _first(bench: Bench, peers: list[Peer], rounds: int) -> None:
    """Measure what makes a relay of a bare host, its packages at hand: the shell script, ours, and the peers'."""
    for _ in range(rounds):
        bench.note("first apply", RECIPE, run(bench.fresh("relay"), SHELL))
        for peer in peers:
            host = bench.fresh("relay")
            peer.prepare(host)
            with _said(peer.name):
                bench.note("first apply", peer.name, run(host, peer.apply, statuses=range(256)))
        host = bench.fresh("relay")
        bench.set_site(bench.example)
        done = run(host, APPLY)
        bench.note("first apply", OURS, done)
        _whole(done, changed=True)


def _again(bench: Bench, size: Size, rounds: int) -> None:
    """Measure what comes after, on a relay that is as its pillar says, beside an empty apply with the same pillar."""
    relay, site = bench.lab.host("relay"), bench.site(size)
    bench.set_site(site)
    run(relay, APPLY)
    empty = next(peer for peer in floors.FLOORS if peer.name == FLOOR)
    for peer in floors.FLOORS:
        peer.prepare(relay)
    for number in range(-1, rounds):
        idle = floors.FLOORS if size == QUICK[0] else (empty,)
        found = [(NOTHING, peer.name, run(relay, peer.apply)) for peer in idle]
        found.append((NOTHING, OURS, run(relay, APPLY)))
        _whole(found[-1][2], changed=False)
        found.append((DRY, OURS, run(relay, (*APPLY, "test=True"))))
        _whole(found[-1][2], changed=False)
        bench.set_site({**site, "organisation": f"MYCOMPANY {number + 2}"})
        found.append((ONE, OURS, run(relay, APPLY)))
        _whole(found[-1][2], changed=True)
        if size == QUICK[0]:
            found.append((ASKED, OURS, run(relay, PROMISES)))
        bench.set_site(site)
        run(relay, APPLY)
        for case, subject, done in found if number >= 0 else ():
            bench.note(f"{case}, {size}", subject, done)
            if (case, subject) == (NOTHING, OURS):
                bench.values[f"{case}, {size}", subject, PROOF].append(_proof(done))
    for subject, command in ((FLOOR, empty.apply), (OURS, APPLY)):
        programs, files = traced(relay, command)
        bench.values[f"{NOTHING}, {size}", subject, "programs started"].append(programs)
        bench.values[f"{NOTHING}, {size}", subject, "files opened"].append(files)


def _peer_again(bench: Bench, peer: Peer, rounds: int) -> None:
    """Measure a peer that has nothing left to do, beside ours on its own host."""
    relay, host = bench.lab.host("relay"), bench.fresh("neighbour")
    bench.set_site(bench.example)
    run(relay, APPLY)
    peer.prepare(host)
    for _ in range(2):
        run(host, peer.apply, statuses=range(256))
    for _ in range(rounds):
        case = f"no change, beside {peer.name}"
        bench.note(case, OURS, run(relay, APPLY))
        done = run(host, peer.apply, statuses=range(256))
        bench.note(case, peer.name, done)
        tally = peer.tally(done.output)
        bench.values[case, peer.name, "changes that are none"].append(tally.changed)
    host.stop()


@contextlib.contextmanager
def _said(name: str) -> Iterator[None]:
    """Say whose run it was that failed."""
    try:
        yield
    except LabError as failed:
        raise LabError(f"{name}: {failed}") from failed


def _whole(done: Run, changed: bool) -> None:
    """Raise where an apply of ours did not do what is timed here: a fast failure would be a fine figure."""
    tally = salt_tally(done.output)
    if tally.failed or bool(tally.changed) is not changed:
        raise LabError(f"an apply changed {tally.changed} of {tally.steps} states: {'; '.join(tally.failed)}")


def _proof(done: Run) -> float:
    """Return the seconds of an apply in which the running relay was asked."""
    states = next(iter(json.loads(done.output).values()))
    return sum(state["duration"] for name, state in states.items() if name.endswith("_|-verified")) / 1000


def goals(figures: list[Figure]) -> list[Goal]:
    """Return what the figures of state runs are held against."""
    medians = {(figure.case, figure.subject): figure.median for figure in figures if figure.unit == "s"}
    proofs = {figure.case: figure.median for figure in figures if figure.unit == PROOF}
    found = []

    def at_most(what: str, seconds: float, most: float) -> None:
        found.append(Goal(what, f"<= {most} s", f"{seconds:.2f} s", seconds <= most))

    def over(case: str, most: float) -> float:
        more = 0.0
        if (case, OURS) in medians:
            more = medians[case, OURS] - medians[f"{NOTHING}, {case.partition(', ')[2]}", FLOOR]
            at_most(f"{case}: over an empty state.apply", more, most)
        return more

    def ratio(case: str, ours: str, theirs: str, most: float) -> None:
        if (case, ours) in medians and (case, theirs) in medians:
            part = medians[case, ours] / medians[case, theirs]
            found.append(Goal(f"{case}: of {theirs}", f"<= {shown(most)}", shown(part), part <= most))

    for size, most in ((Size(2), 0.6), (Size(1_000), 0.6), (Size(10_000), 1.0)):
        case = f"{NOTHING}, {size}"
        more = over(case, 2.1)
        if case in proofs:
            at_most(f"{case}: the proof of the running relay", proofs[case], 1.5)
            at_most(f"{case}: over an empty state.apply, apart from the proof", more - proofs[case], most)
    over(f"{ASKED}, {Size(2)}", 3)
    ratio("first apply", OURS, RECIPE, 1.25)
    ratio("no change, beside formulas", OURS, "formulas", 1)
    ratio("no change, beside DebOps", OURS, "DebOps", 0.1)
    return found
