"""Runs a program as a cell, as a notebook does: its last expression's value is a result, its open figures are images.

The agent's fork of a warm interpreter calls :func:`run` (``program.py``); elsewhere ``python3 cell.py program
arguments`` does. Tracebacks have the program's own frames only. The modules loaded here write no byte code: see
``fresh.py``.
"""

from __future__ import annotations

import builtins
import os
import sys

WRITES_NONE, sys.dont_write_bytecode = sys.dont_write_bytecode, True
TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import types
    from typing import Any

    from sandbox_image.agent.library import bundles
else:
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, HERE)
    import bundles

    del sys.path[0]
    sys.path_importer_cache.pop(HERE, None)
sys.dont_write_bytecode = WRITES_NONE

CALLER = "__cell__"  # in the main module of a fork, until the cell runs
CALL = b"__cell__()\n"
ONLY_AST, TOP_LEVEL_AWAIT, FUTURE_FLAGS, COROUTINE = 0x400, 0x2000, 0x1FE0000, 0x80


def run(path: str) -> None:
    """Run the cell in that file in ``__main__``. Its exception propagates, printed without a frame of this file."""
    namespace = sys.modules["__main__"].__dict__
    namespace.pop(CALLER, None)
    vars(builtins)["display"] = bundles.display
    parts: list[types.CodeType] = []
    try:
        with open(path, "rb") as file:
            source = file.read()
        parts += compiled(source, path)
        value = evaluated(parts, namespace)
        if value is not None and not bundles.has_named():
            bundles.keep("expression", value)
    except BaseException:
        show_only(parts)
        raise
    finally:
        bundles.display_open_figures()


def compiled(source: bytes, path: str) -> list[types.CodeType]:
    """The code of the statements, and of the last expression, if its value is a result. Raises ``SyntaxError``."""
    tree: Any = compile(source, path, "exec", ONLY_AST | TOP_LEVEL_AWAIT, dont_inherit=True)
    last = tree.body[-1] if tree.body else None
    if last is None or type(last).__name__ != "Expr" or is_suppressed(source, last):
        return [compile(tree, path, "exec", TOP_LEVEL_AWAIT, dont_inherit=True)]
    import _ast

    del tree.body[-1]
    statements = compile(tree, path, "exec", TOP_LEVEL_AWAIT, dont_inherit=True)
    flags = TOP_LEVEL_AWAIT | statements.co_flags & FUTURE_FLAGS
    return [statements, compile(_ast.Expression(last.value), path, "eval", flags, dont_inherit=True)]


def is_suppressed(source: bytes, statement: Any) -> bool:
    """Whether a semicolon follows the statement, which suppresses its value."""
    rest = source.split(b"\n")[statement.end_lineno - 1 :]
    return bool(rest) and rest[0][statement.end_col_offset :].lstrip().startswith(b";")


def evaluated(parts: list[types.CodeType], namespace: dict[str, Any]) -> Any:
    """Run the code; the value of the last expression, or ``None``. Code with a top-level ``await`` runs in a loop."""
    value = None
    for position, code in enumerate(parts):
        if code.co_flags & COROUTINE:
            import asyncio

            return asyncio.run(awaited(parts[position:], namespace))
        value = eval(code, namespace)
    return value


async def awaited(parts: list[types.CodeType], namespace: dict[str, Any]) -> Any:
    """The same in an event loop."""
    value = None
    for code in parts:
        value = eval(code, namespace)
        if code.co_flags & COROUTINE:
            value = await value
    return value


def show_only(parts: list[types.CodeType]) -> None:
    """Hide the frames around these codes in the traceback of the exception that ends the program."""
    hook = sys.excepthook

    def shown(kind: type[BaseException], error: BaseException, traceback: types.TracebackType | None) -> None:
        sys.excepthook = hook
        while traceback is not None and traceback.tb_frame.f_code not in parts:
            at, traceback = traceback.tb_frame.f_code, traceback.tb_next
            if at.co_filename == bundles.__file__ and (called := beyond(traceback)):
                traceback = called
                break
        error.__traceback__ = sys.last_traceback = traceback
        hook(kind, error, traceback)

    sys.excepthook = shown


def beyond(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """The program's own frames of a traceback, after the frames that show a value: in ``__repr__``, for example."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == bundles.__file__:
        traceback = traceback.tb_next
    return traceback


def main(argv: list[str]) -> None:
    """Run a cell in a new main module, with these arguments."""
    path = argv[0]
    module = type(sys)("__main__")
    module.__dict__.update(__annotations__={}, __builtins__=builtins, __file__=path)
    sys.modules["__main__"] = module
    sys.modules.pop("bundles", None)
    sys.argv = argv
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    run(path)


if __name__ == "__main__":
    main(sys.argv[1:])
