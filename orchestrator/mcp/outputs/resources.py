"""Outputs and artifacts as resources: ``mayfly://executions/ID/stdout``, ``…/stderr``, ``…/artifacts/PATH``."""

from __future__ import annotations

import base64
import re
from functools import partial
from itertools import islice
from urllib.parse import quote, unquote

from mcp import MCPError
from mcp_types import (
    INVALID_PARAMS,
    BlobResourceContents,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from orchestrator.mcp.budget import count
from orchestrator.mcp.outputs.sources import Source, artifact_of, stream_of
from orchestrator.mcp.parts import Caller, Parts

BASE = "mayfly://executions/"
URI = re.compile(re.escape(BASE) + r"([0-9a-f]{32})/(?:(stdout|stderr)|artifacts/(.{1,3072}))")
MOST_BYTES = 2**20
MOST_EXECUTIONS = 20
MOST_LISTED = 100
MOST_TOKENS = 2000  # of a list
TEMPLATES = [
    ResourceTemplate(
        name="output",
        title="Output",
        uri_template=BASE + "{execution_id}/{stream}",
        description="stdout or stderr of an execution, up to 1 MiB.",
        mime_type="text/plain",
    ),
    ResourceTemplate(
        name="artifact",
        title="Artifact",
        uri_template=BASE + "{execution_id}/artifacts/{+path}",
        description="A file of an execution, up to 1 MiB.",
    ),
]


def list_templates() -> ListResourceTemplatesResult:
    """The forms of addresses."""
    return ListResourceTemplatesResult(resource_templates=TEMPLATES)


async def list_resources(parts: Parts, caller: Caller) -> ListResourcesResult:
    """The files of the tenant's newest executions; older files can be read by their address."""
    read = partial(parts.results.page, caller.principal, MOST_EXECUTIONS, None, {}, [])
    page = await parts.threads.run(caller.tenant, read)
    artifacts = ((execution.id, artifact) for execution in page.items for artifact in execution.artifacts)
    found: list[Resource] = []
    left = MOST_TOKENS
    for id, artifact in islice(artifacts, MOST_LISTED):
        uri = f"{BASE}{id}/artifacts/{quote(artifact.path)}"
        one = Resource(name=artifact.path, uri=uri, mime_type=artifact.media_type, size=artifact.size)
        left -= count(one.model_dump_json(by_alias=True, exclude_none=True)) + 1
        if left < 0:
            break
        found.append(one)
    return ListResourcesResult(resources=found)


async def read_resource(parts: Parts, caller: Caller, uri: str) -> ReadResourceResult:
    """One output or artifact. Raises ``MCPError`` for an unknown address, and for more than 1 MiB."""
    named = URI.fullmatch(uri)
    if named is None:
        raise _unknown(uri, f"There is no such resource. Addresses are {BASE}ID/stdout, …/stderr, …/artifacts/PATH.")
    return await parts.readings.run(caller.tenant, partial(_read, parts, caller, named, uri))


def _read(parts: Parts, caller: Caller, named: re.Match[str], uri: str) -> ReadResourceResult:
    source, media_type = _opened(parts, caller, named)
    if source.size > MOST_BYTES:
        raise _unknown(uri, f"The resource has {source.size} bytes; the limit is {MOST_BYTES}. Call read_output.")
    data, clean = source.read(0, source.size), caller.clean()
    try:
        shown = data.decode()
        text = TextResourceContents(uri=uri, mime_type=media_type, text=shown if clean is None else clean(shown))
    except UnicodeDecodeError:
        plain = data.decode("latin-1")
        if clean is not None and (shown := clean(plain)) != plain:
            return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="text/plain", text=shown)])
        blob = base64.b64encode(data).decode()
        return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type=media_type, blob=blob)])
    return ReadResourceResult(contents=[text])


def _opened(parts: Parts, caller: Caller, named: re.Match[str]) -> tuple[Source, str]:
    id, stream, path = named.groups()
    if stream:
        return stream_of(parts, caller, id, stream), "text/plain"
    artifact, source = artifact_of(parts, caller, id, unquote(path))
    return source, artifact.media_type


def _unknown(uri: str, message: str) -> MCPError:
    return MCPError(INVALID_PARAMS, message, {"uri": uri[:1000]})
