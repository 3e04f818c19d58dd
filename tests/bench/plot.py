"""The figures as a picture, drawn by a program in Mayfly's own ``python-data``: it has matplotlib, and leaves a PNG."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.report import Document
from tests.bench.systems.mayfly import Mayfly

DRAWING = """
import json
import matplotlib.pyplot as plt

found = json.load(open("/inputs/found.json"))
MAYFLY, RAW, PEER = "#0b7285", "#868e96", "#e8590c"

def colour(name):
    return MAYFLY if name.startswith("Mayfly") else RAW if name.startswith(("crun", "engine", "docker")) else PEER

def bars(axes, values, words):
    rows = sorted(values.items(), key=lambda row: row[1], reverse=words == "milliseconds")
    names = [name for name, _ in rows]
    axes.barh(names, [value for _, value in rows], color=[colour(name) for name in names])
    for at, (_, value) in enumerate(rows):
        axes.text(value, at + 0.28, f" {value:.1f}", fontsize=7)
    axes.tick_params(axis="y", labelsize=8)
    return names

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(17, 6), width_ratios=(5, 4, 4))
latency = found["latency"]["print"]
names = bars(left, {name: row["p50_ms"] for name, row in latency.items()}, "milliseconds")
medians = [latency[name]["p50_ms"] for name in names]
tails = [max(0, latency[name]["p99_ms"] - latency[name]["p50_ms"]) for name in names]
left.errorbar(medians, names, xerr=[[0] * len(names), tails], fmt="none", ecolor="#343a40", capsize=3, linewidth=1)
left.set_xscale("log")
left.set_xlim(left=1)
left.set_xlabel("milliseconds, p50 and up to p99 (logarithmic)")
left.set_title("print(1): latency")
bars(middle, {name: max(levels.values()) for name, levels in found["throughput"].items()}, "executions")
middle.set_xlabel("executions a second, with the number of clients that suits best")
middle.set_title("print(1): sustained throughput")
styles = {"M": "-", "c": "--", "e": ":"}
for name, levels in found["throughput"].items():
    if len(levels) > 1:
        at = sorted(map(int, levels))
        right.plot(at, [levels[str(n)] for n in at], styles.get(name[0], "-."), marker="o", color=colour(name))
        right.annotate(name, (at[-1], levels[str(at[-1])]), fontsize=8, ha="right", va="bottom")
right.set_xlabel("clients")
right.set_ylabel("executions a second")
right.set_title("… by the number of clients")
right.set_ylim(bottom=0)
about = found["machine"]
figure.suptitle(f"{about['date']}, {about['cores']} cores, Linux {about['kernel']}: compare within the picture only",
                fontsize=9)
figure.tight_layout()
figure.savefig("/output/bench.png", dpi=130)
"""


def draw(mayfly: Mayfly, found: Document, path: Path) -> None:
    """Write the picture to ``path``."""
    shown = {name: found[name] for name in ("latency", "throughput", "machine")}
    execution = mayfly.stack.run(
        "python-data", code=DRAWING, files=[{"path": "found.json", "content": json.dumps(shown)}]
    )
    assert execution["state"] == "succeeded", execution["stderr"]
    path.write_bytes(mayfly.stack.artifact(execution, "bench.png"))
