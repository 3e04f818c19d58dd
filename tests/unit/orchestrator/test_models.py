"""Properties of all models."""

from __future__ import annotations

import pytest

from orchestrator.models import Frozen, Limits, Specification, Stdin, StoredFile
from orchestrator.models.fleet import EnvironmentOffer, WorkerStatus

# Models that one process writes and another reads, with their fields in version 0.1.0, which refuses unknown fields.
SHARED: dict[type[Frozen], str] = {
    Specification: "id tenant environment entrypoint files args env stdin isolation limits artifacts labels priority "
    "retry loopback mode tools created_at traceparent policy",
    Limits: "wall_seconds cpu_seconds cpu_cores memory_bytes processes disk_bytes output_bytes",
    Stdin: "content encoding blob stream",
    StoredFile: "path content encoding blob",
    WorkerStatus: "id host driver runtimes environments slots busy pool warm_starts cold_starts executions engine "
    "attribution draining weaker trouble heartbeat_age_seconds",
    EnvironmentOffer: "name image size_bytes",
}


class Named(Frozen):
    id: str


def test_the_parser_keeps_no_value_of_a_document() -> None:
    """The parser would keep thousands of strings: at least one id of each execution."""
    document = '{"id": "0123456789abcdef0123456789abcdef"}'
    first, second = Named.model_validate_json(document), Named.model_validate_json(document)
    assert first == second
    assert first.id is not second.id


def refused_by_0_1_0(model: type[Frozen], known: str) -> list[str]:
    """Fields that are written even at their default, and that version 0.1.0 does not know."""
    new = {name: field for name, field in model.model_fields.items() if name not in known.split()}
    return [name for name, field in new.items() if field.exclude_if is None or not field.exclude_if(field.default)]


@pytest.mark.parametrize("model", SHARED)
def test_older_processes_read_data_without_new_features(model: type[Frozen]) -> None:
    """A new field is left out at its default; who uses it needs new workers."""
    assert model.model_fields.keys() >= set(SHARED[model].split())
    assert refused_by_0_1_0(model, SHARED[model]) == []


def test_field_that_older_processes_refuse_is_found() -> None:
    assert refused_by_0_1_0(Named, "") == ["id"]
    assert refused_by_0_1_0(Specification, SHARED[Specification].replace("retry", "")) == ["retry"]
    assert refused_by_0_1_0(Specification, SHARED[Specification].replace("tools", "")) == []
