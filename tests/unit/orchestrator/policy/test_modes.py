"""Policy modes by tenant and environment, the inspected files, and the effects of findings."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.environments import Environments, load_environments
from orchestrator.errors import BlobsUnavailable, PolicyUnavailable, PolicyViolation
from orchestrator.models import PolicyReport
from orchestrator.models.submission import Submission
from orchestrator.policy import inspector, static
from orchestrator.policy.inspector import MAX_SOURCE_BYTES
from orchestrator.policy.static import StaticPolicy
from orchestrator.policy.submission import specify
from orchestrator.service import few_findings
from orchestrator.settings import PACKAGE_ROOT, Settings
from orchestrator.store.content.files import FileContent

OS = "Module os starts or controls processes. Compute in the program itself; for files use pathlib."
SOCKET = "Module socket is for networks, and programs have none. Send the data as an input file."
BLOB = "sha256:" + "0" * 64
Check = Callable[..., PolicyReport | None]


@pytest.fixture(scope="module")
def environments() -> Environments:
    return load_environments([PACKAGE_ROOT / "sandbox_image" / "environments"])


@pytest.fixture
def checking(environments: Environments, tmp_path: Path) -> Iterator[Callable[..., Check]]:
    """Makes a policy from settings; what it gives checks a submission. Blobs are ``tmp_path / "blob"``."""
    made: list[StaticPolicy] = []

    def make(**policy: Any) -> Check:
        decides = StaticPolicy(Settings(**{f"policy_{name}": value for name, value in policy.items()}), environments)
        made.append(decides)

        def check(tenant: str = "school", environment: str = "python", **body: Any) -> PolicyReport | None:
            submission = Submission(environment=environment, **body)
            specification = specify(
                submission, environments, id="1", tenant=tenant, created_at=datetime.now(UTC), max_input_bytes=2**30
            )
            return decides.check(specification, submission.code is not None, lambda _: FileContent(tmp_path / "blob"))

        return check

    yield make
    for decides in made:
        decides.stop()


@pytest.mark.parametrize(
    ("modes", "tenant", "environment", "expected"),
    [
        ({}, "school", "python", "audit"),
        ({"school": "enforce"}, "school", "python", "enforce"),
        ({"school": "enforce"}, "other", "python", "audit"),
        ({"*/python": "off"}, "school", "python", "off"),
        ({"*/python": "off"}, "school", "python-data", "audit"),
        ({"*/python": "off", "school": "enforce"}, "school", "python", "enforce"),
        ({"*/py": "off", "school": "enforce", "school/py": "audit"}, "school", "python", "audit"),
        ({"school": "enforce"}, "school", "bash", "off"),
    ],
)
def test_the_most_specific_mode_wins(
    environments: Environments, modes: dict[str, Any], tenant: str, environment: str, expected: str
) -> None:
    decides = StaticPolicy(Settings(policy_modes=modes), environments)
    assert decides.mode(tenant, environments[environment]) == expected


@pytest.mark.parametrize("key", ["", "*", "/python", "school/", "school/cobol", "school/python/x", "*/bash"])
def test_inapplicable_policy_key_is_refused(environments: Environments, key: str) -> None:
    with pytest.raises(ValueError, match="MAYFLY_POLICY_MODES"):
        StaticPolicy(Settings(policy_modes={key: "enforce"}), environments)


def test_an_unknown_rule_or_mode_is_refused(environments: Environments) -> None:
    for name in ("import_oss", "not_inspected"):
        with pytest.raises(ValueError, match=name):
            StaticPolicy(Settings(policy_ignored_rules=[name]), environments)
    with pytest.raises(ValidationError):
        Settings(policy_modes={"school": "strict"})


def test_off_mode_starts_no_helper(checking: Callable[..., Check], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector.Helper, "start", lambda _: pytest.fail("a helper is started"))
    assert checking(mode="off")(code="import os") is None
    assert checking()(environment="bash", code="import os") is None
    with pytest.raises(pytest.fail.Exception):
        checking()(code="import os")


def test_helpers_start_ahead_only_if_a_mode_needs_them(
    environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []
    monkeypatch.setattr(inspector.Helper, "start", lambda _: started.append(True))
    StaticPolicy(Settings(policy_mode="off"), environments).start()
    assert started == []
    StaticPolicy(Settings(policy_mode="off", policy_modes={"school": "audit"}), environments).start()
    assert started == [True]


def test_audit_mode_reports_findings(checking: Callable[..., Check]) -> None:
    report = checking()(code="x = 1\nimport os")
    assert report is not None
    assert report.model_dump() == {
        "mode": "audit",
        "findings": (
            {
                "rule": "import_process",
                "message": OS,
                "file": "main.py",
                "line": 2,
                "column": 8,
            },
        ),
        "omitted": 0,
    }
    assert checking()(code="print(1)") == PolicyReport(mode="audit")


def test_enforce_refuses_with_fields_and_findings(checking: Callable[..., Check]) -> None:
    encoded = base64.b64encode(b"import socket").decode()
    files = [
        {"path": "data.txt", "content": "import os"},
        {"path": "lib/net.py", "content": encoded, "encoding": "base64"},
    ]
    with pytest.raises(PolicyViolation) as refused:
        checking(mode="enforce")(code="import os", files=files)
    assert [mistake[:2] for mistake in refused.value.errors] == [
        ("code", f"line 1, column 8: {OS} [import_process]"),
        ("files.1.content", f"line 1, column 8: {SOCKET} [import_network]"),
    ]
    assert [(found.file, found.rule) for found in refused.value.report.findings] == [
        ("main.py", "import_process"), ("lib/net.py", "import_network"),
    ]  # fmt: skip
    assert refused.value.message.startswith("The policy refuses this program: 2 findings, the first in code: line 1")
    assert checking(mode="enforce")(code="print(1)") == PolicyReport(mode="enforce")


def test_enforce_mode_accepts_sources_that_cannot_run(
    checking: Callable[..., Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = checking(mode="enforce")(code="x = (")
    assert report is not None and [found.rule for found in report.findings] == ["syntax_error"]
    with pytest.raises(PolicyViolation):
        checking(mode="enforce")(code="import os\0")
    # The environment's Python may run a source that this Python cannot read.
    monkeypatch.setattr(static, "READ_AS", "3.99")
    with pytest.raises(PolicyViolation, match=r"Python 3\.99 cannot read it, and it is for Python 3\.11"):
        checking(mode="enforce")(code="x = (")


def test_many_harmless_findings_hide_no_serious_finding(checking: Callable[..., Check]) -> None:
    files = [{"path": f"m{number:03}.py", "content": "x = ("} for number in range(200)]
    files += [{"path": "z.py", "content": "import os"}, {"path": "zz.py", "content": "\0"}]
    with pytest.raises(PolicyViolation) as refused:
        checking(mode="enforce")(code="print(1)", files=files)
    report = refused.value.report
    assert [found.rule for found in report.findings[:3]] == ["not_inspected", "import_process", "syntax_error"]
    assert (len(report.findings), report.omitted) == (100, 102)
    few, omitted = few_findings(refused.value.report)
    assert (len(few), omitted) == (20, 182)


@pytest.mark.parametrize(
    ("path", "entrypoint", "read"),
    [
        ("a.py", "main.txt", True), ("a/b.pyc", "main.txt", True), ("a.so", "main.txt", True),
        ("a.txt", "main.txt", False), ("main.txt", "main.txt", True),
    ],
)  # fmt: skip
def test_entry_point_and_importable_sources_are_read(
    checking: Callable[..., Check], path: str, entrypoint: str, read: bool
) -> None:
    files = [{"path": path, "content": "import os"}]
    if path != entrypoint:
        files.append({"path": entrypoint, "content": "print(1)"})
    report = checking()(files=files, entrypoint=entrypoint)
    assert report is not None
    assert [found.file for found in report.findings] == [path] * read


def test_blobs_are_read_up_to_the_bound(checking: Callable[..., Check], tmp_path: Path) -> None:
    files = [{"path": "main.py", "blob": BLOB}]
    (tmp_path / "blob").write_bytes(b"import os")
    with pytest.raises(PolicyViolation) as refused:
        checking(mode="enforce")(files=files, entrypoint="main.py")
    assert [mistake.field for mistake in refused.value.errors] == ["files.0.blob"]
    (tmp_path / "blob").write_bytes(b"#" * (MAX_SOURCE_BYTES + 1))
    report = checking()(files=files, entrypoint="main.py")
    assert report is not None and report.findings[0].rule == "not_inspected"
    (tmp_path / "blob").unlink()
    with pytest.raises(BlobsUnavailable):
        checking()(files=files, entrypoint="main.py")


@pytest.mark.parametrize("encoding", ["utf-8", "base64"])
def test_inline_files_are_read_up_to_the_bound(checking: Callable[..., Check], encoding: str) -> None:
    def findings(size: int) -> list[str]:
        text = "import os" + "#" * (size - 9)
        content = base64.b64encode(text.encode()).decode() if encoding == "base64" else text
        files = [{"path": "main.py", "content": content, "encoding": encoding}]
        report = checking()(files=files, entrypoint="main.py")
        assert report is not None
        return [found.rule for found in report.findings]

    assert findings(MAX_SOURCE_BYTES) == ["import_process"]
    assert findings(MAX_SOURCE_BYTES + 1) == ["not_inspected"]
    assert findings(10 * 2**20) == ["not_inspected"]


def test_an_ignored_rule_does_not_refuse(checking: Callable[..., Check]) -> None:
    check = checking(mode="enforce", ignored_rules=["import_process"])
    assert check(code="import os") == PolicyReport(mode="enforce")
    with pytest.raises(PolicyViolation):
        check(code="import socket")


def test_missing_helper_is_reported_in_audit_and_refuses_nothing_in_enforce(
    checking: Callable[..., Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    report = checking()(code="print(1)")
    assert report is not None
    assert [(found.rule, found.line) for found in report.findings] == [("not_inspected", None)]
    with pytest.raises(PolicyUnavailable):
        checking(mode="enforce")(code="print(1)")
