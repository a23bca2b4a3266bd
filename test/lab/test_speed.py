"""An apply costs little over what Salt itself does, and little more where the site is large.

Ratios of CPU, measured in turn: times depend on the machine, and on what else it does. On Debian 12 only.
"""

from __future__ import annotations

import statistics

import pytest
from bench import state
from bench.measure import run
from bench.peers import floors

from lab.conftest import Applied

ROUNDS = 5
MANY = state.Size(1_000)


@pytest.mark.timeout(600)
def test_an_apply_without_a_change_costs_little_over_an_empty_one(on_bookworm: Applied) -> None:
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    bench = state.Bench(lab, lab.progress)
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
