"""Generator `brackets`: close the innermost open bracket.

A prompt is a well-nested sequence over several bracket kinds that stops while brackets are
open; the answer is the closer of the innermost open one. In the corrupted twin exactly that
opener has another kind. Prompts are built around the opener: a walk down to it, the opener,
then closed groups of a wanted total length, so that the distance to look back is spread
evenly instead of being mostly one or two tokens as in a plain random walk.

Dense training (`answer`) asks at every position inside some bracket: which closer would be
right here?
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.datasets.generators.params import Problem
from harness.datasets.pairs import (
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
)
from harness.datasets.rows import Rows, dense_batch, last_token_pairs, opening_split, with_bos
from harness.datasets.splits import Shares
from harness.datasets.tokenizers import Vocabulary
from harness.spec.key import About, Key


@dataclass(frozen=True)
class BracketParams:
    """`kinds`: opener and closer of each kind. `lengths`: prompt lengths (without BOS).

    `max_depth`: most brackets open at once. `min_distance`: tokens between the innermost open
    bracket and the end of the prompt, at least (they are closed groups, so the number is even).
    """

    ABOUT: ClassVar = About("Parameters of `brackets`", name="brackets")

    kinds: Annotated[
        tuple[Annotated[str, Key(one_of=["()", "[]", "{}", "<>"])], ...],
        Key(
            "Bracket kinds",
            "Opener and closer of each kind.",
            [["()", "[]", "{}"]],
            min_items=2,
            unique=True,
        ),
    ] = ("()", "[]", "{}")
    lengths: Annotated[
        tuple[Annotated[int, Key(minimum=1, maximum=512)], ...],
        Key(
            "Lengths",
            "Prompt lengths in tokens, without BOS, drawn evenly.",
            [[15, 20, 25, 30]],
            min_items=1,
            unique=True,
        ),
    ] = (15, 20, 25, 30)
    max_depth: Annotated[
        int,
        Key("Greatest depth", "Most brackets open at once.", [4, 5], minimum=1, maximum=64),
    ] = 5
    min_distance: Annotated[
        int,
        Key(
            "Least distance",
            "Fewest tokens between the innermost open bracket and the end of the prompt; an even "
            "number.",
            [0, 2],
            minimum=0,
            maximum=510,
            multiple_of=2,
            message="must be an even number",
        ),
    ] = 2

    def problems(self) -> list[Problem]:
        """Return impossible values and combinations."""
        problems: list[Problem] = []
        letters = "".join(self.kinds)
        if any(len(kind) != 2 for kind in self.kinds) or len(set(letters)) != len(letters):
            problems.append(("kinds", "each kind is an opener and a closer, all different"))
        if any(letter.isspace() for letter in letters):
            problems.append(("kinds", "a bracket cannot be a space"))
        if len(self.kinds) < 2:
            problems.append(("kinds", "at least two kinds are needed for a corrupted twin"))
        if self.max_depth < 1:
            problems.append(("max_depth", f"must be at least 1, not {self.max_depth}"))
        if self.min_distance < 0 or self.min_distance % 2:
            problems.append(("min_distance", f"must be even and not negative: {self.min_distance}"))
        if not self.lengths or min(self.lengths) < 1:
            problems.append(("lengths", "give at least one length, each at least 1"))
        if not problems:
            problems = [
                ("lengths", f"no prompt of {length} brackets fits max_depth and min_distance")
                for length in self.lengths
                if not _shapes(length, self.max_depth, self.min_distance)
            ]
        return problems


def _shapes(length: int, max_depth: int, min_distance: int) -> list[tuple[int, int]]:
    """Return all (final depth, distance from the opener to the end) a prompt can have."""
    shapes = []
    for distance in range(min_distance, length, 2):
        before = length - 1 - distance
        deepest = max_depth - (1 if distance else 0)
        for depth in range(1, deepest + 1):
            possible = before >= depth - 1 and (before - depth + 1) % 2 == 0
            # With one level there is no room to spend steps above the ground.
            if possible and (max_depth > 1 or before == 0):
                shapes.append((depth, distance))
    return shapes


class Brackets:
    """Source of bracket prompts (see `stream.PromptSource`)."""

    def __init__(self, params: BracketParams, bos: bool) -> None:
        """Take checked parameters; `bos` puts BOS before every prompt."""
        self.params = params
        self._kinds = len(params.kinds)
        openers = [kind[0] for kind in params.kinds]
        closers = [kind[1] for kind in params.kinds]
        self.tokenizer = Vocabulary("characters", openers + closers, bos)
        self._bos = int(bos)  # also the number of ids before the first opener
        self._lengths = np.array(params.lengths)
        self.longest = max(params.lengths) + self._bos
        self._opening = min(params.lengths) + self._bos

    @cached_property
    def _choices(self) -> list[tuple[Ints, Ints, NDArray[np.float64]]]:
        """For each length its shapes (depths, distances) and cumulated probabilities.

        Distances are equally likely, then depths given the distance.
        """
        choices = []
        for length in self.params.lengths:
            shapes = np.array(_shapes(length, self.params.max_depth, self.params.min_distance))
            _, which, counts = np.unique(shapes[:, 1], return_inverse=True, return_counts=True)
            weights = 1.0 / (counts[which] * len(counts))
            choices.append((shapes[:, 0], shapes[:, 1], np.cumsum(weights)))
        return choices

    @cached_property
    def _walks(self) -> NDArray[np.float64]:
        """Up-probabilities [kind of walk, steps left, height above the floor] (`_walk`)."""
        depth, steps = self.params.max_depth, max(self.params.lengths)
        before = [(cap, target) for cap in (depth, depth - 1) for target in range(depth)]
        after = [(cap, 0) for cap in range(depth)]
        return np.stack(
            [up_probabilities(cap, target, steps, depth) for cap, target in before + after]
        )

    def _walk(self, before: NDArray[np.bool_], depth: Ints, distance: Ints) -> Ints:
        """Return which walk each row is on: down to the opener's level, or back to its floor.

        Where closed groups follow the opener, the walk before it leaves one level free.
        """
        most = self.params.max_depth
        return np.where(before, most * (distance > 0) + depth - 1, 3 * most - depth)

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return n rows; besides the tokens, `depth` and open `kinds` after every token."""
        which = rng.integers(len(self._lengths), size=n)
        lengths = self._lengths[which]
        depth, distance = self._draw_shapes(rng, which)
        up = self._draw_steps(rng, lengths, depth, distance)
        kind = rng.integers(self._kinds, size=up.shape)
        shift = rng.integers(1, self._kinds, size=n)
        tokens, inside = _nest(up, kind, lengths, self.params.max_depth, self._kinds)
        opener = lengths - 1 - distance
        rows = np.arange(n)
        twin = tokens.copy()
        twin[rows, opener] = (tokens[rows, opener] + shift) % self._kinds
        return {
            "tokens": with_bos(tokens, lengths, self._bos),
            "corrupted": with_bos(twin, lengths, self._bos),
            "lengths": lengths + self._bos,
            "inside": np.pad(inside, ((0, 0), (self._bos, 0)), constant_values=-1),
            "good": self._bos + self._kinds + tokens[rows, opener],
            "bad": self._bos + self._kinds + twin[rows, opener],
        }

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row, decided by its opening (the shortest prompt's length)."""
        return opening_split(rows, self._opening, shares)

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs read at the last token."""
        return last_token_pairs(rows)

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return rows with the next token, or the closer due at every position, as target."""
        return dense_batch(rows, objective, first_answer=self._bos + self._kinds)

    def _draw_shapes(self, rng: np.random.Generator, which: Ints) -> tuple[Ints, Ints]:
        points = rng.random(len(which))
        depth, distance = np.zeros_like(which), np.zeros_like(which)
        for index, (depths, distances, ends) in enumerate(self._choices):
            mine = np.flatnonzero(which == index)
            chosen = np.searchsorted(ends[:-1], points[mine], side="right")
            depth[mine], distance[mine] = depths[chosen], distances[chosen]
        return depth, distance

    def _draw_steps(
        self, rng: np.random.Generator, lengths: Ints, depth: Ints, distance: Ints
    ) -> NDArray[np.bool_]:
        """Return up/down steps [n, T]: a walk to depth-1, the opener, a closed excursion."""
        steps = max(self.params.lengths)
        points = rng.random((steps, len(lengths)))
        up = np.zeros((len(lengths), steps), dtype=np.bool_)
        opener = lengths - 1 - distance
        height = np.zeros_like(depth)
        for step in range(steps):
            before = step < opener
            floor = np.where(before, 0, depth)
            left = np.where(before, opener - step, lengths - step).clip(0)
            walk = self._walk(before, depth, distance)
            chance = self._walks[walk, left, (height - floor).clip(0)]
            up[:, step] = (points[step] < chance) | (step == opener)
            height += np.where(up[:, step], 1, -1)
            height = np.where(step < lengths, height, depth)
        return up


def up_probabilities(cap: int, target: int, steps: int, highest: int) -> NDArray[np.float64]:
    """Return P(step up) [steps left, height 0 … highest] for uniformly random walks.

    Walks stay in 0 … `cap` and end at `target`. The number of walks of r steps from height h
    obeys N(r, h) = N(r-1, h+1) + N(r-1, h-1); a uniform one goes up with N(r-1, h+1) / N(r, h).
    Counts are kept as shares of the largest, so that they stay finite.
    """
    ways = np.zeros((steps + 1, highest + 3))  # heights shifted by one: both borders are 0
    chance = np.zeros((steps + 1, highest + 1))
    ways[0, target + 1] = target <= cap
    for left in range(1, steps + 1):
        upward = ways[left - 1, 2 : cap + 3]
        total = upward + ways[left - 1, : cap + 1]
        np.divide(upward, total, out=chance[left, : cap + 1], where=total > 0)
        ways[left, 1 : cap + 2] = total / max(total.max(), 1e-300)
    return chance


def _nest(
    up: NDArray[np.bool_], kind: Ints, lengths: Ints, max_depth: int, kinds: int
) -> tuple[Ints, Ints]:
    """Return tokens [n, T] (kind, plus `kinds` for closers) and the innermost open kind or -1."""
    n, steps = up.shape
    rows = np.arange(n)
    stack = np.full((n, max_depth + 2), -1)
    height = np.zeros(n, dtype=np.int64)
    tokens = np.zeros((n, steps), dtype=np.int64)
    inside = np.full((n, steps), -1)
    for step in range(steps):
        opening, live = up[:, step], step < lengths
        push = live & opening
        closing = stack[rows, height] + kinds
        tokens[:, step] = np.where(opening, kind[:, step], closing)
        height = height + np.where(live, np.where(opening, 1, -1), 0)
        stack[rows[push], height[push]] = kind[push, step]
        inside[live, step] = stack[rows[live], height[live]]
    return tokens, inside
