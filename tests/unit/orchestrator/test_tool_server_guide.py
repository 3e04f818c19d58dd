"""The declarations and numbers in the guides to tool servers are true."""

from __future__ import annotations

import re
import tomllib

from orchestrator.broker.http import exchange, requests
from orchestrator.broker.http.definitions import LONGEST_URL, MOST_HEADERS, tools
from orchestrator.models.tool_servers import ToolServer
from orchestrator.settings import Settings
from orchestrator.tool_environments import ToolEnvironment, ToolServerLimits
from tests.harness import ROOT

GUIDE = (ROOT / "docs" / "fetching.md").read_text(encoding="utf-8")
SANDBOXES = (ROOT / "docs" / "tool-sandboxes.md").read_text(encoding="utf-8")
GUIDES = GUIDE + SANDBOXES + (ROOT / "docs" / "tool-servers.md").read_text(encoding="utf-8")
DECLARATIONS = re.findall(r"```toml\n# tool-servers/([\w-]+)\.toml\n(.*?)```", GUIDES, re.DOTALL)


def test_declarations_are_valid() -> None:
    assert len(DECLARATIONS) >= 6
    for name, text in DECLARATIONS:
        fields = tomllib.loads(text)
        fields.pop("tenants", None)
        ToolServer.model_validate({"name": name, **fields, "origin": "file"})


def test_bounds_are_those_of_the_code() -> None:
    settings = Settings()
    shown = {
        f"| `MAYFLY_TOOL_HTTP_SECONDS` | {settings.tool_http_seconds:g} s |",
        f"| `MAYFLY_TOOL_HTTP_RESPONSE_BYTES` | {settings.tool_http_response_bytes // 2**20} MiB |",
        f"| `MAYFLY_TOOL_HTTP_REDIRECTS` | {settings.tool_http_redirects} |",
        f"| `MAYFLY_TOOL_HTTP_CACHE_BYTES` | {settings.tool_http_cache_bytes // 2**20} MiB |",
        f"| {MOST_HEADERS}, {LONGEST_URL:,} |",
        f"| {exchange.MOST_HEADERS}, 100 KiB |",
    }
    assert [row for row in shown if row not in GUIDE] == []


def test_parameters_and_safe_headers_are_those_of_the_code() -> None:
    for tool in tools("web"):
        (row,) = [line for line in GUIDE.splitlines() if line.startswith(f"| `{tool.name}` |")]
        assert all(f"`{name}`" in row for name in tool.input_schema["properties"])
        assert all(f'"{name}"' in GUIDE for name in (tool.output_schema or {})["properties"])
    assert all(f"`{name}`" in GUIDE.replace("`Accept-", "`accept-").lower() for name in requests.SAFE_HEADERS)


def test_fields_of_images_are_those_of_the_code() -> None:
    rows = "".join(line.split("|")[1] for line in SANDBOXES.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == set(ToolEnvironment.model_fields)
    limits = ToolServerLimits()
    for name, default in (
        ("memory_bytes", f"{limits.memory_bytes // 2**20} MiB"),
        ("processes", f"{limits.processes}"),
        ("cpu_cores", f"{limits.cpu_cores:g}"),
        ("scratch_bytes", f"{limits.scratch_bytes // 2**20} MiB"),
    ):
        assert re.search(rf"`{name}`[^(,]*\({default}\)", SANDBOXES), name


def test_image_in_the_guide_is_the_example() -> None:
    assert (ROOT / "deploy" / "examples" / "tool-servers" / "time.toml").read_text(encoding="utf-8") in SANDBOXES


# The commands of guides, and the test that types each: its file, and words in it.
TYPED = {
    "mayfly tools servers add NAME --url URL": ("integration/orchestrator/broker/test_cli.py", '"servers", "add"'),
    "mayfly tools servers changes NAME": ("integration/orchestrator/broker/test_cli.py", '"servers", "changes"'),
    "mayfly tools servers accept NAME": ("integration/orchestrator/broker/test_cli.py", '"servers", "accept"'),
    "mayfly tools servers": ("integration/orchestrator/broker/test_cli.py", 'tools("servers")'),
    "mayfly tools call github.list_issues repo=x": ("integration/orchestrator/broker/test_cli.py", '"call", "mine.'),
    "mayfly tools search": ("integration/orchestrator/queries/test_tool_search.py", 'api, "search"'),
    'mayfly tools search "create an issue"': ("integration/orchestrator/queries/test_tool_search.py", '"search"'),
    "mayfly tools list": ("integration/orchestrator/queries/test_tool_search.py", 'api, "list"'),
    "mayfly run --tool 'github.*'": ("e2e/agents/test_workflows.py", "RUNS"),
    "mayfly up": ("e2e/operation/test_up_tools.py", "made.up"),
}
READ = ("tool-servers", "tool-sandboxes", "code-mode", "fetching", "tool-search", "caller-tools")


def test_commands_of_the_guides_are_typed_by_tests() -> None:
    text = "".join((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in READ)
    assert set(re.findall(r"`(mayfly (?:run|up|tools) ?[^`]*)`", text)) == set(TYPED)
    for command, (path, words) in TYPED.items():
        assert words in (ROOT / "tests" / path).read_text(encoding="utf-8"), command
