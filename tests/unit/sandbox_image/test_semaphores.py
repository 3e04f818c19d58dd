"""A program that scribbles over the page of semaphores that the agent shares with it harms nothing but itself."""

from __future__ import annotations

import signal
import struct

import pytest

from tests.builders.agent import Agent

# The page and what is in it: of each semaphore the value, the number of those that wait, and how they are woken.
SCRIBBLE = """
import ctypes, os, time
pages = []
for line in open("/proc/self/maps"):
    span, mode, *_ = line.split()
    start, end = (int(one, 16) for one in span.split("-"))
    if mode == "rw-s" and end - start == 4096: pages.append(start)
data = {data!r}
for start in pages: ctypes.memmove(start, data, len(data))
if {again}:
    for _ in range(2):
        if os.fork() == 0:
            for start in pages:
                while True: ctypes.memmove(start, data, len(data)), ctypes.memset(start, 0, len(data))
time.sleep(0.2)
open({output!r} + "/kept", "w").write("kept")
print("my own", len(pages), flush=True)
os._exit(7)
"""
VALUES, WAITING, LARGEST = (0, 1), (0, 1, 2**32 - 1), 2**31 - 1
WAKES = {
    "as ever": 128,
    "by no call there is": 0x7F,
    "by waiting itself": 129,
    "by requeuing": 128 ^ 2,
    "by -1": 2**32 - 1,
}
PAGES = {
    f"value {value}, {waiting} wait, woken {how}": struct.pack("<III", value, waiting, wakes).ljust(64, b"\0")
    for value in VALUES
    for waiting in WAITING
    for how, wakes in WAKES.items()
} | {
    "full": struct.pack("<III", LARGEST, 1, 128).ljust(64, b"\0"),
    "negative": struct.pack("<iiI", -1, -1, 128).ljust(64, b"\0"),
}
FIRST = struct.pack("<III", 1, 0, 128).ljust(64, b"\0")  # the second semaphore, with its token


def check(agent: Agent, data: bytes, *, again: bool = False) -> None:
    agent.input("main.py", SCRIBBLE.format(data=data, again=again, output=agent.paths["output"]))
    agent.start(wall_seconds=10)
    result = agent.end()
    assert (result.exit["stopped"], result.code) == (None, result.exit["exit_code"]), result.stderr
    if result.exit["signal"] == signal.SIGABRT:  # the program's own thread waits there, too
        assert (result.stdout, result.files) == (b"", {})
    else:
        assert (result.stdout, result.code, result.files) == (b"my own 1\n", 7, {"kept": b"kept"})


@pytest.mark.parametrize("what", PAGES)
def test_scribbled_semaphores_neither_stop_nor_end_the_agent(agent: Agent, what: str) -> None:
    check(agent, PAGES[what] + FIRST)


@pytest.mark.parametrize("byte", [0x00, 0x55, 0x7F, 0x81, 0xFF])
def test_page_of_one_byte_neither_stops_nor_ends_the_agent(agent: Agent, byte: int) -> None:
    check(agent, bytes([byte]) * 4096)


def test_semaphores_that_change_all_the_time_neither_stop_nor_end_the_agent(agent: Agent) -> None:
    check(agent, PAGES["value 1, 1 wait, woken by waiting itself"] + FIRST, again=True)
