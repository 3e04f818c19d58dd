"""The unit tests need neither root, Redis nor a container engine: those that start processes run without them here.

They see this checkout through a mount of their own, since a home of root's is closed to others.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from orchestrator.settings import inherited_environment
from tests.engine import ENGINE
from tests.harness import ROOT

PARTS = (  # which have the most to do with processes and privileges
    "tests/unit/sandbox_image/test_agent.py", "tests/unit/sandbox_image/test_agent_ahead.py",
    "tests/unit/sandbox_image/test_working_directory.py", "tests/unit/worker/drivers", "tests/unit/worker/host",
)  # fmt: skip
SCRIPT = """
set -e
for hidden in "$ENGINE" $(command -v redis-server runc crun runsc); do mount --bind /dev/null "$hidden"; done
mount --bind "$CHECKOUT" "$PLACE/checkout"
cd "$PLACE/checkout"
export HOME="$PLACE/home" TMPDIR="$PLACE/home" HYPOTHESIS_STORAGE_DIRECTORY="$PLACE/home/hypothesis"
exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all \
    .venv/bin/python -B -m pytest -q -m "not complete and not thorough" -o cache_dir="$PLACE/home/cache" \
    -p no:schemathesis -n 2 --dist loadfile "$@"
"""


def test_unit_tests_need_neither_root_nor_redis_nor_an_engine() -> None:
    env = {name: value for name, value in inherited_environment().items() if not name.startswith("COVERAGE_")}
    with tempfile.TemporaryDirectory(prefix="mayfly-unit-") as place:  # pytest's own are closed to others
        Path(place).chmod(0o755)
        for name in ("checkout", "home"):
            Path(place, name).mkdir()
        os.chown(Path(place, "home"), 65534, 65534)
        command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", SCRIPT, "unit"]
        done = subprocess.run(
            [*command, *PARTS], env={**env, "CHECKOUT": str(ROOT), "ENGINE": str(ENGINE), "PLACE": place},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    [passed] = re.findall(r"^(\d+) passed", done.stdout, re.MULTILINE)
    skipped = re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE)
    assert int(passed) > 250, done.stdout
    assert all(": only root " in line for line in skipped), done.stdout
