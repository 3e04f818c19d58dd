"""The count of a body's pieces."""

from __future__ import annotations

from orchestrator.api.door.pieces import FREE_PIECES, LEAST_BYTES, BodyPieces


def accepted(sizes: list[int]) -> int:
    """The number of pieces up to the refusal."""
    body = BodyPieces()
    return next((number for number, size in enumerate(sizes) if body.refusal(size)), len(sizes))


def test_small_pieces_are_refused_beyond_the_free_ones() -> None:
    assert accepted([0] * 2 * FREE_PIECES) == FREE_PIECES
    assert FREE_PIECES < accepted([1] * 2 * FREE_PIECES) < FREE_PIECES * 1.1


def test_pieces_of_the_least_size_are_accepted() -> None:
    assert accepted([LEAST_BYTES] * 10 * FREE_PIECES) == 10 * FREE_PIECES


def test_large_piece_pays_for_no_later_small_pieces() -> None:
    assert accepted([2**20] + [0] * 2 * FREE_PIECES) == FREE_PIECES + 1
