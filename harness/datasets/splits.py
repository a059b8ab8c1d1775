"""Disjoint splits of endless prompt streams, by hashing.

A prompt's 64-bit hash (seeded with the data seed) decides its split, so a prompt drawn twice
always falls into the same one and nothing has to be stored. Generators hash only the
*opening* of a prompt, as many tokens as their shortest prompt has: then no prefix of a
training sequence is a test prompt either, although training may supervise every position.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import Ids, Ints
from harness.errors import HarnessError
from harness.spec.issues import unknown

Hashes = NDArray[np.uint64]

SPLITS = ("train", "validation", "test")
DEFAULT_SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}


class Shares:
    """Splits and the share of all hashes that each one owns."""

    def __init__(self, shares: Mapping[str, float], seed: int, extra: tuple[str, ...] = ()) -> None:
        """Take shares (empty = default) and names of splits that own no hashes (`extra`).

        Raises HarnessError if the shares are impossible (`share_problems`).
        """
        problems = share_problems(shares)
        if problems:
            raise HarnessError("; ".join(f"data.shares: {text}" for text in problems))
        chosen = dict(shares) or dict(DEFAULT_SHARES)
        names = [*SPLITS, *(name for name in chosen if name not in SPLITS)]
        self.names = tuple(dict.fromkeys([*names, *extra]))
        ends = np.cumsum([chosen.get(name, 0.0) for name in self.names])
        # Compare 53 bits as floats: exact, and the last share always ends at 1.
        self._ends = ends / ends[-1]
        self.shares = dict(zip(self.names, np.diff(self._ends, prepend=0.0).tolist(), strict=True))
        self.seed = seed

    def index(self, split: str) -> int:
        """Return the number of a split; HarnessError with the known names otherwise."""
        if split not in self.names:
            raise HarnessError(unknown("split", split, self.names))
        return self.names.index(split)

    def of(self, hashes: Hashes) -> Ints:
        """Return the split number of every hash."""
        points = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.searchsorted(self._ends, points, side="right").astype(np.int64)


def fitting_shares(
    hashes: Hashes, wanted: Mapping[str, int], validation: float = 0.1
) -> dict[str, float] | None:
    """Return shares, in hundredths, under which train and test have as many prompts as wanted.

    `hashes` are those of all distinct prompts. What is left over goes to train, after
    `validation`. None if no shares do.
    """
    parts = range(101)
    whole = {"train": 1.0, "validation": 0.0, "test": 0.0}

    def count(split: str, shares: Mapping[str, float]) -> int:
        chosen = Shares(shares, 0)
        return int((chosen.of(hashes) == chosen.index(split)).sum())

    for part in parts:
        test = part / 100
        if count("test", {**whole, "train": round(1 - test, 2), "test": test}) < wanted["test"]:
            continue
        for kept in range(min(round(100 * validation), 100 - part), -1, -1):
            shares = {
                "train": round((100 - part - kept) / 100, 2),
                "validation": kept / 100,
                "test": test,
            }
            if count("train", shares) >= wanted["train"]:
                return shares
        return None
    return None


def share_problems(shares: Mapping[str, float]) -> list[str]:
    """Return what is wrong with `data.shares`; an empty mapping means the default."""
    if not shares:
        return []
    problems = [
        f"{name} is {value}, not in 0 … 1" for name, value in shares.items() if not 0 <= value <= 1
    ]
    missing = [name for name in SPLITS if name not in shares]
    if missing:
        problems.append(f"{', '.join(missing)} missing; give train, validation and test")
    total = sum(shares.values())
    if not problems and abs(total - 1) > 1e-6:
        problems.append(f"the shares add up to {total:g}, not to 1")
    return problems


def hash_rows(tokens: Ids, lengths: Ids, seed: int) -> Hashes:
    """Return a 64-bit hash of every row's first `lengths` tokens; [n, T], [n] -> uint64 [n].

    Multilinear hashing with seeded random multipliers, then a bijective mixer: two different
    rows collide with probability about 2^-63.
    """
    width = tokens.shape[1]
    multipliers = np.random.default_rng([seed, 0x5911]).integers(
        0, 2**64, size=width + 1, dtype=np.uint64
    )
    # id + 1, so that padding (0) is not the token 0
    values = tokens.astype(np.uint64) + np.uint64(1)
    values[np.arange(width) >= lengths[:, None]] = 0
    return _mix(values @ (multipliers[1:] | np.uint64(1)) + multipliers[0])


def _mix(values: Hashes) -> Hashes:
    """Return the splitmix64 finaliser of every value: each input bit reaches each output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
