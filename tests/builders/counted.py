"""Counts what happened in this process: by Prometheus counters, and by calls and lines of the product."""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from prometheus_client import REGISTRY

import orchestrator

PRODUCT = str(Path(orchestrator.__file__).parent)


def counted(name: str, **labels: str) -> float:
    """The value of a metric that there is."""
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None, name
    return value


class Work:
    """The lines of the product that run, and the calls in and out of it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def note_call(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and is_product(frame):
            self.counts[called.__qualname__] += 1
        elif event == "call" and (is_product(frame) or is_product(frame.f_back)):
            self.counts[frame.f_code.co_qualname] += 1

    def note_line(self, frame: FrameType, event: str, _: Any) -> Any:
        if not is_product(frame):
            return None
        if event == "line":
            self.counts[f"{frame.f_code.co_qualname}:{frame.f_lineno}"] += 1
        return self.note_line


def is_product(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(PRODUCT)


@contextmanager
def counted_work() -> Iterator[Counter[str]]:
    """The work of this thread, and of threads that begin meanwhile. Unlike its time it is the same in each run."""
    work, others = Work(), sys.gettrace()
    gc.collect()
    gc.disable()  # finalizers run at any time
    threading.setprofile(work.note_call)
    threading.settrace(work.note_line)
    sys.setprofile(work.note_call)
    sys.settrace(work.note_line)
    try:
        yield work.counts
    finally:
        sys.settrace(others)
        sys.setprofile(None)
        threading.settrace(None)
        threading.setprofile(None)
        gc.enable()
