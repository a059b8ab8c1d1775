"""What Othello's boards show after every move, against boards of squares, and games in bulk."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.datasets.generators.othello.boards import DIRECTIONS, OthelloBoard
from harness.datasets.generators.othello.games import (
    BoardStates,
    labelled_games,
    random_games,
    states_of,
)

Squares = NDArray[np.int8]
STEPS = {
    "right": (0, 1),
    "left": (0, -1),
    "down-left": (1, -1),
    "up-right": (-1, 1),
    "down-right": (1, 1),
    "up-left": (-1, -1),
    "down": (1, 0),
    "up": (-1, 0),
}


class SquareBoards:
    """n boards as squares 1 (black), -1 (white), 0, with a rim of 0; walks them step by step."""

    def __init__(self, size: int, n: int) -> None:
        self.size = size
        self.squares: Squares = np.zeros((n, size + 2, size + 2), np.int8)
        low = size // 2
        self.squares[:, low, low] = self.squares[:, low + 1, low + 1] = -1
        self.squares[:, low, low + 1] = self.squares[:, low + 1, low] = 1
        self.colour = np.ones(n, np.int8)

    def shifted(self, by: int) -> tuple[slice, slice]:
        """Places from which a step of `by` stays on the board, and where it leads."""
        first, last = max(0, -by), self.size - max(0, by)
        return slice(first, last), slice(first + by, last + by)

    def runs(self, colour: Squares) -> dict[str, Squares]:
        """For each direction and cell, how many discs would turn there: [n, size, size]."""
        inside, lengths = self.squares[:, 1:-1, 1:-1], {}
        own = colour[:, None, None]
        for name, (down, right) in STEPS.items():
            run = np.zeros((len(own), self.size, self.size), np.int8)
            going = np.ones(run.shape, np.bool_)
            for step in range(1, self.size):
                at = np.zeros_like(run)
                here, there = zip(*(self.shifted(step * way) for way in (down, right)), strict=True)
                at[:, *here] = inside[:, *there]
                ends = going & (at == own)
                run[ends] = step - 1
                going &= at == -own
                if not going.any():
                    break
            lengths[name] = run
        return lengths

    def legal(self, colour: Squares) -> NDArray[np.bool_]:
        """Cells where a colour can play: [n, size, size]."""
        turns = sum(run.astype(np.int64) for run in self.runs(colour).values())
        return (turns > 0) & (self.squares[:, 1:-1, 1:-1] == 0)

    def to_move(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Legal moves of whoever can move, and where the turn went over."""
        own, other = self.legal(self.colour), self.legal(-self.colour)
        over = ~own.any((1, 2)) & other.any((1, 2))
        self.colour = np.where(over, -self.colour, self.colour)
        return np.where(over[:, None, None], other, own), over

    def play(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.bool_], dict[str, Squares]]:
        """Play a cell in each; the discs that turn [n, size, size], and how many each way [n]."""
        games = np.flatnonzero(cells >= 0)
        row, column = cells[games] // 8, cells[games] % 8
        runs = self.runs(self.colour)
        turned = np.zeros((len(cells), self.size, self.size), np.bool_)
        counts = {name: np.zeros(len(cells), np.int8) for name in runs}
        for name, run in runs.items():
            length = counts[name][games] = run[games, row, column]
            down, right = STEPS[name]
            for step in range(1, self.size):
                on = length >= step
                turned[games[on], row[on] + step * down, column[on] + step * right] = True
        inner = self.squares[:, 1:-1, 1:-1]
        inner[turned] *= -1
        inner[games, row, column] = self.colour[games]
        self.colour = -self.colour
        return turned, counts


def agree(board: OthelloBoard, states: BoardStates) -> int:
    """Compare all states with boards of squares; how many turns were passed."""
    n, plies = states.cells.shape
    slow = SquareBoards(board.size, n)
    shape = (n, board.size, board.size)

    def grid(bits: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return board.cell_masks(bits).reshape(shape)

    passes = 0
    slow.to_move()
    for ply in range(plies):
        cells, on = states.cells[:, ply], states.played[:, ply]
        colour = slow.colour.copy()
        turned, counts = slow.play(cells)
        assert (grid(states.flipped[:, ply])[on] == turned[on]).all()
        for bit, name in enumerate(DIRECTIONS):
            here = (states.directions[:, ply] >> bit & 1).astype(np.bool_)
            assert (here == (counts[name] > 0)).all()
        inner = slow.squares[:, 1:-1, 1:-1]
        assert (grid(states.mine[:, ply])[on] == (inner == colour[:, None, None])[on]).all()
        assert (grid(states.theirs[:, ply])[on] == (inner == -colour[:, None, None])[on]).all()
        assert (states.black[on, ply] == (colour[on] == 1)).all()
        legal, over = slow.to_move()
        assert (grid(states.legal[:, ply])[on] == legal[on]).all()
        assert (states.passed[on, ply] == over[on]).all()
        going = on & legal.any((1, 2))
        assert (states.black_to_move[going, ply] == (slow.colour[going] == 1)).all()
        passes += int(over[on].sum())
        off = ~on
        assert not any(x[off, ply].any() for x in (states.mine, states.theirs, states.legal))
    return passes


@pytest.mark.parametrize("size", [6, 8])
def test_boards_of_random_games(size: int) -> None:
    board = OthelloBoard(size)
    games, states = labelled_games(board, np.random.default_rng(3), 150)
    assert agree(board, states) > 20
    assert (games.lengths < board.plies).any()
    plain = random_games(board, np.random.default_rng(3), 150)
    for name in ("cells", "legal", "passed", "lengths"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(games, name))
    again = states_of(board, games.cells)
    for name in vars(states):
        np.testing.assert_array_equal(getattr(states, name), getattr(again, name))


@pytest.mark.slow  # half a minute
@pytest.mark.parametrize("size", [6, 8])
def test_ten_thousand_games_agree(size: int) -> None:
    board = OthelloBoard(size)
    assert agree(board, labelled_games(board, np.random.default_rng(4), 10_000)[1]) > 3000


@pytest.mark.parametrize("length", [1, 9, 31])
def test_the_boards_of_prompts_are_those_of_their_games(length: int) -> None:
    board = OthelloBoard(6)
    games, states = labelled_games(board, np.random.default_rng(5), 40)
    part = states_of(board, games.cells[:, :length])
    for name in vars(states):
        np.testing.assert_array_equal(getattr(part, name), getattr(states, name)[:, :length])
    # A prompt that is shorter than others shows nothing after its end.
    cut = games.cells.copy()
    cut[:, length:] = -1
    for name, values in vars(states_of(board, cut)).items():
        np.testing.assert_array_equal(values[:, :length], getattr(part, name))
        assert name == "cells" or not values[:, length:].any()


def test_mine_is_the_mover() -> None:
    """The disc just played is always mine; the next player sees it as theirs unless they pass."""
    board = OthelloBoard(8)
    _, states = labelled_games(board, np.random.default_rng(6), 200)
    move = np.where(states.played, np.uint64(1) << states.cells.clip(0).astype(np.uint64), 0)
    assert ((states.mine & move) == move).all()
    mine, theirs = states.seen_by_next()
    on, same = states.played, states.passed
    assert ((mine & move)[on & same] != 0).all()
    assert ((theirs & move)[on & ~same] != 0).all()
    # What one player leaves is what the next one starts from.
    for now, after in pairwise(range(board.plies)):
        later = on[:, after]
        before = states.mine[:, after] & ~states.flipped[:, after] & ~move[:, after]
        assert (before[later] == mine[:, now][later]).all()


def test_an_illegal_move_is_refused() -> None:
    with pytest.raises(ValueError, match="game 1: move 1, a1, is not legal"):
        states_of(OthelloBoard(8), np.array([[19, 18], [19, 0]]))
