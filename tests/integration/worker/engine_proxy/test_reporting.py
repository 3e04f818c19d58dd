"""Reports of refused calls while Redis does not answer."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

from orchestrator.store.connection import connect
from orchestrator.store.security import LogBounds, SecurityLog
from worker.engine_proxy.calls import Refused
from worker.engine_proxy.reporting import MOST_WAITING, Reports


def test_end_does_not_wait_for_a_redis_that_is_away(tmp_path: Path) -> None:
    """Neither with an event to write nor with a full queue; without its bound the end would wait for both."""
    path = tmp_path / "silent.sock"
    with closing(connect(f"unix://{path}", 600)) as store:
        reports = Reports(SecurityLog(store, LogBounds(100, 100)))
        with closing(socket.socket(socket.AF_UNIX)) as silent:
            silent.bind(str(path))
            silent.listen(16)  # connections are made, and nothing answers
            reports.start()
            for _ in range(MOST_WAITING + 2):
                reports.add(Refused("call", "x"), "GET /x")
            reports.stop(most_seconds=0.05)
            assert reports._thread.is_alive(), "the control: an event is being written"
        reports.stop(most_seconds=60)  # no connection is made now
        assert not reports._thread.is_alive()
