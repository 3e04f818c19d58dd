"""The fuzz targets: each takes any bytes, and raises only if a promise is broken. No services, no containers.

A target's docstring is that promise. It bounds its own work, so that a run makes many inputs a second.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.calls import fuzz_calls
from tests.fuzz.outside import fuzz_records, fuzz_sealed, fuzz_submission
from tests.fuzz.policy import fuzz_inspector, fuzz_policy
from tests.fuzz.results import fuzz_results
from tests.fuzz.sandbox import fuzz_artifacts, fuzz_frames, fuzz_paths, fuzz_report, fuzz_session

TARGETS: dict[str, Callable[[bytes], None]] = {
    "artifacts": fuzz_artifacts,
    "calls": fuzz_calls,
    "frames": fuzz_frames,
    "inspector": fuzz_inspector,
    "paths": fuzz_paths,
    "policy": fuzz_policy,
    "records": fuzz_records,
    "report": fuzz_report,
    "results": fuzz_results,
    "sealed": fuzz_sealed,
    "session": fuzz_session,
    "submission": fuzz_submission,
}
