"""Lua files: each is used, gets its definitions, and names no key by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.store import keys, scripts
from tests.harness import ROOT

FOLDER = ROOT / "orchestrator" / "store" / "lua"
TEXTS = {name: text for name, text in vars(scripts).items() if isinstance(text, str) and "redis." in text}


# A key is spelled in pieces: a prefix of Mayfly's or RQ's, or a suffix that begins like a part of a key.
KEY_IN_PIECES = re.compile(r"""['"](mayfly|rq\b)|\.\.\s*['"]:[a-z]|['"][a-z]+:['"]\s*\.\.""")
# No keys, although they look so: fields of a record's events.
NO_KEYS = {"step": ["local source = 'worker:' .. worker"]}
PYTHON = sorted(path for root in ("orchestrator", "worker") for path in (ROOT / root).rglob("*.py"))


def spelled_keys(text: str) -> list[str]:
    """Lines of Lua, without comments, in which a key or a part of a key is spelled."""
    lines = (re.sub(r"--.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if KEY_IN_PIECES.search(line)]


def unnamed(text: str) -> list[str]:
    """Lines of Lua, without comments, that use a numbered key or argument without its name, or a second time."""
    found: list[str] = []
    seen: set[str] = set()
    for line in (re.sub(r"--.*", "", line).strip() for line in text.splitlines()):
        numbered = re.findall(r"(?:KEYS|ARGV)\[\d+\]", line)
        found += [line] if numbered and (not line.startswith("local ") or seen & {*numbered}) else []
        seen |= {*numbered}
    return found


def test_lua_stands_in_files_only() -> None:
    found = [str(path.relative_to(ROOT)) for path in PYTHON if re.search(r"redis\.p?call\(|KEYS\[", path.read_text())]
    assert found == []


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.lua")), ids=lambda path: path.stem)
def test_file_is_part_of_a_script_and_takes_keys_from_their_module(path: Path) -> None:
    text = path.read_text()
    body = text.partition("\n")[2] if text.startswith("#!") else text
    assert [name for name, script in TEXTS.items() if body in script], "no script has it"
    assert spelled_keys(text) == NO_KEYS.get(path.stem, [])
    assert unnamed(text) == []
    assert [line for line in text.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("text", ["redis.call('DEL', KEYS[1])", "local a = ARGV[2]\nlocal b = ARGV[2]"])
def test_argument_without_its_name_is_found(text: str) -> None:
    assert unnamed(f"-- ARGV[2]\nlocal id = ARGV[1]\n{text}") == text.splitlines()[-1:]


@pytest.mark.parametrize(
    "line",
    [
        "local janitor = 'mayfly:janitor'",
        "local janitor = 'mayfly' .. ':janitor'",
        'local brokers = "mayfly:tools:brokers"',
        "redis.call('SMEMBERS', 'rq:queues')",
        "redis.call('RPUSH', bell .. ':spare', 1)",
        "local sum = name..':bytes'",
        "redis.call('PUBLISH', WAKE .. 'security:' .. tenant, 'security')",
    ],
)
def test_spelled_key_is_found(line: str) -> None:
    assert spelled_keys(f"-- mayfly:janitor\n{line}\nreturn id .. ':' .. attempt") == [line]


def test_definitions_stand_in_front_of_their_use() -> None:
    take = scripts.TAKE
    assert take.startswith("#!lua\n")
    assert take.index(f"local QUEUED = '{keys.QUEUED}'") < take.index("redis.call('ZCARD', QUEUED)")
    defined = [match.start() for match in re.finditer("local function execution_key", take)]
    assert len(defined) == 1
    assert defined[0] < take.index("execution_key(", defined[0] + len("local function execution_key("))
    assert take.index("local CLASSES") < take.index("local function found_of") < take.index("local function retire")
    assert "local function tenant_room_key(of) return 'mayfly:tenant:' .. of .. ':room' end" in take


def test_names_in_lua_comments_and_strings_define_nothing() -> None:
    assert "local EXPIRY" not in scripts.LEAD
    assert "RATES" not in scripts._QUOTED.sub("", "redis.call('RATES') -- RATES")
    assert scripts._definitions("redis.call('SET', 'QUEUED') -- QUEUED\n") == []


def test_only_steps_that_add_no_output_are_allowed_when_redis_is_full() -> None:
    assert scripts.STEP.startswith("#!lua\n")
    assert scripts.STEP.replace("#!lua", "#!lua flags=allow-oom", 1) == scripts.STEP_WHEN_FULL
