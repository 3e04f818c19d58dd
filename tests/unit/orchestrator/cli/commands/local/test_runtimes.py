"""The runtimes that an engine of our own gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.commands.local.runtimes import add_runtimes, value_of

RUNSC = ["--network=none"]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory with both runtimes in ``bin``, cgroups in ``cgroup`` and room for files in ``state``."""
    for name in ("bin", "cgroup", "state"):
        (tmp_path / name).mkdir()
    for name in ("runsc", "crun"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho ran $0 $@\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def added(host: Path, *arguments: str) -> list[str]:
    own = [] if value_of(arguments, "--config-file") else ["--config-file", str(host / "none.json")]
    words = [*arguments, *own]
    made = add_runtimes(words, host / "state", str(host / "bin"), RUNSC, host / "cgroup")
    assert made[: len(words)] == words
    return made[len(words) :]


def configuration(host: Path, *arguments: str) -> dict[str, Any]:
    (option,) = added(host, *arguments)
    made: dict[str, Any] = json.loads(Path(option.removeprefix("--config-file=")).read_text())
    return made


def test_installed_runtimes_are_registered(host: Path) -> None:
    runsc, crun = str(host / "bin" / "runsc"), str(host / "bin" / "crun")
    both = {"runsc": {"path": runsc, "runtimeArgs": RUNSC}, "crun": {"path": crun}}
    assert configuration(host) == {"runtimes": both}
    (host / "bin" / "crun").unlink()
    assert configuration(host) == {"runtimes": {"runsc": both["runsc"]}}
    (host / "bin" / "runsc").unlink()
    assert added(host) == []


def test_the_operators_own_configuration_holds(host: Path) -> None:
    own = host / "daemon.json"
    own.write_text(json.dumps({"log-level": "warn", "runtimes": {"runsc": {"path": "/theirs"}}}))
    made = configuration(host, "--config-file", str(own))
    assert made["log-level"] == "warn"
    assert made["runtimes"]["runsc"] == {"path": "/theirs"}
    assert made["runtimes"]["crun"] == {"path": str(host / "bin" / "crun")}
    assert added(host, "--add-runtime", "x=/y") == []
    for wrong in ("{", "[]", '{"runtimes": []}'):
        own.write_text(wrong)
        assert added(host, "--config-file", str(own)) == []  # the daemon itself reports the mistake


def test_crun_is_kept_from_the_second_version_of_cgroups(host: Path) -> None:
    (host / "cgroup" / "unified").mkdir()
    script = Path(configuration(host)["runtimes"]["crun"]["path"])
    assert script == host / "state" / "crun"
    text = script.read_text()
    assert f"{host}/cgroup/unified {host}/bin/crun" in text
    assert script.stat().st_mode & 0o777 == 0o755
