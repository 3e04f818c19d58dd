"""The tests that each command of ``make`` runs, and what it prepares: by the commands that make would run."""

from __future__ import annotations

import subprocess

import pytest

from tests.harness import ROOT

SELECTED = '-m "not complete and not thorough"'
READY = "deploy/with_engine.sh .venv/bin/python -m tests.preflight"


def commands(*words: str) -> list[str]:
    """The commands, in order; those of a ``make`` that runs these tests have no influence."""
    done = subprocess.run(
        ["make", "--dry-run", *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("target", "setup", "ready", "selection"),
    [
        ("test", "--dev", f"{READY} --", SELECTED),
        ("test-all", "--dev", f"{READY} --all --", "--cov --cov-report=term --cov-fail-under=0"),
        ("unit", "--unit", "", f"{SELECTED} -p no:schemathesis tests/unit"),
    ],
)
def test_target_prepares_and_runs_its_tests(target: str, setup: str, ready: str, selection: str) -> None:
    prepared, run = commands(target, "ARGS=-k idempotency")
    assert prepared == f"deploy/setup.sh {setup}"
    before, pytest_of, after = run.partition(".venv/bin/python -m pytest")
    assert (before.strip(), bool(pytest_of)) == (ready, True)
    assert after.endswith(f" {selection} -k idempotency")


def test_whole_run_holds_the_coverage() -> None:
    assert commands("test-all")[-1].rstrip().endswith(" --cov-fail-under=92")


def test_ci_runs_every_test_and_every_other_check() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "\nchecks=(check)\nif " in script
    assert "\n  checks=(lint format types scripts test)\nfi\nexec deploy/with_engine.sh make --keep-going" in script
    run = commands("check")
    assert commands("test-all")[-1] in run
    assert {f".venv/bin/{check}" for check in ("ruff check .", "ruff format --check .", "mypy")} <= set(run)
