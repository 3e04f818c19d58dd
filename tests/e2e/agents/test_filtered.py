"""The text of a program that reaches the model of a filtered tenant, on every way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.builders.mcp_calls import ERAS, MODERN, Agent
from tests.builders.sandboxes.pauses import Pause
from tests.harness import Stack

FILTERED = "filtered"  # as the stack's setting names it
SCOPES = ("mcp", "executions:read", "executions:write")
MAIL, CARD = "ada.lovelace@example.org", "4111 1111 1111 1111"
SECRETS = (MAIL, CARD, "4111111111111111")
CODE = f"""
import sys, time, mayfly
for n in range(3):
    print("mail {MAIL}", flush=True)
    time.sleep(0.7)
PAUSE
print("card {CARD}", file=sys.stderr)
open("people.csv", "w").write("name,mail\\n" + "Ada,{MAIL}\\n" * 3)
open("binary.bin", "wb").write(bytes(range(256)) + b"{MAIL}")
mayfly.result({{"mail": "{MAIL}", "card": "{CARD}"}})
"""


@pytest.fixture(scope="module")
def keys(stack: Stack) -> dict[str, str]:
    """A key of the filtered tenant, and a key of another."""
    return {tenant: stack.new_key(*SCOPES, tenant=tenant)["secret"] for tenant in (FILTERED, "plain")}


def everything(stack: Stack, key: str, era: str, progress: str) -> Iterator[str]:
    """All that a model or its client gets of the program, as text. It ends after that message of its progress."""
    pause, messages = Pause(), []
    headers = {"Authorization": f"Bearer {key}"}
    agent = Agent(stack, era, headers)
    arguments = {"code": CODE.replace("PAUSE", pause.code), "limits": {"wall_seconds": 90}}
    params = {"name": "execute_code", "arguments": arguments, "_meta": {"progressToken": 1}}
    for message in agent.streamed("tools/call", params):
        messages.append(message)
        if message.get("params", {}).get("message") == progress:
            pause.end()
    assert sum(message.get("params", {}).get("message") == progress for message in messages) == 1
    id = messages[-1]["result"]["structuredContent"]["execution_id"]
    yield json.dumps(messages)
    yield json.dumps(agent.call("get_execution", execution_id=id))
    for where in ({"stream": "stdout"}, {"stream": "stderr"}, {"artifact": "people.csv"}, {"artifact": "binary.bin"}):
        for more in ({}, {"grep": "mail|card|Ada"}, {"offset": 10}, {"line": 2}):
            yield json.dumps(agent.call("read_output", execution_id=id, **where, **more))
    for path in ("stdout", "stderr", "artifacts/people.csv", "artifacts/binary.bin"):
        yield json.dumps(agent.result("resources/read", {"uri": f"mayfly://executions/{id}/{path}"}))
    if era == MODERN:
        declared = Agent(stack, era, headers, {"extensions": {"io.modelcontextprotocol/tasks": {}}})
        yield json.dumps(declared.result("tasks/get", {"taskId": id}))


@pytest.mark.parametrize("era", ERAS)
def test_no_way_to_the_model_of_a_filtered_tenant_has_personal_data(
    stack: Stack, keys: dict[str, str], era: str
) -> None:
    found = list(everything(stack, keys[FILTERED], era, "running"))
    assert [text for text in found if any(secret in text for secret in SECRETS)] == []
    assert "[EMAIL_1]" in found[0] and "[CARD_1]" in found[0]
    assert sum("[EMAIL_1]" in text for text in found) >= 12
    # The control: the same program for a tenant that is not named, also in its progress.
    plain = list(everything(stack, keys["plain"], era, f"running: mail {MAIL}"))
    assert sum(MAIL in text for text in plain) >= 8
    assert not [text for text in plain if "[EMAIL_1]" in text]
