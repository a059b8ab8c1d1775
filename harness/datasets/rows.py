"""Rows: prompts as arrays with one common first axis, before they become pairs or batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import (
    NO_TARGET,
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
    answer_batch,
    next_token_targets,
)
from harness.datasets.splits import Hashes, Shares, hash_rows

# Always "tokens" [n, T] and "lengths" [n] of clean prompts; each source adds its own arrays.
Rows = dict[str, NDArray[Any]]


def prompt_keys(rows: Rows) -> Hashes:
    """Return a hash of every clean prompt, for finding duplicates."""
    return hash_rows(rows["tokens"], rows["lengths"], 0)


def first_of_each(rows: Rows) -> Ints:
    """Return the indices of rows whose clean prompt was not there before, in order."""
    return np.sort(np.unique(prompt_keys(rows), return_index=True)[1])


def take(rows: Rows, indices: Any) -> Rows:
    """Return the rows at `indices`."""
    return {name: array[indices] for name, array in rows.items()}


def join(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, in order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def opening_split(rows: Rows, opening: int, shares: Shares) -> Ints:
    """Return the split number of each row, decided by its first `opening` tokens alone."""
    tokens = rows["tokens"][:, :opening]
    return shares.of(hash_rows(tokens, np.minimum(rows["lengths"], opening), shares.seed))


def with_bos(ids: Ints, lengths: Ints, bos: int) -> Ints:
    """Return tokens [n, bos + T] of ids counted without BOS; 0 before and after the prompt.

    `bos` is 1 if BOS, always id 0, comes first and all other ids move up by one, else 0.
    """
    tokens = np.pad(ids + bos, ((0, 0), (bos, 0)))
    tokens[np.arange(tokens.shape[1]) >= lengths[:, None] + bos] = 0
    return tokens


def dense_batch(rows: Rows, objective: Objective, first_answer: int) -> TrainingBatch:
    """Return rows with the next token as target, or the answer due at every position.

    `rows["inside"]` [n, T] numbers the answer due after each token, -1 where none is; answer 0
    is token `first_answer`.
    """
    tokens, lengths = rows["tokens"], rows["lengths"]
    if objective == "next_token":
        targets = next_token_targets(tokens, lengths, rows["good"])
    else:
        inside = rows["inside"]
        targets = np.where(inside >= 0, inside + first_answer, NO_TARGET)
    return TrainingBatch(tokens, lengths, targets)


def last_token_batch(rows: Rows, objective: Objective, vocabulary: int) -> TrainingBatch:
    """Return rows with their answer as target of the last token alone, or every next token."""
    tokens, lengths, good = rows["tokens"], rows["lengths"], rows["good"]
    if objective == "answer":
        return answer_batch(tokens, lengths, good[:, None], vocabulary)
    return TrainingBatch(tokens, lengths, next_token_targets(tokens, lengths, good))


def last_token_pairs(rows: Rows) -> PromptPairs:
    """Return rows with one good and one bad answer, read at the last token."""
    return PromptPairs(
        clean=rows["tokens"],
        corrupted=rows["corrupted"],
        lengths=rows["lengths"],
        positions=rows["lengths"][:, None] - 1,
        good=rows["good"][:, None, None],
        bad=rows["bad"][:, None, None],
    )
