"""How much mail the relay carries, beside the how-to's, Postfix without filters, and what others publish."""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict
from typing import NamedTuple

from lab.lab import Lab

from bench import loads, openldap, sinks, state, subjects
from bench.loads import AXES, BASE, LOGINS, Load, Result
from bench.measure import Figure, Goal, run, shown
from bench.sinks import Sinks
from bench.subjects import Subject

LIMIT, OURS, RECIPE = "no filters", "smtpout", "recipe"
RATE, SECONDS, CPU, MEGABYTES, LOGINS_A_SECOND, SHARE = "messages/s", "s", "ms a message", "MB", "logins/s", "messages"
SITES = [state.Size(2), state.Size(1_000), state.Size(10_000)]
OVERLOAD = Load("overload", sessions=400, reuse=1)


class Plan(NamedTuple):
    """How long it takes: rounds that count, seconds a load, and whether nothing is left out."""

    rounds: int
    seconds: float
    all: bool


class Bench:
    """One run: relays that take turns under each load, round after round."""

    def __init__(self, lab: Lab, everyone: list[Subject], plan: Plan) -> None:
        self.lab, self.plan = lab, plan
        self.everyone = {subject.name: subject for subject in everyone}
        self.values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self.counts: dict[tuple[str, str], int] = {}

    def wanted(self, subject: Subject) -> tuple[Load, ...]:
        """The loads of a subject: the axes are for the three that say what is due to what."""
        axes = AXES if self.plan.all and subject.name in (RECIPE, OURS, LIMIT) else ()
        return (BASE, *(LOGINS if self.plan.all else LOGINS[:1]), *axes)

    def note(self, case: str, subject: str, unit: str, value: float) -> None:
        self.values[case, subject, unit].append(value)

    def median(self, case: str, subject: str, unit: str = RATE) -> float:
        return statistics.median(self.values[case, subject, unit])

    def rounds(self, both: Sinks) -> None:
        """Run every load for every subject; a first, small round warms up and says how many messages fill the time."""
        for number in range(self.plan.rounds + 1):
            self.lab.progress(f"relay: round {number} of {self.plan.rounds}" if number else "relay: warming up")
            for subject in self.everyone.values():
                subject.take_turn()
                for load in self.wanted(subject):
                    self.one(both, subject, load, first=number == 0)

    def one(self, both: Sinks, subject: Subject, load: Load, first: bool) -> None:
        """Measure one load, after a few messages that start the processes which it needs."""
        few = max(30, 2 * load.sessions) if max(load.sizes) < 1024 else 20
        count = self.counts.get((load.name, subject.name), 0)
        result = loads.run(self.lab, both, subject, load, few)
        if first:
            self.counts[load.name, subject.name] = max(few, int(result.rate * self.plan.seconds))
            return
        result = loads.run(self.lab, both, subject, load, count)
        self.note(load.name, subject.name, RATE, result.rate)
        if load in {BASE, LOGINS[0]}:
            self.note_cpu(load.name, subject, result)

    def note_cpu(self, case: str, subject: Subject, result: Result) -> None:
        for daemon, seconds in result.cpu.items():
            self.note(f"{case}: {daemon}", subject.name, CPU, round(seconds * 1000, 3))

    def submissions(self, both: Sinks) -> None:
        """Latency of submissions at half the rate that the relay reached with them."""
        ours = self.everyone[OURS]
        ours.take_turn()
        load = LOGINS[0]
        pace = self.median(load.name, OURS) / 2
        for number in range(self.plan.rounds + 1):
            answer = loads.run(self.lab, both, ours, load, max(100, int(pace * self.plan.seconds)), pace).answer
            for part in ("p50", "p99") if number else ():
                self.note(f"submission at half the rate: MAIL to 250, {part}", OURS, SECONDS, answer["mail"][part])
                self.note(f"submission at half the rate: due to 250, {part}", OURS, SECONDS, answer["whole"][part])

    def memory(self, both: Sinks) -> None:
        """Memory while 200 sessions are busy."""
        for name in (RECIPE, OURS):
            subject = self.everyone[name]
            subject.take_turn()
            self.note("memory at 200 sessions", name, MEGABYTES, self.busy(both, subject))

    def busy(self, both: Sinks, subject: Subject) -> float:
        """The most memory that a subject takes under 200 sessions."""
        load = Load("200 sessions", sessions=200)
        found: list[float] = []
        count = self.counts.get((load.name, subject.name), 600)
        sending = threading.Thread(target=lambda: loads.run(self.lab, both, subject, load, count))
        sending.start()
        while sending.is_alive():
            found.append(subject.memory())
        sending.join()
        return max(found)

    def overload(self, both: Sinks) -> None:
        """Three times the rate for a while: everything is answered, and what was accepted arrives."""
        ours, seconds = self.everyone[OURS], 20 if self.plan.all else 5
        ours.take_turn()
        pace = 3 * self.median(BASE.name, OURS)
        answer = loads.run(self.lab, both, ours, OVERLOAD, int(pace * seconds), pace).answer
        self.note("overload: accepted", OURS, SHARE, answer["accepted"])
        self.note("overload: answered 4xx", OURS, SHARE, sum(answer["refused"].values()))
        self.note("overload: connection lost", OURS, SHARE, answer["lost"])
        self.note("overload: due to 250, p99", OURS, SECONDS, answer["whole"]["p99"])

    def domains(self, both: Sinks) -> None:
        """The base load on larger sites; the last of them is undone."""
        ours, sites = self.everyone[OURS], state.Bench(self.lab)
        ours.take_turn()
        for size in (*SITES, SITES[0]):
            sites.set_site(sites.site(size))
            run(ours.host, state.APPLY)
            loads.run(self.lab, both, ours, BASE, 50)
            for _ in range(self.plan.rounds):
                case = f"{BASE.name}, {size}"
                result = loads.run(self.lab, both, ours, BASE, self.counts[BASE.name, OURS])
                self.note(case, OURS, RATE, result.rate)
                self.note_cpu(case, ours, result)

    def logins(self, directory: str) -> None:
        """Logins at saslauthd, which keeps none in mind."""
        for name, socket in ((RECIPE, "/var/run/saslauthd/mux"), (OURS, "/run/saslauthd/mux")):
            for _ in range(self.plan.rounds):
                said = subjects.logins(self.everyone[name].host, socket, self.plan.seconds / 2)
                self.note(f"logins, {directory}", name, LOGINS_A_SECOND, said["accepted"] / said["seconds"])

    def figures(self) -> list[Figure]:
        return [Figure(*key, tuple(values)) for key, values in self.values.items()]


def measured(lab: Lab, quick: bool, rounds: int) -> list[Figure]:
    """Measure the relay on a lab's hosts.

    :param quick: base and logins alone, without peers and without signatures of real number.
    :param rounds: how often each load is repeated; one more comes first and isn't counted.
    """
    plan = Plan(rounds, seconds=2 if quick else 4, all=not quick)
    openldap.fetch()
    bench = Bench(lab, subjects.prepare(lab, peers=plan.all, signatures=plan.all), plan)
    with sinks.sinks(lab) as both:
        bench.rounds(both)
        if plan.all:
            for part in (bench.submissions, bench.memory, bench.overload, bench.domains):
                part(both)
            bench.logins("OpenLDAP")
            openldap.stop(lab)
            bench.logins("Samba")
    return bench.figures()


def goals(figures: list[Figure]) -> list[Goal]:
    """Return what the figures of the relay are held against."""
    medians = {(figure.case, figure.subject): figure.median for figure in figures}
    found = []

    def ratio(what: str, case: str, theirs: str, least: float) -> None:
        times = medians[case, OURS] / medians[case, theirs]
        found.append(Goal(what, f">= {shown(least)} times", f"{shown(times)} times", times >= least))

    def most(case: str, unit: str, limit: float) -> None:
        if (case, OURS) in medians:
            value = medians[case, OURS]
            found.append(Goal(case, f"<= {shown(limit)} {unit}", f"{shown(value)} {unit}", value <= limit))

    ratio("the recipe's rate, plain", BASE.name, RECIPE, 5)
    ratio("the rate without filters, plain", BASE.name, LIMIT, 0.5)
    ratio("the recipe's rate, TLS and AUTH on every session", LOGINS[0].name, RECIPE, 4)
    most("submission at half the rate: MAIL to 250, p99", SECONDS, 0.5)
    most("memory at 200 sessions", MEGABYTES, 200)
    if (case := ("logins, OpenLDAP", OURS)) in medians:
        found.append(Goal("logins a second, none remembered", ">= 2,000", shown(medians[case]), medians[case] >= 2000))
    most("overload: connection lost", SHARE, 0)
    return found
