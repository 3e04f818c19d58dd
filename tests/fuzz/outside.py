"""Targets for the parsers of the kernel's records, of data in Redis, and of clients' requests."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

from pydantic import ValidationError

from orchestrator.environments import load_environments
from orchestrator.errors import SpecificationRejected, SpecificationTampered, ValidationFailed
from orchestrator.models import Specification
from orchestrator.models.submission import Submission
from orchestrator.policy.submission import specify
from orchestrator.store.executions.sealing import open_sealed, seal
from tests.fuzz import ROOT
from tests.fuzz.inputs import pieces
from worker.host.audit import ARCHITECTURES, KMSG, Denial, parse

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments"])
KEY = b"the key of the fuzzed installation"
GENUINE = specify(
    Submission(environment="python", code="print(1)"),
    ENVIRONMENTS,
    id="genuine",
    tenant="t",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    max_input_bytes=1000,
)


def fuzz_records(data: bytes) -> None:
    """Any text is a denial or nothing, and names that a process chose never change the meaning of a record."""
    KMSG.match(data)
    found = parse(data)
    assert found is None or isinstance(found, Denial)
    (number, comm), (_, exe), *_ = [*pieces.split(data), (0, b""), (0, b"")]
    arch = sorted(ARCHITECTURES)[number % len(ARCHITECTURES)]
    record = (
        b"audit(1795309513.122:22): auid=4294967295 uid=200001 gid=200001 ses=4294967295 subj=unconfined pid=27186 "
        b"comm=%s exe=%s sig=31 arch=%x syscall=101 compat=0 ip=0x7f51cb11fdc7 code=0x80000000"
    ) % (untrusted(comm), untrusted(exe), arch)
    process = comm.decode(errors="replace")
    assert parse(record) == Denial(200001, 27186, process, ARCHITECTURES[arch], 101, True)


def untrusted(text: bytes) -> bytes:
    """As the kernel's ``audit_log_n_untrustedstring`` writes a text that a process chose."""
    if any(byte == 0x22 or not 0x21 <= byte <= 0x7E for byte in text):
        return text.hex().upper().encode()
    return b'"%s"' % text


def fuzz_sealed(data: bytes) -> None:
    """Nothing opens but what the API sealed for that execution, and everything else is refused by its own error."""
    (number, body), (_, signature), (_, id) = [*pieces.split(data), (0, b""), (0, b""), (0, b"")][:3]
    asked = id.decode(errors="replace") or GENUINE.id
    genuine, mac = seal(GENUINE, KEY)
    match number % 3:
        case 0:  # arbitrary bytes
            printed = signature.decode(errors="replace")
            opened = _opened(asked, body, printed)
            assert opened is None or (asked, body, printed) == (GENUINE.id, genuine, mac)
        case 1:  # the API's own bytes, changed
            changed = bytes(a ^ b for a, b in zip(genuine, body.ljust(len(genuine), b"\0"), strict=False))
            opened = _opened(asked, changed, mac)
            assert (opened == GENUINE) == (changed == genuine and asked == GENUINE.id)
        case 2:  # what an API of another version might have sealed
            opened = _opened(asked, body, seal_of(body))
            assert opened is None or opened.id == asked


def _opened(id: str, body: bytes, signature: str) -> Specification | None:
    try:
        return open_sealed(id, body, signature, KEY)
    except SpecificationTampered:
        return None
    except SpecificationRejected:
        assert signature == seal_of(body), "read before its seal was checked"
        return None


def seal_of(body: bytes) -> str:
    """A seal that holds."""
    return hmac.new(KEY, body, hashlib.sha256).hexdigest()


def fuzz_submission(data: bytes) -> None:
    """A body is refused with a reason, or becomes a specification that survives being sealed and opened."""
    try:
        submission = Submission.model_validate_json(data)
        specification = specify(
            submission, ENVIRONMENTS, id="x", tenant="t", created_at=GENUINE.created_at, max_input_bytes=10_000
        )
    except (ValidationError, ValidationFailed) as error:
        str(error).encode()
        return
    assert open_sealed("x", *seal(specification, KEY), KEY) == specification
    assert not ENVIRONMENTS[specification.environment].exceeded(specification.limits)
