"""The fuzz target of a program's results."""

from __future__ import annotations

import base64
import json

from orchestrator.errors import FrameError
from orchestrator.models.results import ResultBundle
from tests.fuzz.inputs import pieces
from worker.agent.results import JSON, PNG, SOURCES, TEXT, TYPES, ResultSink

RESULT_BYTES, RESULT_COUNT = 500, 4


def fuzz_results(data: bytes) -> None:
    """Any results of a program, and any headers of an agent: a kept result is valid for its type, can be stored and
    read, and stays within the bounds.
    """
    sink = ResultSink(RESULT_BYTES, RESULT_COUNT)
    sent = 0
    for number, payload in pieces.split(data):
        header = {
            "number": number >> 4 & 3,
            "source": SOURCES[(number >> 4) % 3],
            "media_type": TYPES[number & 3],
            "size": len(payload),
            "length": len(payload) if not number & 4 else len(payload) // 2,
        }
        try:
            sink.begin({"omitted": number} if number & 0xC0 == 0xC0 else header)
            length = header["length"]
            if length:
                sink.data(payload[: int(str(length))])
            sent += int(str(length))
        except FrameError:  # a session ends with the first
            break
    bundles = sink.bundles()
    assert sent <= RESULT_BYTES
    assert len(bundles) <= RESULT_COUNT
    for bundle in bundles:
        assert next(iter(bundle.data)) == TEXT
        assert set(bundle.data) <= set(TYPES)
        stored = bundle.model_dump_json().encode()
        assert b"\n" not in stored
        assert ResultBundle.model_validate_json(stored) == bundle
        if JSON in bundle.data:
            assert json.loads(json.dumps(bundle.data[JSON], allow_nan=False)) == bundle.data[JSON]
        if PNG in bundle.data:
            assert base64.b64decode(bundle.data[PNG], validate=True).startswith(b"\x89PNG")
