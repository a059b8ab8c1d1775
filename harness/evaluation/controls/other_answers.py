"""Prompt pairs with answers that the model was never right to give: controls of a search.

A search that finds circuits for these as well says little by finding one for the task: swapped
answers, and nonsense (Drori 2026), where two tokens that answer no prompt stand for the two sides
of the task's choice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from harness.datasets.pairs import Ints, PromptPairs
from harness.errors import HarnessError

WhichAnswers = Literal["right", "swapped", "nonsense"]


def answered(
    parts: tuple[PromptPairs, ...], which: WhichAnswers, *, in_classes: bool = False
) -> tuple[PromptPairs, ...]:
    """The same prompts with other answers; `right` leaves them as they are.

    `in_classes`: whether answers are classes, no tokens. Raises `HarnessError` for prompts without
    bad answers, and where there are no two tokens for nonsense.
    """
    if which == "right":
        return parts
    if any(bool((~_both(pairs)).any()) for pairs in parts):
        raise HarnessError(
            f"evaluation.answers: {which} needs good and bad answers at every read position"
        )
    if which == "swapped":
        return tuple(replace(pairs, good=pairs.bad, bad=pairs.good) for pairs in parts)
    if in_classes:
        raise HarnessError(
            "evaluation.answers: nonsense takes two tokens of the prompts, and this task's model "
            "answers in the classes of `answers`; use swapped"
        )
    first, second = _two_tokens(parts)
    return tuple(_nonsense(pairs, first, second) for pairs in parts)


def _both(pairs: PromptPairs) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether each position [n, P] has good and bad answers, or is not read."""
    has = (pairs.good >= 0).any(-1) & (pairs.bad >= 0).any(-1)
    return np.asarray(has | (pairs.positions < 0))


def _two_tokens(parts: tuple[PromptPairs, ...]) -> tuple[int, int]:
    """The two most frequent tokens of the clean prompts that are no answer; ties by their ids."""
    seen = np.concatenate(
        [pairs.clean[np.arange(pairs.clean.shape[1]) < pairs.lengths[:, None]] for pairs in parts]
    )
    answers = np.concatenate([x.ravel() for pairs in parts for x in (pairs.good, pairs.bad)])
    ids, counts = np.unique(seen[~np.isin(seen, answers)], return_counts=True)
    if len(ids) < 2:
        raise HarnessError(
            "evaluation.answers: nonsense needs two tokens in the prompts that are no answers"
        )
    first, second = ids[np.argsort(-counts, kind="stable")[:2]].tolist()
    return first, second


def _nonsense(pairs: PromptPairs, first: int, second: int) -> PromptPairs:
    """Good is the first token where the good answers' smallest id is below the bad ones'."""
    below = _smallest(pairs.good) < _smallest(pairs.bad)
    used = pairs.positions >= 0
    good = np.where(used, np.where(below, first, second), -1)[..., None]
    bad = np.where(used, np.where(below, second, first), -1)[..., None]
    return replace(pairs, good=good, bad=bad)


def _smallest(ids: Ints) -> Ints:
    """The smallest id of each set [n, P, ·], which may be padded with -1."""
    none = np.iinfo(np.int64).max
    smallest: Ints = np.where(ids < 0, none, ids.astype(np.int64)).min(-1, initial=none)
    return smallest
