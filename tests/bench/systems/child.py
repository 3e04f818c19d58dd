"""Contestants in processes of their own: the raw loops, and peers in virtual environments of theirs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.systems.programs import Program
from tests.harness import ROOT


class Absent(Exception):
    """A contestant that cannot take part here; the text is the reason."""


class Child:
    """A process that runs one or more variants of a contestant; ``peers/serve.py`` is its other end."""

    def __init__(self, command: Sequence[str], setting: dict[str, Any], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                list(command), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            self.about: dict[str, dict[str, str]] = self._ask(setting)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it; it removes what it has made. Idempotent."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        self._process.wait(120)
        self._process.stdout.close()

    def ask(self, variant: str, do: str, program: Program, **how: float) -> list[float]:
        """The seconds that ``do`` of ``peers/serve.py`` returns. Raises :class:`Absent`."""
        answer = self._ask({"do": do, "variant": variant, "program": program.document(), "how": how})
        if "failed" in answer:
            raise Absent(answer["failed"])
        found: list[float] = answer["seconds"]
        return found

    def _ask(self, document: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(document) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            printed = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Absent(f"it ended: {printed[0] if printed else self._process.wait(120)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Variant:
    """One contestant of a child, as the measuring code sees it."""

    def __init__(self, name: str, child: Child, key: str, languages: frozenset[str]) -> None:
        self.name, self._child, self._key, self._languages = name, child, key, languages

    @property
    def about(self) -> dict[str, str]:
        return self._child.about[self._key]

    def takes(self, program: Program) -> bool:
        return program.portable and program.environment in self._languages

    def latency(self, program: Program, runs: int) -> list[float]:
        return self._child.ask(self._key, "latency", program, runs=runs)

    def throughput(self, program: Program, seconds: float, at_once: int) -> list[float]:
        return self._child.ask(self._key, "crowd", program, seconds=seconds, at_once=at_once)

    def burst(self, program: Program, count: int, at_once: int) -> float:
        return self._child.ask(self._key, "crowd", program, runs=count, at_once=at_once)[-1]


def raw_command(module: str, hybrid_cgroups: bool) -> list[str]:
    """How a raw loop is started: crun refuses hosts that mount both versions of cgroups, so there without version 2."""
    command = [sys.executable, "-m", f"tests.bench.raw.{module}"]
    if not hybrid_cgroups:
        return command
    return ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "raw", *command]
