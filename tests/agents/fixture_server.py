"""The server for all scenarios of MCP's conformance suite: ``python -m tests.agents.fixture_server PORT``.

It has the suite's tools instead of Mayfly's. Sessions are on, which older clients need for questions of the server.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import PromptsListChanged, ServerEvent, ToolsListChanged
from mcp_types import (
    INVALID_PARAMS,
    BlobResourceContents,
    CallToolRequestParams,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextResourceContents,
    Tool,
    UnsubscribeRequestParams,
)

from tests.agents.fixture_tools import EMPTY, PIXEL, PROMPTS, TOOLS, Answer, Context, prompt, text

TEMPLATE = "test://template/{id}/data"
RESOURCES = ("test://static-text", "test://static-binary", "test://watched-resource")
TRIGGERS: dict[str, ServerEvent] = {
    "test_trigger_tool_change": ToolsListChanged(),
    "test_trigger_prompt_change": PromptsListChanged(),
}
bus = InMemorySubscriptionBus()


async def list_tools(context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
    named = {name: schema for name, (schema, _) in TOOLS.items()} | dict.fromkeys(TRIGGERS, EMPTY)
    return ListToolsResult(tools=[Tool(name=name, description=name, input_schema=named[name]) for name in named])


async def call_tool(context: Context, params: CallToolRequestParams) -> Answer:
    if (event := TRIGGERS.get(params.name)) is not None:
        await bus.publish(event)
        return text("done")
    if params.name not in TOOLS:
        raise MCPError(INVALID_PARAMS, f"There is no tool {params.name!r}.")
    return await TOOLS[params.name][1](context, params)


async def list_resources(context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
    return ListResourcesResult(resources=[Resource(uri=uri, name=uri, description=uri) for uri in RESOURCES])


async def list_templates(context: Context, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(resource_templates=[ResourceTemplate(uri_template=TEMPLATE, name="data")])


async def read_resource(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    uri = str(params.uri)
    before, after = TEMPLATE.split("{id}")
    if uri == "test://static-binary":
        return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type="image/png", blob=PIXEL)])
    if uri in RESOURCES:
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="text/plain", text="A text.")])
    if uri.startswith(before) and uri.endswith(after):
        data = json.dumps({"id": uri[len(before) : -len(after)]})
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="application/json", text=data)])
    raise MCPError(INVALID_PARAMS, f"There is no resource {uri}.", {"uri": uri})


async def list_prompts(context: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
    described = {
        name: [PromptArgument(name=argument, required=True) for argument in arguments]
        for name, arguments in PROMPTS.items()
    }
    return ListPromptsResult(
        prompts=[Prompt(name=name, description=name, arguments=arguments) for name, arguments in described.items()]
    )


async def get_prompt(context: Context, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
    if params.name not in PROMPTS:
        raise MCPError(INVALID_PARAMS, f"There is no prompt {params.name!r}.")
    return prompt(params)


async def complete(context: Context, params: CompleteRequestParams) -> CompleteResult:
    return CompleteResult(completion=Completion(values=["paris", "park"], total=2, has_more=False))


async def set_level(context: Context, params: SetLevelRequestParams) -> EmptyResult:
    return EmptyResult()


async def subscribe(context: Context, params: SubscribeRequestParams | UnsubscribeRequestParams) -> EmptyResult:
    return EmptyResult()


def make_server() -> Server[Any]:
    """The server."""
    hint = CacheHint(1000, "public")
    server: Server[Any] = Server(
        "fixture",
        version="1",
        cache_hints=dict.fromkeys(
            ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"), hint
        ),
        get_tool_input_schema=lambda name: TOOLS[name][0] if name in TOOLS else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=set_level,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=subscribe,
        on_subscriptions_listen=ListenHandler(bus),
    )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="fixture"))
    return server


if __name__ == "__main__":
    uvicorn.run(make_server().streamable_http_app(), port=int(sys.argv[1]), log_level="warning")
