"""Programs composed from trajectories know no more than their author, and are counted as the product answers."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.mcp.budget import count
from tests.bench.tokens.trajectories.composing import Composer, Program, place_of
from tests.bench.tokens.trajectories.counting import BUDGET, Counted, Turn, direct, ours, shown_by_mayfly
from tests.bench.tokens.trajectories.model import Call, Exchange, Trajectory
from tests.bench.tokens.trajectories.replaying import Recorded, run
from tests.bench.tokens.trajectories.whole import Row, break_even, one_call, rows, wrong_first

USER = Call("s.find_user", {"name": "Yusuf Rossi"}, {"user": {"id": "yusuf_9620"}})


def exchange(*calls: Call, user: str = "I am Yusuf Rossi.", answer: str = "") -> Exchange:
    return Exchange(user, tuple((call,) for call in calls), answer)


def programs(*calls: Call, user: str = "I am Yusuf Rossi.") -> list[Program]:
    """The composed programs, each run on the recorded results."""
    found = Composer().programs(exchange(*calls, user=user))
    recorded = Recorded(calls)
    for program in found:
        run(program, recorded)
    assert recorded.is_used_up()
    return found


def sizes(found: list[Program]) -> list[int]:
    return [len(program.calls) for program in found]


def test_a_place_that_can_be_named_unread_keeps_calls_together() -> None:
    [program] = programs(USER, Call("s.get_user", {"id": "yusuf_9620"}, {"name": "Yusuf"}))
    assert "r1 = tools.s.get_user(id=r0['user']['id'])" in program.code
    assert "yusuf_9620" not in program.code


@pytest.mark.parametrize(
    ("result", "together"),
    [
        ({"orders": ["W2378156"]}, True),
        ({"orders": ["W2378156", "W1111111"]}, False),  # which one is a choice
        ("Your order is W2378156.", False),  # a text has no places
        ({"orders": "none"}, True),  # of the author's own making
    ],
)
def test_value_that_must_be_read_ends_a_program(result: Any, together: bool) -> None:
    first = Call("s.get_user", {"name": "Yusuf Rossi"}, result)
    found = programs(first, Call("s.get_order", {"id": "W2378156"}, {}))
    assert sizes(found) == ([2] if together else [1, 1])


def test_words_of_the_user_and_of_earlier_outputs_are_known() -> None:
    listed = Call("s.get_user", {"name": "Yusuf Rossi"}, {"orders": ["W2378156", "W1111111"]})
    found = programs(
        listed,
        Call("s.get_order", {"id": "W1111111"}, {}),
        Call("s.get_order", {"id": "W2378156"}, {}),
    )
    assert sizes(found) == [1, 2]
    one = Call("s.get_order", {"id": "W1111111"}, {})
    assert sizes(programs(listed, one, user="W1111111, I am Yusuf Rossi")) == [2]


def test_a_change_comes_after_reading() -> None:
    change = Call("s.cancel_order", {"id": "yusuf_9620"}, "ok")
    assert sizes(programs(USER, change, change)) == [1, 2]


def test_a_failure_ends_a_program() -> None:
    failed = Call("s.get_user", {"id": "x"}, "Error: unknown", failed=True)
    assert sizes(programs(failed, USER, USER)) == [1, 2]


def test_calls_of_one_tool_in_a_row_are_a_loop() -> None:
    reads = [Call("s.get_page", {"number": number}, {"text": f"page {number}"}) for number in range(5)]
    [program] = programs(*reads)
    assert program.code.count("get_page") == 1
    assert "for a in [{'number': 0}, {'number': 1}" in program.code
    odd = Call("s.get_page", {"from": 1}, {})
    assert "tools.s.get_page({'from': 1})" in programs(odd)[0].code


def test_programs_that_do_something_else_are_noticed() -> None:
    [program] = programs(USER)
    other = Recorded((USER._replace(arguments={"name": "Somebody"}),))
    with pytest.raises(AssertionError, match="Yusuf"):
        run(program, other)
    with pytest.raises(AssertionError, match="after the last call"):
        run(program, Recorded(()))
    assert not Recorded((USER,)).is_used_up()


def test_place_of_a_value() -> None:
    calls = [Call("s.a", {}, [{"x": 1000}]), Call("s.b", {}, "text")]
    assert place_of(1000, calls) == "r0[0]['x']"
    assert place_of("text", calls) == "r1"
    assert place_of("none", calls) is None
    assert place_of(True, [Call("s.a", {}, 1)]) is None


def test_direct_counts_each_turn() -> None:
    both = Trajectory("t", (Exchange("Hello you", ((USER, USER), (USER,))),), 100)
    found = direct(both)
    assert [turn.user for turn in found.turns] == [count("Hello you"), 0]
    assert found.turns[0].written == 2 * found.turns[1].written
    assert found.results == 3 * count('{"user": {"id": "yusuf_9620"}}')


def test_input_is_sent_again_with_each_turn() -> None:
    way = Counted(100, (Turn(10, 5, 20), Turn(0, 5, 30)))
    assert way.sent() == 110 + 135 + 170
    assert way.sent(0.1) == pytest.approx(110 + (11 + 25) + (13.5 + 35))
    assert way.written == 10
    assert way.results == 50


def test_withheld_value_is_read_when_needed() -> None:
    lines = "\n".join(f"line {number} has word_{number * 7919}" for number in range(3000))
    reads = Call("s.read_file", {"path": "Yusuf Rossi"}, lines)
    hidden = f"word_{1500 * 7919}"
    assert hidden not in shown_by_mayfly(lines)
    writes = Call("s.write_file", {"content": hidden}, "ok")
    trajectory = Trajectory("t", (exchange(reads, writes),), 0)
    read_on = ours(trajectory, [], shown_by_mayfly, reads=True)
    exact = ours(trajectory, [], shown_by_mayfly, reads=False)
    assert len(read_on.turns) == len(exact.turns) + 1 == 3
    assert exact.results < read_on.results
    assert 200 < read_on.results - exact.results < 2 * BUDGET
    answered = Trajectory("t", (exchange(reads, answer=f"It is {hidden}."),), 0)
    assert len(ours(answered, [], shown_by_mayfly, reads=True).turns) == 2
    unaided = Trajectory("t", (exchange(reads, answer="It is done."),), 0)
    assert len(ours(unaided, [], shown_by_mayfly, reads=True).turns) == 1


def test_shown_output_is_within_its_budget() -> None:
    assert count(shown_by_mayfly("x y z\n" * 100_000)) <= BUDGET
    assert "short" in shown_by_mayfly("short")


def test_a_wrong_program_is_written_twice() -> None:
    way = Counted(0, (Turn(5, 9, 450), Turn(3, 70, 40, is_program=True), Turn(0, 80, 50, is_program=True)))
    once = wrong_first(way, 1)
    assert once.turns == (way.turns[0], Turn(3, 70, 150, True), Turn(0, 70, 40, True), way.turns[2])
    assert wrong_first(way, 9).written == way.written + 150


def test_break_even_is_where_costs_cross() -> None:
    for cached in (1.0, 0.1):
        least = break_even(cached)
        assert one_call(least - 1, cached)[0] <= one_call(least - 1, cached)[1]
        assert one_call(least, cached)[0] > one_call(least, cached)[1]


def test_recorded_counts_are_complete() -> None:
    kinds: dict[str, list[Row]] = {}
    for row in rows():
        kinds.setdefault(row.kind, []).append(row)
    assert {kind: (len(found), sum(row.calls for row in found)) for kind, found in kinds.items()} == {
        "tau2 retail": (112, 550),
        "tau2 airline": (43, 142),
        "BFCL base": (200, 1142),
        "BFCL long context": (200, 1203),
        "Toolathlon": (30, 761),
    }
    assert {row.checked for kind, found in kinds.items() for row in found if kind != "Toolathlon"} == {"state"}
    assert all(row.exact.results <= row.ours.results for row in rows())
    assert all(sum(turn.is_program for turn in row.ours.turns) == row.programs for row in rows())
