"""The findings of the static policy in one source, and its known misses."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.policy import rules
from orchestrator.policy.syntax import MAX_FINDINGS, Inspection, inspect
from tests.harness import ROOT

GUIDE = (ROOT / "docs" / "policy.md").read_text()
BLOB = "QUJD" * 60


def places(source: str | bytes, *ignored: str) -> list[tuple[str, int | None, int | None]]:
    """(rule, line, column) of every finding."""
    found = inspect(source if isinstance(source, bytes) else source.encode(), frozenset(ignored))
    assert found.omitted == 0
    return [(finding.rule, finding.line, finding.column) for finding in found.findings]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # imports
        ("import os", [("import_process", 1, 8)]),
        ("import json, subprocess as s", [("import_process", 1, 14)]),
        ("import os.path", [("import_process", 1, 8)]),
        ("import os.path as p", []),
        ("from os.path import join", []),
        ("from os import path", []),
        ("from os import path, system", [("import_process", 1, 1)]),
        ("from os import *", [("import_process", 1, 1)]),
        ("if x:\n    from multiprocessing.pool import Pool", [("import_process", 2, 5)]),
        ("import concurrent.futures", []),
        ("import concurrent.futures.process", [("import_process", 1, 8)]),
        ("import sys, gc", [("import_interpreter", 1, 8), ("import_interpreter", 1, 13)]),
        ("from ctypes import CDLL", [("import_interpreter", 1, 1)]),
        ("import importlib.util", [("import_dynamic", 1, 8)]),
        ("import urllib.parse", []),
        ("import urllib.request", [("import_network", 1, 8)]),
        ("from http import HTTPStatus", []),
        ("from http import client", [("import_network", 1, 1)]),
        ("import requests", [("import_network", 1, 8)]),
        ("import pickle", [("import_deserialization", 1, 8)]),
        ("import resource", [("import_host", 1, 8)]),
        ("from . import os", []),
        ("from .os import system", []),
        ("import ospath, system", []),
        ("from logging import os", [("module_attribute", 1, 21)]),
        # dynamic import, code
        ("m = __import__('o' + 's')", [("dynamic_import", 1, 5)]),
        ("eval(input())", [("dynamic_code", 1, 1)]),
        ("run = exec", [("dynamic_code", 1, 7)]),
        ("@exec\n@input\nclass A: pass", [("dynamic_code", 1, 2)]),
        ("import re\nre.compile('a')", []),
        ("df.eval('a')", []),
        ("exec(base64.b64decode(x))", [("encoded_code", 1, 1)]),
        ("exec(zlib.decompress(bytes.fromhex(x)).decode())", [("encoded_code", 1, 1)]),
        (f"a = '{BLOB}'\nexec(b64decode(a))", [("encoded_payload", 1, 5), ("encoded_code", 2, 1)]),
        (
            f"a = '{BLOB}'\nb = b64decode(a)\nexec(b)",
            [("encoded_payload", 1, 5), ("dynamic_code", 3, 1)],
        ),
        (f"a = '{BLOB}'\nb64decode(a)", []),
        (f"exec('{BLOB}')", [("dynamic_code", 1, 1)]),
        # attributes
        ("getattr(x, name)", [("computed_attribute", 1, 1)]),
        ("getattr(x, 'na' 'me')", []),
        ("getattr(x, 'na' + 'me')", [("computed_attribute", 1, 1)]),
        ("getattr(x, '__class__')", [("dunder_access", 1, 1)]),
        ("getattr(random, '_os')", [("module_attribute", 1, 1)]),
        ("getattr(*x)", [("computed_attribute", 1, 1)]),
        ("g = getattr", [("computed_attribute", 1, 5)]),
        ("hasattr(x, name)", []),
        ("operator.attrgetter('a.__globals__')", [("dunder_access", 1, 1)]),
        ("attrgetter('a.b', name)", [("computed_attribute", 1, 1)]),
        ("sorted(x, key=attrgetter('age'))", []),
        (
            "().__class__.__base__.__subclasses__()",
            [("dunder_access", 1, 4), ("dunder_access", 1, 14), ("dunder_access", 1, 23)],
        ),
        ("type(x).__name__ == x.__class__.__name__", []),
        ("x.__class__ = y", []),
        ("__builtins__", [("dunder_access", 1, 1)]),
        ("if __name__ == '__main__': print(__file__)", []),
        ("class A:\n    def __init__(self):\n        super().__init__()\n", []),
        ("error.__traceback__.tb_frame.f_back.f_globals", [("dunder_access", 1, c) for c in (7, 21, 30, 37)]),
        ("x = (ä\n  .__class__\n  .__base__)", [("dunder_access", 2, 4), ("dunder_access", 3, 4)]),
        ("x.__ｃlass__", [("dunder_access", 1, 5)]),  # found; its place is that of the plain spelling
        ("match x:\n    case object(__class__=c): pass", [("dunder_access", 2, 10)]),
        ("match random:\n    case object(_os=o): pass", [("module_attribute", 2, 10)]),
        ("random._os.getpid()", [("module_attribute", 1, 8)]),
        ("self.sys = self.os", []),
        ("globals()['x'] = 1", [("namespace_access", 1, 1)]),
        # texts
        ("'{0.__class__}'.format(x)", [("dunder_in_text", 1, 1)]),
        ("x = y['__builtins__']", [("dunder_in_text", 1, 7)]),
        ("open('/proc/self/environ')", [("suspicious_path", 1, 6)]),
        ("open(f'/proc/self/{x}')", [("suspicious_path", 1, 6)]),
        ("s.connect(b'/var/run/docker.sock')", [("suspicious_path", 1, 11)]),
        ("open('/proc/selfish')", []),
        ("'''Reads /etc/passwd.'''\nx = 1", []),
        ("get('http://169.254.169.254/latest')", [("suspicious_address", 1, 5)]),
        ("get('1169.254.169.2540')", []),
        ("x = 2852039166", [("suspicious_address", 1, 5)]),
        # places
        ("x = 'ä€🦋'; import os", [("import_process", 1, 19)]),
        ("\n\n\timport_ = 1\n".replace("\t", "") + "import os\r\nimport sys\rimport gc", [
            ("import_process", 4, 8), ("import_interpreter", 5, 8), ("import_interpreter", 6, 8),
        ]),
        ("\ufeffimport os", [("import_process", 1, 8)]),
        ("# -*- coding: latin-1 -*-\nimport os".encode("latin-1"), [("import_process", 2, 8)]),
        ("# -*- coding: latin-1 -*-\nx = 'ü'; import os".encode("latin-1"), [("import_process", 2, 17)]),
        # what cannot be read
        ("", []),
        ("x = (", [("syntax_error", 1, 5)]),
        ("print 'hello'", [("syntax_error", 1, 1)]),
        ("def f():\nreturn 1", [("syntax_error", 2, 1)]),
        ("(" * 100_000, [("syntax_error", 1, 201)]),
        ("-" * 100_000 + "1", [("not_inspected", None, None)]),
        ("import os\0", [("not_inspected", None, None)]),
        (b"PK\x03\x04" + bytes(20), [("not_inspected", None, None)]),
        (b"import os # \xff", [("not_inspected", None, None)]),
        ("import os".encode("utf-16"), [("not_inspected", None, None)]),
        (b"\xed\xa0\x80 = 1", [("not_inspected", None, None)]),
        ("# coding: rot13\nvzcbeg bf", [("not_inspected", None, None)]),
        ("# coding: evil\nimport os", [("not_inspected", None, None)]),
        ("\r# coding: utf-7\rimport os", [("not_inspected", None, None)]),
        (b"\xef\xbb\xbf# coding: latin-1\nimport os", [("not_inspected", None, None)]),
    ],
)  # fmt: skip
def test_findings_with_their_places(source: str | bytes, expected: list[tuple[str, int | None, int | None]]) -> None:
    assert places(source) == expected


def test_messages_name_finding_and_remedy() -> None:
    (found,) = inspect(b"import socket").findings
    assert found.message == "Module socket is for networks, and programs have none. Send the data as an input file."
    assert all("{what}" in text or rule == "encoded_payload" for rule, text in rules.MESSAGES.items())


def test_ignored_rule_finds_and_hides_nothing() -> None:
    source = "import os\nimport socket\n" * MAX_FINDINGS
    found = inspect(source.encode(), frozenset({"import_process"}))
    assert {finding.rule for finding in found.findings} == {"import_network"}
    assert (len(found.findings), found.omitted) == (MAX_FINDINGS, 0)


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    found = inspect(b"import os\n" * 1234)
    assert [finding.line for finding in found.findings] == list(range(1, MAX_FINDINGS + 1))
    assert found.omitted == 1234 - MAX_FINDINGS


def test_long_and_odd_names_are_shortened_to_a_line() -> None:
    (found,) = inspect(f"import os.{'a' * 100_000}".encode()).findings
    assert len(found.message) < 200
    (found,) = inspect(b"# coding: x\x1b[31m\nimport os").findings
    assert found.message.isprintable()


def test_every_rule_is_explained_in_the_guide() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| ", GUIDE, re.MULTILINE)
    assert set(rules.MESSAGES) == set(rows) - {"off", "enforce", "audit"}
    assert set(rules.IMPORTS) | set(rules.NAMES.values()) <= set(rules.MESSAGES)


EVASIONS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("source", EVASIONS)
def test_the_evasions_of_the_guide_are_not_found_and_do_work(source: str) -> None:
    assert inspect(source.encode()) == Inspection([])
    done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(os.getuid())


def test_the_guide_has_evasions() -> None:
    assert len(EVASIONS) == 3


PIECES = st.sampled_from(
    ["import ", "os", "\n", "\r", " ", "    ", "(", ")", "[", "{", "}", "'", '"""', "f'{", "\\", "#", "# coding: ", "x",
     "utf-7", ".", "__class__", "getattr", "lambda ", ":", ",", "=", "-", "not ", "**", "if ", "else", "exec",
     "match x:\n case ", "\0", "\ufeff", "\x0c", "9" * 5000, "0x", "1e999", "ä", "🦋", "\u2028", "async ", "await ",
     "@", "~", "b'\\xff'"]
)  # fmt: skip


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(source=st.binary(max_size=300) | st.lists(PIECES, max_size=40).map("".join).map(str.encode))
@example(source=b"f'''{\n\n\nx.__class__}'''")
@example(source=b"\xff\xfe")
def test_any_bytes_give_a_result(source: bytes) -> None:
    found = inspect(source)
    lines = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
    assert len(found.findings) <= MAX_FINDINGS
    for finding in found.findings:
        assert finding.rule in rules.MESSAGES
        assert finding.message.isprintable() and len(finding.message) < 300
        assert (finding.line is None) == (finding.column is None)
        assert finding.line is None or (1 <= finding.line <= lines + 1 and finding.column is not None)
