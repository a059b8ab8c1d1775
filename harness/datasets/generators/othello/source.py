"""Generator `othello`: which moves are legal after these moves?

A prompt is the first k moves of a uniformly random legal game; every legal move is a good
answer. The corrupted twin has the same first moves, another move in the first of its last
`changed_moves` places and random legal moves after it, the same side to move and another set
of legal moves. Tokens are the playable cells in board order; colours and passes are not
written. Conventions follow Li et al. (board, start, names of cells).

`passes: reject` keeps only full games in which nobody had to pass (then the number of moves
says whose turn it is); `keep` takes every game and flips the turn silently.

Splits are decided by the first `min_ply` moves, so no prefix that training supervises beyond
them is a prompt of another split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from harness.datasets.concepts import ConceptFamily
from harness.datasets.generators.othello.boards import Bits, OthelloBoard, one_bit, random_bit
from harness.datasets.generators.othello.concepts import OthelloConcepts
from harness.datasets.generators.othello.games import Games, random_games, to_move
from harness.datasets.generators.params import Problem
from harness.datasets.pairs import NO_TARGET, Ints, Objective, PromptPairs, TrainingBatch
from harness.datasets.rows import Rows, opening_split
from harness.datasets.splits import Shares
from harness.datasets.tokenizers import Vocabulary
from harness.spec.key import About, Key

# Share of random games that `reject` keeps, by size; only sets how many are drawn at once.
KEPT = {6: 0.58, 8: 0.65}


@dataclass(frozen=True)
class OthelloParams:
    """`size`: edge of the board. `passes`: reject or keep games with passes (see module).

    `min_ply` … `max_ply` in steps of `ply_step`: moves in a prompt; 0 = as late as possible
    (the move before the last). `changed_moves`: moves at the end in which the twin may differ.
    """

    ABOUT: ClassVar = About("Parameters of `othello`", name="othello")

    size: Annotated[Literal[6, 8], Key("Board", "Edge of the board.", [6])] = 6
    passes: Annotated[
        Literal["reject", "keep"],
        Key("Passes", "`reject` games in which a player has to pass, or `keep` them.", ["reject"]),
    ] = "reject"
    min_ply: Annotated[
        int, Key("Shortest prompt", "Fewest moves in a prompt.", [8], minimum=2, maximum=59)
    ] = 8
    max_ply: Annotated[
        int,
        Key(
            "Longest prompt",
            "Most moves in a prompt; 0 means as late as possible.",
            [0, 24],
            minimum=0,
            maximum=59,
        ),
    ] = 0
    ply_step: Annotated[
        int,
        Key(
            "Step",
            "Prompts have min_ply, min_ply + ply_step, … moves.",
            [1, 4],
            minimum=1,
            maximum=59,
        ),
    ] = 1
    changed_moves: Annotated[
        int,
        Key(
            "Changed moves",
            "Moves at the end in which the corrupted twin may differ.",
            [1, 2],
            minimum=1,
            maximum=58,
        ),
    ] = 1

    @property
    def plies(self) -> int:
        """Moves of a full game."""
        return self.size * self.size - 4

    @property
    def last_ply(self) -> int:
        """Moves of the longest prompt."""
        return self.max_ply or self.plies - 1

    @property
    def prompt_plies(self) -> tuple[int, ...]:
        """All numbers of moves a prompt can have."""
        return tuple(range(self.min_ply, self.last_ply + 1, self.ply_step))

    def problems(self) -> list[Problem]:
        """Return impossible values and combinations."""
        problems: list[Problem] = []
        if self.ply_step < 1:
            problems.append(("ply_step", f"must be at least 1, not {self.ply_step}"))
        if not 2 <= self.min_ply < self.plies:
            problems.append(("min_ply", f"must be 2 … {self.plies - 1}, not {self.min_ply}"))
        if self.max_ply and not self.min_ply <= self.max_ply < self.plies:
            problems.append(("max_ply", f"must be min_ply … {self.plies - 1}, not {self.max_ply}"))
        if not 1 <= self.changed_moves < self.min_ply:
            problems.append(("changed_moves", f"must be 1 … min_ply-1, not {self.changed_moves}"))
        return problems


class Othello:
    """Source of game prefixes (see `stream.PromptSource`)."""

    def __init__(self, params: OthelloParams, bos: bool) -> None:
        """Take checked parameters; `bos` puts BOS before every prompt."""
        self.params = params
        self.board = OthelloBoard(params.size)
        names = [self.board.name(int(cell)) for cell in self.board.playable]
        self.tokenizer = Vocabulary("moves", names, bos)
        self._bos = int(bos)
        self._library = OthelloConcepts(self.board)
        # Training sees whole games, also where prompts end earlier.
        self.longest = params.plies - 1 + self._bos
        self._opening = params.min_ply + self._bos

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return at most about n rows: prompts with twins, or whole games to train on."""
        games = self._games(rng, n)
        return self._prompts(rng, games) if paired else self._whole(games)

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row, decided by its first `min_ply` moves."""
        return opening_split(rows, self._opening, shares)

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs; good and bad are the legal moves after each twin."""
        return PromptPairs(
            clean=rows["tokens"],
            corrupted=rows["corrupted"],
            lengths=rows["lengths"],
            positions=rows["lengths"][:, None] - 1,
            good=self._answers(rows["good"]),
            bad=self._answers(rows["bad"]),
        )

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return games with the move played next as target, soft over all legal ones in `answer`.

        `allowed` is exact: the optimum is the same as with sampled moves, at less noise.
        """
        tokens, lengths, targets = rows["tokens"], rows["lengths"], rows["targets"]
        if objective == "next_token":
            return TrainingBatch(tokens, lengths, targets)
        masks = self.board.masks(rows["legal"])
        allowed = np.concatenate(
            [np.zeros((*masks.shape[:2], self._bos), dtype=np.bool_), masks], axis=2
        )
        return TrainingBatch(tokens, lengths, targets, allowed)

    # ------------------------------------------------------------ concepts
    @property
    def concept_families(self) -> tuple[ConceptFamily, ...]:
        """See `OthelloConcepts`; outputs are counted with BOS."""
        return tuple(
            family
            if family.outputs is None
            else replace(family, outputs=tuple(one + self._bos for one in family.outputs))
            for family in self._library.families
        )

    @property
    def board_size(self) -> int:
        """Cells along an edge."""
        return self.params.size

    def concepts(self, tokens: Ints, lengths: Ints) -> NDArray[np.bool_]:
        """Return what is true after each move [n, T, C]; nothing is, after BOS alone."""
        moves = self._library.of_moves(tokens[:, self._bos :] - self._bos, lengths - self._bos)
        return np.pad(moves, ((0, 0), (self._bos, 0), (0, 0)))

    # ------------------------------------------------------------ rows
    def _games(self, rng: np.random.Generator, n: int) -> Games:
        """Return random games, as many as n prompts need."""
        if self.params.passes == "keep":
            return random_games(self.board, rng, n)
        games = random_games(self.board, rng, int(n / KEPT[self.params.size]) + 8)
        keep = ~games.passed & (games.lengths == self.board.plies)
        return Games(games.cells[keep], games.legal[keep], games.passed[keep], games.lengths[keep])

    def _whole(self, games: Games) -> Rows:
        """Return moves 0 … T-2 as tokens and the moves after them as targets."""
        ids = self.board.move_ids(games.cells)
        targets = np.where(ids >= 0, ids + self._bos, NO_TARGET)
        # With BOS the first move is predicted too.
        first = 1 - self._bos
        return {
            "tokens": self._with_bos(ids[:, :-1]),
            "lengths": games.lengths - 1 + self._bos,
            "targets": targets[:, first:],
            "legal": games.legal[:, first:],
        }

    def _prompts(self, rng: np.random.Generator, games: Games) -> Rows:
        n = len(games.lengths)
        plies = np.array(self.params.prompt_plies)[
            rng.integers(len(self.params.prompt_plies), size=n)
        ]
        twins, usable, answers = self._twins(rng, games, plies)
        usable &= games.lengths > plies  # somebody can still move
        plies, columns = plies[usable], np.arange(self.params.last_ply)
        clean = np.where(columns < plies[:, None], games.cells[usable][:, columns], -1)
        corrupted = np.where(columns < plies[:, None], twins[usable][:, columns], -1)
        return {
            "tokens": self._with_bos(self.board.move_ids(clean)),
            "corrupted": self._with_bos(self.board.move_ids(corrupted)),
            "lengths": plies + self._bos,
            "good": games.legal[np.flatnonzero(usable), plies],
            "bad": answers[usable],
        }

    def _twins(
        self, rng: np.random.Generator, games: Games, plies: Ints
    ) -> tuple[Ints, NDArray[np.bool_], Bits]:
        """Return twin cells [n, plies], which twins are usable, and their legal moves [n].

        Both games are replayed together: the turn must be the same side's in both at the end.
        """
        n = len(plies)
        first = plies - self.params.changed_moves
        own, other = self.board.start(n)
        black, twin_black = np.ones(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)
        twins = np.full_like(games.cells, -1)
        usable = np.ones(n, dtype=np.bool_)
        answers: Bits = np.zeros(n, dtype=np.uint64)
        clean_own, clean_other = self.board.start(n)
        for ply in range(self.params.last_ply + 1):
            own, other, moves, skipped = to_move(self.board, own, other)
            clean_own, clean_other, _, clean_skipped = to_move(self.board, clean_own, clean_other)
            twin_black ^= skipped
            black ^= clean_skipped
            if self.params.passes == "reject":
                usable &= ~(skipped & (ply <= plies))
            done = ply == plies
            answers[done] = moves[done]
            same_side = black == twin_black
            clean_moves = games.legal[:, min(ply, self.board.plies - 1)]
            # Each must have a legal move that the other has not, or there is no contrast.
            differs = ((moves & ~clean_moves) != 0) & ((clean_moves & ~moves) != 0)
            usable &= ~done | (same_side & differs)
            if ply == self.params.last_ply:
                break
            played = games.cells[:, ply]
            # At the first changed place the clean move is not a choice.
            choices = np.where(ply == first, moves & ~one_bit(played), moves)
            random = random_bit(choices, np.bitwise_count(choices), rng.random(n))
            cell = np.where(ply < first, played, random)
            usable &= (cell >= 0) | (ply >= plies)
            twins[:, ply] = cell
            own, other = self.board.play(own, other, one_bit(cell))
            clean_own, clean_other = self.board.play(clean_own, clean_other, one_bit(played))
            black, twin_black = ~black, ~twin_black
        return twins, usable, answers

    def _answers(self, legal: Bits) -> Ints:
        """Return legal moves as token ids [n, 1, most], padded with -1."""
        masks = self.board.masks(legal)
        order = np.argsort(~masks, axis=1, kind="stable")
        counts = masks.sum(axis=1)
        ids = np.where(np.arange(masks.shape[1]) < counts[:, None], order + self._bos, -1)
        return ids[:, None, : max(1, int(counts.max(initial=0)))]

    def _with_bos(self, ids: Ints) -> Ints:
        tokens = np.where(ids >= 0, ids + self._bos, 0)
        return np.pad(tokens, ((0, 0), (self._bos, 0)))
