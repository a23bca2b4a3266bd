"""bin/bench: how long applies take and how much mail the relay carries, from the command line."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab import images
from lab.lab import REPOSITORY, Lab
from lab.process import LabError

from bench import relay, report, state

DESCRIPTION = """\
Measures on hosts of the lab, in turn with the peers, and writes docs/benchmarks.md with a plot of each part:

  state   an apply: from nothing, without a change, as a dry run, with one value changed; by number of domains
  relay   mail through the result, by size, sessions and connections, with and without logins

Ratios count: single times belong to the machine. Nothing else should run on it meanwhile.
"""
PARTS = ("state", "relay")
QUICK_ROUNDS, ROUNDS = 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; return the exit status."""
    options = parser().parse_args(argv)
    if os.geteuid() != 0:
        print("bin/bench: only root can boot hosts: sudo bin/bench", file=sys.stderr)
        return 2
    began, missed = time.monotonic(), 0
    try:
        for name in options.part or PARTS:
            part = measured(name, options)
            print("\n".join(report.section(part)))
            missed += sum(not goal.met for goal in part.goals)
            if not options.quick:
                report.keep(part)
    except LabError as failed:
        print(f"bin/bench: {failed}", file=sys.stderr)
        return 2
    written = "nothing written (--quick)" if options.quick else f"see {report.PAGE.relative_to(REPOSITORY)}"
    print(f"bin/bench: {missed} goals missed, {written}, {time.monotonic() - began:.0f} s")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    lines = argparse.ArgumentParser(
        prog="bin/bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    lines.add_argument("part", nargs="*", help="state or relay (default: both)")
    lines.add_argument("--quick", action="store_true", help="few sizes, five minutes; prints and writes nothing")
    lines.add_argument("--peers", type=Path, metavar="DIR", help="checkouts of postfix-, opendkim- and clamav-formula")
    lines.add_argument("--release", choices=images.RELEASES, default=images.RELEASES[0], help="the relay's Debian")
    lines.add_argument("--salt", choices=images.LOCKS, default=images.SALT_VERSION, help="the relay's Salt")
    lines.add_argument("--rounds", type=int, metavar="N", help="repetitions (default: 3, with --quick 2)")
    return lines


def measured(name: str, options: argparse.Namespace) -> report.Part:
    """Measure one part on a lab of its own, which is gone afterwards."""
    if name not in PARTS:
        raise LabError(f"{name} is no part of the benchmark; there are {', '.join(PARTS)}")
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    lab = Lab(f"bench{name}", options.release, options.salt)
    lab.down()  # what an interrupted run left
    try:
        if name == "state":
            figures = state.measured(lab, options.quick, rounds, options.peers)
            found = state.goals(figures)
        else:
            figures = relay.measured(lab, options.quick, rounds)
            found = relay.goals(figures)
    finally:
        lab.down()
    given = [*(["--quick"] if options.quick else []), *([f"--rounds={options.rounds}"] if options.rounds else [])]
    given += ["--peers=DIR"] if options.peers else []
    given += [f"--release={options.release}"] if options.release != images.RELEASES[0] else []
    given += [f"--salt={options.salt}"] if options.salt != images.SALT_VERSION else []
    command = " ".join(["sudo bin/bench", name, *given])
    title = f"{name}, Debian {options.release}, Salt {options.salt}"
    return report.Part(title, command, report.machine(), time.strftime("%Y-%m-%d"), figures, found)
