"""Bounds on data of a sandbox in a worker: output, artifacts, counters."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import FrameError, PlatformError, RuntimeUnavailable, StaleAttempt, StoreUnavailable
from orchestrator.models import StoredFile, has_control_characters
from orchestrator.store.content.directory import DirectoryBlobs
from orchestrator.store.executions.records import Claim
from worker.attempt.artifacts import ArtifactSink, acceptable_path
from worker.attempt.output import ENTRY_BYTES, OutputSink
from worker.counters import Counters
from worker.host import cgroups, hostdirs
from worker.host.hostdirs import HostDirs, in_memory

CLAIM = Claim("id", 1, b"", "")


class Stream:
    """The store of an :class:`OutputSink`: it keeps everything, until ``fails`` is set."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, bytes]] = []
        self.calls = 0
        self.fails: type[Exception] | None = None
        self.owned = True
        self.answers = True
        self._token = ""

    def append(self, id: str, attempt: int, entries: list[tuple[str, bytes, bool]], token: str) -> bool:
        self.calls += 1
        if self.fails is not None:
            raise self.fails()
        if token != self._token:
            self.entries += [(type, data) for type, data, _ in entries]
        self._token = token
        if not self.answers:
            raise StoreUnavailable
        return self.owned

    def joined(self, type: str) -> bytes:
        return b"".join(data for kind, data in self.entries if kind == type)


def sink(stream: Stream, bound: int = 10**9) -> OutputSink:
    return OutputSink(SimpleNamespace(output=stream), CLAIM, bound)  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=50)))
def test_output_arrives_byte_for_byte(chunks: list[bytes]) -> None:
    stream = Stream()
    output = sink(stream)
    for chunk in chunks:
        output.write("stdout", chunk)
        output.flush_if_due()
    output.finish()
    output.flush()
    assert stream.joined("stdout") == b"".join(chunks)


@given(st.text(max_size=200), st.integers(min_value=1, max_value=7))
def test_each_entry_of_text_is_text(text: str, step: int) -> None:
    stream, data = Stream(), text.encode()
    output = sink(stream)
    for start in range(0, len(data), step):
        output.write("stderr", data[start : start + step])
        output.flush()
    output.finish()
    output.flush()
    assert "".join(entry.decode() for _, entry in stream.entries) == text


def test_step_with_a_lost_answer_is_written_once() -> None:
    stream = Stream()
    output = sink(stream)
    output.write("stdout", b"a")
    stream.answers = False
    for more in (b"b", b"c"):
        with pytest.raises(StoreUnavailable):
            output.flush()
        output.write("stdout", more)
    assert output.pause_seconds is not None
    stream.answers = True
    output.flush()
    output.flush()
    assert stream.joined("stdout") == b"abc"


def test_output_is_cut_at_its_bound_and_the_rest_counted() -> None:
    stream = Stream()
    output = sink(stream, 10)
    output.write("stdout", b"12345678")
    assert not output.exceeded
    output.write("stderr", b"abcd")
    output.write("stdout", b"never")
    assert output.exceeded
    output.finish()
    output.flush()
    assert stream.entries == [("stdout", b"12345678"), ("stderr", b"ab")]
    assert output.seen_bytes == {"stdout": 13, "stderr": 4}


def test_single_bytes_are_gathered() -> None:
    stream = Stream()
    output = sink(stream)
    for _ in range(10_000):
        output.write("stdout", b"x")
        output.flush_if_due()
    output.flush()
    assert len(stream.entries) <= stream.calls < 200
    assert len(stream.joined("stdout")) == 10_000
    assert max(len(data) for _, data in stream.entries) <= ENTRY_BYTES


def test_output_waits_while_redis_is_away_and_stops_for_another_owner() -> None:
    stream = Stream()
    output = sink(stream)
    stream.fails = StoreUnavailable
    output.write("stdout", b"kept")
    output.flush_if_due()
    with pytest.raises(StoreUnavailable):
        output.flush()
    stream.fails = None
    output.flush()
    assert stream.entries == [("stdout", b"kept")]
    stream.owned = False
    output.write("stdout", b"late")
    with pytest.raises(StaleAttempt):
        output.flush()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactSink:
    return ArtifactSink(DirectoryBlobs(tmp_path), "execution", 1, max_bytes=100, max_files=3)


def test_an_artifact_is_kept_under_its_digest(artifacts: ArtifactSink, tmp_path: Path) -> None:
    artifacts.begin({"path": "a/plot.png", "size": 6})
    artifacts.data(b"abc")
    artifacts.data(b"def")
    kept = artifacts.artifacts["a/plot.png"]
    assert (kept.size, kept.media_type, kept.sha256) == (6, "image/png", hashlib.sha256(b"abcdef").hexdigest())
    assert (tmp_path / "artifacts" / "execution" / "1" / kept.sha256).read_bytes() == b"abcdef"
    artifacts.begin({"path": "empty", "size": 0})
    assert artifacts.artifacts["empty"].size == 0


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"path": "x"},
        {"path": 1, "size": 1},
        {"path": "x", "size": -1},
        {"path": "x", "size": 101},
        {"path": "x", "size": True},
        {"path": "x", "size": "1"},
        {"path": "../x", "size": 1},
        {"path": "/x", "size": 1},
        {"path": "a//b", "size": 1},
        {"path": "a\nb", "size": 1},
        {"path": "", "size": 1},
        {"path": ".", "size": 1},
        {"path": "\ud800", "size": 1},
        {"path": "x" * 1025, "size": 1},
    ],
    ids=repr,
)
def test_a_file_with_a_bad_header_is_refused(artifacts: ArtifactSink, header: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        artifacts.begin(header)


def test_files_beyond_the_announced_size_are_refused(artifacts: ArtifactSink, tmp_path: Path) -> None:
    with pytest.raises(FrameError):
        artifacts.data(b"nothing began")
    artifacts.begin({"path": "x", "size": 2})
    with pytest.raises(FrameError):
        artifacts.begin({"path": "y", "size": 2})
    with pytest.raises(FrameError):
        artifacts.data(b"abc")
    artifacts.close()
    for name in ("a", "b"):
        artifacts.begin({"path": name, "size": 0})
    with pytest.raises(FrameError):
        artifacts.begin({"path": "one too many", "size": 0})
    assert not list(tmp_path.rglob(".upload-*"))


@given(st.text(max_size=40))
def test_an_acceptable_path_stays_below_its_directory(path: str) -> None:
    if acceptable_path(path):
        assert (Path("/base") / path).resolve().is_relative_to("/base/")
        assert not has_control_characters(path)


def test_rejections_are_bounded(artifacts: ArtifactSink) -> None:
    for _ in range(1000):
        artifacts.reject({"path": "x" * 10_000, "why": "too_large"})
    assert len(artifacts.rejected) == 100
    assert max(len(entry.path) for entry in artifacts.rejected) == 1024
    assert {entry.bound for entry in artifacts.rejected} == {artifacts.left_bytes}


@pytest.mark.parametrize("detail", [{"path": "x", "why": ["not", "text"]}, {"path": "x"}, {"path": 1, "why": "fifo"}])
def test_rejection_without_known_path_and_reason_is_a_false_frame(
    artifacts: ArtifactSink, detail: dict[str, object]
) -> None:
    with pytest.raises(FrameError):
        artifacts.reject(detail)


def test_host_directories_lease_uids_once(tmp_path: Path) -> None:
    first, second = (HostDirs(tmp_path, name, 70_000, 4) for name in ("one", "two"))
    leases = [first.lease(), second.lease(), first.lease(), second.lease()]
    assert {70_000, 70_001, 70_002, 70_003} == {lease.uid for lease in leases}
    with pytest.raises(RuntimeUnavailable, match="All 4 sandbox uids"):
        first.lease()
    assert sorted(owner for _, owner in first.leases()) == ["one", "one", "two", "two"]
    first.release(leases[0].path)
    first.release(leases[0].path)
    assert second.lease().uid == leases[0].uid
    assert not list(tmp_path.glob(".*"))


def test_agent_gets_a_leased_uid_of_its_own(tmp_path: Path) -> None:
    dirs, other = HostDirs(tmp_path, "one", 70_000, 3), HostDirs(tmp_path, "two", 70_000, 3)
    lease = dirs.lease(own_agent=True)
    assert lease.agent is not None
    assert lease.agent.uid != lease.uid
    assert dirs.mine == {path.name for path in lease.paths} == {path.name for path, _ in dirs.leases()}
    names = {uid: name for name, _, uid, *_ in map(_fields, (lease.identity / "passwd").read_text().splitlines())}
    assert (names[str(lease.uid)], names[str(lease.agent.uid)]) == ("sandbox", "agent")
    with pytest.raises(RuntimeUnavailable, match="All 3 sandbox uids"):
        other.lease(own_agent=True)  # one is left, and it is not kept
    assert other.mine == set()
    assert (other.lease().agent, len(dirs.leases())) == (None, 3)
    for path in lease.paths:
        dirs.release(path)
    assert len(dirs.leases()) == 1


def _fields(line: str) -> list[str]:
    return line.split(":")


def test_leased_uid_stays_its_workers_when_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.host.hostdirs.secrets.randbelow", lambda count: 0)
    dirs = HostDirs(tmp_path, "one", 70_000, 2)
    first, second = dirs.lease(), dirs.lease()
    assert (first.uid, second.uid) == (70_000, 70_001)
    assert dirs.mine == {"70000", "70001"}, "or the reaper removes a directory that a container has"


def test_input_that_is_no_base64_is_an_error_of_the_platform(tmp_path: Path) -> None:
    """Version 0.1.0 queued such inputs; the standard library reads this one."""
    lease = HostDirs(tmp_path, "one", 70_000, 1).lease()
    lease.write([StoredFile(path="a", content="/A==", encoding="base64")], lambda reference, target: False)
    with pytest.raises(PlatformError, match="'b' is not base64"):
        lease.write([StoredFile(path="b", content="/A++====", encoding="base64")], lambda reference, target: False)


def test_worker_killed_while_leasing_or_releasing_leaves_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing is tidied up after it."""

    def die(*about: object) -> None:
        raise Killed

    dead, alive = (HostDirs(tmp_path, name, 70_000, 4) for name in ("host-1-ab.c", "host-2-d"))
    lease = dead.lease()
    monkeypatch.setattr("worker.host.hostdirs._remove", die)
    monkeypatch.setattr(shutil, "rmtree", die)
    with pytest.raises(Killed):
        dead.release(lease.path)
    monkeypatch.setattr("worker.host.hostdirs._write", die)
    with pytest.raises(Killed):
        dead.lease()
    monkeypatch.undo()
    left = alive.leases()
    assert [owner for _, owner in left] == ["host-1-ab.c"] * 2
    for path, owner in left:
        alive.release(path, owner)
    assert list(tmp_path.iterdir()) == []


def test_release_removes_a_lease_with_inputs_and_tools(tmp_path: Path) -> None:
    dirs = HostDirs(tmp_path, "one", 70_000, 4)
    for path in ("data/input.txt", ""):
        lease = dirs.lease()
        lease.write([StoredFile(path=path, content="")] if path else [], lambda *_: True)
        lease.write_tools({"tools.json": ""} if path else {})
        dirs.release(lease.path)
        assert list(tmp_path.iterdir()) == []


def test_plain_inputs_are_removed_without_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", None)
    dirs = HostDirs(tmp_path, "one", 70_000, 4)
    lease = dirs.lease()
    lease.write([StoredFile(path=path, content="1") for path in ("main.py", "ä")], lambda *_: True)
    dirs.release(lease.path)
    assert list(tmp_path.iterdir()) == []


def test_lease_with_a_new_owner_is_not_removed(tmp_path: Path) -> None:
    dead, first, second = (HostDirs(tmp_path, name, 70_000, 1) for name in ("dead", "first", "second"))
    lease = dead.lease()
    ((seen, owner),) = second.leases()
    first.release(lease.path, "dead")
    again = first.lease()
    assert again.path == seen
    second.release(seen, owner)
    assert (again.path / "owner").read_text() == "first"


def test_inputs_are_written_at_their_paths(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"\0binary")
    lease = HostDirs(tmp_path / "dirs", "w", 70_000, 4).lease()
    files = [
        StoredFile(path="main.py", content="ü"),
        StoredFile(path="a/b.bin", content="AAE=", encoding="base64"),
        StoredFile(path="blob", blob="sha256:" + "0" * 64),
    ]
    lease.write(files, lambda _, target: bool(shutil.copyfile(blob, target)))
    assert (lease.inputs / "main.py").read_text() == "ü"
    assert (lease.inputs / "a" / "b.bin").read_bytes() == b"\0\1"
    assert (lease.inputs / "blob").read_bytes() == b"\0binary"
    with pytest.raises(PlatformError, match="gone"):
        lease.write(files[2:], lambda *_: False)


def test_counters_of_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    path = tmp_path / "system.slice" / "docker-abc.scope"
    path.mkdir(parents=True)
    files = {
        "cpu.stat": "usage_usec 1500000\nthrottled_usec 250000\n",
        "memory.peak": "4096\n",
        "memory.events": "low 0\noom 3\noom_kill 2\n",
        "pids.events": "max 7\n",
        "pids.peak": "9\n",
    }
    for name, text in files.items():
        (path / name).write_text(text)
    assert cgroups.Counted(tmp_path, "abc").counters() == Counters(1.5, 0.25, 4096, 9, 2, 7)
    assert cgroups.version(tmp_path) == "v2"
    assert cgroups.Counted(tmp_path, "another").counters() == Counters()


def test_counters_of_cgroup_v1(tmp_path: Path) -> None:
    files = {
        "cpuacct/docker/abc/cpuacct.usage": "1500000000\n",
        "cpu/docker/abc/cpu.stat": "nr_periods 1\nthrottled_time 250000000\n",
        "memory/docker/abc/memory.max_usage_in_bytes": "4096\n",
        "memory/docker/abc/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "pids/docker/abc/pids.events": "max 7\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroups.Counted(tmp_path, "abc").counters() == Counters(1.5, 0.25, 4096, None, 2, 7)
    assert cgroups.version(tmp_path) == "v1"


def test_host_directories_lie_in_memory_and_are_ours_alone(tmp_path: Path) -> None:
    root, memory = tmp_path / "state" / "sandboxes", tmp_path / "memory"
    memory.mkdir()
    there = in_memory(root, memory)
    assert there.parent.parent == memory
    assert there.parent.stat().st_mode & 0o777 == 0o700
    assert there.stat().st_mode & 0o777 == 0o711
    assert in_memory(root, memory) == there == root.resolve()
    shutil.rmtree(there.parent)  # the host was restarted
    again = in_memory(root, memory)
    assert again != there
    assert again.is_dir()


def test_host_directories_stay_on_disk_if_configured_or_memory_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, used = tmp_path / "memory", tmp_path / "used"
    for directory in (memory, used):
        directory.mkdir()
    assert in_memory(used, memory) == used
    assert in_memory(tmp_path / "new", tmp_path / "missing") == tmp_path / "new"
    monkeypatch.setattr(hostdirs, "LEAST_BYTES", 2**63)
    assert in_memory(tmp_path / "new", memory) == tmp_path / "new"
    assert list(memory.iterdir()) == []
