"""Prompt pairs in words: their tokens, the answers, and what is expected at a position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.datasets.pairs import PromptPairs
from harness.datasets.tokenizers import Tokenizer

GUESSES = 5
"""Outputs that are shown of what a model expects."""


@dataclass(frozen=True)
class Outputs:
    """What the outputs of a task's models are called: tokens, or the classes that it names."""

    tokenizer: Tokenizer
    classes: tuple[str, ...] | None

    def name(self, output: int) -> str:
        """A model may have more outputs than its tokenizer has tokens."""
        if self.classes is not None:
            return self.classes[output]
        return token_text(self.tokenizer, output) if output < self.tokenizer.size else f"<{output}>"


def pair_in_words(pairs: PromptPairs, row: int, outputs: Outputs) -> dict[str, Any]:
    """Both prompts token by token, where they differ, and the answers at each read position."""
    tokenizer = outputs.tokenizer
    length = int(pairs.lengths[row])
    clean, corrupted = pairs.clean[row, :length], pairs.corrupted[row, :length]
    return {
        "row": row,
        "clean": [token_text(tokenizer, int(one)) for one in clean],
        "corrupted": [token_text(tokenizer, int(one)) for one in corrupted],
        "differ": [int(at) for at in (clean != corrupted).nonzero()[0]],
        "reads": [
            {
                "at": int(at),
                "good": [outputs.name(int(one)) for one in good if one >= 0],
                "bad": [outputs.name(int(one)) for one in bad if one >= 0],
            }
            for at, good, bad in zip(
                pairs.positions[row], pairs.good[row], pairs.bad[row], strict=True
            )
            if at >= 0
        ],
    }


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token as it reads, with the space before it; as in the file where it is no text alone."""
    written = tokenizer.tokens[token]
    if tokenizer.kind != "file" or token == tokenizer.bos:
        return written
    text = tokenizer.decode([token])
    if not text or "\N{REPLACEMENT CHARACTER}" in text:
        return written
    return f" {text}" if written[:1] in ("Ġ", "▁") and not text.startswith(" ") else text


def expected(logits: Tensor, good: Tensor, bad: Tensor, outputs: Outputs) -> dict[str, Any]:
    """The most probable tokens of logits [V]; rank and probability of the right answers.

    `rank` is that of the best right answer, `probability` that of all of them.
    """
    shares, right = logits.softmax(-1), good[good >= 0]
    top = shares.topk(min(GUESSES, len(shares)))
    answers = {**dict.fromkeys(bad.tolist(), "wrong"), **dict.fromkeys(right.tolist(), "right")}
    return {
        "top": [
            {
                "token": outputs.name(one),
                "probability": share,
                "answer": answers.get(one),
            }
            for one, share in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ],
        "rank": int((shares > shares[right].max()).sum()) + 1,
        "probability": float(shares[right].sum()),
    }
