"""Every command in a document is run: here against the tests' stack, or by the test or job that is named below."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.configuration_page import reference
from orchestrator.settings import Settings
from tests.builders.processes.installed import installed
from tests.harness import ROOT, Stack

PLACES = ("*.md", "docs/*.md", "docs/operations/*.md", "deploy/*.md", "sandbox_image/*.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = ("README.md", "docs/quickstart.md", "docs/adding-an-environment.md", "docs/api.md", "docs/agents.md")
# These take the command from the quickstart's PATH and `api` from docs/api.md; KEY is the id of an API key.
ADMINISTRATION = (
    "docs/audit-log.md",
    "docs/quotas.md",
    "docs/tenants.md",
    "docs/usage.md",
    "docs/login.md",
    "docs/operations/switches.md",
    "docs/operations/disk.md",
    "docs/operations/data-protection.md",
)
# One after the other, in an installation of `mayfly up`.
HOSTS = "docs/operations/hosts.md"  # by tests/e2e/deployment/test_worker_hosts.py
OPERATIONS = (
    "docs/operations/deployment.md",
    "docs/operations/backup.md",
    "docs/operations/disaster.md",
    "docs/operations/upgrade.md",
)
# Commands that start, stop or measure an installation, and what runs them.
ELSEWHERE = {
    "make up": "tests/e2e/operation/test_up.py",
    "make down": "tests/e2e/operation/test_up.py",
    "make check": ".ci/run",
    "make bench": "tests/e2e/load/test_bench.py",
    "make bench-fleet": "tests/e2e/load/test_bench.py",
    "make bench-shards": "tests/e2e/load/test_bench.py",
    'make chaos CHAOS="--kills 2 --seconds 20"': "tests/chaos/test_mixture.py",
    "make fuzz": "tests/unit/tests/test_fuzz.py",
    "make test": "Makefile",  # of what `make check` runs, a selection
}


def blocks(path: Path) -> list[str]:
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def commands_run_here(block: str) -> str:
    return "".join(f"{line}\n" for line in block.splitlines() if line.strip() not in ELSEWHERE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, as the folder in which a reader types the commands."""
    for name in ("deploy", "sandbox_image", "orchestrator", "tests", ".venv"):
        target = Path(sys.prefix) if name == ".venv" else ROOT / name
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [ROOT / name for name in HERE],
    ids=lambda path: path.name,
)
def test_the_commands_of_a_document_work(path: Path, stack: Stack, checkout: Path) -> None:
    script = "\n".join(commands_run_here(block) for block in blocks(path))
    assert script.strip()
    # curl's exit code hides HTTP errors: a problem in any answer is a failure, but for the one that api.md shows.
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env={**os.environ, **stack.env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    problems = re.findall(r'"code":"([a-z_]+)"', done.stdout)
    assert problems == (["unknown_environment"] if path.name == "api.md" else [])
    assert ('"name":"execute_code"' in done.stdout) is (path.name == "agents.md")


@pytest.mark.parametrize("name", ADMINISTRATION)
def test_commands_for_administrators_work(name: str, stack: Stack, tmp_path: Path) -> None:
    api = next(block for block in blocks(ROOT / "docs" / "api.md") if block.startswith("api()"))
    script = "\n".join([api, *blocks(ROOT / name)])
    key = stack.new_key("executions:read", tenant="school")["id"]
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **stack.env, "KEY": key, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert '"code":' not in done.stdout


def test_commands_of_operations_work(images: Path, tmp_path: Path) -> None:
    """The commands of a backup, and those of a restore after it."""
    script = "\n".join(block for name in OPERATIONS for block in blocks(ROOT / name))
    with installed(images) as made:
        made.up("--no-sample")
        lost = made.state.with_name(f"{made.state.name}.lost")
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                env={**made.env, "PATH": f"{Path(sys.prefix) / 'bin'}:{made.env['PATH']}"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=280,
            )
        finally:
            shutil.rmtree(lost, ignore_errors=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "is drained" in done.stdout
    assert "takes executions again" in done.stdout
    assert "supervisor\trunning" in done.stdout
    assert "All of it can be restored." in done.stdout
    assert "Restored " in done.stdout
    assert "Mayfly is up." in done.stdout
    assert "The data has schema 1." in done.stdout
    assert "ok  deletion" in done.stdout


def test_other_documents_have_no_command_to_run_here() -> None:
    here = {Path(name).name for name in (*HERE, *ADMINISTRATION, *OPERATIONS, HOSTS)}
    for path in DOCUMENTS:
        for block in blocks(path):
            if path.name in here or path.parent.name in ("deploy", "sandbox_image"):
                continue
            assert commands_run_here(block).strip() == "", f"{path.name}: {block}"


def test_commands_listed_as_run_elsewhere_are_in_that_test() -> None:
    for command, place in ELSEWHERE.items():
        verb = command.split()[1]
        pattern = rf"^check:.*\b{verb}\b" if place == "Makefile" else rf"\b{verb}\b"
        assert re.search(pattern, (ROOT / place).read_text(), re.MULTILINE), f"{command} is not run by {place}"


def test_environment_in_the_guide_is_built() -> None:
    guide = (ROOT / "docs" / "adding-an-environment.md").read_text()
    assert (ROOT / "tests" / "environments" / "c.toml").read_text() in guide


def test_configuration_is_current() -> None:
    hint = "python -m orchestrator.configuration_page > docs/configuration.md"
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), hint
    for field in Settings.model_fields.values():
        assert field.description


def test_specification_names_existing_tests() -> None:
    rows = [line for line in (ROOT / "SPECIFICATION.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == 12
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for path, test in named:
            assert (ROOT / path).exists(), path
            assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} → {target}"
