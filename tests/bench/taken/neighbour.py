"""Another tenant, in a process of its own, so that its client does not disturb the measured client.

``python -m tests.bench.taken.neighbour PORT CASE JOBS`` reads a key from the first line of its standard input, and
misbehaves until that ends.
"""

from __future__ import annotations

import contextlib
import sys
import threading

from tests.bench.systems.mayfly import BATCH, EXECUTIONS, WAIT_SECONDS
from tests.bench.systems.programs import PRINT
from tests.bench.wire import Refused, Wire

HOSTILE = {
    "output": "while True: print('x' * 60_000)",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "disks": "import itertools\nfor n in itertools.count():\n    for place in ('/tmp', '/work', '/output'):\n"
    "        try: open(f'{place}/{n}', 'wb').write(bytes(2**20))\n        except OSError: pass",
}
CASES = (*HOSTILE, "queue")


def main(port: int, case: str, jobs: int) -> None:
    """Misbehave until standard input ends."""
    token, over = sys.stdin.readline().strip(), threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=await_end, daemon=True).start()
    with Wire(port, token) as wire:
        if case == "queue":
            _queue(wire, jobs, over)
        while not over.is_set():
            wire.post(EXECUTIONS, {"environment": "python", "code": HOSTILE[case]}, WAIT_SECONDS)


def _queue(wire: Wire, jobs: int, over: threading.Event) -> None:
    """Many jobs, submitted as fast as they are taken; those that are left in the end are cancelled."""
    ids: list[str] = []
    for start in range(0, jobs, BATCH):
        if over.is_set():
            break
        batch = [{"environment": PRINT.environment, "code": PRINT.code}] * min(BATCH, jobs - start)
        answers = wire.post(f"{EXECUTIONS}/batch", {"executions": batch})
        ids.extend(answer["execution"]["id"] for answer in answers if "execution" in answer)
    over.wait()
    with contextlib.suppress(Refused):  # the first that has ended: so have those before
        for id in reversed(ids):
            wire.post(f"{EXECUTIONS}/{id}/cancel", {})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
