"""Every command in ``docs/operations`` that is no ``sh`` block is typed by a named test, or listed with the reason.

The ``sh`` blocks are run by ``tests/e2e/operation/test_documents.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness import ROOT

FOLDER = ROOT / "docs" / "operations"
# The pages of which a test compares all such commands with those that it has typed.
WHOLE = {
    "monitoring.md": "tests/e2e/deployment/test_monitoring.py::test_commands_of_the_document_work",
    "swarm.md": "tests/e2e/deployment/test_swarm.py::test_each_command_of_the_document_was_typed",
}
# By the beginning of a command: the test, and a piece of that test's text that types the command.
TYPED = {
    "backup.md": {
        "$compose ": ("tests/e2e/operation/test_compose.py", '"backup.md"'),
        **dict.fromkeys(
            (
                "env $(",
                "MAYFLY_REDIS_PASSWORD_FILE=",
                "MAYFLY_ADMIN_KEY_FILE=",
                "MAYFLY_TOOL_SERVERS_DIR=",
                "/usr/local/bin/mayfly backup",
            ),
            ("tests/e2e/deployment/test_install.py", 'partition("## Under systemd")'),
        ),
    },
    "disaster.md": {
        "deploy/prepare.sh": ("tests/e2e/deployment/test_restore.py", "prepare"),
        "deploy/restore.sh": ("tests/e2e/deployment/test_restore.py", "restore.sh"),
        "$compose up": ("tests/e2e/deployment/test_restore.py", '"up"'),
    },
    "hardening.md": {"$compose ": ("tests/e2e/operation/test_compose.py", '"hardening.md"')},
    "hosts.md": {
        "mayfly images save": ("tests/integration/orchestrator/host/test_moved_images.py", '"save"'),
        "mayfly images load": ("tests/integration/orchestrator/host/test_moved_images.py", '"load"'),
        "mayfly images push": ("tests/integration/orchestrator/host/test_moved_images.py", '"push"'),
        "mayfly images pull": ("tests/integration/orchestrator/host/test_moved_images.py", '"pull"'),
        "mayfly host run --user": ("tests/e2e/deployment/test_worker_hosts.py", "--user"),
        "$compose -f deploy/compose.hosts.yaml": (
            "tests/e2e/deployment/test_compose_hosts.py",
            '*made.with_hosts, "up"',
        ),
        "deploy/setup.sh": (".ci/run", "deploy/setup.sh"),
    },
    "upgrade.md": dict.fromkeys(
        ("systemctl stop", "systemctl disable", "rm -r /etc/systemd", "chown -R mayfly:mayfly"),
        ("tests/e2e/deployment/test_install.py", "upgrade.md"),
    ),
}
# Those that no test here can type, and why.
NOT_HERE = {
    "backup.md": {
        ".venv/bin/pip install": "Changes the checkout; obstore is among the tests' own packages, with the same pin.",
    },
    "deployment.md": {
        "mayfly.example.com {": "A file of Caddy for a host with a name and a certificate of its own.",
        "reverse_proxy": "The same file.",
        "flush_interval": "The same file.",
        "}": "The same file.",
    },
    "disaster.md": {
        **dict.fromkeys(
            (
                "deploy/install.sh",
                "systemctl stop",
                "rm -rf /etc/mayfly",
                "install -d",
                "runuser",
                "--appendonly",
                "env $(",
                "MAYFLY_",
                "/opt/mayfly/current",
                "redis-cli",
                "chown",
                "find /etc/mayfly",
            ),
            "A restore under systemd takes a second installed host; its parts are in the tests of backups.",
        ),
    },
    "hardening.md": {"bash docker-bench-security.sh": "A program of others, which CI does not fetch."},
    "hosts.md": {
        "useradd": "Adds a user to the host; the test has the worker run as `nobody`.",
    },
    "kubernetes.md": {
        **dict.fromkeys(("kubectl", "--from-file", "kustomize"), "There is no cluster."),
    },
    "upgrade.md": {
        **dict.fromkeys(
            ("SERVICES=", "url_of()", "start()", "stop()", "proxy()"),
            "Hooks for units of systemd; tests/e2e/upgrades/test_roll.py has those of its own processes.",
        ),
    },
}


def commands(text: str) -> list[str]:
    """The indented lines, and those with a prompt in blocks of the console."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    listed = re.sub(r"^(?: {2,4}|\d\. )?(?:[-*]|\d+\.) .*(?:\n {2,8}\S.*)*", "", plain, flags=re.MULTILINE)
    found = [line.strip() for line in listed.splitlines() if line.startswith("    ")]
    return found + [line[2:] for block in blocks for line in block.splitlines() if line[:2] in ("# ", "$ ")]


def unexplained(name: str, text: str) -> list[str]:
    """The commands of a page without a test and without a reason."""
    known = (*TYPED.get(name, {}), *NOT_HERE.get(name, {}))
    return [] if name in WHOLE else [line for line in commands(text) if not line.startswith(known)]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.name)
def test_each_command_has_a_test_or_a_reason(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert unexplained(path.name, text) == []
    unused = [key for key in (*TYPED.get(path.name, {}), *NOT_HERE.get(path.name, {}))
              if not any(line.startswith(key) for line in commands(text))]  # fmt: skip
    assert unused == []


def test_named_tests_type_them() -> None:
    for place, piece in (named for page in TYPED.values() for named in page.values()):
        assert piece in (ROOT / place).read_text(), (place, piece)
    for node in WHOLE.values():
        place, _, name = node.partition("::")
        assert f"def {name}(" in (ROOT / place).read_text(), node


def test_new_command_without_a_test_is_found() -> None:
    """The control."""
    text = "Type\n\n    rm -rf /srv\n\n- a list\n    of two lines\n```console\n# reboot\nRebooting.\n```\n"
    assert unexplained("backup.md", text) == ["rm -rf /srv", "reboot"]
