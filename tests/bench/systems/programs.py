"""The measured programs. Each program is the same text for every contestant that supports it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# How an environment's interpreter takes a program on its command line, for contestants that have no other way in.
COMMANDS = {
    "python": ("/usr/bin/python3", "-c"),
    "python-data": ("/usr/bin/python3", "-c"),
    "node": ("/usr/bin/node", "-e"),
    "bash": ("/usr/bin/bash", "-c"),
}


@dataclass(frozen=True)
class Program:
    """A program, what it prints, and what it brings and leaves. Only Mayfly takes files both ways."""

    name: str
    environment: str
    code: str
    stdout: str
    input_bytes: int = 0
    artifacts: int = 0
    share: float = 1.0  # of the runs that the smallest program gets

    @property
    def portable(self) -> bool:
        """Whether other contestants can run it too."""
        return not (self.input_bytes or self.artifacts)

    @property
    def command(self) -> list[str]:
        """It as a command line."""
        return [*COMMANDS[self.environment], self.code]

    def document(self) -> dict[str, Any]:
        """It as a contestant's process reads it."""
        return {**asdict(self), "command": self.command}

    def runs(self, of: int) -> int:
        """How often it is run when the smallest program is run ``of`` times."""
        return max(3, round(of * self.share))


FIVE_MEGABYTES, TWENTY = 5 * 2**20, 20
PROGRAMS = {
    program.name: program
    for program in (
        Program("print", "python", "print(1)", "1\n"),
        Program(
            "compute",
            "python",
            "import time\nend, n = time.process_time() + 0.05, 0\nwhile time.process_time() < end: n += 1\nprint(1)",
            "1\n",
            share=0.2,
        ),
        Program(
            "group-by",
            "python-data",
            "import numpy, pandas\n"
            "frame = pandas.DataFrame({'k': numpy.arange(1000) % 10, 'v': numpy.arange(1000)})\n"
            "print(int(frame.groupby('k')['v'].sum().sum()))",
            "499500\n",
            share=0.2,
        ),
        Program("node", "node", "console.log(1)", "1\n", share=0.2),
        Program("bash", "bash", "echo 1", "1\n", share=0.2),
        Program("output", "python", "print('x' * (2**20 - 1))", "x" * (2**20 - 1) + "\n", share=0.2),
        Program(
            "files",
            "python",
            "import glob, os\n"
            "print(sum(os.path.getsize(path) for path in glob.glob('/inputs/data/*')))\n"
            f"for n in range({TWENTY}): open(f'/output/{{n}}.txt', 'w').write('x' * 10_000)",
            f"{FIVE_MEGABYTES}\n",
            input_bytes=FIVE_MEGABYTES,
            artifacts=TWENTY,
            share=0.2,
        ),
    )
}
PRINT, GROUP_BY = PROGRAMS["print"], PROGRAMS["group-by"]
