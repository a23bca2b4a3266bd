"""An apply costs little over what Salt itself does, little more where the site is large; filters leave Postfix fast.

Ratios, measured in turn: times depend on the machine, and on what else it does. On Debian 12 only.
"""

from __future__ import annotations

import statistics

import pytest
from bench import loads, sinks, state, subjects
from bench.measure import run
from bench.peers import floors

from lab.conftest import Applied

ROUNDS = 5
MANY = state.Size(1_000)
MESSAGES = 400


@pytest.mark.timeout(600)
def test_an_apply_without_a_change_costs_little_over_an_empty_one(on_bookworm: Applied) -> None:
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    bench = state.Bench(lab)
    for floor in floors.FLOORS:
        floor.prepare(relay)
    cpu: dict[str, list[float]] = {"an empty apply": [], "2 domains": [], str(MANY): []}
    sites = {"2 domains": bench.example, str(MANY): bench.site(MANY)}
    for name, site in sites.items():
        bench.set_site(site)
        run(relay, state.APPLY)
        for _ in range(ROUNDS):
            cpu["an empty apply"].append(run(relay, floors.EMPTY).cpu)
            cpu[name].append(run(relay, state.APPLY).cpu)
    empty, few, many = (statistics.median(seconds) for seconds in cpu.values())
    print(f"CPU: an empty apply {empty:.2f} s, 2 domains {few:.2f} s, {MANY} {many:.2f} s")
    assert few < 2.2 * empty
    assert many < 1.6 * few


@pytest.mark.timeout(600)
def test_filters_leave_a_fifth_of_its_speed(on_bookworm: Applied) -> None:
    # 0.3 to 0.4; 0.1 to 0.15 with filters behind TCP sockets, less than 0.2 with keys of 4096 bits.
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    ours, limit = subjects.Subject("smtpout", relay), subjects.Subject("no filters", relay)
    ours.keep()
    rates: dict[str, list[float]] = {ours.name: [], limit.name: []}
    try:
        relay.run(["sh", "-euc", subjects.WITHOUT_FILTERS])
        limit.keep()
        with sinks.sinks(lab) as both:
            for subject in (ours, limit) * ROUNDS:
                subject.take_turn()
                loads.run(lab, both, subject, loads.BASE, 50)
                rates[subject.name].append(loads.run(lab, both, subject, loads.BASE, MESSAGES).rate)
    finally:
        ours.take_turn()
    with_filters, without = (statistics.median(found) for found in rates.values())
    print(f"messages/s: {with_filters:.0f} with filters, {without:.0f} without")
    assert with_filters > 0.2 * without
