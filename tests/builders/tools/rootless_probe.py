"""A probe of a rootless sandbox from its inside: ``python3 -c`` this file in a broker's container.

Its arguments are the text of the probe (``tests/builders/tools/tool_sandboxes.py``) and questions in JSON: lists of
expressions by the kind of sandbox. It prints the answers in the same order.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.broker.declared.secrets import Secret
from orchestrator.broker.sandboxes import SandboxLauncher
from orchestrator.models.tool_servers import ToolServer
from orchestrator.settings import Settings

NAME = "probe"
THREADS = 150  # of the broker's uid: more than the bound of a sandbox's processes


def weaken(kind: str, configuration: dict[str, Any]) -> None:
    """Take a wall away, if that is the kind of sandbox."""
    if kind == "without filter":
        del configuration["linux"]["seccomp"]
    if kind == "without rlimits":
        del configuration["process"]["rlimits"]


def answers(kind: str, probe: str, expressions: list[str]) -> list[str]:
    """Start a sandbox, ask, and end it by killing the container's parent."""
    launcher = SandboxLauncher(Settings())
    launcher.bundles = launcher.bundles.with_name(launcher.bundles.name + "-probe")
    network = "host" if kind == "with network" else "none"
    server = ToolServer(name=NAME, environment="time", origin="file", network=network)
    command = launcher.command("t", server, Secret(tenants=("t",), env={"TOKEN": "secret"}))
    (bundle,) = launcher.bundles.iterdir()
    configuration = json.loads((bundle / "config.json").read_text())
    configuration["process"]["args"] = ["/usr/bin/python3", "-I", "-c", probe]
    weaken(kind, configuration)
    (bundle / "config.json").write_text(json.dumps(configuration))
    pipe = subprocess.PIPE
    words = list(command.words)
    if kind == "of the broker's namespace":
        del words[words.index("unshare") : words.index("crun")]
    process = subprocess.Popen(words, env=dict(command.environment), stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    found = []
    for expression in expressions:
        with suppress(BrokenPipeError):  # the sandbox has not started
            process.stdin.write(expression + "\n")
            process.stdin.flush()
        found.append(process.stdout.readline().strip())
    process.kill()
    process.wait()
    command.clean()
    deadline = time.monotonic() + 60
    while left := probes(probe):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert list(launcher.bundles.iterdir()) == []
    return found


def probes(probe: str) -> list[str]:
    """The processes of the probe: their command lines have its text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            ended = " Z " in (process / "stat").read_text().rpartition(")")[2][:4]
        except OSError:
            continue
        if words[:3] == [b"/usr/bin/python3", b"-I", b"-c"] and words[3] == probe.encode() and not ended:
            found.append(process.name)
    return found


def main() -> None:
    """Answer all questions."""
    probe, questions = sys.argv[1], json.loads(sys.argv[2])
    for _ in range(THREADS):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    sys.stdout.write(json.dumps({kind: answers(kind, probe, asked) for kind, asked in questions.items()}) + "\n")


if __name__ == "__main__":
    main()
