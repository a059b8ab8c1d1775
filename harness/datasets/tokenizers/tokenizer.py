"""What every tokenizer can do, whether its vocabulary is a file's or the task's own words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from harness.errors import HarnessError

BOS = "<bos>"

Kind = Literal["words", "characters", "moves", "file"]
Spans = tuple[list[int], list[tuple[int, int]]]  # ids, characters [start, end) of each token


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def kind(self) -> Kind:
        """How text is split."""
        ...

    @property
    def tokens(self) -> tuple[str, ...]:
        """Text of every id."""
        ...

    @property
    def size(self) -> int:
        """Number of ids (the model's vocabulary)."""
        ...

    @property
    def bos(self) -> int | None:
        """Id put before every prompt, if any."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without BOS; HarnessError if a piece is unknown."""
        ...

    def prompt(self, text: str) -> list[int]:
        """Return the ids of `text` after BOS (if the task has one)."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text of `ids`."""
        ...

    def single(self, text: str) -> int:
        """Return the id of a text that must be exactly one token; HarnessError otherwise."""
        ...


def only_token(tokenizer: Tokenizer, text: str, ids: list[int]) -> int:
    """Return the one id of `ids`, the tokens of `text`; HarnessError if there are more or none."""
    if len(ids) != 1:
        pieces = " ".join(repr(tokenizer.tokens[index]) for index in ids)
        raise HarnessError(
            f"{text!r} must be exactly one token but is {len(ids)}: {pieces or 'nothing'}"
        )
    return ids[0]


def after_bos(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """Return the ids of a prompt after BOS, if the task has one.

    HarnessError if the prompt begins with BOS itself: it would stand there twice.
    """
    if tokenizer.bos is None:
        return ids
    if ids[:1] == [tokenizer.bos]:
        raise HarnessError(
            f"the prompt begins with BOS ({tokenizer.tokens[tokenizer.bos]!r}), and `bos` puts it "
            "before every prompt; leave it out of the prompts, or set `bos: false`"
        )
    return [tokenizer.bos, *ids]
