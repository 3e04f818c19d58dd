"""The tests that `make test` leaves out are listed, and every listed test exists."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness import ROOT
from tests.selection import ALL_TESTS, ORDER, UNMEASURED, WHOLE, is_thorough, rank, stale, unmeasured


def test_name_selects_all_parameters_and_id_selects_a_single_test() -> None:
    assert is_thorough(WHOLE[0], "test_anything")
    assert is_thorough("unit/tests/test_fuzz.py", "test_short_fuzz_run_finds_nothing")
    assert not is_thorough("unit/tests/test_fuzz.py", "test_another")
    assert is_thorough("e2e/operation/test_documents.py", "test_the_commands_of_a_document_work[quickstart.md]")
    assert not is_thorough("e2e/operation/test_documents.py", "test_the_commands_of_a_document_work[README.md]")


def test_processes_of_some_folders_are_not_measured() -> None:
    variables = ["PATH", "COVERAGE_PROCESS_CONFIG"]
    assert unmeasured("hostile/test_hostile.py", variables) == ["COVERAGE_PROCESS_CONFIG"]
    assert unmeasured("e2e/operation/test_up.py", variables) == []


def test_listed_tests_exist_and_every_kind_has_a_sample(request: pytest.FixtureRequest) -> None:
    found = request.config.stash.get(ALL_TESTS, None)
    if found is None:  # a run of some tests: another run collects all, and runs this test alone
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-k", request.node.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
        return
    ranks = [rank(test.module) for test in found]
    assert ranks == sorted(ranks) and set(ranks) >= set(range(len(ORDER)))
    assert all(any(test.module.startswith(folder) for test in found) for folder in UNMEASURED)
    everything = {(test.module, test.name) for test in found}
    assert stale(everything) == set()
    assert stale(everything - {entry for entry in everything if entry[0] == WHOLE[0]}) == {WHOLE[0]}
    chosen = [test for test in found if test.is_usual]
    assert 1000 < len(chosen) < len(found)
    folders = {test.module.rpartition("/")[0] for test in found}
    assert folders - {test.module.rpartition("/")[0] for test in chosen} == set()
    hostile = [test.name for test in chosen if test.module == "hostile/test_hostile.py"]
    assert any("docker-runc" in name for name in hostile) and not any("docker-runsc" in name for name in hostile)
