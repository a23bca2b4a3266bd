"""An apply costs little over what Salt itself does, little more where the site is large; so does a message's way.

Ratios, measured in turn: times depend on the machine, and on what else it does. On Debian 12 only.
"""

from __future__ import annotations

import statistics
import time

import pytest
from bench import loads, sinks, state, subjects
from bench.measure import run
from bench.peers import floors

from lab.conftest import Applied

ROUNDS = 5
FEW, MANY = state.Size(2), state.Size(1_000)
MESSAGES = 400


@pytest.mark.timeout(600)
def test_an_apply_without_a_change_costs_little_over_an_empty_one(on_bookworm: Applied) -> None:
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    bench = state.Bench(lab)
    for floor in floors.FLOORS:
        floor.prepare(relay)
    cpu: dict[str, list[float]] = {"an empty apply": [], str(FEW): [], str(MANY): []}
    for size in (FEW, MANY):
        bench.set_site(bench.site(size))
        run(relay, state.APPLY)
        for _ in range(ROUNDS):
            cpu["an empty apply"].append(run(relay, floors.EMPTY).cpu)
            cpu[str(size)].append(run(relay, state.APPLY).cpu)
    empty, few, many = (statistics.median(seconds) for seconds in cpu.values())
    print(f"CPU: an empty apply {empty:.2f} s, {FEW} {few:.2f} s, {MANY} {many:.2f} s")
    assert few < 2.7 * empty  # with the proof of the running relay, half of what it costs more
    assert many < 1.6 * few


@pytest.mark.timeout(600)
def test_filters_leave_a_fifth_of_its_speed(on_bookworm: Applied) -> None:
    # 0.3 to 0.4; 0.1 to 0.15 with filters behind TCP sockets, less than 0.2 with keys of 4096 bits.
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    ours, limit = subjects.Subject("smtpout", relay), subjects.Subject("no filters", relay)
    ours.keep()
    rates: dict[str, list[float]] = {ours.name: [], limit.name: []}
    begun = relay.run(["date", "+%F %T"]).stdout.strip()
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
    # journald keeps some 1,000 lines a second by itself; each message of these has about ten.
    gone = f"journalctl --quiet --since='{begun}' --output=cat --identifier=postfix/qmgr | grep -c ': removed$'"
    sent, ends = 2 * ROUNDS * (50 + MESSAGES), time.monotonic() + 20
    while (logged := int(relay.run(["sh", "-c", gone], check=False).stdout)) < sent and time.monotonic() < ends:
        time.sleep(1)
    print(f"the log has {logged} of {sent} messages")
    assert logged >= sent
    assert "Suppressed" not in relay.run(["journalctl", f"--since={begun}", "--identifier=systemd-journald"]).stdout


@pytest.mark.timeout(600)
def test_a_signature_costs_the_same_where_domains_are_many(on_bookworm: Applied) -> None:
    # 1.0; with tables of patterns (refile:) 2.7.
    lab, relay = on_bookworm.lab, on_bookworm.lab.host("relay")
    bench, ours = state.Bench(lab), subjects.Subject("smtpout", relay)
    cpu: dict[state.Size, list[float]] = {FEW: [], MANY: []}
    with sinks.sinks(lab) as both:
        for size in (FEW, MANY, FEW, MANY):
            bench.set_site(bench.site(size))
            run(relay, state.APPLY)
            loads.run(lab, both, ours, loads.BASE, 50)
            cpu[size].append(loads.run(lab, both, ours, loads.BASE, MESSAGES).cpu["OpenDKIM"] * 1000)
    print(f"OpenDKIM, ms of CPU a message: {cpu[FEW]} with {FEW}, {cpu[MANY]} with {MANY}")
    assert statistics.mean(cpu[MANY]) < 1.6 * statistics.mean(cpu[FEW])
