"""Results of executions for clients: output as text, exact bytes, artifacts, events, and the live stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import quote

from orchestrator.characters import character_at
from orchestrator.environments import Environments
from orchestrator.errors import NotFound
from orchestrator.identity import Principal
from orchestrator.identity.authorization import authorize, permits, reach
from orchestrator.models import Artifact, CloudEvent, Execution
from orchestrator.models.results import Content, ResultBundle
from orchestrator.models.stream import Entry
from orchestrator.queries.events import SecurityQuery, of_execution
from orchestrator.queries.following import Follower
from orchestrator.queries.listing import Page, metadata_of, page_of
from orchestrator.queries.waiting import wait_reason
from orchestrator.states import TERMINAL, State
from orchestrator.store import Store
from orchestrator.store.malformed import MALFORMED, report_malformed
from orchestrator.store.security import LogPage
from orchestrator.store.shown import decode_pushed_result

INLINE_OUTPUT_BYTES = 2**20
TYPES = ("stdout", "stderr", "result")


class Results:
    """Reads executions, each look-up through the caller's tenant. Thread-safe."""

    def __init__(self, store: Store, environments: Environments) -> None:
        self._store, self._environments = store, environments

    def get(self, principal: Principal, id: str) -> Execution:
        """One execution with its output as text. Raises :class:`NotFound`."""
        return self._with_output(*self._store.records.read(id, principal.tenant))

    def repeated(self, principal: Principal, id: str) -> Execution:
        """One execution, for a repeated submission: complete if the principal may read it, else only its metadata."""
        found = self.get(principal, id)
        return found if permits(principal, "execution.read") else metadata_of(found)

    def view(self, principal: Principal, id: str) -> Execution:
        """One execution, complete or only its metadata, as the principal's rights permit. Raises :class:`NotFound`."""
        execution, begun = self._store.records.read(id, reach(principal, "execution.read"))
        shown = authorize(principal, "execution.read", execution.tenant, f"execution {id!r}")
        if State(execution.state) is State.QUEUED:
            execution = execution.model_copy(update={"wait_reason": wait_reason(self._store, execution)})
        return metadata_of(execution) if shown == "metadata" else self._with_output(execution, begun)

    def whole(self, principal: Principal, id: str) -> tuple[Execution, dict[str, bytes]]:
        """One execution as :meth:`get` gives it, and the exact bytes of each output. Raises :class:`NotFound`."""
        execution, out, err = self._shown(*self._store.records.read(id, principal.tenant))
        return execution, {"stdout": out, "stderr": err}

    def pushed(self, id: str, answer: bytes) -> Execution | None:
        """One ended execution, from the result pushed to this process.

        ``None`` if no result was pushed, or malformed data, which is reported.
        """
        if not answer:
            return None
        try:
            return self._with_output(*decode_pushed_result(id, answer))
        except (*MALFORMED, NotFound) as error:
            report_malformed("pushed answer", f"{type(error).__name__}: {error}")
            return None

    def output(self, principal: Principal, id: str, type: str) -> bytes:
        """The exact stored bytes of ``stdout`` or ``stderr``. Raises :class:`NotFound`."""
        execution = self._store.records.get(id, principal.tenant)
        ended = State(execution.state) in TERMINAL
        return self._store.output.bytes_of(id, execution.attempt, type, ended=ended)[0]

    def page(
        self,
        principal: Principal,
        limit: int,
        cursor: str | None,
        filters: dict[str, str | None],
        labels: Iterable[str],
        tenant: str | None = None,
    ) -> Page:
        """A tenant's executions, by default the principal's, newest first, without output and findings.

        A cursor of another list is refused. Raises :class:`Forbidden`.
        """
        owner = tenant or principal.tenant
        shown = authorize(principal, "execution.list", owner)
        if resolved := self._environments.resolve(filters.get("environment") or ""):
            filters = {**filters, "environment": resolved.name}
        page = page_of(self._store, owner, limit, cursor, filters, labels)
        return page if shown == "whole" else page._replace(items=[metadata_of(item) for item in page.items])

    def artifacts(self, principal: Principal, id: str) -> list[Artifact]:
        """The files a program left, each with the address of its bytes. Raises :class:`NotFound`."""
        found = self._store.records.get(id, principal.tenant).artifacts
        return [with_url(id, artifact) for artifact in found]

    def artifact(self, principal: Principal, id: str, path: str) -> tuple[Artifact, Callable[[], Content]]:
        """An artifact, and a function that opens its bytes. Both raise :class:`NotFound`."""
        execution = self._store.records.get(id, principal.tenant)
        for artifact in execution.artifacts:
            if artifact.path == path:
                return artifact, partial(self._opened, id, execution.attempt, artifact)
        raise NotFound(f"Execution {id!r} has no artifact {path!r}.")

    def _opened(self, id: str, attempt: int, artifact: Artifact) -> Content:
        if (content := self._store.own_blobs.open_artifact(id, attempt, artifact.sha256)) is None:
            raise NotFound(f"The bytes of artifact {artifact.path!r} are gone.")
        return content

    def events(self, principal: Principal, id: str) -> list[CloudEvent]:
        """State changes and security events, oldest first."""
        execution = self._store.records.get(id, reach(principal, "execution.events"))
        authorize(principal, "execution.events", execution.tenant, f"execution {id!r}")
        entries = list(self._store.output.entries(id))
        if not entries:  # deleted meanwhile: every stream has at least the first state
            raise NotFound(f"There is no execution {id!r}.")
        return of_execution(execution, entries)

    def follow(self, principal: Principal, id: str, after: str) -> Follower:
        """The stream of an execution behind the entry ``after`` (``-``: from the start). Raises :class:`NotFound`."""
        return Follower(self._store, id, principal.tenant, after)

    def security_events(self, query: SecurityQuery, count: int) -> LogPage:
        """The next entries of the requested security log, oldest first."""
        return query.next(self._store.security, count)

    def _with_output(self, execution: Execution, begun: list[Entry]) -> Execution:
        return self._shown(execution, begun)[0]

    def _shown(self, execution: Execution, begun: list[Entry]) -> tuple[Execution, bytes, bytes]:
        """The execution with its output as text, and the bytes of both outputs."""
        id = execution.id
        if State(execution.state) not in TERMINAL and execution.attempt == 0:
            return execution, b"", b""
        out, err, lines = self._output(execution, begun)
        # A running execution's record has no totals yet; afterwards the totals include bytes dropped beyond the bound.
        out_bytes, err_bytes = max(execution.stdout_bytes, len(out)), max(execution.stderr_bytes, len(err))
        shown = execution.model_copy(
            update={
                "stdout": shortened(out, out_bytes),
                "stderr": shortened(err, err_bytes),
                "stdout_bytes": out_bytes,
                "stderr_bytes": err_bytes,
                "stdout_truncated": out_bytes > min(len(out), INLINE_OUTPUT_BYTES),
                "stderr_truncated": err_bytes > min(len(err), INLINE_OUTPUT_BYTES),
                "results": bundles(lines),
                "artifacts": tuple(with_url(id, artifact) for artifact in execution.artifacts),
            }
        )
        return shown, out, err

    def _output(self, execution: Execution, begun: list[Entry]) -> tuple[bytes, bytes, bytes]:
        """Both outputs, and the lines of results; lost data outside of Redis counts as missing. Raises
        :class:`NotFound`.
        """
        id, attempt, ended = execution.id, execution.attempt, State(execution.state) in TERMINAL
        try:
            out, err, lines = self._store.output.bytes_of(id, attempt, *TYPES, begun=begun, ended=ended)
        except NotFound:
            if not self._store.records.exist([id]):
                raise
            there = [entry for entry in self._store.output.entries(id, begun) if entry.attempt == attempt]
            out, err, lines = (b"".join(entry.data for entry in there if entry.type == type) for type in TYPES)
        return out, err, lines


def bundles(lines: bytes) -> tuple[ResultBundle, ...]:
    """The results in their lines of the stream. A malformed line is reported and skipped."""
    found = []
    for line in lines.split(b"\n"):
        try:
            found += [ResultBundle.model_validate_json(line)] if line else []
        except MALFORMED as error:
            report_malformed("result", f"{type(error).__name__}: {error}")
    return tuple(found)


def with_url(id: str, artifact: Artifact) -> Artifact:
    """The artifact with the URL of its bytes."""
    return artifact.model_copy(update={"url": f"/api/v1/executions/{id}/artifacts/{quote(artifact.path)}"})


def shortened(data: bytes, seen_bytes: int) -> str:
    """Output as text: complete, or head and tail of whole characters with the size of the gap."""
    if seen_bytes <= len(data) <= INLINE_OUTPUT_BYTES:
        return data.decode(errors="replace")
    half = INLINE_OUTPUT_BYTES // 2
    head, tail = data, b""
    if len(data) > INLINE_OUTPUT_BYTES:
        head, tail = data[: character_at(data, half)[0]], data[character_at(data, len(data) - half)[1] :]
    missing = seen_bytes - len(head) - len(tail)
    note = f"\n[… {missing} bytes missing …]\n"
    return head.decode(errors="replace") + note + tail.decode(errors="replace")
