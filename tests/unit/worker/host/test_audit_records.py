"""Audit records, genuine and forged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models.security import DeniedCall
from worker.attempt.incidents import Incidents
from worker.attempt.security_events import Watch, note_denial
from worker.host.audit import Denial, KernelWatch, parse

RECORD = (
    b"audit(1795309513.122:22): auid=4294967295 uid=%d gid=200001 ses=4294967295%s pid=27186 comm=%s "
    b'exe="/usr/bin/python3.11" sig=%d arch=%x syscall=%d compat=0 ip=0x7f51cb11fdc7 code=0x80000000'
)
X86_64 = 0xC000003E


def record(
    uid: int = 200001,
    comm: bytes = b'"python3"',
    sig: int = 31,
    arch: int = X86_64,
    number: int = 101,
    more: bytes = b"",
) -> bytes:
    return RECORD % (uid, more, comm, sig, arch, number)


@pytest.mark.parametrize(
    ("text", "denial"),
    [
        (record(), Denial(200001, 27186, "python3", "x86_64", 101, True)),
        (record(sig=0, number=41), Denial(200001, 27186, "python3", "x86_64", 41, False)),
        (record(more=b" subj=unconfined"), Denial(200001, 27186, "python3", "x86_64", 101, True)),
        (record(arch=0x40000003, number=359), Denial(200001, 27186, "python3", "i386", 359, True)),
        (record(number=0x40000000 + 41), Denial(200001, 27186, "python3", "x32", 41, True)),
        (record(number=-1), Denial(200001, 27186, "python3", "x86_64", -1, True)),
        (record(arch=0xC00000B7), Denial(200001, 27186, "python3", "aarch64", 101, True)),
        # A name with a space comes in hex, so it cannot pretend to be a field.
        (record(comm=b"785C207569643D30"), Denial(200001, 27186, "x\\ uid=0", "x86_64", 101, True)),
        (record(comm=b"1B5B41"), Denial(200001, 27186, "\x1b[A", "x86_64", 101, True)),
    ],
)
def test_a_record_is_read(text: bytes, denial: Denial) -> None:
    assert parse(text) == denial


@pytest.mark.parametrize(
    "text",
    [b"", record()[:-20], record(comm=b'"a" uid=0'), b"audit(1.2:3): auid=0 uid=0 ses=0 op=test", record(comm=b"zz")],
)
def test_malformed_audit_record_is_ignored(text: bytes) -> None:
    assert parse(text) is None


@given(st.one_of(st.binary(), st.binary().map(lambda comm: record(comm=comm))))
def test_no_record_is_an_error(text: bytes) -> None:
    assert parse(text) is None or isinstance(parse(text), Denial)


@given(st.text(max_size=16))
def test_process_name_is_decoded(comm: str) -> None:
    denial = parse(record(comm=comm.encode(errors="surrogatepass").hex().upper().encode() or b'""'))
    assert denial is not None
    assert denial.process == comm.encode(errors="surrogatepass").decode(errors="replace")


def test_only_kernel_written_lines_of_the_log_count(tmp_path: Path) -> None:
    fifo = tmp_path / "kmsg"
    fifo.write_bytes(b"")
    watch = KernelWatch(lambda denial: None, fifo)
    watch.close()
    line = b";audit: type=1326 " + record()
    from worker.host.audit import _Kmsg

    for prefix, believed in ((b"5,8182,11618369843,-", True), (b"13,8182,11618369843,-", False), (b"no line", False)):
        fifo.write_bytes(b"")
        source = _Kmsg(fifo)
        fifo.write_bytes(prefix + line)
        os.lseek(source.fileno(), 0, os.SEEK_SET)
        assert bool(source.next()) is believed
        source.close()


def calls(incidents: Incidents) -> list[str]:
    return [event.evidence.syscall for event in incidents.take() if isinstance(event.evidence, DeniedCall)]


def test_a_denial_belongs_to_the_attempt_with_its_uid() -> None:
    watch, mine, other = Watch(), Incidents(), Incidents()
    watch.follow(200001, mine)
    watch.follow(200002, other)
    for uid in (200002, 200001, 7):
        watch._denied(Denial(uid, 1, "x", "x86_64", 101, True))
    assert calls(mine) == ["ptrace"]
    assert len(other.take()) == 1
    watch.settled(200001)
    watch.follow(200001, other)  # the next container with this uid
    watch._denied(Denial(200001, 1, "x", "x86_64", 165, True))
    assert mine.take() == []
    assert calls(other) == ["mount"]
    watch.kernel.close()


def test_records_lost_during_an_attempt_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KernelWatch, "source", "audit")
    watch = Watch()
    monkeypatch.setattr(watch.kernel, "drain", lambda: True)
    watch.kernel.lost = 3
    watch.follow(200001, Incidents())
    assert watch.kills(200001, signal=None) == 0  # the control
    monkeypatch.setattr(KernelWatch, "source", "kernel log")
    assert watch.kills(200001, signal=None) is None
    monkeypatch.setattr(KernelWatch, "source", "audit")
    watch.kernel.lost = 4
    assert watch.kills(200001, signal=None) is None
    watch._denied(Denial(200001, 1, "x", "x86_64", 101, True))
    assert watch.kills(200001, signal=None) == 1
    watch.kernel.close()


def test_flood_of_foreign_records_does_not_delay_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KernelWatch, "source", "audit")
    watch = Watch()
    watch.follow(200001, Incidents())
    monkeypatch.setattr(watch.kernel, "drain", lambda: False)  # more keeps coming than is read
    assert watch.kills(200001, signal=None) is None
    watch.kernel.close()


@pytest.mark.parametrize(
    ("denial", "kind", "expected"),
    [
        (Denial(1, 1, "x", "x86_64", 41, False), "network_attempt", "Send the data as an input file"),
        (Denial(1, 1, "x", "x86_64", 41, True), "seccomp_violation", "socket"),
        (Denial(1, 1, "x", "x86_64", 101, True), "seccomp_violation", "ptrace"),
        (Denial(1, 1, "x", "x86_64", 319, False), "seccomp_violation", "memfd_create"),
        (Denial(1, 1, "x", "x86_64", 54, False), "seccomp_violation", "setsockopt, with forbidden arguments"),
        (Denial(1, 1, "x", "x86_64", 141, False), "seccomp_violation", "the agent is scheduled"),
        (Denial(1, 1, "x", "i386", 359, True), "seccomp_violation", "entry for i386"),
        (Denial(1, 1, "x", "x32", 41, True), "seccomp_violation", "entry for x32"),
        (Denial(1, 1, "x", "x86_64", 9999, True), "seccomp_violation", "number 9999"),
    ],
)
def test_denial_names_the_attempted_call(denial: Denial, kind: str, expected: str) -> None:
    incidents = Incidents()
    note_denial(incidents, denial)
    (event,) = incidents.take()
    assert isinstance(event.evidence, DeniedCall)
    assert (event.kind, event.attribution, event.evidence.killed) == (kind, "kernel", denial.killed)
    assert expected in event.detail
