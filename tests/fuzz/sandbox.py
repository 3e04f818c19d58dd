"""Targets that stand for a sandbox: its frames, its agent's report, the files it hands over."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from orchestrator.errors import FrameError, RuntimeUnavailable
from orchestrator.models import Isolation, Limits, Result, Timings
from orchestrator.models.results import ResultBundle
from orchestrator.models.security import SecurityEvent
from orchestrator.states import Reason, classify
from orchestrator.store.content.directory import DirectoryBlobs
from orchestrator.store.executions.records import Claim
from orchestrator.store.security import MAX_EVENT_BYTES, encoded, written_form
from orchestrator.store.steps import NewEntry
from sandbox_image.agent.files.artifacts import MAX_DEPTH, is_bad_name
from tests.builders.sandboxes.reports import UID, profile, report
from tests.fuzz.inputs import pieces
from tests.fuzz.outside import ENVIRONMENTS, GENUINE
from tests.fuzz.writes import only_below
from worker.agent.conversation import Spoilt
from worker.agent.frames import HEADER, MAX_FRAME_BYTES, Decoder, Frame, FromAgent
from worker.agent.report import COMPILE_OUTPUT_BYTES
from worker.agent.results import ResultSink
from worker.attempt import media_types
from worker.attempt.artifacts import MAX_PATH, MAX_REJECTIONS, ArtifactSink, acceptable_path
from worker.attempt.attempt import Attempt
from worker.attempt.feeding import Whole
from worker.attempt.incidents import MAX_DISTINCT, Incidents
from worker.attempt.output import OutputSink
from worker.attempt.security_events import note_end, note_full
from worker.attempt.session import Session
from worker.counters import Counters, Ended
from worker.host.hostdirs import HostDir
from worker.pool.launcher import Lease, _await_ready
from worker.sandbox.profile import SandboxProfile

SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
ENVIRONMENT = ENVIRONMENTS["python"]
CHOSEN = 0x80  # in the number of a piece: its payload chooses a JSON object
OUTPUT_BYTES, ARTIFACT_BYTES, ARTIFACT_FILES = 300, 500, 8
RESULT_BYTES, RESULT_COUNT = 500, 4
SPECIFICATION = GENUINE.model_copy(
    update={"limits": GENUINE.limits.model_copy(update={"output_bytes": OUTPUT_BYTES})},
)
MEDIA_TYPES = {*media_types.TYPES.values(), media_types.UNKNOWN}


def fuzz_frames(data: bytes) -> None:
    """The same frames come out however the bytes are cut, nothing piles up, and JSON is an object or a FrameError."""
    step, data = (data[0] or 1, data[1:]) if data else (1, data)
    whole, whole_failed = _frames(Decoder(), [data])
    decoder = Decoder()
    cut, cut_failed = _frames(decoder, [data[at : at + step] for at in range(0, len(data), step)])
    assert (whole, whole_failed) == (cut, cut_failed)
    assert decoder.pending_bytes <= HEADER.size + MAX_FRAME_BYTES
    size = sum(HEADER.size + len(frame.payload) for frame in whole)
    if not whole_failed:
        rest = data[size:]
        assert decoder.pending_bytes == len(rest)
        assert len(rest) < HEADER.size or HEADER.unpack_from(rest)[1] <= MAX_FRAME_BYTES
    for frame in whole:
        try:
            assert isinstance(frame.json(), dict)
        except FrameError:
            continue


def _frames(decoder: Decoder, chunks: list[bytes]) -> tuple[list[Frame], bool]:
    found: list[Frame] = []
    try:
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                found.append(frame)  # noqa: PERF402 - those before an error count
    except FrameError:
        return found, True
    return found, False


def fuzz_artifacts(data: bytes) -> None:
    """Files, data and rejections in any order: bounds hold, digests are right, no name is followed."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory, only_below(Path(directory, "blobs")):
        sink = ArtifactSink(DirectoryBlobs(Path(directory, "blobs")), "execution", 1, ARTIFACT_BYTES, ARTIFACT_FILES)
        for number, payload in pieces.split(data):
            payload = pieces.chosen(payload) if number & CHOSEN else payload
            try:
                match number % 3:
                    case 0:
                        sink.begin(Frame(FromAgent.FILE, payload).json())
                    case 1:
                        sink.data(payload)
                    case 2:
                        sink.reject(Frame(FromAgent.REJECTED, payload).json())
            except FrameError:  # a session ends with the first; that state stays sound beyond it is more than it needs
                continue
        sink.close()
        check_kept(sink, Path(directory, "blobs"))


def check_kept(sink: ArtifactSink, root: Path) -> None:
    """After a sink was closed exactly its reported files are on the disk."""
    there = {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    reported = {artifact.sha256: artifact.size for artifact in sink.artifacts.values()}
    assert {name: len(content) for name, content in there.items()} == reported
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in there.items())
    assert {path.parent for path in root.rglob("*") if path.is_file()} <= {root / "artifacts" / "execution" / "1"}
    assert sum(artifact.size for artifact in sink.artifacts.values()) <= ARTIFACT_BYTES - sink.left_bytes
    assert sink.left_bytes >= 0 and len(sink.artifacts) <= ARTIFACT_FILES - sink.left_files <= ARTIFACT_FILES
    for path, artifact in sink.artifacts.items():
        assert path == artifact.path and acceptable_path(path)
        assert artifact.media_type in MEDIA_TYPES, artifact.media_type
    assert len(sink.rejected) <= MAX_REJECTIONS
    assert all(len(entry.path) <= MAX_PATH for entry in sink.rejected)


def fuzz_paths(data: bytes) -> None:
    """The agent sends exactly those names that the worker takes; else an honest file would end its execution."""
    names = [name.decode("utf-8", "surrogateescape") for name in data.split(b"/")]
    if any(
        name in ("", ".", "..") or "\0" in name or len(name.encode("utf-8", "surrogateescape")) > 255 for name in names
    ):
        return  # no file system has such a name
    path = json.loads(json.dumps("/".join(names)))
    sent = not any(is_bad_name(names[:depth]) for depth in range(1, len(names) + 1))
    assert len(names) > MAX_DEPTH or acceptable_path(path) == sent, path


PROFILES = {isolation: profile(isolation) for isolation in get_args(Isolation)}
REPORTS = {isolation: json.dumps(report(isolation)) for isolation in get_args(Isolation)}


@dataclass
class Replay:
    """A sandbox that sends the given chunks, one at a time, and nothing after it was killed."""

    profile: SandboxProfile
    chunks: Iterable[bytes]
    killed: bool = False
    cgroup_survives_exit: bool = False

    def send(self, data: bytes, timeout_seconds: float) -> None:
        """It does not listen."""

    @property
    def diagnostics(self) -> bytes:
        return b""

    def receive(self, timeout_seconds: float) -> bytes | None:
        return b"" if self.killed else next(self._printed, b"")

    def counters(self) -> Counters:
        return Counters(cpu_seconds=0.5, oom_events=1)

    def start(self) -> None:
        """It has started."""

    def restore_cpu_weight(self) -> None:
        """It has no share of CPU time."""

    def adjust(self, limits: Limits) -> None:
        """It has no limits."""

    def wait(self, timeout_seconds: float) -> Ended | None:
        return Ended(exit_code=0, oom_killed=False)

    def destroy(self) -> None:
        """There is nothing to remove."""

    def kill(self) -> None:
        self.killed = True

    def __post_init__(self) -> None:
        self._printed = (chunk for chunk in self.chunks if chunk)


def lease(isolation: Isolation, chunks: Iterable[bytes]) -> tuple[Lease, Replay]:
    """A lease of such a sandbox."""
    sandbox = Replay(PROFILES[isolation], chunks)
    limits = ENVIRONMENT.defaults
    made = Lease("name", "python", isolation, limits, "runc", HostDir(UID, Path("/x")), sandbox, "image")
    made.host_counts_cpu = isolation == "hardened"
    return made, sandbox


def fuzz_report(data: bytes) -> None:
    """A sandbox is used only if its agent's first frame grants nothing more than was asked; else it is refused."""
    number, data = (data[0], data[1:]) if data else (0, data)
    isolation: Isolation = "hardened" if number & 1 else "standard"
    payload = altered(json.loads(REPORTS[isolation]), data) if number & CHOSEN else data
    first = HEADER.pack(FromAgent.READY.value, len(payload)) + payload
    try:
        _await_ready(lease(isolation, [first])[0])
    except RuntimeUnavailable:
        return
    frames_of, honest = json.loads(payload), json.loads(REPORTS[isolation])
    uid = honest["uid"]
    assert (frames_of["uid"], frames_of["gid"]) == (uid, uid) and frames_of["groups"] in ([], [uid])
    assert frames_of["caps"].keys() >= honest["caps"].keys()
    assert all(int(str(mask), 16) == int(honest["caps"].get(name, "0"), 16) for name, mask in frames_of["caps"].items())
    assert isolation == "hardened" or (frames_of["seccomp"], frames_of["no_new_privs"]) == (2, 1)
    there = {row[0]: set(row[2].split(",")) for row in frames_of["mounts"] if isinstance(row, list) and len(row) == 3}
    for path, _, options in honest["mounts"]:
        assert set(options.split(",")) - {"rw", "relatime"} <= there[path], path
    assert all(frames_of["limits"][name] == bounds for name, bounds in honest["limits"].items() if name != "cpu")


def altered(report: Any, choices: bytes) -> bytes:
    """A report as JSON in which each two bytes choose a place and what stands there instead."""
    for place, value in zip(choices[:32:2], choices[1:32:2], strict=False):
        places = list(_places(report))
        parent, key = places[place % len(places)]
        try:
            parent[key] = json.loads(pieces.VALUES[value % len(pieces.VALUES)])
        except ValueError:  # a number that no parser of ours takes
            continue
    return json.dumps(report).encode()


def _places(value: Any, depth: int = 3) -> Iterator[tuple[Any, Any]]:
    """Where something stands in a report, as containers and keys."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in items:
        yield value, key
        if depth and isinstance(inner, dict | list) and len(inner) < 50:
            yield from _places(inner, depth - 1)


class Kept:
    """The target of an :class:`OutputSink`: behaves like the store, without Redis."""

    def __init__(self) -> None:
        self.output = self.records = self
        self.output_bytes = 0
        self.events: list[dict[str, Any]] = []

    def start(self, claim: Claim, began: float, entries: list[NewEntry], token: str) -> None:
        self.append(claim.id, claim.attempt, entries, token)

    def append(self, id: str, attempt: int, entries: list[NewEntry], token: str) -> bool:
        for _, data, _ in entries:
            if isinstance(data, SecurityEvent):
                event = encoded(written_form(data))
                assert len(event) <= MAX_EVENT_BYTES
                self.events.append(TypeAdapter(dict[str, Any]).validate_json(event))
            else:
                self.output_bytes += len(data)
        return True


def frames_of(data: bytes) -> Iterator[bytes]:
    """The sandbox's output: well-formed frames, and bytes between them that are no frames."""
    kinds = list(FromAgent)
    for number, payload in pieces.split(data):
        payload = pieces.chosen(payload) if number & CHOSEN else payload
        kind = number % (len(kinds) + 1)
        yield payload if kind == len(kinds) else HEADER.pack(kinds[kind].value, len(payload)) + payload


def fuzz_session(data: bytes) -> None:
    """For any output of a sandbox, the execution ends with a verdict, and a result and events that can be stored."""
    exit_code, kind, data = (*data[:2], data[2:]) if len(data) > 1 else (0, 0, b"")
    isolation: Isolation = "hardened" if kind & 1 else "standard"
    environment = ENVIRONMENT.model_copy(update={"compile": ("cc",)}) if kind & 2 else ENVIRONMENT
    with tempfile.TemporaryDirectory(dir=SCRATCH) as directory, only_below(Path(directory, "blobs")):
        kept, incidents = Kept(), Incidents()
        output = OutputSink(kept, Claim("execution", 1, b"", ""), OUTPUT_BYTES)  # type: ignore[arg-type]
        blobs = DirectoryBlobs(Path(directory, "blobs"))
        artifacts = ArtifactSink(blobs, "execution", 1, ARTIFACT_BYTES, ARTIFACT_FILES)
        results = ResultSink(RESULT_BYTES, RESULT_COUNT)
        leased, sandbox = lease(isolation, frames_of(data))
        stdin = Whole(b"x" * 200_000) if kind & 4 else None
        session = Session(leased, SPECIFICATION, environment, output, artifacts, results, incidents, Attempt(), stdin)
        session.run()
        session.release()
        facts = session.conclude(Ended(exit_code, False), 0)
        assert not isinstance(facts, Spoilt), "an end by memory, as these counters say, is a program's doing"
        verdict = classify(facts, SPECIFICATION.limits)
        assert (facts.killed == "frames") == (verdict.reason is Reason.SECURITY_VIOLATION)
        assert facts.killed or not sandbox.killed
        note_full(incidents, list(facts.disk_full), SPECIFICATION.limits)
        note_end(incidents, facts, verdict, SPECIFICATION.limits, artifacts.rejected)
        for event in incidents.finish():
            output.event(event)
        output.flush()
        check_kept(artifacts, Path(directory, "blobs"))
    assert len(results.bundles()) <= RESULT_COUNT
    for bundle in results.bundles():
        assert "text/plain" in bundle.data
        assert ResultBundle.model_validate_json(bundle.model_dump_json()) == bundle
    assert kept.output_bytes <= OUTPUT_BYTES
    assert kept.output_bytes == min(OUTPUT_BYTES, sum(output.seen_bytes.values()))
    assert len(kept.events) <= 2 * MAX_DISTINCT + 1
    if (compiled := session.conversation.compile) is not None:
        assert max(len(compiled.stdout), len(compiled.stderr)) <= COMPILE_OUTPUT_BYTES
    result = Result(
        state=verdict.state,
        reason=verdict.reason,
        fault=verdict.fault,
        facts=facts,
        driver="docker",
        runtime="runc",
        start="warm",
        exit_code=facts.exit_code,
        signal=None,
        stdout_bytes=output.seen_bytes["stdout"],
        stderr_bytes=output.seen_bytes["stderr"],
        compile=compiled,
        artifacts=tuple(artifacts.artifacts.values()),
        usage=None,
        timings=Timings(run_seconds=session.conversation.run_seconds),
    )
    stored = result.model_dump_json()
    assert Result.model_validate_json(stored).model_dump_json() == stored
