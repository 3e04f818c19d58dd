"""One result as a document (JSON), and that document as tables: for a terminal, and as Markdown."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as Pretty

from tests.bench.expected import FIGURES
from tests.bench.figures import figures
from tests.bench.measure import PHASES, Measured, summary
from tests.bench.systems.contestants import versions
from tests.bench.systems.programs import PROGRAMS

Document = dict[str, Any]
WIDTH = 160  # of tables in a log


class Table(NamedTuple):
    """A table of text; the first column is text, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


def machine() -> dict[str, Any]:
    """The measured machine."""
    cpus = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": os.cpu_count(),
        "processor": cpus[0] if cpus else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def document(measured: Measured, **parts: Any) -> Document:
    """All that was sampled, to be kept as JSON."""
    return {
        **parts,
        "versions": versions(measured.taking_part),
        "absent": measured.taking_part.absent,
        "latency": _nested((*key, summary(values)) for key, values in measured.totals.items() if values),
        "cold": _nested((*key, summary(values)) for key, values in measured.cold.items() if values),
        "phases": {
            name: {phase: summary([getattr(sample, phase) for sample in samples]) for phase in PHASES}
            for name, samples in measured.samples.items()
            if samples
        },
        "cold_starts_where_warm_was_wanted": dict(measured.misses),
        "throughput": _nested((name, str(n), sum(rates) / len(rates)) for (name, n), rates in measured.rates.items()),
        "burst_seconds": {name: sum(values) / len(values) for name, values in measured.bursts.items()},
        "figures": figures(measured),
    }  # fmt: skip


def tables(found: Document) -> Iterator[Table]:
    """The document's tables, the most important one last, where a terminal shows it."""
    yield Table("who took part", ("contestant", "versions"), _about(found))
    yield _latencies(found)
    for name, phases in found["phases"].items():
        lines = [(phase, *_times(row)) for phase, row in phases.items()]
        yield Table(f"where the time goes: {name}, print(1)", ("phase", "p50 ms", "p99 ms", "runs"), lines)
    levels = sorted({int(level) for rows in found["throughput"].values() for level in rows})
    lines = [
        (name, *(f"{rows[str(level)]:.1f}" if str(level) in rows else "" for level in levels))
        for name, rows in found["throughput"].items()
    ]
    yield Table("throughput: print(1), executions a second", ("clients", *map(str, levels)), lines)
    if found["burst_seconds"]:
        times = [(name, f"{seconds:.2f}") for name, seconds in found["burst_seconds"].items()]
        yield Table(f"burst of {found['how']['burst']}: seconds to the last result", ("contestant", "seconds"), times)
    if "bad_cases" in found:
        rows = {name: row for name, row in found["bad_cases"].items() if isinstance(row, dict) and "p99_ms" in row}
        lines = [(name, *_times(row)) for name, row in rows.items()]
        yield Table("an innocent tenant beside another's", ("case", "p50 ms", "p99 ms", "runs"), lines)
    if "soak" in found:
        looks = found["soak"]["holdings"]
        lines = [(name, *(_number(look[name]) for look in looks)) for name in looks[0]]
        yield Table(f"what the worker holds: {found['soak']['worker']}", ("", "first", "half-way", "after"), lines)
    yield Table(
        "expected",
        ("figure", "wanted", "measured", ""),
        _verdicts(found["figures"], complete=not found["how"]["short"]),
    )


def show(found: Document) -> None:
    """To the terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for table in tables(found):
        pretty = Pretty(title=table.title, title_justify="left", title_style="bold")
        for number, column in enumerate(table.columns):
            pretty.add_column(column, justify="left" if number == 0 else "right")
        for row in table.rows:
            pretty.add_row(*row)
        console.print(pretty)


def markdown(found: Document) -> str:
    """As Markdown; the expected figures come first, for a reader who reads no further."""
    about, how = found["machine"], found["how"]
    head = [
        f"Measured {about['date']} on {about['cores']} cores ({about['processor']}, Linux {about['kernel']}). "
        f"Latency: {how['runs']} runs of `print(1)`, fewer of other programs and of peers. "
        f"Soak: {how['soak']} executions on {found['soak']['worker'] if 'soak' in found else 'none'}.",
    ]
    *others, expected = tables(found)
    return "\n\n".join([*head, *map(_markdown, (expected, *others))]) + "\n"


def _markdown(table: Table) -> str:
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.columns)} |"]
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table.rows]
    return "\n".join(lines)


def _latencies(found: Document) -> Table:
    """Contestants by programs. A cell that is empty was not measured: that contestant does not take that program."""
    programs = list(found["latency"])
    rows = [
        (name, found["latency"], name)
        for name in dict.fromkeys(name for row in found["latency"].values() for name in row)
    ]
    rows += [
        (f"{name}, cold", found["cold"], name)
        for name in dict.fromkeys(name for row in found["cold"].values() for name in row)
    ]
    lines = []
    for title, source, name in rows:
        cells = (source.get(program, {}).get(name) for program in programs)
        lines.append((title, *(f"{cell['p50_ms']:.1f} · {cell['p99_ms']:.1f}" if cell else "" for cell in cells)))
    return Table("latency in milliseconds: p50 · p99", ("contestant", *programs), lines)


def _about(found: Document) -> list[tuple[str, ...]]:
    present = [
        (name, ", ".join(f"{what} {v}" for what, v in about.items())) for name, about in found["versions"].items()
    ]
    return present + [(name, f"absent: {why.splitlines()[0][:120]}") for name, why in found["absent"].items()]


def _verdicts(values: dict[str, float], complete: bool) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for figure in FIGURES:
        value = values.get(figure.key)
        if value is None and not complete:
            continue
        wanted = "" if figure.bound is None else f"{figure.better} {_number(figure.bound)} {figure.unit}"
        reported = "" if value is None else f"{_number(value)} {figure.unit}"
        rows.append((figure.title, wanted.strip(), reported.strip(), figure.verdict(value)))
    return rows


def _times(row: dict[str, float]) -> tuple[str, str, str]:
    return f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}", str(row["runs"])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _nested(triples: Iterable[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for outer, inner, value in triples:
        found.setdefault(outer, {})[inner] = value
    order = {name: number for number, name in enumerate(PROGRAMS)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))
