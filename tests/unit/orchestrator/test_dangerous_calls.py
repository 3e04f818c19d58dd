"""The services call nothing that would turn text into code, or weaken a secret, a digest or a certificate's check."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.harness import ROOT

SERVICES = ("orchestrator", "worker")  # the agent of the sandbox is there to run programs
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.loads", "pickle.load", "marshal.loads",
    "shelve.open", "yaml.load", "hashlib.md5", "hashlib.sha1", "ssl._create_unverified_context", "mktemp",
}  # fmt: skip
LAST_NAMES = {name.rpartition(".")[2] for name in CALLS}
# XML parsers, object serializers, and generators whose numbers can be guessed.
MODULES = {"xml", "lxml", "pickle", "marshal", "shelve", "yaml", "random", "telnetlib"}
ARGUMENTS = {("shell", True), ("verify", False), ("check_hostname", False)}
# Calls that are not what they are feared for, with the reason.
ALLOWED = {
    ("orchestrator/store/connection.py", "hashlib.sha1"): "the name that Redis gives a script",
    (
        "orchestrator/queue.py",
        "StartedJobRegistry.key_template.format of a text that is no constant",
    ): "a constant of RQ's class",
}


def dangerous(source: str) -> Iterator[str]:
    """Each dangerous call and import of a module, in words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            called = ast.unparse(node.func) if name in LAST_NAMES else ""  # for each call it takes a second
            if called in CALLS:
                yield called
            for word in node.keywords:
                value = word.value.value if isinstance(word.value, ast.Constant) else None
                if any(word.arg == name and value is dangerous_value for name, dangerous_value in ARGUMENTS):
                    yield f"{word.arg}={value!r}"
            if isinstance(node.func, ast.Attribute) and is_dynamic_format(node.func):
                yield f"{ast.unparse(node.func)} of a text that is no constant"


def is_dynamic_format(called: ast.Attribute) -> bool:
    """Whether a call formats a text that is no constant."""
    return called.attr in ("format", "format_map") and not is_constant(called.value)


def is_constant(text: ast.expr) -> bool:
    """Whether a text stands in the code, as itself or by the name of a constant or of a table of constants."""
    match text:
        case ast.Constant():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper()
        case ast.Subscript(value=table):
            return is_constant(table)
    return False


def test_services_call_nothing_dangerous() -> None:
    found = {
        (str(path.relative_to(ROOT)), what)
        for package in SERVICES
        for path in (ROOT / package).rglob("*.py")
        for what in dangerous(path.read_text(encoding="utf-8"))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)", "import os\nos.system(text)", "subprocess.run(text, shell=True)", "import pickle",
        "from xml.etree import ElementTree", "import random", "hashlib.md5(b'')", "httpx2.get(url, verify=False)",
        "text.format(name=1)",
    ],
)  # fmt: skip
def test_each_dangerous_call_is_found(source: str) -> None:
    assert list(dangerous(source))
