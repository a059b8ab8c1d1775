"""Whether a pair can be patched position by position, as the tokens of its two texts show.

A prompt is a row of pieces: literal texts and the words in slots. A token belongs to every piece
it shares a character with, so a token that joins two words is a token of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from harness.datasets.tokenizers import Spans


@dataclass(frozen=True)
class Piece:
    """FramePart of a rendered prompt; `origin` says what it was made from (a slot, or the text)."""

    text: str
    origin: str


class Prompt:
    """A rendered prompt: its pieces, and its tokens with their places in the text."""

    def __init__(self, pieces: Sequence[Piece], tokens: Spans) -> None:
        """Take the pieces, and the tokens of their joined text."""
        self.pieces = pieces
        self.text = "".join(piece.text for piece in pieces)
        self.ids, self.spans = tokens
        ends = list(accumulate(len(piece.text) for piece in pieces))
        self._places = list(zip([0, *ends], ends, strict=False))

    def tokens_of(self, piece: int) -> set[int]:
        """Return the positions of the tokens of one piece."""
        begin, end = self._places[piece]
        return {at for at, (left, right) in enumerate(self.spans) if left < end and right > begin}

    def outside(self, pieces: Iterable[int]) -> list[tuple[int, int]]:
        """Return (position, id) of every token that belongs to none of these pieces."""
        inside = set().union(*(self.tokens_of(piece) for piece in pieces))
        return [(at, token) for at, token in enumerate(self.ids) if at not in inside]

    def is_whole(self, piece: int) -> bool:
        """Return whether a piece is made of whole tokens; one space before it may be in them."""
        begin, end = self._places[piece]
        first = begin - 1 if self.text[begin - 1 : begin] == " " else begin
        return all(
            first <= self.spans[at][0] and self.spans[at][1] <= end for at in self.tokens_of(piece)
        )


def misaligned(clean: Prompt, corrupted: Prompt) -> str | None:
    """Return why two prompts are not aligned, or None if they are.

    Aligned: equally many tokens in each piece that differs, and equal tokens at equal positions
    everywhere else. Both prompts have the same number of pieces.
    """
    pairs = list(zip(clean.pieces, corrupted.pieces, strict=True))
    changed = [at for at, (one, other) in enumerate(pairs) if one.origin != other.origin]
    for at in changed:
        sizes = len(clean.tokens_of(at)), len(corrupted.tokens_of(at))
        if sizes[0] != sizes[1]:
            one, other = pairs[at]
            return f"{one.text!r} is {sizes[0]} tokens and {other.text!r} is {sizes[1]}"
    if len(clean.ids) != len(corrupted.ids):
        return f"one has {len(clean.ids)} tokens and the other {len(corrupted.ids)}"
    if clean.outside(changed) != corrupted.outside(changed):
        return "tokens outside of the replaced words differ"
    return None
