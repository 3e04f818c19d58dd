"""The figures as a picture, drawn by a program in Mayfly's own ``python-data``: it has matplotlib, and leaves a PNG."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.mayfly import Mayfly
from tests.bench.report import Document

DRAWING = """
import json
import matplotlib.pyplot as plt

found = json.load(open("/inputs/found.json"))
MAYFLY, RAW, PEER = "#0b7285", "#868e96", "#e8590c"

def colour(name):
    return MAYFLY if name.startswith("Mayfly") else RAW if name.startswith(("crun", "engine", "docker")) else PEER

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6), width_ratios=(3, 2))
rows = sorted(found["latency"]["print"].items(), key=lambda row: -row[1]["p50_ms"])
names = [name for name, _ in rows]
medians = [row["p50_ms"] for _, row in rows]
tails = [max(0, row["p99_ms"] - row["p50_ms"]) for _, row in rows]
left.barh(names, medians, color=[colour(name) for name in names])
left.errorbar(medians, names, xerr=[[0] * len(rows), tails], fmt="none", ecolor="#343a40", capsize=3, linewidth=1)
for at, median in enumerate(medians):
    left.text(median, at + 0.28, f" {median:.1f}", fontsize=8)
left.set_xscale("log")
left.set_xlabel("milliseconds, p50 and up to p99 (logarithmic)")
left.set_title("print(1): latency")
for name, levels in found["throughput"].items():
    at = sorted(map(int, levels))
    right.plot(at, [levels[str(n)] for n in at], marker="o", label=name, color=colour(name), linewidth=1.5,
               linestyle={"M": "-", "c": "--", "e": ":"}.get(name[0], "-."))
right.set_xlabel("clients at a time")
right.set_ylabel("executions a second")
right.set_title("print(1): sustained throughput")
right.set_ylim(bottom=0)
right.legend(fontsize=7)
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
