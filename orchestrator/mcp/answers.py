"""Answers for a model: executions within a budget of tokens, and refusals with the change to make."""

from __future__ import annotations

from functools import partial

from mcp_types import CallToolResult, ContentBlock, TextContent

from orchestrator.errors import MayflyError, NotFound, RateLimited, Unavailable
from orchestrator.mcp.budget import Material, Rendered, Stream, render
from orchestrator.mcp.budget.documents import WHOLE_BYTES
from orchestrator.mcp.budget.explain import Ending, explain, importable
from orchestrator.mcp.outputs.images import fit_image
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
    printed = execution.stdout_bytes + execution.stderr_bytes
    is_small = printed <= SMALL_BYTES and not execution.security_events and not execution.results
    compose = partial(_rendered, parts, caller, execution, budget)
    if is_small and not _is_binary(execution):
        rendered = compose()
    else:
        rendered = await parts.readings.run(caller.tenant, compose)
    count = partial(parts.service.count_tokens, execution.id, rendered.tokens_returned, rendered.tokens_withheld)
    caller.afterwards.add(count)
    return await result_of(rendered)


async def result_of(rendered: Rendered) -> CallToolResult:
    """A tool's result from rendered text and images, with images resized for models."""
    content: list[ContentBlock] = [TextContent(type="text", text=rendered.text)]
    content += [await fit_image(one.base64, one.media_type) for one in rendered.images]
    return CallToolResult(content=content, structured_content=dict(rendered.structured))


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


def _rendered(parts: Parts, caller: Caller, execution: Execution, budget: int) -> Rendered:
    return render(material_of(parts, caller, execution), budget, caller.carrier, caller.clean())


def material_of(parts: Parts, caller: Caller, execution: Execution) -> Material:
    """The material of an execution's answer, with exact bytes if the record's text is incomplete or was not UTF-8."""
    ended = State(execution.state) in TERMINAL
    stderr = _stream(parts, caller, execution, "stderr")
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
        stdout=_stream(parts, caller, execution, "stdout"),
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


def _stream(parts: Parts, caller: Caller, execution: Execution, name: str) -> Stream:
    if name == "stderr" and execution.reason == Reason.COMPILE_FAILED and execution.compile is not None:
        return Stream.of(execution.compile.stderr.encode())  # the program itself did not run
    text: str = getattr(execution, name) or ""
    total: int = getattr(execution, f"{name}_bytes")
    if getattr(execution, f"{name}_truncated") or "�" in text:
        data = parts.results.output(caller.principal, execution.id, name)
        total = max(total, len(data))
    else:
        data = text.encode()
        total = len(data)
    is_large = total == len(data) > WHOLE_BYTES
    return Stream(data, b"", total, OUTLINES.of(data) if is_large else None)


def _is_binary(execution: Execution) -> bool:
    return "�" in (execution.stdout or "") or "�" in (execution.stderr or "")


def _blocked(parts: Parts, caller: Caller, execution: Execution) -> tuple[str, ...]:
    """The sentences of an execution's security events."""
    if not execution.security_events:
        return ()
    found = parts.results.events(caller.principal, execution.id)
    return tuple(str(event.data.get("detail", "")) for event in found if event.type.startswith("dev.mayfly.security."))
