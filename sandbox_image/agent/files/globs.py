"""Matches paths against globs without backtracking, in a time that grows with the path alone.

A path is matched name by name, and a name character by character. The match keeps every possible position in the
pattern: a set of positions among the pattern's names, and the bits of an integer for the positions in one name, so that
a character costs two operations for any number of stars.
"""

from __future__ import annotations

MOST_CHARACTERS = 1000  # whose places are kept; a program may name its files by all that there are


class Glob:
    """One pattern. The name ``**`` stands for any number of names, also none."""

    def __init__(self, pattern: str) -> None:
        self._names = [None if name == "**" else Name(name) for name in pattern.strip("/").split("/")]
        self.start = self._closure({0})

    def after(self, positions: frozenset[int], name: str) -> frozenset[int]:
        """The positions after one more name of a path."""
        after = set()
        for position in positions:
            if position == len(self._names):
                continue
            wanted = self._names[position]
            if wanted is None:
                after.add(position)
            elif wanted.matches(name):
                after.add(position + 1)
        return self._closure(after)

    def ends(self, positions: frozenset[int]) -> bool:
        """Whether a path may end there."""
        return len(self._names) in positions

    def matches(self, path: list[str]) -> bool:
        """Whether a path matches, as names."""
        positions = self.start
        for name in path:
            positions = self.after(positions, name)
        return self.ends(positions)

    def _closure(self, positions: set[int]) -> frozenset[int]:
        for position in sorted(positions):
            while position < len(self._names) and self._names[position] is None:
                position += 1
                positions.add(position)
        return frozenset(positions)


class Name:
    """One name of a pattern, with the syntax of ``fnmatch``: ``*``, ``?``, ``[seq]`` and ``[!seq]``; case counts."""

    def __init__(self, pattern: str) -> None:
        tokens = list(tokens_of(pattern))
        self._characters = [token for token in tokens if token != "*"]
        self._stars = 0  # the bits of those places where any character may stand any number of times
        place = 0
        for token in tokens:
            if token == "*":
                self._stars |= 1 << place
            else:
                place += 1
        self._places: dict[str, int] = {}

    def matches(self, name: str) -> bool:
        """Whether the whole name matches."""
        if len(name) < len(self._characters):
            return False
        at = 1
        for character in name:
            at = (at & self._accepting(character)) << 1 | at & self._stars
            if not at:
                return False
        return bool(at >> len(self._characters))

    def _accepting(self, character: str) -> int:
        """The bits of the positions that accept a character."""
        places = self._places.get(character)
        if places is None:
            places = sum(1 << n for n, token in enumerate(self._characters) if takes(token, character))
            if len(self._places) >= MOST_CHARACTERS:
                self._places.clear()
            self._places[character] = places
        return places


def tokens_of(pattern: str) -> list[str]:
    """A name's stars, question marks, brackets with what is in them, and characters, which begin with a backslash."""
    tokens, position = [], 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character in "*?":
            tokens.append(character)
            continue
        end = -1
        if character == "[":  # a bracket that stands first, maybe behind the !, is one of the sequence
            first = position + (pattern[position : position + 1] == "!")
            end = pattern.find("]", first + 1)
        if end < 0:
            tokens.append("\\" + character)
        else:
            tokens.append(pattern[position - 1 : end])
            position = end + 1
    return tokens


def takes(token: str, character: str) -> bool:
    """Whether one position of a pattern accepts a character."""
    if token[0] != "[":
        return token == "?" or token[1] == character
    others = token[1:2] == "!"
    sequence, position, found = token[2:] if others else token[1:], 0, False
    while position < len(sequence):
        if sequence[position + 1 : position + 2] == "-" and position + 2 < len(sequence):
            found = found or sequence[position] <= character <= sequence[position + 2]
            position += 3
        else:
            found = found or sequence[position] == character
            position += 1
    return found != others
