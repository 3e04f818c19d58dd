"""The tools, resources and prompts that the conformance suite of MCP calls; none of them has a use of its own.

Names, texts and schemas are the suite's. The server over them is :mod:`tests.agents.fixture_server`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    GetPromptRequestParams,
    GetPromptResult,
    ImageContent,
    InputRequests,
    InputRequiredResult,
    ListRootsRequest,
    PromptMessage,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)

Context = ServerRequestContext[Any, Any]
Answer = CallToolResult | InputRequiredResult
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
SILENCE = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
STEP_SECONDS = 0.05
TEXT = {"type": "string"}
NAME = {"name": TEXT}
DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
CHOICES = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2"]},
    "titledSingle": {"type": "string", "oneOf": CHOICES},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["One", "Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": CHOICES}},
}


def text(*parts: str) -> CallToolResult:
    """A result of texts."""
    content: list[ContentBlock] = [TextContent(type="text", text=part) for part in parts]
    return CallToolResult(content=content)


def form(message: str, properties: dict[str, Any]) -> ElicitRequest:
    """A question to the user of a newer client."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(question: str) -> CreateMessageRequest:
    """A question to a newer client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=question))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


async def logging(context: Context, params: CallToolRequestParams) -> Answer:
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", message, related_request_id=context.request_id)
        await anyio.sleep(STEP_SECONDS)
    return text("done")


async def progress(context: Context, params: CallToolRequestParams) -> Answer:
    for share in (0, 50, 100):
        await context.session.report_progress(share, 100)
        await anyio.sleep(STEP_SECONDS)
    return text("done")


async def ask_model(context: Context, params: CallToolRequestParams) -> Answer:
    """For older clients: the server asks, and waits for the answer."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=(params.arguments or {})["prompt"]))
    answer = await context.session.create_message([message], max_tokens=100, related_request_id=context.request_id)
    return text(f"LLM response: {answer.content}")


def ask_user(message: str | None, properties: dict[str, Any]) -> Callable[..., Awaitable[Answer]]:
    """For older clients: a tool that asks the user, and waits for the answer."""

    async def ask(context: Context, params: CallToolRequestParams) -> Answer:
        schema = {"type": "object", "properties": properties}
        question = message or (params.arguments or {})["message"]
        answer = await context.session.elicit_form(question, schema, context.request_id)
        return text(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}")

    return ask


def asks(*rounds: InputRequests, state: bool = False) -> Callable[..., Awaitable[Answer]]:
    """For newer clients: a tool that wants answers to each round's questions, one round after the other."""

    async def ask(context: Context, params: CallToolRequestParams) -> Answer:
        passed = int(params.request_state or 0)
        answers = params.input_responses or {}
        if set(rounds[passed]) <= set(answers):
            passed += 1
        if passed == len(rounds):
            named = [answer.content for answer in answers.values() if isinstance(answer, ElicitResult)]
            return text(f"state-ok: {json.dumps(named)}")
        return InputRequiredResult(input_requests=rounds[passed], request_state=str(passed) if state else None)

    return ask


async def within_capabilities(context: Context, params: CallToolRequestParams) -> Answer:
    declared = context.session.client_capabilities
    requests: InputRequests = {}
    if declared is not None and declared.sampling is not None:
        requests["question"] = sampling("What is the capital of France?")
    if declared is not None and declared.elicitation is not None:
        requests["user_name"] = form("What is your name?", NAME)
    return InputRequiredResult(input_requests=requests)


async def needs_sampling(context: Context, params: CallToolRequestParams) -> Answer:
    declared = context.session.client_capabilities
    if declared is None or declared.sampling is None:
        wanted: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling.", wanted)
    return text("done")


async def reconnection(context: Context, params: CallToolRequestParams) -> Answer:
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await anyio.sleep(4 * STEP_SECONDS)
    return text("done")


async def failing(context: Context, params: CallToolRequestParams) -> Answer:
    return CallToolResult(content=[TextContent(type="text", text="This tool fails.")], is_error=True)


def fixed(*content: ContentBlock) -> Callable[..., Awaitable[Answer]]:
    """A tool that always answers the same."""

    async def answer(context: Context, params: CallToolRequestParams) -> Answer:
        return CallToolResult(content=list(content))

    return answer


def resource(uri: str, kind: str, content: str) -> EmbeddedResource:
    """A resource inside a result."""
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=content))


HELLO = TextContent(type="text", text="This is a simple text response for testing.")
IMAGE = ImageContent(type="image", data=PIXEL, mime_type="image/png")
AUDIO = AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")
USER_NAME: InputRequests = {"user_name": form("What is your name?", NAME)}
CAPITAL: InputRequests = {"capital": sampling("What is the capital of France?")}
ROOTS: InputRequests = {"client_roots": ListRootsRequest()}
CONFIRM: InputRequests = {"confirm": form("Please confirm", {"ok": {"type": "boolean"}})}
COLOUR: InputRequests = {"step2": form("Step 2: What is your favorite color?", {"color": TEXT})}
FIRST_STEP: InputRequests = {"step1": form("Step 1: What is your name?", NAME)}
EMPTY: dict[str, Any] = {"type": "object", "properties": {}}
WITH_HEADER: dict[str, Any] = {"type": "object", "properties": {"region": {**TEXT, "x-mcp-header": "Region"}}}
SCHEMA_2020: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": TEXT, "city": TEXT}}},
    "properties": {"address": {"$ref": "#/$defs/address"}, "kind": TEXT, "phone": TEXT, "email": TEXT},
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"kind": {"const": "phone"}}, "required": ["kind"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def with_text(*names: str) -> dict[str, Any]:
    """A schema with required texts."""
    return {"type": "object", "properties": dict.fromkeys(names, TEXT), "required": list(names)}


TOOLS: dict[str, tuple[dict[str, Any], Callable[[Context, CallToolRequestParams], Awaitable[Answer]]]] = {
    "test_simple_text": (EMPTY, fixed(HELLO)),
    "test_image_content": (EMPTY, fixed(IMAGE)),
    "test_audio_content": (EMPTY, fixed(AUDIO)),
    "test_embedded_resource": (EMPTY, fixed(resource("test://embedded-resource", "text/plain", "Embedded."))),
    "test_multiple_content_types": (
        EMPTY,
        fixed(HELLO, IMAGE, resource("test://mixed-content-resource", "application/json", '{"test": "data"}')),
    ),
    "test_tool_with_logging": (EMPTY, logging),
    "test_logging_tool": (EMPTY, logging),
    "test_tool_with_progress": (EMPTY, progress),
    "test_error_handling": (EMPTY, failing),
    "test_sampling": (with_text("prompt"), ask_model),
    "test_elicitation": (with_text("message"), ask_user(None, {"username": TEXT, "email": TEXT})),
    "test_elicitation_sep1034_defaults": (EMPTY, ask_user("Who are you?", DEFAULTS)),
    "test_elicitation_sep1330_enums": (EMPTY, ask_user("Please choose.", ENUMS)),
    "test_reconnection": (EMPTY, reconnection),
    "test_streaming_elicitation": (EMPTY, asks(USER_NAME)),
    "test_missing_capability": (EMPTY, needs_sampling),
    "test_custom_header": (WITH_HEADER, fixed(HELLO)),
    "json_schema_2020_12_tool": (SCHEMA_2020, fixed(HELLO)),
    "test_input_required_result_elicitation": (EMPTY, asks(USER_NAME)),
    "test_input_required_result_sampling": (EMPTY, asks(CAPITAL)),
    "test_input_required_result_list_roots": (EMPTY, asks(ROOTS)),
    "test_input_required_result_request_state": (EMPTY, asks(CONFIRM, state=True)),
    "test_input_required_result_multiple_inputs": (EMPTY, asks({**USER_NAME, **CAPITAL, **ROOTS}, state=True)),
    "test_input_required_result_multi_round": (EMPTY, asks(FIRST_STEP, COLOUR, state=True)),
    "test_input_required_result_tampered_state": (EMPTY, asks(CONFIRM, state=True)),
    "test_input_required_result_capabilities": (EMPTY, within_capabilities),
}
CONTEXT: InputRequests = {"user_context": form("What context should the prompt use?", {"context": TEXT})}
PROMPTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


def prompt(params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
    """A prompt with its arguments."""
    arguments = params.arguments or {}
    content: ContentBlock = TextContent(type="text", text=f"This is a prompt for testing: {json.dumps(arguments)}")
    if params.name == "test_prompt_with_embedded_resource":
        content = resource(arguments["resourceUri"], "text/plain", "Embedded.")
    elif params.name == "test_prompt_with_image":
        content = IMAGE
    elif params.name == "test_input_required_result_prompt" and not params.input_responses:
        return InputRequiredResult(input_requests=CONTEXT)
    return GetPromptResult(messages=[PromptMessage(role="user", content=content)])
