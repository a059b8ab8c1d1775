"""Uniformly random Othello games, generated on the fly and never stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.datasets.generators.othello.boards import Bits, OthelloBoard, one_bit, random_bit
from harness.datasets.pairs import Ints

CHUNK = 8192  # boards advanced together: small enough for the cache


@dataclass(frozen=True)
class Games:
    """n random games.

    `cells` int64 [n, plies]: cell played at each ply, -1 after the end. `legal` uint64
    [n, plies]: legal moves of the side that plays at that ply (a side without moves is skipped
    silently, as in Li et al.). `passed` bool [n]: whether any side was ever skipped.
    `lengths` int64 [n].
    """

    cells: Ints
    legal: Bits
    passed: NDArray[np.bool_]
    lengths: Ints


def random_games(board: OthelloBoard, rng: np.random.Generator, n: int) -> Games:
    """Return n games in which every legal move is equally likely at every ply."""
    parts = [_chunk(board, rng, min(CHUNK, n - start)) for start in range(0, n, CHUNK)]
    return Games(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("cells", "legal", "passed", "lengths")
        )
    )


def _chunk(board: OthelloBoard, rng: np.random.Generator, n: int) -> Games:
    cells = np.full((board.plies, n), -1, dtype=np.int64)
    legal = np.zeros((board.plies, n), dtype=np.uint64)
    passed = np.zeros(n, dtype=np.bool_)
    own, other = board.start(n)
    points = rng.random((board.plies, n))
    for ply in range(board.plies):
        own, other, moves, skipped = to_move(board, own, other)
        counts = np.bitwise_count(moves)
        cell = random_bit(moves, counts, points[ply])
        own, other = board.play(own, other, one_bit(cell))
        passed |= skipped
        cells[ply], legal[ply] = cell, moves
    lengths = (cells >= 0).sum(axis=0)
    return Games(cells.T, legal.T, passed, lengths)


def to_move(
    board: OthelloBoard, own: Bits, other: Bits
) -> tuple[Bits, Bits, Bits, NDArray[np.bool_]]:
    """Return (own, other, legal moves, skipped): the other side plays where `own` cannot.

    `skipped` is true where the turn went over; where neither side can move, the game is over:
    no legal moves, nothing skipped.
    """
    moves = board.legal(own, other)
    skipped = moves == 0
    stuck = np.flatnonzero(skipped)
    if len(stuck):
        theirs = board.legal(other[stuck], own[stuck])
        moves[stuck] = theirs
        skipped[stuck] = theirs != 0
        turned = stuck[theirs != 0]
        own, other = own.copy(), other.copy()
        own[turned], other[turned] = other[turned], own[turned]
    return own, other, moves, skipped
