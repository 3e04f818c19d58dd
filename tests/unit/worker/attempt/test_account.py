"""What an agent said is held against how its sandbox ended."""

from __future__ import annotations

import json

import pytest

from worker.account import Account
from worker.exits import KILLED
from worker.frames import Frame, FromAgent


def account(said: int | None) -> Account:
    made = Account(wall_seconds=10, host_counts_cpu=False)
    if said is not None:
        made.take(Frame(FromAgent.EXIT, json.dumps({"exit_code": said}).encode()))
    return made


@pytest.mark.parametrize(
    ("said", "ended", "silenced"),
    [(0, KILLED, True), (1, KILLED, True), (KILLED, KILLED, False), (0, 0, False), (0, None, False)],
)
def test_an_agent_that_was_killed_behind_its_last_word(said: int, ended: int | None, silenced: bool) -> None:
    assert account(said).silenced(ended) is silenced
    assert not account(said).is_false(KILLED)  # the kernel's code says nothing about the frame


def test_one_that_was_killed_because_it_stayed_is_not_silenced() -> None:
    stayed = account(0)
    stayed.overstayed = True
    assert not stayed.silenced(KILLED)
    assert not account(None).silenced(KILLED)
