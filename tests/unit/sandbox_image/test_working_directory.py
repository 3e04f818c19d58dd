"""The working directory: inputs beside the program, the selection of collected files, and directories that a program
has closed: their files are collected, or named as left out. Files leave with few writes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_image.agent.files import working_directory
from sandbox_image.agent.files.artifacts import Collection
from sandbox_image.agent.files.globs import Glob
from sandbox_image.agent.supervisor.channel import EXIT, GATHERED_BYTES, Channel
from tests.builders.agent import AGENT, Agent, Result
from tests.harness import ROOT
from worker.agent.frames import Decoder, FromAgent

UNPRIVILEGED = 65534
FILES, FILE_BYTES = 100, 1000
PACKET_BYTES = 2**18
COLLECT = """
import json, os, sys
from sandbox_image.agent.files.artifacts import Collection
from sandbox_image.agent.files.globs import Glob
if os.geteuid() == 0:
    os.setuid(int(sys.argv[2]))
sent, rejected = [], {}
def send(kind, value):
    if isinstance(value, dict) and "size" in value:
        sent.append(value["path"])
    elif isinstance(value, dict):
        rejected[value["path"]] = value["why"]
Collection(send, [Glob("**")], 1000, 10).add(sys.argv[1])
print(json.dumps([sent, rejected]))
"""

FINISH = """
import json, socket, sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import agent, channel
agent.PATHS = {name: f"{sys.argv[2]}/{name}" for name in ("output", "work")}
host, ours = socket.socketpair()
pipe, waiting = channel.Channel(ours.fileno(), ours.fileno()), []
class Before(dict):
    def get(self, path):
        waiting.append(pipe.busy)
run = SimpleNamespace(channel=pipe, directories=(), exit_code=0, signal=None, stopped=None)
agent.finish(run, {"artifacts": ["**"], "artifact_bytes": 100, "artifact_files": 9}, Before())
print(json.dumps(waiting))
"""


def run(agent: Agent, program: str, **changed: object) -> Result:
    agent.input("main.py", program)
    agent.start(**changed)  # type: ignore[arg-type]
    return agent.end()


def test_inputs_are_copies_beside_the_program(agent: Agent) -> None:
    agent.input("data.csv", "a,b")
    agent.input("deep/er/config.json", "{}")
    program = (
        "import os\nprint(sorted(os.listdir()), __file__ == os.path.abspath('main.py'))\n"
        "print(open('data.csv').read(), open('deep/er/config.json').read(), open('inputs/data.csv').read())\n"
        "open('data.csv', 'w').write('mine'); print(open('inputs/data.csv').read())\n"
    )
    result = run(agent, program)
    assert result.stdout.decode().splitlines() == [
        "['data.csv', 'deep', 'inputs', 'main.py'] True", "a,b {} a,b", "a,b",
    ]  # fmt: skip
    assert result.files == {"data.csv": b"mine"}


# Each: what a program does in its working directory, and what comes back.
LEFT = {
    "nothing": ("pass", {}),
    "new": ("open('a.txt', 'w').write('1'); os.makedirs('d/e'); open('d/e/b', 'w').write('2')", {"a.txt", "d/e/b"}),
    "same size, at once": ("open('data', 'r+').write('X')", {"data"}),
    "rewritten as it was": ("s = open('data').read(); open('data', 'w').write(s)", {"data"}),
    "replaced": ("open('n', 'w').write('01'); os.replace('n', 'data')", {"data"}),
    "read and renamed": ("open('data').read(); os.rename('data', 'other')", {"other"}),
    "mode": ("os.chmod('data', 0o755)", set()),
    "removed": ("os.unlink('data')", set()),
    "caches": (
        "import helper\nfor name in ('.hidden', 'x.pyc'): open(name, 'w').close()\n"
        "os.makedirs('.cache/a'); open('.cache/a/b', 'w').close()\n"
        "os.makedirs('d/__pycache__'); open('d/__pycache__/b', 'w').close()\n"
        "assert os.path.exists('__pycache__')",
        set(),
    ),
    "links and pipes": ("os.symlink('data', 'link'); os.mkfifo('pipe'); os.symlink('/etc', 'etc')", set()),
    "hard link": ("os.link('data', 'second')", {"second"}),
}


@pytest.mark.parametrize("name", LEFT)
def test_new_and_changed_files_come_back(agent: Agent, name: str) -> None:
    agent.input("data", "01")
    agent.input("helper.py", "x = 1")
    program, left = LEFT[name]
    result = run(agent, f"import os\n{program}\n")
    assert (result.code, set(result.files), result.rejected) == (0, set(left), {}), result.stderr


def test_output_goes_before_the_working_directory(agent: Agent) -> None:
    program = "open('a', 'w').write('work'); open('../output/a', 'w').write('out'); open('b', 'w').write('b')"
    result = run(agent, program)
    assert result.files == {"a": b"out", "b": b"b"}
    assert result.rejected == {"a": "duplicate"}


def test_copy_of_a_collected_file_is_no_rejection(agent: Agent) -> None:
    program = (
        "import os, shutil\n"
        "os.makedirs('d'); os.makedirs('../output/d')\n"
        "for name, size in (('a', 0), ('b', 3), ('d/c', 200_000), ('d/e', 200_000)):\n"
        "    open(name, 'w').write('x' * size); shutil.copy(name, f'../output/{name}')\n"
        "open('d/e', 'r+').write('y'); open('b', 'a').write('more')\n"
    )
    result = run(agent, program)
    assert {path: len(data) for path, data in result.files.items()} == {"a": 0, "b": 3, "d/c": 200_000, "d/e": 200_000}
    assert result.rejected == {"b": "duplicate", "d/e": "duplicate"}


def test_both_directories_share_the_bounds_and_the_globs(agent: Agent) -> None:
    program = (
        "for n in range(3): open(f'../output/{n}.csv', 'w').write('x'); open(f'w{n}.csv', 'w').write('x')\n"
        "open('no.txt', 'w').close()"
    )
    result = run(agent, program, artifacts=["*.csv"], artifact_files=4)
    assert set(result.files) == {"0.csv", "1.csv", "2.csv", "w0.csv"}
    assert result.rejected == {"w1.csv": "too_many", "w2.csv": "too_many"}


def test_unchanged_compiled_files_are_not_collected(agent: Agent) -> None:
    compiler = ["/bin/sh", "-c", "echo binary > program; mkdir obj; echo o > obj/a.o"]
    command = ["/bin/sh", "-c", "echo result > r; echo changed > obj/a.o; cat program"]
    agent.start(compile=compiler, run=command)
    result = agent.end()
    assert (result.code, result.stdout) == (0, b"binary\n")
    assert set(result.files) == {"r", "obj/a.o"}


def test_inputs_beyond_the_room_for_copies_are_links(agent: Agent) -> None:
    agent.input("small", "s" * 100)
    agent.input("large", "l" * 1000)
    agent.input("d/large", "l" * 1000)
    program = (
        "import json, os\n"
        "links = {p: os.path.islink(p) for p in ('small', 'large', 'd/large')}\n"
        "sizes = [os.path.getsize(p) for p in links]\n"
        "open('n', 'w').write('mine'); os.replace('n', 'large')\n"
        "print(json.dumps([links, sizes]))"
    )
    result = run(agent, program, copy_bytes=3 * 4096)  # small, the program, d/large
    links, sizes = json.loads(result.stdout)
    assert links == {"small": False, "large": True, "d/large": False}
    assert sizes == [100, 1000, 1000]
    assert result.files == {"large": b"mine"}


def test_an_input_may_be_called_as_the_link_to_all(agent: Agent) -> None:
    agent.input("inputs/data", "1")
    result = run(agent, "import os; print(open('inputs/data').read(), os.listdir('inputs'), os.path.islink('inputs'))")
    assert result.stdout == b"1 ['data'] False\n"
    assert result.files == {}


def test_input_may_have_the_name_of_the_link(agent: Agent) -> None:
    agent.input("inputs", "1")
    assert run(agent, "print(open('inputs').read())").stdout == b"1\n"


def test_directories_with_unrepresentable_names_are_skipped(tmp_path: Path) -> None:
    """The directories that a compiler with misleading variables leaves before the program begins."""
    (tmp_path / "main.c").write_text("int main;")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):  # more levels than Python's recursion allows, and a path longer than the kernel allows
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        assert set(working_directory.known(str(tmp_path))) == {"main.c"}
    finally:
        subprocess.run(["rm", "-r", tmp_path / "deep"], check=True)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user reaches; each session of pytest closes the one above ``tmp_path`` again."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def collected(directory: Path) -> tuple[list[str], dict[str, str]]:
    """The paths that a user without rights collects from a directory, and those that are named as left out."""
    command = [sys.executable, "-c", COLLECT, str(directory), str(UNPRIVILEGED)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    sent, rejected = json.loads(done.stdout)
    return sent, rejected


@pytest.mark.parametrize(("mode", "left_out"), [(0o755, {}), (0, "closed"), (0o444, "closed"), (0o311, "closed")])
def test_closed_directory_is_named_and_the_rest_collected(
    reachable: Path, mode: int, left_out: str | dict[str, str]
) -> None:
    output = reachable / "output"
    (output / "closed").mkdir(parents=True)
    for name in ("before", "closed/file", "later"):
        (output / name).write_text("x")
    for path in (output, *output.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    (output / "closed").chmod(mode)
    try:
        sent, rejected = collected(output)
    finally:
        (output / "closed").chmod(0o755)
    if left_out:
        assert (sent, rejected) == (["before", "later"], {"closed": "unreadable"})
    else:
        assert (sent, rejected) == (["before", "closed/file", "later"], {})


def test_unreadable_file_is_named_and_the_rest_collected(reachable: Path) -> None:
    output = reachable / "output"
    output.mkdir()
    for name in ("before", "closed", "later"):
        (output / name).write_text("x")
    (output / "closed").chmod(0)
    for path in (output, *output.iterdir()):
        if os.geteuid() == 0:
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    assert collected(output) == (["before", "later"], {"closed": "unreadable"})


@pytest.mark.parametrize("mode", [0, 0o400])
def test_closed_output_directory_is_named(reachable: Path, mode: int) -> None:
    output = reachable / "output"
    output.mkdir()
    (output / "file").write_text("x")
    if os.geteuid() == 0:
        os.chown(output, UNPRIVILEGED, UNPRIVILEGED)
    output.chmod(mode)
    try:
        sent, rejected = collected(output)
    finally:
        output.chmod(0o755)
    assert (sent, rejected) == ([], {"": "unreadable"})


def test_small_files_leave_together(tmp_path: Path) -> None:
    """Each write wakes the worker, which takes longer than a small file itself."""
    for number in range(FILES):
        (tmp_path / f"{number:03}").write_bytes(b"x" * FILE_BYTES)
    host, agent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # which keeps writes apart
    with host, agent:
        pipe = Channel(agent.fileno(), agent.fileno())
        Collection(pipe.gather, [Glob("**")], FILES * FILE_BYTES, FILES).add(str(tmp_path))
        pipe.send(EXIT, {})
        agent.shutdown(socket.SHUT_WR)
        writes = list(iter(lambda: host.recv(PACKET_BYTES), b""))
    decoder = Decoder()
    frames = [frame for data in writes for frame in decoder.feed(data)]
    kinds = [frame.kind for frame in frames]
    assert kinds == [FromAgent.FILE, FromAgent.FILE_DATA] * FILES + [FromAgent.EXIT]
    assert [frame.json()["path"] for frame in frames[:-1:2]] == [f"{number:03}" for number in range(FILES)]
    assert [frame.kind for frame in Decoder().feed(writes[0])] == [FromAgent.FILE], "it says that the program has ended"
    assert len(writes) == 2 + sum(map(len, writes)) // GATHERED_BYTES


def test_output_leaves_before_the_working_directory_is_searched(tmp_path: Path) -> None:
    for directory in (tmp_path / "output", tmp_path / "work"):
        directory.mkdir()
        for name in ("0", "1"):
            (directory / name).write_text("x")
    command = [sys.executable, "-c", FINISH, str(AGENT.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [False, False], "whether frames wait, at each file of the working directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the agent's system calls")
def test_agent_sends_small_files_together(agent: Agent) -> None:
    def writes() -> int:
        counters = Path(f"/proc/{agent.process.pid}/io").read_text().split()
        return int(counters[counters.index("syscw:") + 1])

    # Empty files: the program's own writes count as the agent's, once it has reaped the program.
    agent.input("main.py", f"for n in range({FILES}): open(str(n), 'w').close()")
    before, found = writes(), 0
    agent.start(artifact_files=FILES)
    for frame in agent.frames:
        found += frame.kind is FromAgent.FILE
        if frame.kind is FromAgent.EXIT:
            break
    assert found == FILES
    assert writes() - before < FILES
