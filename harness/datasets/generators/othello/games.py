"""Uniformly random Othello games, generated on the fly and never stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

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


@dataclass(frozen=True)
class BoardStates:
    """What the board shows after each of the moves of n games, all arrays [n, plies].

    The state after move t is what position t of a model sees. `mine` are the discs of the player
    who has just moved there (He et al. 2024), `theirs` the other's; `theirs` of one move are not
    always `mine` of the next, since a player may have to pass. `flipped`: discs that the move
    turned; `directions` uint8: in which of `boards.DIRECTIONS` from it they lie. `legal`: moves of
    whoever plays next. `black` bool: black has just moved; `passed` bool: the other player has to
    pass now, so that the same one moves again. After the end all are 0, and `cells` -1.
    """

    cells: Ints
    mine: Bits
    theirs: Bits
    flipped: Bits
    directions: NDArray[np.uint8]
    legal: Bits
    black: NDArray[np.bool_]
    passed: NDArray[np.bool_]

    @property
    def played(self) -> NDArray[np.bool_]:
        """Where there is a move: bool [n, plies]."""
        played: NDArray[np.bool_] = self.cells >= 0
        return played

    @property
    def black_to_move(self) -> NDArray[np.bool_]:
        """Whether black plays next, where anybody does: bool [n, plies]."""
        turn: NDArray[np.bool_] = self.black == self.passed
        return turn

    def seen_by_next(self) -> tuple[Bits, Bits]:
        """`mine` and `theirs` of the player who moves next, the other convention in use."""
        return np.where(self.passed, self.mine, self.theirs), np.where(
            self.passed, self.theirs, self.mine
        )


_Choose = Callable[[int, Bits], Ints]
"""The cells to play at a ply, of the legal moves [n]; -1 where there is none."""


def random_games(board: OthelloBoard, rng: np.random.Generator, n: int) -> Games:
    """Return n games in which every legal move is equally likely at every ply."""
    return _joined([_chunk(board, rng, size, None) for size in _chunks(n)])


def labelled_games(
    board: OthelloBoard, rng: np.random.Generator, n: int
) -> tuple[Games, BoardStates]:
    """Return the games of `random_games`, and their boards."""
    records = [_Record(board, size) for size in _chunks(n)]
    games = [_chunk(board, rng, record.n, record) for record in records]
    states = [record.states(part) for record, part in zip(records, games, strict=True)]
    return _joined(games), _joined(states)


def states_of(board: OthelloBoard, cells: Ints) -> BoardStates:
    """Return the boards of games whose moves [n, T] are known, -1 after the end.

    Raises `ValueError` for a move that is not legal.
    """
    n, plies = cells.shape
    record = _Record(board, n, plies)

    def choose(ply: int, moves: Bits) -> Ints:
        if ply == plies:  # the moves after the last state are asked for alone
            return np.full(n, -1)
        chosen = cells[:, ply]
        illegal = (chosen >= 0) & ((moves & one_bit(chosen)) == 0)
        if illegal.any():
            row = int(np.flatnonzero(illegal)[0])
            raise ValueError(f"game {row}: move {ply}, {board.name(chosen[row])}, is not legal")
        return chosen

    games = _play(board, n, min(plies + 1, board.plies), choose, record)
    return record.states(games)


def _chunks(n: int) -> list[int]:
    return [min(CHUNK, n - start) for start in range(0, n, CHUNK)]


_Part = TypeVar("_Part", Games, BoardStates)


def _joined(parts: list[_Part]) -> _Part:
    kind = type(parts[0])
    # A ply's row lies together in memory, as it was filled.
    columns = [[getattr(part, one.name).T for part in parts] for one in fields(kind)]
    return kind(*(np.concatenate(column, axis=-1).T for column in columns))


def _chunk(board: OthelloBoard, rng: np.random.Generator, n: int, record: _Record | None) -> Games:
    points = rng.random((board.plies, n))

    def choose(ply: int, moves: Bits) -> Ints:
        return random_bit(moves, np.bitwise_count(moves), points[ply])

    return _play(board, n, board.plies, choose, record)


class _Record:
    """Boards of games while they are played, a row for each ply."""

    def __init__(self, board: OthelloBoard, n: int, plies: int | None = None) -> None:
        self.n, self.plies = n, board.plies if plies is None else plies
        shape = (self.plies, n)
        self.mine, self.theirs, self.flipped = (np.zeros(shape, np.uint64) for _ in range(3))
        self.directions = np.zeros(shape, np.uint8)
        self.skipped = np.zeros((self.plies + 1, n), np.bool_)

    def add(self, ply: int, own: Bits, other: Bits, flips: Bits, over: NDArray[np.bool_]) -> None:
        """Note the discs of whoever has just moved, and the other's; nothing where it is over."""
        self.mine[ply], self.theirs[ply], self.flipped[ply] = own, other, flips
        if over.any():
            self.mine[ply, over] = self.theirs[ply, over] = 0

    def states(self, games: Games) -> BoardStates:
        """The boards of the games that were played."""
        cells = games.cells.T[: self.plies]
        played = cells >= 0
        legal = np.zeros(cells.shape, np.uint64)
        legal[: len(games.legal.T) - 1] = games.legal.T[1:]
        if not played.all():  # a prompt may end before its game does
            legal[~played] = 0
        passed = self.skipped[1:]
        black = np.zeros(cells.shape, np.bool_)
        moves = np.ones(self.n, np.bool_)  # black moves first
        for ply in range(self.plies):
            black[ply] = moves
            moves = moves == passed[ply]
        return BoardStates(
            cells.T,
            self.mine.T,
            self.theirs.T,
            self.flipped.T,
            self.directions.T,
            legal.T,
            (black & played).T,
            (passed & played).T,
        )


def _play(
    board: OthelloBoard, n: int, plies: int, choose: _Choose, record: _Record | None
) -> Games:
    """Play n games at once, at most `plies` moves."""
    cells = np.full((plies, n), -1, dtype=np.int64)
    legal = np.zeros((plies, n), dtype=np.uint64)
    passed = np.zeros(n, dtype=np.bool_)
    own, other = board.start(n)
    for ply in range(plies):
        own, other, moves, skipped = to_move(board, own, other)
        cell = choose(ply, moves)
        passed |= skipped
        cells[ply], legal[ply] = cell, moves
        if record is None:
            own, other = board.play(own, other, one_bit(cell))
            continue
        record.skipped[ply] = skipped
        if ply == record.plies:
            break
        move = one_bit(cell)
        flips, record.directions[ply] = board.turned(own, other, move)
        own, other = other ^ flips, own | move | flips
        record.add(ply, other, own, flips, cell < 0)
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
