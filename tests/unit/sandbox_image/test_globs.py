"""The agent's globs: what they mean, and that no pattern makes matching slow."""

from __future__ import annotations

import fnmatch
import time

from hypothesis import example, given
from hypothesis import strategies as st

from sandbox_image.agent.files.globs import Glob, Name

NAMES = st.text(st.sampled_from("ab-]"), max_size=12)
SEQUENCES = st.sampled_from(["[ab]", "[!a]", "[a-b]", "[]]", "[!]a]", "[a-]", "[-a]"])
PATTERNS = st.lists(st.one_of(SEQUENCES, st.sampled_from(["*", "?", "a", "b", "-", "]", "[", "!"])), max_size=12)


@given(PATTERNS.map("".join), NAMES)
@example("*a*a*a*b", "aaaab")
@example("[", "[")
@example("a[!", "a[!")
def test_a_name_matches_as_in_the_standard_library(pattern: str, name: str) -> None:
    assert Name(pattern).matches(name) == fnmatch.fnmatchcase(name, pattern), (pattern, name)


def test_any_number_of_directories() -> None:
    assert Glob("**").matches(["a"]) and Glob("**").matches(["a", "b"])
    assert Glob("**/c/**/d").matches(["c", "d"]) and Glob("**/c/**/d").matches(["x", "c", "y", "z", "d"])
    assert not Glob("**/c/**/d").matches(["x", "y", "d"])
    assert not Glob("*").matches(["a", "b"])


def seconds(patterns: list[str], names: list[str]) -> float:
    began = time.process_time()
    for pattern in patterns:
        glob = Glob(pattern)
        for name in names:
            glob.matches([name])
    return time.process_time() - began


def test_worst_pattern_costs_a_small_multiple_of_a_plain_pattern() -> None:
    """Each character costs the same, for any number of stars and any length behind them."""
    names = ["a" * 200 + str(number) for number in range(200)]
    plain = ["*" + "a" * 150 + f"*{number}" for number in range(8)]
    worst = [
        *("*a" * 15 + "b" * 150 + f"{number}" for number in range(4)),
        *("*" + "?" * 100 + "b*" + "[ab]" * 40 + f"*{number}" for number in range(4)),
    ]
    assert seconds(worst, names) < 6 * seconds(plain, names) + 0.05
