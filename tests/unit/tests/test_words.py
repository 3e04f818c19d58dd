"""Identifiers are the field's nouns and verbs: words that no engineer searches for are banned."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest

from tests.harness import ROOT

ROOTS = ("orchestrator", "worker", "sandbox_image", "tests")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
DOCUMENTS += [ROOT / name for name in ("deploy/README.md", "Makefile", "pyproject.toml")]
PROGRAMS = ROOT / "tests" / "programs"  # what users submit, in users' words
BANNED = {
    "tell", "tells", "told", "teller", "say", "says", "said", "hear", "hears", "heard", "heed",
    "asker", "whoever", "nobody", "somebody", "anybody",
    "favour", "hurry", "orders", "outlive", "outlived", "suspicion", "suspicions",
}  # fmt: skip
# In comments, docstrings and awaited conditions, where ``tell apart`` and ``what it says`` may be plain words.
RIDDLES = re.compile(
    r"\b(told|heard|hears|whoever|whomever|nobody|somebody|anybody|favour|hurry|outlived?|(?:go|goes|going|went) on)\b",
    re.IGNORECASE,
)
NO_SUBJECT = re.compile(
    r"(it|they|who|what)\b|(one|two|three|both|all|none) (is|are|ha\w+|waits?|runs?|ends?|blocks?)\b"
)
# A docstring or a comment begins with the noun, or the verb of its action.
NO_NOUN = re.compile(r"(What|Whatever|Which|Who|Whoever|Whose)\b")
PRONOUNS = {"it", "its", "who", "whom", "whose"}
# In the sentences that tests have for names.
SUBJECTS = {"it", "who", "whom", "what", "whatever", "whichever"}
LEAST_WORDS = 3  # of a test's name: subject and expectation
# To parse every module takes seconds: a module is parsed if its text may have a finding by these expressions.
LITERAL = re.compile(  # a comment or a string
    r"#[^\n]*"
    r'|"""(?:\\.|[^\\])*?"""'
    r"|'''(?:\\.|[^\\])*?'''"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])*'",
    re.DOTALL,
)
QUOTED_NO_NOUN = re.compile(rf"""["']\s*{NO_NOUN.pattern}""")
QUOTED_NO_SUBJECT = re.compile(rf"""["'](?:{NO_SUBJECT.pattern})""")


class Module(NamedTuple):
    """The identifiers that a module defines, its docstrings, its texts, and the conditions that it awaits."""

    identifiers: tuple[str, ...]
    docstrings: tuple[str, ...]
    texts: tuple[str, ...]
    awaited: tuple[str, ...]


@cache
def module(source: str) -> Module:
    """Parse a module once for all tests."""
    nodes = list(ast.walk(ast.parse(source)))
    docstrings, texts, awaited = [], [], []
    for node in nodes:
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                docstrings.append(ast.get_docstring(node) or "")
            case ast.Constant(value=str(text)):
                texts.append(text)
            case ast.Call(func=ast.Name(id="eventually"), args=[_, ast.Constant(value=str(text)), *_]):
                awaited.append(text)
    return Module(tuple(defined(nodes)), tuple(docstrings), tuple(texts), tuple(awaited))


def identifiers(source: str) -> tuple[str, ...]:
    return module(source).identifiers


def defined(nodes: list[ast.AST]) -> Iterator[str]:
    """Names that a module defines: functions, classes, arguments, variables, attributes."""
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.alias(asname=str(name)):
                yield name


@cache
def is_banned(name: str) -> bool:
    """Whether a name has a banned word, whether written ``like_this``, ``LikeThis`` or ``LIKE_THIS``."""
    words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)}
    return bool(words & (BANNED | SUBJECTS if name.startswith("test_") else BANNED | PRONOUNS))


def banned(source: str) -> set[str]:
    """Identifiers with a banned word that a module defines."""
    if not any(map(is_banned, set(re.findall(r"\w+", LITERAL.sub(" ", source))))):
        return set()  # as nearly all
    return set(filter(is_banned, identifiers(source)))


@pytest.mark.parametrize("root", ROOTS)
def test_identifiers_have_no_banned_word(root: str) -> None:
    found = {}
    for path in sorted((ROOT / root).rglob("*.py")):
        names = banned(path.read_text()) | set(filter(is_banned, [path.stem]))
        if PROGRAMS not in path.parents and names:
            found[str(path.relative_to(ROOT))] = sorted(names)
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "def hurry(): pass",
        "class WhoWaits: pass",
        "def f(told): pass",
        "def f(*, said=1): pass",
        "a.outlived = True",
        "for it in []: pass",
        "EACH_TOLD = 1",
        "import orders as heard",
        "match 1:\n    case whose: pass",
        "def test_nobody_waits(): pass",
        "def test_what_is_wrong_is_named(): pass",
        "def test_slot_ends_when_it_is_idle(): pass",
    ],
)
def test_banned_word_is_found_in_every_kind_of_definition(source: str) -> None:
    assert banned(source)


# Each kind of text, with words and quotes of the others in it.
TEXTS = r"""
a = 'who \' told' + "it's"  # "whose
b = r'\'' + '' + f'''
' {a} it's # told''' + c
"""


def test_word_in_text_alone_is_no_identifier() -> None:
    assert LITERAL.sub("", TEXTS).split() == ["a", "=", "+", "b", "=", "r", "+", "+", "f", "+", "c"]
    assert not banned(TEXTS)


OTHERS = sorted(
    path
    for root in ("orchestrator", "sandbox_image", "deploy")
    for suffix in ("lua", "js", "mjs", "c", "sh", "yaml", "cfg")
    for path in (ROOT / root).rglob(f"*.{suffix}")
)


def test_sources_in_other_languages_have_no_banned_word() -> None:
    found = {str(path.relative_to(ROOT)): names for path in OTHERS if (names := banned_words(path.read_text()))}
    assert found == {}
    assert {path.suffix for path in OTHERS} >= {".lua", ".js", ".c", ".sh", ".yaml"}


def banned_words(source: str) -> set[str]:
    """Banned words of a source in any language, in names and comments, as names of tests: these may have pronouns."""
    words = (f"test_{word}" for word in re.findall(r"\w+", source) if word.lower() not in SUBJECTS)
    return set(filter(is_banned, words))


def test_banned_word_is_found_in_another_language() -> None:
    assert banned_words("const orders = 1; // what it is") == {"test_orders"}
    assert banned_words("local said_at = 1 -- Nobody reads it") == {"test_said_at", "test_Nobody"}
    assert not banned_words("local reordered = 1 -- it is fine")


def test_words_that_only_contain_a_banned_word_are_allowed() -> None:
    assert not banned("retold = witness = item = split = favourite = test_worker_reports_its_end = 1")


def riddles(source: str) -> list[str]:
    """Comments and docstrings with a banned word, and conditions of ``eventually`` without a noun for their subject."""
    has_riddle = RIDDLES.search(source) is not None
    if not has_riddle and ("eventually(" not in source or QUOTED_NO_SUBJECT.search(source) is None):
        return []  # as most modules
    tokens = tokenize.generate_tokens(io.StringIO(source).readline) if has_riddle else ()
    comments = (token.string for token in tokens if token.type == tokenize.COMMENT)
    _, docstrings, _, awaited = module(source)
    found = [text for text in (*comments, *docstrings, *awaited) if RIDDLES.search(text)]
    return found + [text for text in awaited if NO_SUBJECT.match(text)]


def nounless(source: str) -> list[str]:
    """Docstrings and comments that begin with a question word in place of a noun."""
    docstrings = module(source).docstrings if QUOTED_NO_NOUN.search(source) else ()
    found = [text for text in docstrings if NO_NOUN.match(text)]
    lines = source.splitlines()
    comments = (line.strip() for above, line in pairwise(["", *lines]) if not above.strip().startswith("#"))
    return found + [text for text in comments if text.startswith("# ") and NO_NOUN.match(text[2:])]


@pytest.mark.parametrize("root", [*ROOTS, "deploy"])
def test_docstrings_and_comments_begin_with_a_noun_or_a_verb(root: str) -> None:
    found = {
        str(path.relative_to(ROOT)): texts
        for path in sorted((ROOT / root).rglob("*.py"))
        if PROGRAMS not in path.parents and (texts := nounless(path.read_text()))
    }
    assert found == {}


def test_docstring_or_comment_without_its_noun_is_found() -> None:
    assert nounless('def f():\n    """What a client reads."""')
    assert nounless('"""Which tools there are."""')
    assert nounless("x = 1\n# What a client reads.\ny = 2")
    assert not nounless('class A:\n    """Whatsits of a client."""')
    assert not nounless("# The places in which there is\n# What a line goes on with\n")


def short(source: str) -> list[str]:
    """Names of tests that have too few words for a subject and an expectation."""

    def is_short(name: str) -> bool:
        return len(name.split("_")) <= LEAST_WORDS

    if not any(map(is_short, re.findall(r"\btest_\w*", source))):
        return []  # as most modules
    return [name for name in identifiers(source) if name.startswith("test_") and is_short(name)]


@pytest.mark.parametrize("folder", ["unit", "integration", "e2e", "hostile", "chaos"])
def test_names_of_tests_have_subject_and_expectation(folder: str) -> None:
    paths = [*(ROOT / "tests" / folder).rglob("test_*.py")]
    found = {str(path.relative_to(ROOT)): names for path in paths if (names := short(path.read_text()))}
    assert found == {}
    assert paths


def test_name_of_a_test_that_is_too_short_is_found() -> None:
    assert short("def test_bounds(): pass\ndef test_exit_codes(): pass\ndef test_range_is_read(): pass") == [
        "test_bounds",
        "test_exit_codes",
    ]


def messages(source: str) -> list[str]:
    """Text of the product with a banned word: errors, help, events. A user of Debian's has such a name."""
    if RIDDLES.search(source) is None:
        return []
    return [text for text in module(source).texts if RIDDLES.search(text.replace("nobody:", ""))]


@pytest.mark.parametrize("root", ["orchestrator", "worker", "sandbox_image", "tests/chaos"])
def test_messages_have_no_banned_word(root: str) -> None:
    found = {str(path): texts for path in (ROOT / root).rglob("*.py") if (texts := messages(path.read_text()))}
    assert found == {}


def test_banned_word_is_found_in_a_message() -> None:
    assert messages('raise Refused(f"the caller was told {why}")')
    assert not messages('USERS = "root:x:0\\nnobody:x:65534"')


def test_documents_have_no_banned_word() -> None:
    found = {str(path.relative_to(ROOT)): RIDDLES.findall(path.read_text()) for path in DOCUMENTS}
    assert {path: words for path, words in found.items() if words} == {}


# The words of the design: each has one meaning, which newcomers find in the glossary.
GLOSSARY = {
    "execution", "attempt", "conversation", "agent", "environment", "isolation", "driver", "limits", "input", "mount",
    "artifact", "slot", "warm pool", "lease", "cell", "spoilt attempt", "hand back", "drain", "tenant", "principal",
    "key", "tool", "tool server", "broker", "event", "security event", "job",
}  # fmt: skip


def explained(text: str) -> set[str]:
    """The words that a document's glossary explains."""
    table = text.partition("## Glossary")[2]
    rows = re.findall(r"^\| ([a-z ,]+) \| [^|]{12,} \|$", table, re.MULTILINE)
    return {word.strip() for row in rows for word in row.split(",")}


def test_glossary_explains_the_words_of_the_design() -> None:
    assert explained((ROOT / "CONTRIBUTING.md").read_text()) - {"word"} == GLOSSARY


def test_word_without_its_explanation_is_found() -> None:
    assert explained("## Glossary\n| word | meaning |\n| slot, lease | capacity of a worker |\n| job | |\n") == {
        "slot",
        "lease",
    }


@pytest.mark.parametrize("root", [*ROOTS, "deploy"])
def test_prose_names_its_subject(root: str) -> None:
    found = {}
    for path in sorted((ROOT / root).rglob("*.py")):
        if PROGRAMS not in path.parents and path.name != "test_words.py" and (texts := riddles(path.read_text())):
            found[str(path.relative_to(ROOT))] = texts
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "x = 1  # nobody reads it",
        'def f():\n    """Whoever waits is woken."""',
        'class A:\n    """Told of the end."""',
        'eventually(f, "it runs")',
        'eventually(f, "both wait", 5)',
        'eventually(f, "the client was told")',
        "x = 1  # the program goes on",
    ],
)
def test_riddle_is_found(source: str) -> None:
    assert riddles(source)


def test_plain_prose_is_allowed() -> None:
    assert not riddles('# reads the record\neventually(f, "both workers run")\neventually(f, "one slot checks it")')
