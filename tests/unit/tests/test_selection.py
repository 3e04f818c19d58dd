"""The tests that `make test` leaves out are listed, and every listed test exists."""

from __future__ import annotations

import subprocess
import sys

from tests.harness import ROOT
from tests.selection import ORDER, WHOLE, is_thorough, rank, stale


def collected(*options: str) -> list[tuple[str, str]]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = (line.removeprefix("tests/") for line in done.stdout.splitlines() if "::" in line)
    return [(module, test) for module, _, test in (line.partition("::") for line in lines)]


def test_name_selects_all_parameters_and_id_selects_a_single_test() -> None:
    assert is_thorough(WHOLE[0], "test_anything")
    assert is_thorough("unit/tests/test_fuzz.py", "test_short_fuzz_run_finds_nothing")
    assert not is_thorough("unit/tests/test_fuzz.py", "test_another")
    assert is_thorough("chaos/test_model.py", "test_every_order_of_steps_keeps_every_promise[1-6-3-order0]")
    assert not is_thorough("chaos/test_model.py", "test_every_order_of_steps_keeps_every_promise[1-6-2-order2]")


def test_listed_tests_exist_and_every_kind_has_a_sample() -> None:
    in_order = collected("-m", "")
    ranks = [rank(module) for module, _ in in_order]
    assert ranks == sorted(ranks) and set(ranks) >= set(range(len(ORDER)))
    everything = set(in_order)
    assert stale(everything) == set()
    assert stale(everything - {entry for entry in everything if entry[0] == WHOLE[0]}) == {WHOLE[0]}
    chosen = set(collected("-m", "not complete and not thorough"))
    folders = {module.rpartition("/")[0] for module, _ in everything}
    assert folders - {module.rpartition("/")[0] for module, _ in chosen} == set()
    assert any("docker-runc" in test for module, test in chosen if module == "hostile/test_hostile.py")
    assert not any("docker-runsc" in test for module, test in chosen if module == "hostile/test_hostile.py")
