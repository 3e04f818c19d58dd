"""Progress notifications of a call: queued with its place, starting, running with the newest line, done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio

from orchestrator.errors import MayflyError
from orchestrator.logs import printable
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.models.stream import Entry
from orchestrator.states import TERMINAL, State

PAUSE_SECONDS = 0.5  # between notifications; the next notification has only the newest state and line
SILENT_SECONDS = 10.0
QUEUED_SECONDS = 1.0  # between queries of the place in the queue
LINE_CHARACTERS = 200
Report = Callable[[float, float | None, str | None], Awaitable[None]]


class Progress:
    """Reports the progress of one call. ``report`` takes a rising number, the total, and a message."""

    def __init__(self, report: Report | None) -> None:
        self._report, self._step = report, 0

    @asynccontextmanager
    async def of(self, parts: Parts, caller: Caller, id: str) -> AsyncIterator[None]:
        """Follow an execution until the context ends, if the client asked for progress.

        Raises a ``MayflyError`` of the context as it is.
        """
        if self._report is None:
            yield
            return
        refusal: MayflyError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow, parts, caller, id)
            try:
                yield
            except MayflyError as error:  # the group would wrap the error, and the call would end as a crash
                refusal = error
            group.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    async def _follow(self, parts: Parts, caller: Caller, id: str) -> None:
        """Report each change. Ends at once if the tenant already follows too many executions."""
        last = "queued"
        await self.send(last)
        with suppress(MayflyError), parts.followers.counted(caller.tenant):
            async with parts.wakeups.changes(id) as listener:
                follower = await parts.threads.run(
                    caller.tenant, partial(parts.results.follow, caller.principal, id, "-")
                )
                page, is_all = follower.first()
                state, line = "queued", ""
                while True:
                    state, line = newest(page, state, line)
                    # A line may be cut inside a value, whose remainder the filter would miss.
                    message = f"{state}: {line}" if line and not caller.filters else state
                    if state == "queued":
                        message = await self._place(parts, caller, id)
                    if message != last:
                        last = message
                        await self.send(message)
                    if any(entry.type == "done" for entry in page):
                        return
                    if is_all:
                        await anyio.sleep(PAUSE_SECONDS)  # bounds the notifications
                        await listener.wait(QUEUED_SECONDS if state == "queued" else SILENT_SECONDS)
                    page, is_all = await parts.threads.run(caller.tenant, follower.next)

    async def _place(self, parts: Parts, caller: Caller, id: str) -> str:
        """The state of a queued execution, with its place among the tenant's own."""
        number = await parts.threads.run(caller.tenant, partial(parts.service.ahead, caller.principal, id))
        return f"queued, {number} ahead" if number else "queued"

    async def done(self, state: str) -> None:
        """Send the last notification, before the result."""
        await self.send(f"done: {state}" if State(state) in TERMINAL else f"{state}; the call's wait is over")

    async def send(self, message: str) -> None:
        """Send a notification."""
        if self._report is not None:
            self._step += 1
            await self._report(float(self._step), None, message)


def newest(entries: list[Entry], state: str, line: str) -> tuple[str, str]:
    """The state and the newest line of output, after some entries."""
    for entry in entries:
        if entry.type in ("stdout", "stderr"):
            lines = [part for part in entry.data[-4096:].decode(errors="replace").splitlines() if part.strip()]
            line = printable(lines[-1].strip(), LINE_CHARACTERS) if lines else line
            state = "running"
        elif entry.type in ("state", "done"):
            state = entry.data.decode()
    return state, line
