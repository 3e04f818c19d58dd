"""The files under ``/tools``: what programs read, and what no tool server can break out of."""

from __future__ import annotations

import ast
import json
import re
import sys
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models.tools import Catalogue, Hints, Tool
from orchestrator.tools import stubs
from orchestrator.tools.stubs import INDEX, NAMES, files
from tests.bench.tokens.catalogues import LISTED, catalogues

ALL = ("*",)
TEXT = {"type": "string"}
PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*/[A-Za-z][A-Za-z0-9_]*\.(?:py|d\.ts)|INDEX|names\.json")


def catalogue(*tools: Tool) -> list[Catalogue]:
    return [Catalogue(server=tools[0].server, state="ready", tools=tools, since=LISTED)]


def tool(name: str = "list", description: str = "", **schema: Any) -> Tool:
    return Tool(server="git-hub", name=name, description=description, input_schema=schema, hints=Hints(read_only=True))


def test_a_destructive_tool_that_policy_refuses_has_no_file() -> None:
    deleting = Tool(server="git-hub", name="delete", input_schema={})
    both = catalogue(tool(), deleting)
    found = files(both, ALL, destructive=())
    assert set(found) == {INDEX, NAMES, "git_hub/list.py"}
    assert "delete" not in found[INDEX]
    assert json.loads(found[NAMES])["git_hub.delete"] == ["git-hub", "delete"], (
        "a call of it is refused with the reason"
    )
    assert "git_hub/delete.py" in files(both, ALL, destructive=("git-hub",))
    assert "git_hub/delete.py" in files(both, ALL)


def test_a_stub_has_signature_documentation_and_types() -> None:
    one = Tool(
        server="git-hub",
        name="list.issues",
        description="List issues.\n\nOf one repository.",
        input_schema={
            "properties": {
                "repo": {**TEXT, "description": "owner/name"},
                "state": {"enum": ["open", "closed"], "default": "open"},
                "where": {"type": "object", "properties": {"since": {**TEXT, "description": "A date"}}},
            },
            "required": ["repo"],
        },
        output_schema={
            "type": "array",
            "items": {"type": "object", "properties": {"number": {"type": "integer"}, "from": TEXT}},
        },
    )
    assert files(catalogue(one), ALL) == {
        INDEX: "git_hub.list_issues (git-hub.list.issues): List issues.\n",
        NAMES: '{\n"git_hub.list_issues": [\n"git-hub",\n"list.issues"\n]\n}\n',
        "git_hub/list_issues.py": '''from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from mayfly import tools as _tools


ListIssuesResult = TypedDict("ListIssuesResult", {
    'number': 'NotRequired[int]',
    'from': 'NotRequired[str]',
})


class ListIssuesWhere(TypedDict):
    since: NotRequired[str]  # A date


def list_issues(*, repo: str, state: Literal['open', 'closed'] = ..., where: ListIssuesWhere = ...) -> list[ListIssuesResult]:
    """List issues.

    Of one repository.

    - repo: owner/name
    - state: default "open"

    The tool may change or delete data.
    """
    return _tools['git_hub']['list_issues']({_name: _value for _name, _value in locals().items() if _value is not ...})
''',  # noqa: E501
    }


@pytest.mark.parametrize(("language", "ending"), [("python", "py"), ("javascript", "d.ts")])
def test_only_a_shape_seen_before_is_marked(language: Any, ending: str) -> None:
    promised = tool("promised").model_copy(update={"output_schema": TEXT})
    seen = {"git-hub.list": TEXT, "git-hub.promised": {"type": "integer"}}
    found = files(catalogue(tool(), promised), ALL, seen, language)
    assert "# seen before" in found[f"git_hub/list.{ending}"].replace("//", "#")
    assert "seen before" not in found[f"git_hub/promised.{ending}"]
    assert "seen before" not in files(catalogue(tool()), ALL, {}, language)[f"git_hub/list.{ending}"]


def test_a_stub_for_node() -> None:
    one = tool("list", "Lists */ all.", properties={"a-b": {**TEXT, "description": "One"}, "c": TEXT}, required=["c"])
    assert files(catalogue(one), ALL, {one.full_name: {"type": "array", "items": TEXT}}, "javascript")[
        "git_hub/list.d.ts"
    ] == (
        '// git_hub.list({c: string, "a-b"?: string}): Promise<string[]>\n'
        '/**\n * Lists *\\/ all.\n *\n * - "a-b": One\n */\n'
        'export function list(arguments: { "c": string, "a-b"?: string }): Promise<string[]>;  // seen before\n'
    )


def test_word_of_javascript_is_exported_under_another_name() -> None:
    path = "git_hub/delete.d.ts"
    text = files(catalogue(tool("delete", "Deletes.")), ALL, language="javascript")[path]
    assert text.endswith(" */\ndeclare function delete_(): Promise<any>;\nexport { delete_ as delete };\n")
    shown = [
        path for path, text in files(catalogues(), ALL, language="javascript").items() if "declare function" in text
    ]
    assert "redis/delete.d.ts" in shown


def test_only_granted_tools_have_files() -> None:
    both = catalogue(tool("a"), tool("b"))
    assert set(files(both, ("git-hub.a",))) == {INDEX, NAMES, "git_hub/a.py"}
    assert files(both, ()) == {INDEX: "", NAMES: "{}\n"}
    assert files([both[0].model_copy(update={"state": "quarantined"})], ALL) == {INDEX: "", NAMES: "{}\n"}


def test_spellings_do_not_depend_on_grants() -> None:
    both = catalogue(tool("a-b"), tool("a_b"))
    assert json.loads(files(both, ALL)[NAMES])["git_hub.a_b_2"] == ["git-hub", "a-b"]
    assert json.loads(files(both, ("git-hub.a-b",))[NAMES]) == {"git_hub.a_b_2": ["git-hub", "a-b"]}


def called(path: str, text: str, *arguments: Any, **named: Any) -> list[Any]:
    """The call that a stub's function passes to the library."""
    calls: list[Any] = []

    class Recorder:
        def __init__(self, path: tuple[str, ...] = ()) -> None:
            self.path = path

        def __getitem__(self, name: str) -> Recorder:
            return Recorder((*self.path, name))

        def __call__(self, given: dict[str, Any]) -> None:
            calls.append((self.path, given))

    module = types.ModuleType("mayfly")
    vars(module)["tools"] = Recorder()
    before = sys.modules.get("mayfly")
    sys.modules["mayfly"] = module
    try:
        space: dict[str, Any] = {}
        exec(compile(text, path, "exec"), space)
        space[path.partition("/")[2].removesuffix(".py")](*arguments, **named)
    finally:
        sys.modules.pop("mayfly")
        if before is not None:
            sys.modules["mayfly"] = before
    return calls


def test_a_stub_that_is_imported_calls_the_tool() -> None:
    path = "git_hub/list.py"
    plain = files(catalogue(tool(properties={"a": TEXT, "b": TEXT}, required=["a"])), ALL)[path]
    assert called(path, plain, a="x") == [(("git_hub", "list"), {"a": "x"})]
    assert called(path, plain, a="x", b=None) == [(("git_hub", "list"), {"a": "x", "b": None})]
    odd = files(catalogue(tool(properties={"from": TEXT, "b": TEXT})), ALL)[path]
    assert called(path, odd, {"from": "x"}) == [(("git_hub", "list"), {"from": "x"})]
    none = files(catalogue(tool()), ALL)[path]
    assert called(path, none) == [(("git_hub", "list"), {})]
    own_word = files(catalogue(tool(properties={"locals": TEXT})), ALL)[path]
    assert called(path, own_word, {"locals": "x"}) == [(("git_hub", "list"), {"locals": "x"})]


@pytest.mark.parametrize(("language", "ending"), [("python", "py"), ("javascript", "d.ts")])
def test_small_schema_with_a_large_stub_has_one_without_types(
    monkeypatch: pytest.MonkeyPatch, language: Any, ending: str
) -> None:
    literals = {"enum": [f"{number:050}" for number in range(20)]}
    row = {"type": "object", "properties": {f"field{n}": {"$ref": "#/$defs/literals"} for n in range(90)}}
    items = {name: {"$ref": "#/$defs/row"} for name in "abc"}
    large = tool("large", '"""', properties=items, **{"$defs": {"literals": literals, "row": row}})
    assert len(large.model_dump_json()) < 6000
    path = f"git_hub/large.{ending}"
    text = files(catalogue(large), ALL, language=language)[path]
    assert len(text) < 1000
    assert "search_tools" in text
    if language == "python":
        assert called(path, text, {"a": 1}) == [(("git_hub", "large"), {"a": 1})]
    small = tool("small", "x" * 1000)
    monkeypatch.setattr(stubs, "MOST_STUBS", 1500)
    both = files(catalogue(small, small.model_copy(update={"name": "tiny"})), ALL, language=language)
    assert ["x" * 1000 in both[f"git_hub/{name}.{ending}"] for name in ("small", "tiny")] == [True, False]


HOSTILE = st.one_of(
    st.text(alphabet=st.characters(), max_size=60),
    st.sampled_from(
        ['"""', "\\", '\\"""\nimport os\n"""', "'''", '""""', 'x"', "\\\\", "# x\nimport os", "*/ import fs", "\r",
         "\x0c", "\u2028import os", "{}", "'", "${x}", "\\N{DIGIT ONE}", "\\u0041", "\\x", "__import__('os')"]
    ),
)  # fmt: skip
FIELD = st.fixed_dictionaries({"description": HOSTILE, "const": HOSTILE})
SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "description": HOSTILE,
        "default": HOSTILE,
        "enum": st.lists(HOSTILE, max_size=3),
        "type": st.sampled_from(["string", "object", "array"]),
        # Names of fields decide how their class is written: with a comment for each field, or as a call.
        "properties": st.dictionaries(HOSTILE, FIELD) | st.dictionaries(st.sampled_from(["a", "b"]), FIELD, min_size=1),
    },
)


@given(HOSTILE, HOSTILE, st.dictionaries(HOSTILE, SCHEMAS, max_size=3), SCHEMAS)
def test_no_description_breaks_out_of_a_stub(
    description: str, title: str, properties: dict[str, Any], output: dict[str, Any]
) -> None:
    one = Tool(
        server="s",
        name="t",
        title=title,
        description=description,
        input_schema={"properties": properties},
        output_schema=output,
    )
    written = files(catalogue(one), ALL)
    assert set(written) == {INDEX, NAMES, "s/t.py"}
    assert written[INDEX].count("\n") == 1
    body = ast.parse(written["s/t.py"]).body
    kinds = [type(node).__name__ for node in body]
    assert kinds[0] == "ImportFrom"
    assert kinds[-1] == "FunctionDef"
    assert set(kinds[1:-1]) <= {"ImportFrom", "ClassDef", "Assign"}
    imported = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "typing", "mayfly"}
    function = body[-1]
    assert isinstance(function, ast.FunctionDef)
    assert [type(node).__name__ for node in function.body] == ["Expr", "Return"]
    names = {
        node.func.id
        for node in ast.walk(function.body[1])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert names <= {"locals"}
    for node in body:
        if isinstance(node, ast.ClassDef):
            assert {type(inner).__name__ for inner in node.body} == {"AnnAssign"}
    text = files(catalogue(one), ALL, language="javascript")["s/t.d.ts"]
    declaration = text.partition("/**")[2].partition("*/")[2]
    assert declaration.startswith("\nexport function t(")
    assert declaration.count("\n") == 2


def test_the_control_for_breaking_out() -> None:
    """Without the escapes, a description does break out."""

    def imported(text: str) -> set[str]:
        found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
        return {alias.name for node in found for alias in node.names}

    written = files(catalogue(tool(description='x"""\nimport os\n"""y')), ALL)["git_hub/list.py"]
    assert imported(written) == set()
    assert imported(written.replace('\\"\\"\\"', '"""')) == {"os"}


@given(st.lists(st.from_regex(r"\A[A-Za-z0-9_./-]{1,128}\Z"), min_size=1, max_size=5, unique=True))
def test_paths_stay_below_their_server(names: list[str]) -> None:
    written = files(catalogue(*(tool(name) for name in names)), ALL)
    assert len(written) == len(names) + 2
    assert all(PATH.fullmatch(path) for path in written)
    assert sorted(json.loads(written[NAMES]).values()) == sorted(["git-hub", name] for name in names)


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_public_catalogues_have_stubs(language: Any) -> None:
    written = files(catalogues(), ALL, language=language)
    assert len(written) == 358 + 2
    assert len(json.loads(written[NAMES])) == 358
    assert written == files(catalogues(), ALL, language=language)
    for path, text in written.items():
        if path.endswith(".py"):
            ast.parse(text)
