"""More pairs than a split has prompts: all of them once, then all of them again."""

from __future__ import annotations

import numpy as np

from harness.datasets.pairs import PromptPairs, TaskData, join_pairs
from harness.datasets.splits import hash_rows

_BLOCK = 1 << 12


def pairs_with_repeats(data: TaskData, split: str, n: int, seed: int) -> PromptPairs:
    """Return n pairs of `split`; no clean prompt comes once more before all have come.

    Every pass over the split is in an order of its own, and where the twin has words that are
    drawn, with twins of its own. If n prompts are enough, these are `data.pairs(split, n, seed)`.
    Raises HarnessError if the split is unknown or has no prompts.
    """
    parts = [data.pairs(split, n, seed, at_most=True)]
    n_pairs = each = len(parts[0])
    while n_pairs < n:
        pass_seed = int(np.random.SeedSequence([seed, len(parts)]).generate_state(1)[0])
        parts.append(data.pairs(split, min(each, n - n_pairs), pass_seed, at_most=True))
        n_pairs += len(parts[-1])
    return join_pairs(parts)


def count_prompts(pairs: PromptPairs) -> int:
    """Return how many distinct clean prompts there are."""
    blocks = [pairs.take(slice(at, at + _BLOCK)) for at in range(0, len(pairs), _BLOCK)]
    return len(np.unique(np.concatenate([hash_rows(one.clean, one.lengths, 0) for one in blocks])))
