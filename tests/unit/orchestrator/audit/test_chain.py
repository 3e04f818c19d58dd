"""The proof of the audit log: whatever is removed, changed or inserted is found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from orchestrator.audit.chain import Link, Seal, Signer, extend, verify

SECRET, OTHER = b"s" * 32, b"o" * 32
SIGNER = Signer(SECRET)
ENDS = (3, 4, 8)  # number of entries up to each seal
LINKS = [Link(f"{1000 + n}-0", b"entry %d" % n) for n in range(ENDS[-1] + 2)]


def sealed(links: list[Link] = LINKS, signer: Signer = SIGNER, ends: tuple[int, ...] = ENDS) -> list[Seal]:
    seals, last = [], Seal()
    for begin, end in pairwise((0, *ends)):
        head = extend(last.head, links[begin:end])
        last = signer.sign(Seal(position=links[end - 1].position, head=head, previous=last.head, entries=end))
        seals.append(last)
    return seals


def faults(links: list[Link], seals: list[Seal], base: Seal | None = None, known: Seal | None = None) -> int:
    return len(verify(base, seals, links, SIGNER.public_key, known).faults)


def test_untouched_log_has_no_fault() -> None:
    found = verify(None, sealed(), LINKS, SIGNER.public_key)
    assert (found.entries, found.unsealed, found.faults) == (10, 2, ())
    assert found.sealed == sealed()[-1]


@pytest.mark.parametrize("at", range(ENDS[-1]))
@pytest.mark.parametrize(
    "change",
    [
        lambda links, at: links[:at] + links[at + 1 :],
        lambda links, at: [*links[:at], links[at]._replace(stored=b"other"), *links[at + 1 :]],
        lambda links, at: [*links[:at], Link(links[at].position[:-1] + "1", b"more"), *links[at + 1 :]],
        lambda links, at: [*links[:at], Link(f"{999 + at}-1", b"more"), *links[at:]],
    ],
    ids=["removed", "changed", "moved", "inserted"],
)
def test_each_change_of_a_sealed_entry_is_found(change: Callable[[list[Link], int], list[Link]], at: int) -> None:
    found = verify(None, sealed(), change(LINKS, at), SIGNER.public_key)
    assert found.faults


def test_entry_behind_the_last_seal_can_change_unnoticed() -> None:
    assert not faults([*LINKS[:-1], LINKS[-1]._replace(stored=b"other")], sealed())


@pytest.mark.parametrize("at", [ENDS[-1], len(LINKS)], ids=["sealed", "not yet sealed"])
def test_entry_that_repeats_an_earlier_one_is_found(at: int) -> None:
    """Its HMAC is valid: a client of Redis can append it once more."""
    again = Link("1500-0", LINKS[1].stored)
    links = [*LINKS[: ENDS[-1]], again] if at == ENDS[-1] else [*LINKS, again]
    found = verify(None, sealed(links, ends=(*ENDS, 9) if at == ENDS[-1] else ENDS), links, SIGNER.public_key)
    assert found.faults == ("The entry at 1500-0 repeats an earlier entry.",)


@pytest.mark.parametrize("without", range(2))
def test_missing_seal_is_found(without: int) -> None:
    seals = sealed()
    found = verify(None, seals[:without] + seals[without + 1 :], LINKS, SIGNER.public_key)
    before, after = ["0-0", *(seal.position for seal in seals)][without], seals[without + 1].position
    assert f"Seals between {before} and {after} are missing." in found.faults


def test_seals_of_another_key_are_found() -> None:
    assert faults(LINKS, sealed(signer=Signer(OTHER))) == len(ENDS)


def test_chain_made_anew_over_changed_entries_needs_the_key() -> None:
    changed = [LINKS[0]._replace(stored=b"other"), *LINKS[1:]]
    assert not faults(changed, sealed(changed))  # with the key
    forged = [
        seal.model_copy(update={"signature": real.signature})
        for seal, real in zip(sealed(changed), sealed(), strict=True)
    ]
    assert faults(changed, forged)


def test_end_that_is_removed_with_its_seals_is_found_by_a_known_head() -> None:
    seals = sealed()
    assert not faults(LINKS[: ENDS[1]], seals[:2])
    assert faults(LINKS[: ENDS[1]], seals[:2], known=seals[2])
    assert not faults(LINKS, seals, known=seals[1])


def test_old_entries_may_be_missing_before_a_signed_base_only() -> None:
    seals = sealed()
    base = SIGNER.sign(seals[0].model_copy(update={"kind": "base"}))
    assert not faults(LINKS[ENDS[0] :], seals[1:], base)
    assert faults(LINKS[ENDS[0] :], seals[1:])
    assert faults(LINKS[ENDS[0] :], seals[1:], seals[0])  # a seal is no base
    assert faults(LINKS[ENDS[1] :], seals[2:], base)


def test_foreign_entries_are_faults() -> None:
    [first, *rest] = sealed()
    assert faults(LINKS, [SIGNER.sign(first.model_copy(update={"foreign": ("1001-0",)})), *rest]) == 1
