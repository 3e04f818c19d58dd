"""Sends output of a Python program within 50 ms, even if the program neither fills nor flushes its buffers.

Python writes into a pipe a page at a time, so a program that prints a line and then waits would show nothing, and lose
the line if it is killed. Flushing at each ``print`` would cost a system call each. Instead a thread flushes buffered
output. It is no thread of the ``threading`` module, and waits in a loop of C, so the program sees no frame of it; the
operating system counts it.

The thread wakes up only if the program runs for a whole period: an earlier wake-up would cost a short program two
switches of the interpreter's lock. So the thread sleeps on a semaphore in memory that the agent shares with its forks;
the agent releases the semaphore a period after the program's start. The only token of a second semaphore decides: if
the agent takes the token (:func:`begin`), the thread wakes up; if the program's end takes it (:func:`end`), the thread
sleeps for ever. A program that writes to that memory can only change when its own thread wakes up (``semaphores.py``).

A flush locks the stream, and a child forked meanwhile would find the stream locked for ever, so a lock keeps flushes
and forks apart. At the program's end an awake thread ends first: a thread that the interpreter stops during its own end
needs a library and a descriptor, which the program may have used up.
"""

from __future__ import annotations

import _thread
import os
import sys
from _collections import deque  # type: ignore[import-not-found]
from _functools import partial  # type: ignore[import-not-found]
from _operator import call
from itertools import chain

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox_image.agent.program import semaphores
else:
    import semaphores

PERIOD_SECONDS = 0.05

_due, _may_begin = semaphores.shared(0, 1)
_flushing, _program_ended, _thread_ended = (_thread.allocate_lock() for _ in range(3))
_threads: list[int] = []  # at most one; none in a forked child
_streams: list[tuple[Callable[[], None], Callable[[], None]]] = []  # for each stream: flush of bytes, of text


def prepare() -> None:
    """Start the thread, which waits for :func:`begin` and then flushes the current stdout and stderr."""
    for awaited in (_program_ended, _thread_ended):
        awaited.acquire()
    _streams.extend((stream.buffer.flush, stream.flush) for stream in (sys.stdout, sys.stderr))
    os.register_at_fork(before=_flushing.acquire, after_in_parent=_flushing.release, after_in_child=_flushing.release)
    os.register_at_fork(after_in_child=_threads.clear)
    loop = chain(
        iter(_due.wait, 0),
        map(_flush, chain((None,), iter(partial(_program_ended.acquire, True, PERIOD_SECONDS), True))),
        iter(_thread_ended.release, None),
    )
    _threads.append(_thread.start_new_thread(deque(maxlen=0).extend, (loop,)))


def begin() -> None:
    """Start flushing, unless the program has ended."""
    if _may_begin.try_wait() == 0:
        _due.let_go()


def end() -> None:
    """Stop flushing: the program has ended, and the interpreter flushes the streams itself, at last on freeing them."""
    if _threads:
        if _may_begin.try_wait() != 0:
            _program_ended.release()
            _thread_ended.acquire()
        _threads.clear()
    _streams.clear()


def _flush(_: object) -> None:
    with _flushing:
        for flushes in _streams:
            try:
                # The bytes first, and the text directly afterwards, without a step of Python in between: otherwise
                # another thread could lock the bytes, and write before the text leaves its own buffer.
                deque(map(call, flushes), maxlen=0)
            except (OSError, ValueError):
                continue  # closed, detached, or broken, as the program's own next write finds
