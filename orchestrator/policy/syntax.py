"""One Python source against the rules, by its syntax tree: nothing is imported, compiled or run.

This reads hostile text with CPython's own parser, which takes up to a few hundred times a source's size in memory and
may crash on deep nesting; :mod:`orchestrator.policy.helper` runs it in a bounded process of its own. Standard library
only, so that the process is small and starts fast.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from orchestrator.policy import rules

MAX_FINDINGS = 100
SHOWN_CHARACTERS = 80
MODULE_PARTS = 4  # one more than the longest module name of a rule
ENCODINGS = frozenset({"utf-8", "utf-8-sig", "ascii", "us-ascii", "iso-8859-1"})


class Found(NamedTuple):
    """One finding; ``line`` and ``column`` count from 1, columns in characters; ``None``: the whole file."""

    rule: str
    message: str
    line: int | None = None
    column: int | None = None


class Inspection(NamedTuple):
    """The first :data:`MAX_FINDINGS` findings of one source in order, and the number of further findings."""

    findings: list[Found]
    omitted: int = 0


class NotInspected(Exception):
    """The source cannot be read; the argument has the reason."""


def uninspected(why: str) -> Inspection:
    """The finding for an uninspected source."""
    return Inspection([Found("not_inspected", rules.MESSAGES["not_inspected"].format(what=why))])


def inspect(source: bytes, ignored: frozenset[str] = frozenset()) -> Inspection:
    """Every finding in a source. Accepts any bytes; an unreadable source is itself a finding."""
    try:
        text = decoded(source)
        marks = sorted(mark for mark in Walk(ast.parse(text)).marks if mark[2] not in ignored)
    except NotInspected as error:
        return uninspected(str(error))
    except SyntaxError as error:
        message = rules.MESSAGES["syntax_error"].format(what=shown(error.msg))
        return Inspection([Found("syntax_error", message, error.lineno or 1, max(error.offset or 1, 1))])
    except (RecursionError, MemoryError):
        return uninspected("it nests too deeply, or is too large")
    except (ValueError, OverflowError, SystemError) as error:
        return uninspected(f"the parser failed ({type(error).__name__})")
    lines = text.split("\n")
    findings = [
        Found(rule, rules.MESSAGES[rule].format(what=what), line, _characters(lines, line, column) + 1)
        for line, column, rule, what in marks[:MAX_FINDINGS]
    ]
    return Inspection(findings, len(marks) - len(findings))


def decoded(source: bytes) -> str:
    """The text the interpreter would read, with plain line ends. Raises :class:`NotInspected`.

    Only encodings with a single interpretation are accepted: a program can register a codec of its own for a module
    that it imports, and a file with NUL bytes may be an archive or byte code, which the interpreter runs by other
    rules.
    """
    if b"\0" in source:
        raise NotInspected("it has NUL bytes")
    plain = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(plain).readline)
    except SyntaxError as error:
        raise NotInspected("its encoding is unknown, or it is not in the encoding it declares") from error
    if encoding not in ENCODINGS:
        raise NotInspected(f"it declares the encoding {shown(encoding)}; use UTF-8")
    try:
        return plain.decode(encoding)
    except UnicodeDecodeError as error:
        raise NotInspected(f"it is not in the encoding {encoding}; use UTF-8") from error


def shown(text: str) -> str:
    """Text of a source for display: short, and on one line."""
    short = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return "".join(character if character.isprintable() else "?" for character in short)


def module_rule(name: str) -> str | None:
    """The rule about importing a dotted name, by its longest prefix with a rule."""
    parts = name.split(".", MODULE_PARTS)[:MODULE_PARTS]
    for length in range(len(parts), 0, -1):
        part = ".".join(parts[:length])
        if part in rules.HARMLESS:
            return None
        if part in rules.MODULE_RULES:
            return rules.MODULE_RULES[part]
    return None


Mark = tuple[int, int, str, str]


class Walk:
    """One pass over a tree, parents before children, without recursion; :attr:`marks` are the findings."""

    def __init__(self, tree: ast.AST) -> None:
        self.marks: list[Mark] = []
        self._settled: set[int] = set()  # ids of nodes that a parent has judged
        self._payloads: list[ast.Constant] = []
        self._decodes = self._runs = False
        for node in ast.walk(tree):
            visit = VISITORS.get(type(node))
            if visit is not None:
                visit(self, node)
        if self._decodes and self._runs:
            for payload in self._payloads:
                self._mark(payload, "encoded_payload")

    def _mark(self, node: Any, rule: str, what: str = "") -> None:
        line, column = node.lineno, node.col_offset
        if isinstance(node, ast.Attribute):  # a node begins with its whole chain, and ends with its own name
            line, column = node.end_lineno or line, max((node.end_col_offset or 0) - len(node.attr.encode()), 0)
        self.marks.append((line, column, rule, shown(what)))

    def imports(self, node: ast.Import) -> None:
        for alias in node.names:
            # `import os.path` binds all of os itself, whereas `urllib` alone has no functions.
            name = "os" if alias.name == "os.path" and not alias.asname else alias.name
            if rule := module_rule(name):
                self._mark(alias, rule, f"Module {alias.name}")

    def imports_from(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            return
        module = ".".join(node.module.split(".", MODULE_PARTS)[:MODULE_PARTS])
        for alias in node.names:
            if rule := module_rule(f"{module}.{alias.name}"):
                self._mark(node, rule, f"Module {node.module}")
                return  # one finding for the statement
            self._named(alias, alias.name, certain=True)

    def name(self, node: ast.Name) -> None:
        if id(node) in self._settled or not isinstance(node.ctx, ast.Load):
            return
        self._runs |= node.id in rules.RUNS_TEXT
        self._decodes |= node.id in rules.DECODERS
        if rule := rules.NAMES.get(node.id):
            self._mark(node, rule, node.id)
        elif node.id in rules.DUNDERS:
            self._mark(node, "dunder_access", node.id)
        elif node.id in rules.ATTRIBUTE_FUNCTIONS:
            self._mark(node, "computed_attribute", node.id)

    def attribute(self, node: ast.Attribute) -> None:
        self._decodes |= node.attr in rules.DECODERS
        inner = node.value
        if isinstance(inner, ast.Attribute) and inner.attr == "__class__" and node.attr in rules.NAME_OF_CLASS:
            self._settled.add(id(inner))
        if id(node) in self._settled or not isinstance(node.ctx, ast.Load):
            return
        own = isinstance(inner, ast.Name) and inner.id in ("self", "cls")
        self._named(node, node.attr, certain=not own)

    def call(self, node: ast.Call) -> None:
        name = _last_name(node.func)
        plain = isinstance(node.func, ast.Name)
        if plain and name in rules.ATTRIBUTE_FUNCTIONS:
            self._settled.add(id(node.func))
            self._computed(node, name, node.args[1:2])
        elif name in rules.ATTRIBUTE_GETTERS:
            self._computed(node, name, node.args if name == "attrgetter" else node.args[:1])
        elif plain and name in rules.RUNS_TEXT and any(_last_name(made) in rules.DECODERS for made in _made_by(node)):
            self._settled.add(id(node.func))
            self._runs = True
            self._mark(node, "encoded_code", name)

    def statement(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            self._settled.add(id(node.value))  # a docstring or a note, not a value

    def constant(self, node: ast.Constant) -> None:
        value = node.value
        if type(value) is int and value in rules.ADDRESS_NUMBERS:
            self._mark(node, "suspicious_address", str(value))
        if id(node) in self._settled or not isinstance(value, str | bytes):
            return
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        for rule, pattern in TEXTS:
            if found := pattern.search(text):
                self._mark(node, rule, found[0])
        if len(text) >= rules.ENCODED_CHARACTERS and rules.ENCODED_TEXT.fullmatch(text):
            self._payloads.append(node)

    def pattern(self, node: ast.MatchClass) -> None:
        for name in node.kwd_attrs:  # `case object(__class__=found)` reads the attribute
            self._named(node, name, certain=True)

    def _computed(self, node: ast.Call, function: str, names: list[ast.expr]) -> None:
        for argument in names:
            if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                self._mark(node, "computed_attribute", function)
                return
            self._settled.add(id(argument))
            for part in argument.value.split("."):
                self._named(node, part, certain=True)
        if not names:  # the name is given with a star or by keyword
            self._mark(node, "computed_attribute", function)

    def _named(self, node: ast.AST, attribute: str, certain: bool) -> None:
        if attribute in rules.DUNDERS:
            self._mark(node, "dunder_access", attribute)
        elif certain and attribute in rules.HELD_MODULES:
            self._mark(node, "module_attribute", attribute)


TEXTS = (
    ("dunder_in_text", rules.DUNDER_TEXT),
    ("suspicious_path", rules.PATH_TEXT),
    ("suspicious_address", rules.ADDRESS_TEXT),
)
VISITORS: dict[type[ast.AST], Callable[[Walk, Any], None]] = {
    ast.Import: Walk.imports,
    ast.ImportFrom: Walk.imports_from,
    ast.Name: Walk.name,
    ast.Attribute: Walk.attribute,
    ast.Call: Walk.call,
    ast.Expr: Walk.statement,
    ast.Constant: Walk.constant,
    ast.MatchClass: Walk.pattern,
}


def _last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _made_by(call: ast.Call) -> Iterator[ast.expr]:
    """The functions whose result a call's first argument is: ``b64decode`` in ``exec(b64decode(x).decode())``."""
    inner: ast.expr | None = call.args[0] if call.args else None
    while isinstance(inner, ast.Call):
        yield inner.func
        if isinstance(inner.func, ast.Attribute) and isinstance(inner.func.value, ast.Call):
            inner = inner.func.value  # a chain of methods
        elif inner.args:
            inner = inner.args[0]
        else:
            return


def _characters(lines: list[str], line: int, utf8_bytes: int) -> int:
    # Before Python 3.12 a position inside of a multi-line f-string may lie outside of the text.
    text = lines[line - 1] if line <= len(lines) else ""
    return len(text.encode()[:utf8_bytes].decode(errors="ignore"))
