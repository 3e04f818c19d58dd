"""An executor of smolagents in which each step of an agent has a container of its own, without a network.

::

    from mayfly_smolagents import MayflyExecutor
    from smolagents import CodeAgent
    from smolagents.monitoring import AgentLogger

    agent = CodeAgent(tools=[...], model=model, executor=MayflyExecutor([], AgentLogger()))

The agent's code runs in Mayfly; its tools run in this process, and the program calls them through the execution's
stream (``docs/caller-tools.md``). Between steps no container runs: a step leaves a file of imports, definitions and
pickled variables, which the next step's container gets. Only containers unpickle the file. Variables that cannot be
pickled are dropped, which the step's output reports.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from smolagents import serialization
from smolagents.local_python_executor import CodeOutput
from smolagents.remote_executors import RemotePythonExecutor
from smolagents.serialization import SafeSerializer
from smolagents.utils import AgentExecutionError

from mayfly import Client, Execution, Options, Tool

__all__ = ["MayflyExecutor"]
STATE = "state.pickle"
FINAL_ANSWER = "final_answer"
TYPES = {"string", "boolean", "integer", "number", "array", "object", "null"}
PROGRAM = """
import ast, io, json, os, pickle, sys, traceback, types
import mayfly
from mayfly import tools
sys.path.insert(0, "/inputs")
from smolagents_serialization import SafeSerializer

STATE = "state.pickle"

class FinalAnswer(BaseException):
    pass

def proxy(name, parameters):
    def call(*args, **kwargs):
        return SafeSerializer.from_json_safe(tools.caller[name](**dict(zip(parameters, args)), **kwargs))
    call.__name__ = name
    return call

def final_answer(answer=None, **kwargs):
    raise FinalAnswer(answer if not kwargs else kwargs.get("answer", kwargs))

def restored(given):
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    names = vars(main)
    names.update({name: proxy(name, parameters) for name, parameters in given["tools"].items()})
    names["final_answer"] = final_answer
    sources, values = [], {}
    if os.path.exists("/inputs/" + STATE):
        with open("/inputs/" + STATE, "rb") as file:
            sources, values = pickle.load(file)
    for source in sources:
        exec(compile(source, "earlier step", "exec"), names)
    for name, value in values.items():
        try:
            names[name] = pickle.loads(value)
        except Exception as error:
            print(f"The variable {name} is lost: {error!r}", file=sys.stderr)
    names.update(SafeSerializer.loads(given["variables"]))
    return names, sources

def kept(names, before, sources, tree):
    definitions = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    added = [ast.unparse(node) for node in tree.body if isinstance(node, definitions)]
    sources = [source for source in sources if source not in added] + added
    values = {}
    for name, value in names.items():
        if name in before or name.startswith("__") or isinstance(value, (types.ModuleType, types.FunctionType, type)):
            continue
        try:
            values[name] = pickle.dumps(value)
        except Exception as error:
            print(f"The variable {name} is not kept for the next step: {error!r}", file=sys.stderr)
    with open("/output/" + STATE, "wb") as file:
        pickle.dump((sources, values), file)

def main():
    with open("/inputs/given.json", encoding="utf-8") as file:
        given = json.load(file)
    with open("/inputs/step.py", encoding="utf-8") as file:
        tree = ast.parse(file.read(), "step.py")
    names, sources = restored(given)
    before = {*given["tools"], "final_answer"}
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    report = {}
    try:
        exec(compile(tree, "step.py", "exec"), names)
        value = eval(compile(last, "step.py", "eval"), names) if last is not None else None
        report["returned"] = shown(value)
    except FinalAnswer as end:
        report["final"] = SafeSerializer.dumps(end.args[0])
    except Exception as error:
        traceback.print_exc()
        report["raised"] = f"{type(error).__name__}: {error}"
    kept(names, before, sources, tree)
    mayfly.result(report)

def shown(value):
    try:
        return SafeSerializer.dumps(value)
    except Exception:
        return SafeSerializer.dumps(repr(value))

main()
"""


class MayflyExecutor(RemotePythonExecutor):
    """Runs an agent's steps in a Mayfly of ``client``, or of ``MAYFLY_URL`` and ``MAYFLY_TOKEN``.

    ``options`` are those of :class:`mayfly.Options`, such as ``limits``, ``isolation``, and ``environment``, which
    decides what can be imported: ``python``, or ``python-data`` with numpy, pandas and others. Packages are not
    installed.
    """

    def __init__(
        self, additional_imports: list[str], logger: Any, client: Client | None = None, **options: Any
    ) -> None:
        super().__init__(additional_imports, logger, allow_pickle=False)
        self._client = client or Client()
        self._owns_client = client is None
        self._options: Options = options  # type: ignore[assignment]
        self._tools: dict[str, Any] = {}
        self._final: Callable[..., Any] | None = None
        self._variables: dict[str, Any] = {}
        self._state: bytes | None = None

    def send_tools(self, tools: Mapping[str, Any]) -> None:
        """Offer tools, and managed agents, to the steps to come. They run in this process."""
        given = dict(tools)
        self._final = given.pop(FINAL_ANSWER, None)
        self._tools = given

    def send_variables(self, variables: Mapping[str, Any]) -> None:
        """Give variables to the next step. Raises ``SerializationError`` for values that JSON cannot represent."""
        self._variables.update(variables)
        SafeSerializer.dumps(self._variables)

    def install_packages(self, additional_imports: list[str]) -> list[str]:
        """Install nothing: only the environment's packages can be imported."""
        return additional_imports

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        """Run one step. Raises ``AgentExecutionError`` with its output and the exception."""
        parameters = {name: list(tool.inputs) for name, tool in self._tools.items()}
        variables = SafeSerializer.dumps(self._variables)
        files: dict[str, Any] = {
            "smolagents_serialization.py": inspect.getsource(serialization),
            "step.py": code,
            "given.json": json.dumps({"tools": parameters, "variables": variables}),
        }
        if self._state is not None:
            files[STATE] = self._state
        own = [Tool(name, partial(_called, tool), "", _schema(tool)) for name, tool in self._tools.items()]
        ended = self._client.run(PROGRAM, files=files, tools=own, **self._options)
        logs = "".join(filter(None, (ended.stdout, ended.stderr)))
        self._variables = {}
        if any(artifact.path == STATE for artifact in ended.artifacts):
            self._state = b"".join(self._client.artifact(ended.id, STATE))
        report = _report(ended)
        if "final" in report:
            answer = SafeSerializer.loads(report["final"])
            return CodeOutput(output=self._final(answer) if self._final else answer, logs=logs, is_final_answer=True)
        if "returned" in report:
            return CodeOutput(output=SafeSerializer.loads(report["returned"]), logs=logs, is_final_answer=False)
        why = report.get("raised") or ended.message or ended.reason or ended.state
        raise AgentExecutionError(f"{logs}\n{why}", self.logger)

    def cleanup(self) -> None:
        """Close the connections. No container is left over after a step."""
        if self._owns_client:
            self._client.close()


def _called(tool: Any, **arguments: Any) -> Any:
    return SafeSerializer.to_json_safe(tool(**arguments))


def _schema(tool: Any) -> dict[str, Any]:
    properties = {
        name: {"type": given["type"]} if given.get("type") in TYPES else {} for name, given in tool.inputs.items()
    }
    return {
        "type": "object",
        "properties": {
            name: {**found, "description": str(tool.inputs[name].get("description", ""))}
            for name, found in properties.items()
        },
        "required": [name for name, given in tool.inputs.items() if not given.get("nullable")],
        "additionalProperties": False,
    }


def _report(execution: Execution) -> dict[str, Any]:
    named = [result.json for result in execution.results if result.source == "named"]
    return named[-1] if named and isinstance(named[-1], dict) else {}
