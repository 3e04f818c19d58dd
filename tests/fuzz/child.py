"""One target under atheris, guided by coverage; started by ``python -m tests.fuzz``, which has the process to itself.

Arguments: the module with ``TARGETS``, the target's name, and what libFuzzer takes.
"""

from __future__ import annotations

import importlib
import sys

import atheris

INSTRUMENTED = ["orchestrator", "sandbox_image", "tests", "worker"]


def main() -> None:
    module, name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        targets = importlib.import_module(module).TARGETS
    atheris.Setup([sys.argv[0], *options], targets[name])
    atheris.Fuzz()


main()
