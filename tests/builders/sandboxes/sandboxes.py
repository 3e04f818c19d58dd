"""A bench that makes sandboxes with a given driver and runtime, if this host has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.harness import Way
from tests.hostile.sandbox import Bench


@contextmanager
def bench_for(way: Way, directory: Path, images: Path, need_runtime: Callable[..., None]) -> Iterator[Bench]:
    """The bench, closed at the end. ``need_runtime`` skips or fails the test where the runtime is missing."""
    need_runtime(way.runtime, way.driver)
    with closing(Bench(directory, images, way)) as bench:
        yield bench
