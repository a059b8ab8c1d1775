"""Othello: perft, statistics, and an independent slow engine in plain Python."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from harness.datasets.generators.othello.boards import OthelloBoard, one_bit, random_bit
from harness.datasets.generators.othello.games import random_games
from harness.datasets.generators.othello.source import Othello, OthelloParams
from harness.datasets.generators.params import read_params
from harness.datasets.pairs import NO_TARGET
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData

PERFT = {8: [4, 12, 56, 244, 1396, 8200, 55092, 390216], 6: [4, 12, 56, 244, 1364, 7604, 47740]}

Disc = dict[tuple[int, int], int]


class SlowGame:
    """One game on a dict of discs, written from the rules; colours are 1 (black) and -1."""

    def __init__(self, size: int) -> None:
        self.size = size
        low = size // 2 - 1
        self.discs: Disc = {
            (low, low): -1,
            (low + 1, low + 1): -1,
            (low, low + 1): 1,
            (low + 1, low): 1,
        }
        self.colour = 1

    def turned(self, place: tuple[int, int], colour: int) -> list[tuple[int, int]]:
        if place in self.discs:
            return []
        found = []
        for step in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
            line = []
            at = (place[0] + step[0], place[1] + step[1])
            while self.discs.get(at) == -colour:
                line.append(at)
                at = (at[0] + step[0], at[1] + step[1])
            if self.discs.get(at) == colour:
                found += line
        return found

    def moves(self, colour: int) -> set[int]:
        return {
            8 * row + column
            for row in range(self.size)
            for column in range(self.size)
            if self.turned((row, column), colour)
        }

    def legal(self) -> set[int]:
        """Legal moves of whoever can move; the turn passes silently."""
        if not self.moves(self.colour) and self.moves(-self.colour):
            self.colour = -self.colour
        return self.moves(self.colour)

    def play(self, cell: int) -> None:
        place = divmod(cell, 8)
        for other in [*self.turned(place, self.colour), place]:
            self.discs[other] = self.colour
        self.colour = -self.colour


def cells(bits: int) -> set[int]:
    return {cell for cell in range(64) if bits >> cell & 1}


@pytest.mark.parametrize("size", [6, 8])
def test_perft(size: int) -> None:
    board = OthelloBoard(size)
    own, other = board.start(1)
    counts = []
    for _ in PERFT[size]:
        moves = board.legal(own, other)
        row, cell = np.nonzero((moves[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1))
        own, other = board.play(own[row], other[row], one_bit(cell))
        counts.append(len(row))
    assert counts == PERFT[size]


@pytest.mark.parametrize("size", [6, 8])
def test_against_the_slow_engine(size: int) -> None:
    games = random_games(OthelloBoard(size), np.random.default_rng(1), 60)
    assert games.passed.any()
    for row, legal, length, passed in zip(
        games.cells, games.legal, games.lengths, games.passed, strict=True
    ):
        slow, skipped = SlowGame(size), False
        for cell, bits in zip(row[:length].tolist(), legal[:length].tolist(), strict=True):
            before = slow.colour
            assert slow.legal() == cells(bits)
            skipped |= slow.colour != before
            slow.play(cell)
        assert not slow.legal()
        assert (row[length:] == -1).all()
        assert not legal[length:].any()
        assert skipped == passed


STATISTICS = {
    # full, passes, full and pass-free, mean legal moves after the first, E[ln legal]
    8: (0.990, 0.344, 0.65, 8.61, 2.009),
    6: (0.965, 0.400, 0.58, 5.32, 1.534),
}


@pytest.mark.parametrize("size", [6, 8])
def test_statistics_of_random_games(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    board, n = OthelloBoard(size), 8192
    start = time.perf_counter()
    games = random_games(board, np.random.default_rng(0), n)
    speed = n / (time.perf_counter() - start)
    with capsys.disabled():
        print(f"\nothello {size}×{size}: {speed:,.0f} games/s with legal moves")
    full = games.lengths == board.plies
    counts = np.bitwise_count(games.legal[:, 1:])[games.cells[:, 1:] >= 0]
    found = [
        full.mean(),
        games.passed.mean(),
        (full & ~games.passed).mean(),
        counts.mean(),
        np.log(counts).mean(),
    ]
    # 8192 games: four standard errors of a share are about 0.02
    np.testing.assert_allclose(found, STATISTICS[size], atol=0.022)


def test_choices_are_uniform() -> None:
    bits = np.full(60_000, 0b1000_0000_0010_0100 << 40, dtype=np.uint64)
    found = random_bit(bits, np.bitwise_count(bits), np.random.default_rng(0).random(len(bits)))
    places, counts = np.unique(found, return_counts=True)
    assert places.tolist() == [42, 45, 55]
    np.testing.assert_allclose(counts / len(bits), 1 / 3, atol=0.01)
    none = np.zeros(2, dtype=np.uint64)
    assert random_bit(none, np.bitwise_count(none), np.array([0.1, 0.9])).tolist() == [-1, -1]


def test_every_single_bit_is_found() -> None:
    bits = one_bit(np.arange(64))
    for point in (0.0, 0.999):
        found = random_bit(bits, np.bitwise_count(bits), np.full(64, point))
        assert found.tolist() == list(range(64))


def test_cells_and_tokens() -> None:
    board = OthelloBoard(8)
    assert board.plies == 60
    ids = board.move_ids(np.arange(64))
    # Li et al. count from 1 after their padding symbol
    for cell in range(64):
        if cell in (27, 28, 35, 36):
            assert ids[cell] == -1
        else:
            li = cell + 1 if cell <= 26 else cell - 1 if cell <= 34 else cell - 3
            assert ids[cell] == li - 1
    assert (board.name(0), board.name(33), board.name(63)) == ("a1", "e2", "h8")
    own, other = board.start(1)
    assert cells(int(board.legal(own, other)[0])) == {19, 26, 37, 44}


def open_task(bos: bool = False, seed: int = 0, **params: Any) -> StreamData:
    read, problems = read_params(OthelloParams, params)
    assert not problems
    assert read is not None
    return StreamData(Othello(read, bos), Shares({}, seed))


def replay(size: int, cells_played: list[int]) -> Iterator[tuple[set[int], int, int]]:
    """Yield legal moves, side to move, and whether a turn was skipped, at each ply and after."""
    slow = SlowGame(size)
    for cell in [*cells_played, None]:
        before = slow.colour
        legal = slow.legal()
        yield legal, slow.colour, int(slow.colour != before)
        if cell is not None:
            assert cell in legal
            slow.play(cell)


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"passes": "keep", "changed_moves": 3},
        {"size": 8, "min_ply": 10, "ply_step": 7, "changed_moves": 2},
    ],
)
def test_pairs_against_the_slow_engine(bos: bool, params: dict[str, Any]) -> None:
    task = open_task(bos, **params)
    size, changed = int(params.get("size", 6)), int(params.get("changed_moves", 1))
    board = OthelloBoard(size)
    pairs = task.pairs("test", 40, 0)
    for index, length in enumerate(pairs.lengths):
        sides = []
        rows = []
        for tokens, answers in ((pairs.clean, pairs.good), (pairs.corrupted, pairs.bad)):
            played = board.playable[tokens[index, bos:length] - bos].tolist()
            *_, (legal, colour, _) = states = list(replay(size, played))
            found = answers[index, 0][answers[index, 0] >= 0] - bos
            assert set(board.playable[found].tolist()) == legal
            assert len(found) == len(legal) > 0
            if params.get("passes") != "keep":
                assert not any(skipped for _, _, skipped in states)
            sides.append(colour)
            rows.append((played, legal))
        assert sides[0] == sides[1]
        (clean, legal), (twin, other) = rows
        k = len(clean)
        assert len(twin) == k
        assert legal != other
        assert clean[: k - changed] == twin[: k - changed]
        assert clean[k - changed] != twin[k - changed]
        assert k in range(8 if size == 6 else 10, board.plies, int(params.get("ply_step", 1)))


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("passes", ["reject", "keep"])
def test_training_batches(bos: bool, passes: str) -> None:
    task = open_task(bos, passes=passes)
    board = OthelloBoard(6)
    batch = task.training_batch("answer", 24, 0, 0)
    sampled = task.training_batch("next_token", 24, 0, 0)
    assert batch.allowed is not None
    assert sampled.allowed is None
    assert batch.allowed.shape == (24, task.longest, task.tokenizer.size)
    np.testing.assert_array_equal(batch.targets, sampled.targets)
    live = batch.targets != NO_TARGET
    chosen = np.take_along_axis(batch.allowed, batch.targets.clip(0)[..., None], axis=2)[..., 0]
    assert chosen[live].all()
    assert not batch.allowed[~live].any()
    if passes == "reject":
        assert live.all()
    np.testing.assert_array_equal(live.sum(axis=1), batch.lengths)
    # The target of a position is the next token, where the game has one.
    next_live = live[:, :-1] & live[:, 1:]
    np.testing.assert_array_equal(batch.targets[:, :-1][next_live], batch.tokens[:, 1:][next_live])
    for row, length, allowed in zip(batch.tokens, batch.lengths, batch.allowed, strict=True):
        played = board.playable[row[bos:length] - bos].tolist()
        states = [legal for legal, _, _ in replay(6, played)][1 - bos :]
        assert [set(board.playable[np.flatnonzero(one[bos:])].tolist()) for one in
                allowed[: len(states)]] == states  # fmt: skip


def test_no_training_game_begins_like_a_held_out_prompt() -> None:
    task = open_task(min_ply=4)
    test = {tuple(row[:4]) for row in task.pairs("test", 20, 0).clean.tolist()}
    games = {tuple(row[:4]) for row in task.training_batch("answer", 500, 0, 0).tokens.tolist()}
    assert not test & games


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"size": 7}, "size"),
        ({"passes": "both"}, "passes"),
        ({"min_ply": 40}, "min_ply"),
        ({"max_ply": 3}, "max_ply"),
        ({"changed_moves": 8}, "changed_moves"),
        ({"ply_step": 0}, "ply_step"),
    ],
)
def test_impossible_params(params: dict[str, Any], name: str) -> None:
    assert name in [one for one, _ in read_params(OthelloParams, params)[1]]


def test_reproducible_and_frozen() -> None:
    first = open_task().pairs("test", 20, 1)
    assert first.digest() == open_task().pairs("test", 20, 1).digest()
    assert first.digest() == "4a6886e8f322f8b520efbf87b2b4f1099aa49f509261a3e8421733931f10e54e"
