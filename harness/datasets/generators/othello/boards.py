"""Othello rules on bitboards, for many boards at once.

Bit 8·row + column of a uint64 is a cell; a 6×6 board lies in the first six columns and rows of
the same grid, and the two spare columns, never occupied, stop runs at the right edge. The
eight directions are two groups of four shifts, stacked as [4, n], so that a step over many
boards is a few dozen numpy calls.

Colours: +1 = black, moves first. Start as in Li et al.: white on 27, 36 and black on 28, 35 of
8×8 (the same centre pattern on 6×6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import Ints

Bits = NDArray[np.uint64]

DIRECTIONS = ("right", "left", "down-left", "up-right", "down-right", "up-left", "down", "up")
"""The eight directions in the order of the bits that `turned` gives; rows go down."""

_ONE = np.uint64(1)
_EVERY_BYTE = np.uint64(0x0101010101010101)
_SIDEWAYS = (1, 7, 9)  # shifts that change the column
_UPRIGHT = (8,)
_Shift = Callable[..., Bits]  # np.left_shift or np.right_shift


class OthelloBoard:
    """Geometry and rules of one board size."""

    def __init__(self, size: int) -> None:
        """Take the edge length, 6 or 8."""
        if size not in (6, 8):
            raise ValueError(f"board size must be 6 or 8, not {size}")
        self.size = size
        cells = [8 * row + column for row in range(size) for column in range(size)]
        low = size // 2 - 1
        self.black = _bits([8 * low + low + 1, 8 * (low + 1) + low])
        self.white = _bits([8 * low + low, 8 * (low + 1) + low + 1])
        taken = int(self.black | self.white)
        self.cells = np.array(cells)
        # Cells that can be played, in board order: all but the four in the centre.
        self.playable = np.array([cell for cell in cells if not taken >> cell & 1])
        self.plies = len(self.playable)
        self._all = _bits(cells)
        # A run that moves sideways or diagonally never passes over an edge column.
        self._inner = _bits([cell for cell in cells if 0 < cell % 8 < 7])
        self._doubles = (size - 4) // 2

    def start(self, n: int) -> tuple[Bits, Bits]:
        """Return own and other discs of n boards at the start, black to move."""
        return np.full(n, self.black), np.full(n, self.white)

    def legal(self, own: Bits, other: Bits) -> Bits:
        """Return the legal moves of the side `own`, uint64 [n]."""
        reached = np.zeros_like(own)
        for ahead, step, line in self._lines(own, other):
            reached |= ahead(line, step, out=line)
        reached &= self._all & ~(own | other)
        return reached

    def flips(self, own: Bits, other: Bits, move: Bits) -> Bits:
        """Return the discs that `move` (one bit, or 0) turns over, uint64 [n]."""
        total = np.zeros_like(move)
        for ahead, step, line in self._lines(move, other):
            end = ahead(line, step)
            end &= own
            total |= line * (end != 0)
        return total

    def turned(self, own: Bits, other: Bits, move: Bits) -> tuple[Bits, NDArray[np.uint8]]:
        """Return `flips`, and in which of the `DIRECTIONS` from the move they lie: bits [n]."""
        total = np.zeros_like(move)
        directions = np.zeros(len(move), dtype=np.uint8)
        for bit, (ahead, step, line) in enumerate(self._lines(move, other)):
            end = ahead(line, step)
            end &= own
            turned = end != 0
            total |= np.multiply(line, turned, out=end)
            directions |= turned.view(np.uint8) << np.uint8(bit)
        return total, directions

    def play(self, own: Bits, other: Bits, move: Bits) -> tuple[Bits, Bits]:
        """Return (own, other) of the next side to move; a zero move is a pass."""
        flips = self.flips(own, other, move)
        return other ^ flips, own | move | flips

    def _lines(self, start: Bits, other: Bits) -> Iterator[tuple[_Shift, np.uint64, Bits]]:
        """Yield, for each direction, its shift and the unbroken run of `other` next to `start`."""
        for steps, over in ((_SIDEWAYS, other & self._inner), (_UPRIGHT, other)):
            for distance in steps:
                for ahead in (np.left_shift, np.right_shift):
                    step = np.uint64(distance)
                    yield ahead, step, _run(ahead, step, start, over, self._doubles)

    def masks(self, bits: Bits) -> NDArray[np.bool_]:
        """Return bitboards as bool [..., playable cells]."""
        return self._masks(bits, self.playable)

    def cell_masks(self, bits: Bits) -> NDArray[np.bool_]:
        """Return bitboards as bool [..., all cells], the centre included."""
        return self._masks(bits, self.cells)

    def _masks(self, bits: Bits, cells: Ints) -> NDArray[np.bool_]:
        return ((bits[..., None] >> cells.astype(np.uint64)) & _ONE).astype(np.bool_)

    def move_ids(self, cells: Ints) -> Ints:
        """Return the place of each cell among the playable ones; -1 stays -1."""
        table = np.full(65, -1, dtype=np.int64)
        table[self.playable] = np.arange(self.plies)
        return table[cells]

    def lines_through(self, cell: int) -> tuple[int, ...]:
        """Return all cells on the eight lines from a cell, without itself."""
        lines = []
        for other in map(int, self.cells):
            down, right = abs(other // 8 - cell // 8), abs(other % 8 - cell % 8)
            if other != cell and (not down or not right or down == right):
                lines.append(other)
        return tuple(lines)

    def name(self, cell: int) -> str:
        """Return row letter and column number, as Li et al. write it: cell 0 = a1, 33 = e2."""
        return f"{'abcdefgh'[cell // 8]}{cell % 8 + 1}"


def _run(ahead: _Shift, step: np.uint64, start: Bits, over: Bits, doubles: int) -> Bits:
    """Return all discs of `over` in the unbroken run next to `start` in one direction."""
    line = ahead(start, step)
    line &= over
    more = ahead(line, step)
    more &= over
    line |= more
    # From here two cells at a time: up to 4 away on 6×6, up to 6 on 8×8.
    pairs = ahead(over, step)
    pairs &= over
    step = step + step
    for _ in range(doubles):
        ahead(line, step, out=more)
        more &= pairs
        line |= more
    return line


def random_bit(bits: Bits, counts: NDArray[np.uint8], points: NDArray[np.float64]) -> Ints:
    """Return the index of a uniformly chosen set bit of each row; -1 where there is none.

    `counts` = set bits; `points` in [0, 1) choose. The bit of a rank is in the first byte up to
    which more bits than that are set; a table has the place in the byte.
    """
    rank = (points * counts).astype(np.uint8)
    # Multiplying sums the counts of all lower bytes in every byte; none exceeds 64.
    upto = np.bitwise_count(bits.view(np.uint8)).view(np.uint64) * _EVERY_BYTE
    passed = upto.view(np.uint8).reshape(-1, 8) <= rank[:, None]
    shift = np.bitwise_count(passed.view(np.uint64).ravel()).astype(np.uint64)
    np.minimum(shift, np.uint64(7), out=shift)
    shift <<= np.uint64(3)
    rank -= ((upto << np.uint64(8)) >> shift).astype(np.uint8)
    byte = (bits >> shift).astype(np.uint8)
    position = shift.astype(np.int64)
    position += _PLACES[byte, rank & np.uint8(7)]
    position[counts == 0] = -1
    return position


def one_bit(cells: Ints) -> Bits:
    """Return the bitboard of each cell; 0 for -1."""
    bits = _ONE << np.maximum(cells, 0).astype(np.uint64)
    bits[cells < 0] = 0
    return bits


def _bits(cells: list[int]) -> np.uint64:
    return np.uint64(sum(1 << cell for cell in cells))


def _places() -> NDArray[np.int64]:
    """The place of the set bit of each rank in each byte [256, 8]; 0 where there is none."""
    places = np.zeros((256, 8), dtype=np.int64)
    for byte in range(256):
        bits = [bit for bit in range(8) if byte >> bit & 1]
        places[byte, : len(bits)] = bits
    return places


_PLACES = _places()
