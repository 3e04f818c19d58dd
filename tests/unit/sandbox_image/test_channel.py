"""The agent's pipe: with how many writes files leave the sandbox."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandbox_image.agent.files.artifacts import Collection
from sandbox_image.agent.files.globs import Glob
from sandbox_image.agent.supervisor.channel import EXIT, GATHERED_BYTES, Channel
from tests.builders.agent import Agent
from worker.agent.frames import Decoder, FromAgent

FILES, FILE_BYTES = 100, 1000
PACKET_BYTES = 2**18


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
    assert len(writes) == 1 + sum(map(len, writes)) // GATHERED_BYTES


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
