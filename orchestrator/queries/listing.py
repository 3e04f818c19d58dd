"""Lists of a tenant's executions: pages, newest first, with filters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from orchestrator.errors import ValidationFailed
from orchestrator.models import Execution, PolicyReport
from orchestrator.queries import cursors
from orchestrator.store import Store

SCAN_IDS = 200
SCAN_PAGES = 5


class Page(NamedTuple):
    """One page of a list."""

    items: list[Execution]
    next_cursor: str | None


def page_of(
    store: Store, tenant: str, limit: int, cursor: str | None, filters: dict[str, str | None], labels: Iterable[str]
) -> Page:
    """The next executions that match the filters, without output, with their policy findings only counted.

    A page may have fewer than ``limit`` executions, or none, and still a cursor: one request examines at most
    ``SCAN_PAGES * SCAN_IDS`` executions. Raises :class:`ValidationFailed`, also for a cursor of another list.
    """
    wanted = {name: value for name, value in filters.items() if value is not None}
    pairs = _label_pairs(labels)
    list_id = cursors.list_id(tenant, wanted, pairs)
    position = None if cursor is None else cursors.opened(cursor, list_id, _position)
    items: list[Execution] = []
    for _ in range(SCAN_PAGES):
        page = store.records.page_ids(tenant, position, SCAN_IDS)
        ids = [id for _, id in page]
        if wanted or pairs:
            ids = store.records.matching(ids, wanted, pairs)
        by_id = {execution.id: execution for execution in store.records.get_many(ids)}
        for created, id in page:
            position = (created, id)
            execution = by_id.get(id)
            if execution is not None and _matches(execution, wanted, pairs):
                items.append(_listed(execution))
                if len(items) == limit:
                    return Page(items, _cursor(position, list_id))
        if not page:
            return Page(items, None)
    return Page(items, _cursor(position, list_id))


def metadata_of(execution: Execution) -> Execution:
    """An execution without code, output and files: the metadata that operators see of every tenant's executions."""
    compiled = execution.compile and execution.compile.model_copy(update={"stdout": "", "stderr": ""})
    report = execution.policy and _counted(execution.policy)
    empty = dict.fromkeys(("results", "artifacts", "artifacts_rejected", "tool_calls"), ())
    hidden: dict[str, Any] = {"stdout": None, "stderr": None, "compile": compiled, "policy": report}
    return execution.model_copy(update={**empty, **hidden})


def _label_pairs(labels: Iterable[str]) -> list[tuple[str, str]]:
    pairs = []
    for label in labels:
        name, colon, value = label.partition(":")
        if not name or not colon:
            raise ValidationFailed([("label", "is a name and a value: label=team:x")], "invalid_label")
        pairs.append((name, value))
    return sorted(pairs)


def _matches(execution: Execution, wanted: dict[str, str], labels: list[tuple[str, str]]) -> bool:
    return all(getattr(execution, name) == value for name, value in wanted.items()) and all(
        execution.labels.get(name) == value for name, value in labels
    )


def _listed(execution: Execution) -> Execution:
    """An execution as listed, with its policy findings only counted."""
    report = execution.policy
    if report is None or not report.findings:
        return execution
    return execution.model_copy(update={"policy": _counted(report)})


def _counted(report: PolicyReport) -> PolicyReport:
    return report.model_copy(update={"findings": (), "omitted": report.omitted + len(report.findings)})


def _cursor(position: tuple[float, str] | None, list_id: str) -> str | None:
    return None if position is None else cursors.closed(list_id, *position)


def _position(created: float, id: str) -> tuple[float, str]:
    if not math.isfinite(created):
        raise ValueError(created)
    return float(created), str(id)
