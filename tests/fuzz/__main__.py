"""``make fuzz``: each target under a fuzzer that coverage guides, for a bounded time; exit code 1 if one failed.

The corpus stays in the directory, so that the next run continues from it; inputs that broke a promise stay there too.
``--input`` runs such an input alone, without the fuzzer.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import ROOT
from tests.fuzz.inputs.seeds import dictionary, seeds

TARGETS = "tests.fuzz.targets"
WORDS = "words.dict"
INPUT_SECONDS = 10  # an input that takes longer is a fault
INPUT_BYTES = 16 * 1024
MEMORY_MIB = 2048
START_SECONDS = 120


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all, unless named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--directory", type=Path, default=Path(".mayfly/fuzz"), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time (default: %(default)s)")
    parser.add_argument("--input", type=Path, help="run the target on this file alone")
    parser.add_argument("--module", default=TARGETS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    targets = importlib.import_module(asked.module).TARGETS
    if unknown := set(asked.targets) - targets.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are: {', '.join(targets)}")
    if asked.input:
        if len(asked.targets) != 1:
            parser.error("--input goes with one target")
        targets[asked.targets[0]](asked.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed; it has builds for CPython on x86-64 Linux only")
    directory = asked.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / WORDS).write_text(dictionary(), encoding="ascii")
    with ThreadPoolExecutor(asked.jobs) as pool:
        sound = list(
            pool.map(lambda name: fuzz(asked.module, name, asked.seconds, directory), asked.targets or targets)
        )
    return 0 if all(sound) else 1


def fuzz(module: str, name: str, seconds: int, directory: Path) -> bool:
    """Fuzz one target, and print the outcome; whether nothing was found."""
    corpus, found = directory / "corpus" / name, directory / "found" / name
    for made in (corpus, found):
        made.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds().get(name, [])):
        (corpus / f"seed-{number}").write_bytes(seed)
    before = set(found.iterdir())
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS}",
        f"-max_len={INPUT_BYTES}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={found}/",
        f"-dict={directory / WORDS}",
        "-print_final_stats=1",
        str(corpus),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.child", module, name, *options],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=2 * seconds + START_SECONDS,
    )
    printed = done.stdout + done.stderr
    runs, rate, coverage = (
        _last(rf"{label}\s*(\d+)", printed) for label in ("executed_units:", "exec_per_sec:", " cov:")
    )
    print(f"{name:12}{runs:>10} inputs{rate:>8}/s  coverage{coverage:>6}", flush=True)
    if done.returncode == 0 and runs:
        return True
    print(_reason(printed, done.returncode), file=sys.stderr)
    chosen = "" if module == TARGETS else f"--module {module} "
    for path in sorted(set(found.iterdir()) - before):
        print(f"once more: python -m tests.fuzz {chosen}{name} --input {path}", file=sys.stderr, flush=True)
    return False


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _reason(printed: str, exit_code: int) -> str:
    """The traceback, or without one the last line of libFuzzer."""
    traceback = re.search(r"=== Uncaught Python exception: ===\n(.+?)\n\n", printed, re.DOTALL)
    return traceback[1] if traceback else f"{printed[-1500:]}\nexit code {exit_code}"


if __name__ == "__main__":
    sys.exit(main())
