"""The figures as a page and as plots: docs/benchmarks.md and the SVG drawings beside it."""

from __future__ import annotations

import itertools
import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from lab.lab import REPOSITORY

from bench.measure import Figure, Goal, shown

PAGE, FIGURES = REPOSITORY / "docs/benchmarks.md", REPOSITORY / "docs/benchmarks.json"
HEAD = """# Benchmarks

Written by `sudo bin/bench`, from the figures that it leaves in `benchmarks.json`; `sudo bin/bench --quick` measures
some of it in five minutes. A figure is the median of its rounds, with the smallest and the largest in brackets; within
a round all take turns on the same machine. Ratios count: single times belong to the machine. What the figures mean for
a server's size, and what was tried to better them, is in [performance.md](performance.md).

An apply is of `pillar.example`, with more domains or a map of routes. For the relay, *base* is messages of 4 KB in
ten sessions that each keep their connection, from one of the site's servers to a user; another load differs from it by
what its name says. clamd holds 8.5 million made-up signatures, of the kinds that the official ones are, and as many.
Load, directory and receiving end share the machine with the relay.

"""
COLOURS = {"smtpout": "#2f6f9f"}  # the others are grey
BAR, GAP, LEFT, WIDTH = 18, 6, 150, 720


class Part(NamedTuple):
    """What one part of the benchmark found: where, by which command, when."""

    title: str
    command: str
    machine: str
    day: str
    figures: list[Figure]
    goals: list[Goal]

    @property
    def name(self) -> str:
        """The part's name in a file's."""
        return self.title.lower().replace(", ", "-").replace(" ", "")


def keep(part: Part) -> None:
    """Write a part's figures in place of those it had, and the page and the plots anew."""
    parts = {known.title: known for known in kept()} | {part.title: part}
    FIGURES.write_text(json.dumps(list(parts.values()), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(list(parts.values())), encoding="utf-8")
    for drawn in parts.values():
        (PAGE.parent / f"{drawn.name}.svg").write_text(plot(drawn.title, plotted(drawn.figures)), encoding="utf-8")


def kept() -> list[Part]:
    """Return the parts that were measured before."""
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else []
    parts = []
    for title, command, where, day, figures, found in known:
        measured = [Figure(case, who, unit, tuple(values)) for case, who, unit, values in figures]
        parts.append(Part(title, command, where, day, measured, [Goal(*goal) for goal in found]))
    return parts


def page(parts: Sequence[Part]) -> str:
    """Return docs/benchmarks.md."""
    lines = [line for part in parts for line in (*section(part), f"![{part.title}]({part.name}.svg)", "")]
    return HEAD + "\n".join(lines)


def section(part: Part) -> list[str]:
    """Return the lines of a part: where it was measured, its goals and its figures."""
    made = f"`{part.command}` on {part.day}: {part.machine}."
    return [f"## {part.title[0].upper()}{part.title[1:]}", "", made, "", *goals(part.goals), *tables(part.figures)]


def plotted(figures: Sequence[Figure]) -> list[Figure]:
    """Return what a drawing shows of a part, case by case: the first unit measured, where there are two to compare."""
    drawn = [figure for figure in figures if figure.unit == figures[0].unit]
    subjects = Counter(figure.case for figure in drawn)
    return [figure for case, count in subjects.items() if count > 1 for figure in drawn if figure.case == case]


def machine() -> str:
    """Say what the figures were made on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]) >> 20
    return f"{len(models)} x {models[0] if models else platform.machine()}, {memory} GiB, Linux {platform.release()}"


def goals(found: Iterable[Goal]) -> list[str]:
    """Return the lines of a table of goals."""
    rows = [f"| {goal.what} | {goal.wanted} | {goal.found} | {'yes' if goal.met else '**no**'} |" for goal in found]
    return ["| Goal | Wanted | Found | Met |", "|---|---|---|---|", *rows, ""]


def tables(figures: Sequence[Figure]) -> list[str]:
    """Return the lines of tables: one for what was measured in several units at once, one for each other unit."""
    units: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        units.setdefault((figure.case, figure.subject), []).append(figure.unit)
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        groups.setdefault(units[figure.case, figure.subject][0], []).append(figure)
    lines = []
    for unit, group in groups.items():
        several = len({figure.unit for figure in group}) > 1
        lines += _by_unit(group) if several else _by_subject(unit, group)
    return lines


def _by_unit(figures: Sequence[Figure]) -> list[str]:
    """Return a table with a row for each case and subject, a column for each unit."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for figure in figures:
        cells.setdefault((figure.case, figure.subject), {})[figure.unit] = _cell(figure)
    return _table(["Case", "Who"], list(dict.fromkeys(figure.unit for figure in figures)), cells)


def _by_subject(unit: str, figures: Sequence[Figure]) -> list[str]:
    """Return a table of figures in one unit, with a row for each case, a column for each subject."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for figure in figures:
        cells.setdefault((figure.case,), {})[figure.subject] = _cell(figure)
    return _table([unit], list(dict.fromkeys(figure.subject for figure in figures)), cells)


def _cell(figure: Figure) -> str:
    return shown(figure.median) + (f" ({figure.spread})" if len(set(figure.values)) > 1 else "")


def _table(keys: list[str], columns: list[str], cells: dict[tuple[str, ...], dict[str, str]]) -> list[str]:
    rows = [f"| {' | '.join([*key, *(own.get(column, '') for column in columns)])} |" for key, own in cells.items()]
    return [f"| {' | '.join([*keys, *columns])} |", "|---" * (len(keys) + len(columns)) + "|", *rows, ""]


def plot(title: str, figures: Sequence[Figure]) -> str:
    """Return an SVG drawing: a bar for each figure's median, a thin line from its smallest to its largest value.

    Each case has a scale of its own, for it is within a case that bars are compared.
    """
    parts, at = [], 34
    for case, drawn in itertools.groupby(figures, key=lambda figure: figure.case):
        group = list(drawn)
        scale = (WIDTH - LEFT - 130) / max(max(figure.values) for figure in group)
        parts.append(f'<text x="8" y="{at + 14}" font-weight="bold">{escape(case)}</text>')
        at += BAR + GAP
        for figure in group:
            parts += _bar(figure, scale, at)
            at += BAR + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{at + 8}" font-family="sans-serif"'
    shape = f'<rect width="100%" height="100%" fill="#fff"/><text x="8" y="20" font-size="15">{escape(title)}</text>'
    return "\n".join([f'{head} font-size="13">', shape, *parts, "</svg>", ""])


def _bar(figure: Figure, scale: float, at: int) -> list[str]:
    """Return a figure's name, bar, spread and median, at a height."""
    colour, middle, end = COLOURS.get(figure.subject, "#a0a0a0"), at + BAR / 2, LEFT + figure.median * scale
    low, high = (LEFT + value * scale for value in (min(figure.values), max(figure.values)))
    return [
        f'<text x="{LEFT - 8}" y="{at + 14}" text-anchor="end">{escape(figure.subject)}</text>',
        f'<rect x="{LEFT}" y="{at}" width="{end - LEFT:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#000"/>',
        f'<text x="{max(high, end) + 6:.1f}" y="{at + 14}">{shown(figure.median)} {escape(figure.unit)}</text>',
    ]
