"""Results on an execution's stream: in Redis within the bound of its output, beyond it in the blob directory."""

from __future__ import annotations

from orchestrator.models.results import ResultBundle
from orchestrator.queries.results import bundles
from orchestrator.settings import Settings
from orchestrator.store import Store, keys
from tests.builders.records import claimed, result, submit
from worker.attempt.output import INLINE_BYTES, OutputSink


def bundle(text: str) -> ResultBundle:
    return ResultBundle(source="named", data={"text/plain": text, "application/json": {"a": ["é\n", None]}})


def ended(store: Store, *texts: str) -> str:
    id = submit(store)
    sink = OutputSink(store, claimed(store, id), 10**6)
    sink.begin()
    sink.write("stdout", b"printed")
    for text in texts:
        sink.result(bundle(text))
    sink.finish()
    sink.commit(result())
    return id


def files(settings: Settings, id: str) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (settings.blobs_path / "artifacts" / id).rglob("*/*")}


def test_results_are_entries_in_their_order(store: Store, settings: Settings) -> None:
    id = ended(store, "first", "second")
    assert files(settings, id) == {}
    printed, lines = store.output.bytes_of(id, 1, "stdout", "result", ended=True)
    assert (printed, bundles(lines)) == (b"printed", (bundle("first"), bundle("second")))
    types = [entry.type for entry in store.output.read(id)]
    assert types[types.index("stdout") :] == ["stdout", "result", "result", "state", "done"]


def test_results_beyond_the_share_of_redis_are_in_the_blob_directory(store: Store, settings: Settings) -> None:
    large = "x" * INLINE_BYTES
    id = ended(store, "first", large, "third")
    lines = store.output.bytes_of(id, 1, "result", ended=True)[0]
    assert bundles(lines) == (bundle("first"), bundle(large), bundle("third"))
    assert store.redis.memory_usage(keys.stream(id)) < INLINE_BYTES
    assert files(settings, id).keys() == {"bundles"}
    entries = [entry for entry in store.output.read(id) if entry.type == "result"]
    assert [bool(entry.span) for entry in entries] == [False, True, True]
    assert b"".join(entry.data for entry in store.output.filled(id, entries)) == lines


def test_malformed_results_are_skipped() -> None:
    good = bundle("good").model_dump_json().encode()
    lines = b"\n".join([b"{", good, b'{"source": "other", "data": {}}', b"[" * 10_000, b"", good, b"\xff"])
    assert bundles(lines) == (bundle("good"), bundle("good"))
