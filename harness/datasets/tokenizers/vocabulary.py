"""A closed vocabulary: the words, characters or moves of a task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.datasets.tokenizers.tokenizer import BOS, Kind, Spans, after_bos, only_token
from harness.errors import HarnessError

_PIECES = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Split text the way the `words` tokenizer does.

    A token is a run of word characters (letters, digits, underscore) or one other character
    that is not a space: "to John's bar, then" -> to John ' s bar , then.
    """
    return _PIECES.findall(text)


class Vocabulary:
    """A closed vocabulary: words, characters or moves."""

    def __init__(self, kind: Kind, tokens: Sequence[str], bos: bool) -> None:
        """Take `tokens` in the order of their ids; BOS, if wanted, is put before them."""
        if len(set(tokens)) != len(tokens) or BOS in tokens:
            raise ValueError("tokens of a vocabulary must be distinct and not BOS")
        self.kind: Kind = kind
        self.tokens: tuple[str, ...] = (BOS, *tokens) if bos else tuple(tokens)
        self.size = len(self.tokens)
        self.bos: int | None = 0 if bos else None
        self._ids = {token: index for index, token in enumerate(self.tokens)}

    @classmethod
    def of_words(cls, texts: Iterable[str], bos: bool) -> Vocabulary:
        """Return the sorted vocabulary of all words and punctuation in `texts`."""
        return cls("words", sorted({word for text in texts for word in split_words(text)}), bos)

    @classmethod
    def of_characters(cls, texts: Iterable[str], bos: bool) -> Vocabulary:
        """Return the sorted vocabulary of all characters in `texts`."""
        return cls("characters", sorted({letter for text in texts for letter in text}), bos)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without BOS; HarnessError if a piece is unknown."""
        pieces = self._split(text)
        try:
            return [self._ids[piece] for piece in pieces]
        except KeyError as error:
            raise HarnessError(
                f"{error.args[0]!r} in {text!r} is not in the vocabulary of {self.size} {self.kind}"
            ) from None

    def prompt(self, text: str) -> list[int]:
        """Return the ids of `text` after BOS (if the task has one)."""
        return after_bos(self, self.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the tokens of `ids`: joined by spaces, or directly for characters."""
        joint = "" if self.kind == "characters" else " "
        return joint.join(self.tokens[index] for index in ids)

    def single(self, text: str) -> int:
        """Return the id of a text that must be exactly one token; HarnessError otherwise."""
        return only_token(self, text, self.encode(text))

    def spans(self, texts: Sequence[str]) -> list[Spans]:
        """Return for every text its ids and the characters [start, end) of each token."""
        return [(self.encode(text), self._places(text)) for text in texts]

    def _places(self, text: str) -> list[tuple[int, int]]:
        places, end = [], 0
        for piece in self._split(text):
            start = text.index(piece, end)
            end = start + len(piece)
            places.append((start, end))
        return places

    def _split(self, text: str) -> list[str]:
        if self.kind == "characters":
            return list(text)
        return split_words(text) if self.kind == "words" else text.split()
