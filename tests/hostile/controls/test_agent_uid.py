"""In gVisor a program reaches every process of its uid; so the agent has another, and no capability is left to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Way
from tests.hostile.sandbox import Bench
from worker.counters import KILLED, Ended
from worker.host import hostdirs

OBSERVE = """
import errno, json, os, resource, signal, time
def error_of(action):
    try: action()
    except OSError as error: return errno.errorcode[error.errno]
    except ValueError: return "EPERM"  # what Python makes of it
found = {
    "signal": error_of(lambda: os.kill(1, 0)),
    "stop": error_of(lambda: (os.kill(1, signal.SIGSTOP), os.kill(1, signal.SIGCONT))),
    "limits": error_of(lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (512, 512))),
}
for line in open("/proc/self/status"):
    if line.startswith(("Cap", "Uid", "Gid", "Groups")): found[line.split(":")[0]] = line.split()[1:]
if found["stop"] is None and os.fork() == 0:
    while True: os.kill(1, signal.SIGCONT), time.sleep(0.1)  # an agent that is stopped is silent, and ends nothing
print(json.dumps(found))
"""
KILL = "import os\ntry: os.kill(1, 9)\nexcept PermissionError: print('refused', flush=True)\nos._exit(7)"
REACHED = ("signal", "stop", "limits")


@pytest.fixture(params=["docker-runsc", "oci-runsc"])
def gvisor(request: pytest.FixtureRequest, images: Path, tmp_path: Path, need_runtime: Callable[..., None]) -> Any:
    way = Way(request.param)
    need_runtime(way.runtime, way.driver)
    bench = Bench(tmp_path, images, way)
    yield bench
    bench.close()


def observed(bench: Bench) -> tuple[dict[str, Any], list[str], hostdirs.HostDir]:
    with bench.sandbox(isolation="hardened") as sandbox:
        ran = sandbox.run(OBSERVE)
        assert ran.exit["exit_code"] == 0, ran
        found: dict[str, Any] = json.loads(ran.stdout)
        return found, sandbox.refusals, sandbox.lease.host_dir


def ended_by(bench: Bench) -> Ended | None:
    with bench.sandbox(isolation="hardened") as sandbox:
        sandbox.begin(KILL, leave=True)
        return sandbox.lease.sandbox.wait(60)


def share_one_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: all is as ever, but the agent's uid is the program's."""
    monkeypatch.setattr(hostdirs, "USERS", hostdirs.USERS + hostdirs.AGENT)
    monkeypatch.setattr(hostdirs, "AGENT", "")


def test_program_reaches_the_agent_only_where_they_share_a_uid(gvisor: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found, refusals, lease = observed(gvisor)
    assert refusals == []
    assert {name: found[name] for name in REACHED} == dict.fromkeys(REACHED, "EPERM")
    assert (found["Uid"], found["Gid"]) == ([str(lease.uid)] * 4, [str(lease.uid)] * 4)
    assert set(found["Groups"]) <= {str(lease.uid)}
    capabilities = {name: values for name, values in found.items() if name.startswith("Cap")}
    assert capabilities.keys() >= {"CapInh", "CapPrm", "CapEff", "CapBnd"}
    assert {int(mask, 16) for masks in capabilities.values() for mask in masks} == {0}
    share_one_uid(monkeypatch)
    reached, refusals, _ = observed(gvisor)
    assert {name: reached[name] for name in REACHED} == dict.fromkeys(REACHED), "the probe does not see it"
    assert ["gid, uid" in refusal for refusal in refusals] == [True], "the worker refuses such a sandbox"


def test_program_ends_the_agent_only_where_they_share_a_uid(gvisor: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = ended_by(gvisor)
    assert ended is not None and ended.exit_code == 7
    share_one_uid(monkeypatch)
    ended = ended_by(gvisor)
    assert ended is not None and ended.exit_code == KILLED
