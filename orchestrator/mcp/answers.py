"""Answers for a model: executions within a budget of tokens, and refusals with the change to make."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mcp_types import CallToolResult, ContentBlock, TextContent

from orchestrator.errors import MayflyError, NotFound, RateLimited, Unavailable
from orchestrator.mcp.budget import Material, Rendered, Stream, images_of, render
from orchestrator.mcp.budget.documents import WHOLE_BYTES
from orchestrator.mcp.budget.explain import Ending, explain, importable
from orchestrator.mcp.outputs.images import fit_image, needs_scaling
from orchestrator.mcp.outputs.outlines import OUTLINES
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.models import Execution
from orchestrator.states import TERMINAL, Reason, State

SMALL_BYTES = 8 * 1024  # counting so much output takes less time than waking a thread
MOST_MESSAGE = 2000
INTERNAL = "An internal error of Mayfly occurred, and was logged. The call may be repeated."
GO_ON = (
    "The execution has not ended. get_execution(execution_id, wait_seconds) waits for the end; cancel_execution stops "
    "the program. The output so far follows."
)


async def execution_result(parts: Parts, caller: Caller, execution: Execution, tokens: int | None) -> CallToolResult:
    """An execution as a tool's result, within ``tokens`` or the setting."""
    settings = parts.settings
    budget = min(tokens or settings.mcp_output_tokens, settings.mcp_most_output_tokens)
    id = execution.id
    if is_small(execution):
        result, rendered = _composed(parts, caller, execution, None, budget)
    else:
        place = parts.images if needs_helper(execution) else parts.readings
        del execution  # a call that waits for a place keeps no output
        result, rendered = await place.run(caller.tenant, partial(_read, parts, caller, id, budget))
    count = partial(parts.service.count_tokens, id, rendered.tokens_returned, rendered.tokens_withheld)
    caller.afterwards.add(count)
    return result


def is_small(execution: Execution) -> bool:
    """Whether the record has all that is shown, and composing the answer takes less time than waking a thread."""
    texts = (execution.stdout, execution.stderr, execution.compile and execution.compile.stderr)
    results = [(one.data, [omitted.reason for omitted in one.omitted]) for one in execution.results]
    return (
        not execution.security_events
        and not (execution.stdout_truncated or execution.stderr_truncated)
        and is_within(SMALL_BYTES - sum(len(text) for text in texts if text), results)
        and not any("�" in text for text in texts[:2] if text)  # it was not UTF-8
        and not needs_helper(execution)
    )


def is_within(most: int, value: object) -> bool:
    """Whether a JSON value has at most so many characters and elements. Counting ends there."""
    left = [value]
    while left and most >= 0:
        one = left.pop()
        if not isinstance(one, dict | list | tuple):
            most -= len(one if isinstance(one, str) else str(one))
        elif (most := most - len(one)) >= 0:
            left += [*one, *one.values()] if isinstance(one, dict) else one
    return most >= 0


def needs_helper(execution: Execution) -> bool:
    """Whether one of the shown images has to be scaled, which takes seconds."""
    return any(needs_scaling(image.base64) for image in images_of(execution.results))


def state_result(id: str, state: str, more: str = "") -> CallToolResult:
    """An execution's state without output; ``more`` is added to the text."""
    content: list[ContentBlock] = [TextContent(type="text", text=state + more)]
    return CallToolResult(content=content, structured_content={"execution_id": id, "state": state})


def refusal(error: MayflyError) -> CallToolResult:
    """An error as a tool's result: cause, bound and remedy."""
    if error.status >= 500 and not isinstance(error, Unavailable):
        return failure(INTERNAL)
    message = error.message
    if isinstance(error, NotFound):
        message += " Executions are deleted after some time, and are visible only to their own tenant."
    if isinstance(error, RateLimited | Unavailable):
        message += f" Try again in {error.retry_after_seconds} s."
    return failure(f"{error.code}: {message}")


def failure(message: str) -> CallToolResult:
    """A tool's failure, with its message."""
    return CallToolResult(content=[TextContent(type="text", text=message[:MOST_MESSAGE])], is_error=True)


def _read(parts: Parts, caller: Caller, id: str, budget: int) -> tuple[CallToolResult, Rendered]:
    execution, outputs = parts.results.whole(caller.principal, id)
    return _composed(parts, caller, execution, outputs, budget)


def _composed(
    parts: Parts, caller: Caller, execution: Execution, outputs: Mapping[str, bytes] | None, budget: int
) -> tuple[CallToolResult, Rendered]:
    """The tool's result, with images of a size for models, and the rendering with its counts of tokens."""
    material = material_of(parts, caller, execution, outputs)
    rendered = render(material, budget, caller.carrier, caller.clean())
    content: list[ContentBlock] = [TextContent(type="text", text=rendered.text)]
    content += [fit_image(one.base64, one.media_type) for one in rendered.images]
    return CallToolResult(content=content, structured_content=dict(rendered.structured)), rendered


def material_of(
    parts: Parts, caller: Caller, execution: Execution, outputs: Mapping[str, bytes] | None = None
) -> Material:
    """The material of an execution's answer. ``outputs`` are the exact bytes, unless the record's text is complete."""
    ended = State(execution.state) in TERMINAL
    stderr = _stream(execution, "stderr", outputs)
    explanation = _explained(parts, execution, stderr) if ended else GO_ON
    return Material(
        execution_id=execution.id,
        state=execution.state,
        reason=execution.reason,
        fault=execution.fault,
        exit_code=execution.exit_code,
        signal=execution.signal,
        explanation=explanation,
        results=execution.results,
        stdout=_stream(execution, "stdout", outputs),
        stderr=stderr,
        artifacts=execution.artifacts,
        security=_blocked(parts, caller, execution),
    )


def _explained(parts: Parts, execution: Execution, stderr: Stream) -> str | None:
    """Cause, bound and remedy of an end without success."""
    if execution.reason is None:
        return None
    environments = parts.service.environments
    declared = environments.resolve(execution.environment)
    if declared is None:
        return execution.message
    return explain(
        Ending(
            environment=execution.environment,
            reason=execution.reason,
            limits=execution.limits,
            maxima=declared.maxima,
            signal=execution.signal,
            stderr=stderr.tail or stderr.head,
            catalogue={name: importable(one.packages) for name, one in environments.items()},
        )
    )


def _stream(execution: Execution, name: str, outputs: Mapping[str, bytes] | None) -> Stream:
    if name == "stderr" and execution.reason == Reason.COMPILE_FAILED and execution.compile is not None:
        return Stream.of(execution.compile.stderr.encode())  # the program itself did not run
    if outputs is None:
        return Stream.of((getattr(execution, name) or "").encode())
    data, total = outputs[name], max(getattr(execution, f"{name}_bytes"), len(outputs[name]))
    is_large = total == len(data) > WHOLE_BYTES
    return Stream(data, b"", total, OUTLINES.of(data) if is_large else None)


def _blocked(parts: Parts, caller: Caller, execution: Execution) -> tuple[str, ...]:
    """The sentences of an execution's security events."""
    if not execution.security_events:
        return ()
    found = parts.results.events(caller.principal, execution.id)
    return tuple(str(event.data.get("detail", "")) for event in found if event.type.startswith("dev.mayfly.security."))
