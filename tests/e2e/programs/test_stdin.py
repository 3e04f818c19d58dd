"""Standard input from a client to a program in a sandbox: exact, live, and again for another attempt."""

from __future__ import annotations

import base64
import hashlib
import os
import pty
import random
import select
import signal
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from tests.builders.sandboxes.pauses import Pause
from tests.builders.tier import Tier
from tests.harness import ROOT, Stack, eventually

DIGEST = "import hashlib, sys; d = sys.stdin.buffer.read(); print(len(d), hashlib.sha256(d).hexdigest())"
UPPER = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)\nprint('end')"
ALL = bytes(range(256))


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def start(stack: Stack, environment: str = "python", **body: Any) -> str:
    answer = stack.submit(0, environment=environment, stdin={"stream": True}, **body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def send(stack: Stack, id: str, data: bytes = b"", status: int = 202, **params: Any) -> dict[str, Any]:
    answer = stack.client.post(f"/api/v1/executions/{id}/stdin", content=data, params=params)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def printed(stack: Stack, id: str, wanted: str) -> None:
    eventually(lambda: stack.show(id)["stdout"] == wanted, f"the program has printed {wanted!r}")


def test_every_byte_arrives(tier: Tier) -> None:
    """Inline, and by a blob that is far larger than the agent's buffer; in every driver and tier."""
    inline = tier.run(code=DIGEST, stdin={"content": base64.b64encode(ALL).decode(), "encoding": "base64"})
    assert inline["stdout"] == digest(ALL)
    large = random.Random(7).randbytes(5 * 2**20)
    blob = tier.stack.client.put("/api/v1/blobs", content=large).json()["blob"]
    ended = tier.run(code=DIGEST, stdin={"blob": blob}, limits={"wall_seconds": 60})
    assert ended["stdout"] == digest(large)
    text = "日" * 100_000  # inline for the client, a blob for the worker
    assert tier.run(code=DIGEST, stdin=text)["stdout"] == digest(text.encode())


def test_lines_reach_a_running_program(tier: Tier) -> None:
    id = start(tier.stack, code=UPPER, isolation=tier.way.isolation, limits={"wall_seconds": 60})
    send(tier.stack, id, b"one\n")
    printed(tier.stack, id, "ONE\n")
    send(tier.stack, id, b"two\n", offset=4)
    printed(tier.stack, id, "ONE\nTWO\n")
    send(tier.stack, id, b"two\n", offset=4, end=True)
    ended = tier.stack.ended(id)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "ONE\nTWO\nend\n")
    assert send(tier.stack, id, b"x", 409)["code"] == "already_finished"


PROGRAMS = {
    "never reads": ("python", "print('done')", b"", "done\n"),
    "closes": ("python", "import os\nos.close(0)\nPAUSE\nprint('closed')", b"x" * 70_000, "closed\n"),
    "node": ("node", "process.stdin.once('data', d => { console.log(String(d)); process.exit() })", b"hi", "hi\n"),
    "bash": ("bash", 'read line; echo "[$line]"', b"a b\n", "[a b]\n"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_ends_while_its_input_is_open(stack: Stack, name: str) -> None:
    environment, code, data, wanted = PROGRAMS[name]
    pause = Pause()
    id = start(stack, environment, code=code.replace("PAUSE", pause.code), limits={"wall_seconds": 90})
    if data:
        send(stack, id, data)
    if "PAUSE" in code:
        pause.end()
    ended = stack.ended(id)
    assert (ended["state"], ended["stdout"]) == ("succeeded", wanted)


def test_megabytes_are_streamed_through_the_bounds(stack: Stack) -> None:
    data = random.Random(8).randbytes(3 * 2**20)
    id = start(stack, code=DIGEST, limits={"wall_seconds": 60})
    url = f"/api/v1/executions/{id}/stdin"
    for offset in range(0, len(data), 2**18):
        params = {"offset": offset, "end": offset + 2**18 >= len(data)}
        post = partial(stack.client.post, url, content=data[offset : offset + 2**18], params=params)
        eventually(lambda post=post: post().status_code == 202, "the chunk is accepted")  # type: ignore[misc]
    assert stack.ended(id)["stdout"] == digest(data)


def test_program_waiting_for_input_times_out_and_can_be_cancelled(stack: Stack) -> None:
    waiting = "import sys; print('up', flush=True); sys.stdin.read()"
    id = start(stack, code=waiting, limits={"wall_seconds": 5})
    send(stack, id, b"x" * 300_000)
    assert stack.ended(id)["reason"] == "timed_out"
    id = start(stack, code=waiting, limits={"wall_seconds": 60})
    printed(stack, id, "up\n")
    stack.client.post(f"/api/v1/executions/{id}/cancel")
    assert stack.ended(id)["reason"] == "cancelled_by_user"


def test_retry_gets_the_whole_input_again(own_stack: Any) -> None:
    stack = own_stack().start(workers=1)
    id = start(stack, code=UPPER, limits={"wall_seconds": 60})
    send(stack, id, b"one\n")
    printed(stack, id, "ONE\n")
    stack.workers[0].popen.send_signal(signal.SIGKILL)
    stack.workers[0].popen.wait()
    send(stack, id, b"two\n")
    stack.start_worker()
    eventually(lambda: stack.show(id)["attempt"] == 2, "a second attempt begins", 60)
    printed(stack, id, "ONE\nTWO\n")
    send(stack, id, end=True)
    ended = stack.ended(id)
    assert (ended["attempt"], ended["stdout"]) == (2, "ONE\nTWO\nend\n")


LINES = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def mayfly(stack: Stack, *words: str, **given: Any) -> subprocess.Popen[bytes]:
    env = {**os.environ, **stack.env, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "orchestrator.cli", *words]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
    return subprocess.Popen(command, env=env, **streams)


def test_a_pipe_is_passed_on_while_the_program_runs(stack: Stack) -> None:
    with mayfly(stack, "run", "--timeout", "60", "-c", LINES) as command:
        assert command.stdin and command.stdout and command.stderr
        command.stdin.write(b"a\n")
        command.stdin.flush()
        assert command.stdout.readline() == b"a\n"  # a command that reads to the end first hangs here
        command.stdin.write(b"b\n")
        command.stdin.close()
        assert command.stdout.read() == b"b\n"
        assert (command.wait(60), command.stderr.read()) == (0, b"")


def test_command_ends_with_its_program_while_the_pipe_is_open(stack: Stack) -> None:
    pause = Pause()
    with mayfly(stack, "run", "--timeout", "90", "-c", f"{pause.code}; print('done')") as command:
        assert command.stdout and command.stderr
        assert b"--no-stdin" in command.stderr.readline()
        assert not select.select([command.stdout], [], [], 0)[0]
        pause.end()
        assert command.stdout.read() == b"done\n"
        assert command.wait(60) == 0


def test_no_stdin_option_reads_nothing_silently(stack: Stack) -> None:
    with mayfly(stack, "run", "--no-stdin", "-c", "import sys; print(repr(sys.stdin.read()))") as command:
        assert command.stdout and command.stderr
        assert (command.stdout.read(), command.wait(60), command.stderr.read()) == (b"''\n", 0, b"")


@pytest.mark.parametrize("size", [0, 256, 5 * 2**20])
def test_a_file_goes_along_exactly(stack: Stack, size: int, tmp_path: Any) -> None:
    data = (ALL * (size // 256 + 1))[:size]
    (tmp_path / "in").write_bytes(data)
    with (
        (tmp_path / "in").open("rb") as file,
        mayfly(stack, "run", "--timeout", "60", "-c", DIGEST, stdin=file) as command,
    ):
        assert command.stdout
        assert command.stdout.read().decode() == digest(data)
        assert command.wait(60) == 0


def test_an_interrupt_cancels_while_input_is_open(stack: Stack) -> None:
    code = "print('up', flush=True)\ninput()"
    with mayfly(stack, "run", "--timeout", "60", "-c", code) as command:
        assert command.stdout and command.stderr
        assert command.stdout.readline() == b"up\n"
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 130
        assert b"cancelled" in command.stderr.read()


def test_terminal_input_is_forwarded_until_ctrl_d(stack: Stack) -> None:
    child, terminal = pty.fork()
    if child == 0:
        env = {**os.environ, **stack.env, "PYTHONPATH": str(ROOT)}
        words = ["-m", "orchestrator.cli", "run", "--timeout", "60", "-c", UPPER]
        os.execve(sys.executable, [sys.executable, *words], env)
    seen = b""

    def received(wanted: bytes) -> bool:
        nonlocal seen
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            return True
        return wanted in seen

    try:
        os.write(terminal, b"hello\n")
        eventually(lambda: received(b"HELLO"), "the program has printed the line")
        os.write(terminal, b"\x04")
        eventually(lambda: received(b"end"), "the program has ended")
        assert b"end" in seen
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_submit_reads_to_the_end(stack: Stack) -> None:
    with mayfly(stack, "submit", "--timeout", "60", "-c", DIGEST) as command:
        assert command.stdin and command.stdout and command.stderr
        assert b"--no-stdin" in command.stderr.readline()
        command.stdin.write(ALL)
        command.stdin.close()
        id = command.stdout.read().decode().strip()
        assert command.wait(60) == 0
    assert stack.ended(id)["stdout"] == digest(ALL)
