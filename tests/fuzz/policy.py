"""Targets that stand for clients' programs before the static policy: the pure part, and the process it runs in."""

from __future__ import annotations

import atexit
import itertools
import json
import warnings
from functools import cache

from orchestrator.errors import PolicyUnavailable
from orchestrator.policy.inspector import HelperAnswer, Inspector
from orchestrator.policy.rules import MESSAGES, OWN
from orchestrator.policy.syntax import MAX_FINDINGS, Inspection, inspect
from tests.fuzz.inputs import pieces

SOURCE_BYTES = 2048  # what CPython's parser survives in this process, whatever it is
REPEATED_BYTES = 100_000
FORBIDDEN = b"\nimport subprocess\n"
NUMBERS = itertools.count()


def fuzz_policy(data: bytes) -> None:
    """Any source gets an answer that can be sent, and what can be read hides no forbidden import that follows it."""
    source = data[:SOURCE_BYTES]
    with warnings.catch_warnings():  # as in the helper: what the parser warns of is not asked
        warnings.simplefilter("ignore")
        found, more = inspect(source), inspect(source + FORBIDDEN)
    check(found)
    check(more)
    if not OWN & {finding.rule for finding in found.findings}:
        assert len(more.findings) + more.omitted > len(found.findings) + found.omitted
        assert more.omitted or any(finding.rule == "import_process" for finding in more.findings)


def check(found: Inspection) -> None:
    """An inspection is one that the process that asked for it takes."""
    printed = json.dumps({"findings": found.findings, "omitted": found.omitted, "last": False})
    HelperAnswer.model_validate_json(printed)
    assert len(found.findings) <= MAX_FINDINGS and found.omitted >= 0
    for finding in found.findings:
        assert finding.rule in MESSAGES
        assert (finding.line or 1) >= 1 and (finding.column or 1) >= 1


def fuzz_inspector(data: bytes) -> None:
    """No source hurts the process that asks, and the next one is inspected as if it had not been."""
    source = b"".join(payload * (1 + number * number) for number, payload in pieces.split(data))[:REPEATED_BYTES]
    try:
        (found,) = inspector().inspect("t", [source])
        (after,) = inspector().inspect("t", [FORBIDDEN + b"\n# %d" % next(NUMBERS)])  # none that is remembered
    except PolicyUnavailable:  # this host is slow
        return
    check(found)
    assert [finding.rule for finding in after.findings] == ["import_process"]


@cache
def inspector() -> Inspector:
    """One for all inputs, as an API has it."""
    made = Inspector()
    atexit.register(made.stop)
    return made
