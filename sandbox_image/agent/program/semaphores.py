"""POSIX semaphores that this process shares with its forks.

A fork may be hostile, and write anything to the semaphores. So of the C library's operations the agent may call only
``sem_trywait``: ``sem_post`` reads from the semaphore which operation of the kernel wakes the waiting process, so a
forged semaphore makes the caller wait for ever, or abort. :meth:`Semaphore.let_go` reads nothing.
"""

from __future__ import annotations

import os
from _functools import partial  # type: ignore[import-not-found]

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox_image.agent.program import libc
else:
    import libc

PAGE_BYTES, SEMAPHORE_BYTES = 4096, 64  # as much as a cache line; the C library's take 32
PROT_READ, PROT_WRITE, MAP_SHARED, MAP_ANONYMOUS = 1, 2, 1, 0x20
MAP_FAILED, NO_FILE = libc.Pointer(-1).value, -1
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}
FUTEX_WAKE = 1  # of any process that shares the memory


class Semaphore:
    """A semaphore at an address. Its operations are C functions, which leave no frame of Python; each returns 0, or -1
    on failure.
    """

    def __init__(self, address: int, value: int) -> None:
        place = libc.Pointer(address)
        libc.ForInteger(libc.address("sem_init"))(place, 1, value)
        self.wait: Callable[[], int] = partial(libc.ForInteger(libc.address("sem_wait")), place)
        self.try_wait: Callable[[], int] = partial(libc.ForInteger(libc.address("sem_trywait")), place)
        self._value = libc.Integer.from_address(address)  # the first member of the library's structure
        number = SYS_FUTEX[os.uname().machine]
        self._wake = partial(libc.ForInteger(libc.address("syscall")), number, place, FUTEX_WAKE, 1)

    def let_go(self) -> None:
        """Wake a waiting process, or let the next pass without waiting; for a semaphore that is released only once."""
        self._value.value = 1
        self._wake()


def shared(*values: int) -> list[Semaphore]:
    """Semaphores with these values, in one page of memory. Raises :class:`MemoryError`."""
    anywhere, size, start = (libc.Pointer(value) for value in (0, PAGE_BYTES, 0))
    how = PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS
    page = libc.ForPointer(libc.address("mmap"))(anywhere, size, *how, NO_FILE, start)
    if page in (None, MAP_FAILED):
        raise MemoryError("the kernel gives no shared page")
    return [Semaphore(page + number * SEMAPHORE_BYTES, value) for number, value in enumerate(values)]
