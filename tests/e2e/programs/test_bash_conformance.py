"""Commands of coreutils, findutils, sed, gawk and jq in a sandbox, each beside the same command on this host.

Each runs in a directory of its own with the same few files, under a uid without rights; exit code, output and error
output are compared. A host with other versions of the tools than the image has cannot say what is right, and skips.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.builders.tier import Tier
from tests.harness import ROOT
from tests.selection import ways

COMMANDS = (ROOT / "tests/conformance/programs/bash_commands.txt").read_text(encoding="utf-8").splitlines()
BATCH = 70  # so that a batch in gVisor stays within a wall time that is allowed
NEEDED = ("gawk", "jq", "sed", "find", "ls")
RUNNER = r"""
umask 022
number=0
while IFS= read -r command; do
    number=$((number + 1))
    mkdir -p "$number/dir" && cd "$number" || exit 1
    printf '%s\n' pear apple fig apple plum > words.txt
    printf '%s\n' 10 9 100 1 > numbers.txt
    printf '%s\n' a,3,x b,1,y c,2,z > table.csv
    printf '%s' '{"name": "Mayfly", "items": [{"id": "b", "price": 2.5, "kind": 1}, ' \
        '{"id": "a", "price": 1, "kind": 2}, {"id": "c", "price": 4, "kind": 1}]}' > data.json
    ln -s words.txt link
    printf '%s\n' inner > dir/inner.txt
    printed=$(bash -c "$command" 2> ../errors < /dev/null; echo "exit $?")
    cd ..
    errors=$(< errors)
    printf '%d %q %q\n' "$number" "$printed" "$errors"
    rm -rf "$number"
done < "$1"
"""
# Commands that may differ, by isolation, and why.
SIZES = {"stat -c '%n %s %a %F' words.txt dir link": "a directory on a tmpfs has another size than one on a disk"}
DIFFERENT: dict[str, dict[str, str]] = {"standard": SIZES, "hardened": SIZES}


def batches() -> list[str]:
    return ["\n".join(COMMANDS[at : at + BATCH]) + "\n" for at in range(0, len(COMMANDS), BATCH)]


def on_host(directory: Path, commands: str) -> str:
    """The runner's words, by a process that has no more rights than one in a sandbox."""
    directory.mkdir(mode=0o755)
    work = directory / "work"
    work.mkdir()
    (directory / "runner").write_text(RUNNER)
    (directory / "commands").write_text(commands)
    drop: list[str] = []
    if os.getuid() == 0:
        os.chown(work, 65534, 65534)
        drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = subprocess.run(
        [*drop, "bash", str(directory / "runner"), str(directory / "commands")],
        cwd=work, env={"HOME": str(work), "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    return done.stdout


def by_command(commands: str, printed: str) -> dict[str, str]:
    lines = printed.splitlines()
    return dict(zip(commands.splitlines(), (line.partition(" ")[2] for line in lines), strict=True))


@pytest.fixture(scope="module")
def host() -> list[str]:
    """The output of the host's own tools for each batch."""
    release = platform.freedesktop_os_release()
    if (release.get("ID"), release.get("VERSION_ID")) != ("debian", "12"):
        pytest.skip("the host's tools are of other versions than the image's")
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"the host has no {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="mayfly-commands-") as place:  # where another user may look, too
        Path(place).chmod(0o755)
        return [on_host(Path(place, str(number)), commands) for number, commands in enumerate(batches())]


def test_commands_are_many_and_distinct() -> None:
    assert len(COMMANDS) >= 200 and len(set(COMMANDS)) == len(COMMANDS)
    for tool in ("find", "sed", "gawk", "jq"):
        assert sum(command.startswith(f"{tool} ") for command in COMMANDS) >= 15, tool
    assert all(set(names) <= set(COMMANDS) for names in DIFFERENT.values())


# The driver makes no difference to a command, and gVisor takes a minute for all commands.
@pytest.mark.parametrize("tier", ways("docker-runc", "docker-runsc", "oci-crun"), indirect=True)
def test_every_command_behaves_as_on_the_host(tier: Tier, host: list[str]) -> None:
    differs: dict[str, Any] = {}

    def run(commands: str) -> dict[str, Any]:
        files = [{"path": "main.sh", "content": RUNNER}, {"path": "commands", "content": commands}]
        return tier.run(
            "bash", files=files, entrypoint="main.sh", args=["/inputs/commands"],
            limits={"wall_seconds": 200, "cpu_seconds": 200},
        )  # fmt: skip

    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(run, batches()))
    for commands, printed, done in zip(batches(), host, runs, strict=True):
        assert done["state"] == "succeeded", done
        here, there = by_command(commands, done["stdout"]), by_command(commands, printed)
        differs |= {command: (here[command], there[command]) for command in here if here[command] != there[command]}
    assert differs.keys() == DIFFERENT[tier.isolation].keys(), differs
