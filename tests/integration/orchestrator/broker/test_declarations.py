"""Servers are declared in files and by API; their catalogues are watched, quarantined and accepted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.models.tool_servers import ToolServer
from tests.builders.brokers import MODULE, Brokers, code, running
from tests.harness import ROOT, eventually

FILE = f"""
command = ["{sys.executable}", "-m", "{MODULE}", "stdio"]
env = {{PYTHONPATH = "{ROOT}", PYTHONDONTWRITEBYTECODE = "1"}}
connect_seconds = 60
tenants = ["t"]
"""


def test_file_is_read_while_the_broker_runs(brokers_with: Callable[..., Brokers], tmp_path: Path) -> None:
    directory = tmp_path / "servers"
    directory.mkdir()
    brokers = brokers_with(tool_servers_dir=directory)
    brokers.start()
    (directory / "test.toml").write_text(FILE)
    assert len(brokers.ready().tools) > 10
    assert brokers.call("add", a=1, b=2).result == "3"
    (directory / "test.toml").write_text(FILE + 'tools = ["add"]\n')
    eventually(lambda: [tool.name for tool in brokers.ready().tools] == ["add"], "the declaration has changed")
    (directory / "test.toml").unlink()
    eventually(lambda: brokers.catalogue() is None, "the server is gone")
    eventually(lambda: code(brokers.call("add", a=1, b=2)) == "tool_unknown", "the broker serves it no longer")


def test_changed_catalogue_is_used_and_reported(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    brokers.over_pipe()
    brokers.start()
    before = brokers.ready()
    assert brokers.call("change").result == '"changed"'
    assert code(brokers.call("added", x=2)) in ("ok", "tool_unknown")
    eventually(lambda: brokers.ready().digest != before.digest, "the change is seen")
    assert brokers.call("added", x=2).result == "2"
    [change] = brokers.store.tools.catalogues.history("t")
    assert (change.added, change.removed, change.before) == (("added",), (), before.digest)


def test_changed_catalogue_waits_in_quarantine(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    brokers.over_http(quarantine=True)
    brokers.start()
    before = brokers.ready()
    assert brokers.call("change").result == '"changed"'
    held = brokers.ready(state="quarantined")
    assert "accept" in held.detail
    assert code(brokers.call("added", x=2)) == "tool_denied"
    assert code(brokers.call("add", a=1, b=2)) == "tool_denied"
    assert brokers.store.tools.catalogues.history("t")[0].quarantined
    brokers.store.tools.servers.accept("t", "test", held.digest, brokers.key)
    assert brokers.ready().digest == held.digest != before.digest
    assert brokers.call("added", x=2).result == "2"


def test_command_from_redis_is_not_started(brokers_with: Callable[..., Brokers], tmp_path: Path) -> None:
    """A declaration by API cannot have a command, and one that has is not obeyed."""
    brokers = brokers_with()
    proof = tmp_path / "proof"
    brokers.declare(ToolServer(name="test", command=("touch", str(proof)), origin="api"))
    brokers.start()
    assert "only from the operator's files" in brokers.ready(state="down").detail
    assert not proof.exists()


def test_command_is_refused_without_the_setting_for_development(
    brokers_with: Callable[..., Brokers], tmp_path: Path
) -> None:
    brokers = brokers_with(tool_commands=False)
    proof = tmp_path / "proof"
    brokers.declare(ToolServer(name="proof", command=("touch", str(proof)), origin="file"))
    brokers.over_pipe()
    brokers.start()
    for name in ("proof", "test"):
        assert "MAYFLY_TOOL_COMMANDS" in brokers.ready(name, state="down").detail
    assert not proof.exists()
    assert "tools.command_outside_sandbox" not in brokers.logs()
    allowed = brokers_with()
    allowed.over_pipe()
    allowed.start()
    assert "outside a sandbox" in allowed.ready().detail
    assert "tools.command_outside_sandbox" in allowed.logs()


def test_unreachable_server_is_down_until_reachable(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    port = brokers.over_http()
    brokers.servers[0].stop()
    brokers.start()
    assert "Connection refused" in brokers.ready(state="down").detail
    outcome = brokers.call("add", a=1, b=2)
    assert code(outcome) == "tool_unavailable"
    brokers.serve(port)
    brokers.ready()
    assert brokers.call("add", a=1, b=2).result == "3"


def test_destructive_tool_needs_the_declarations_policy(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    port = brokers.over_http("careful")
    brokers.over_http("bold", port, destructive=True)
    brokers.over_http("hinted", port, hints={"delete_all": {"destructive": False}})
    brokers.start()
    for name in ("careful", "bold", "hinted"):
        brokers.ready(name)
    for by in (None, running(brokers, "*")):  # a direct call, and a program's
        assert code(brokers.call("delete_all", "careful", by=by)) == "tool_denied"
    assert brokers.called("delete_all", "") == 0
    assert brokers.call("delete_all", "bold").result == '"deleted"'
    assert brokers.call("delete_all", "hinted").result == '"deleted"'


def test_personal_data_is_replaced_where_asked(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    port = brokers.over_http("open")
    brokers.over_http("filtered", port, filtered=True)
    brokers.start()
    for name in ("open", "filtered"):
        brokers.ready(name)
    text = "to a.person@mail.example"
    for by in (None, running(brokers, "*")):  # a direct call, and a program's
        assert brokers.call("text", "open", by=by, text=text).result == f'"{text}"'
        assert brokers.call("text", "filtered", by=by, text=text).result == '"to [EMAIL_1]"'


@pytest.mark.parametrize(("filtered", "result"), [("t", '"to [EMAIL_1]"'), ("other", '"to a.person@mail.example"')])
def test_personal_data_is_replaced_for_tenants_that_the_setting_names(
    brokers_with: Callable[..., Brokers], filtered: str, result: str
) -> None:
    brokers = brokers_with(mcp_filtered=[filtered])
    brokers.over_pipe()
    brokers.start()
    brokers.ready()
    assert brokers.call("text", text="to a.person@mail.example").result == result


def test_concurrency_is_bounded(brokers_with: Callable[..., Brokers]) -> None:
    brokers = brokers_with()
    brokers.over_http(concurrency=2)
    brokers.start()
    brokers.ready()
    calls = [brokers.submit("wait", seconds=0.3, mark="x") for _ in range(6)]
    for call in calls:
        assert code(call.result(60)) == "ok"
    lines = brokers.ledger.read_text().split("\n")
    running = most = 0
    for line in lines:
        running += (line == "wait x") - (line == "waited x")
        most = max(most, running)
    assert most == 2
