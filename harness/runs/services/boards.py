"""The Othello board after the moves of a prompt, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.datasets.generators.othello.boards import OthelloBoard, one_bit
from harness.datasets.generators.othello.games import to_move

BLACK, WHITE, EMPTY = "●", "○", "·"


def board_after(size: int, moves: Sequence[str]) -> dict[str, Any]:
    """`rows` of the board, the `last` move, whose turn it is, and which moves are `legal`.

    Tokens that name no cell, such as a BOS, are no moves.
    """
    board = OthelloBoard(size)
    cells = {board.name(int(cell)): int(cell) for cell in board.playable}
    own, other = board.start(1)
    black, last = True, None
    for move in moves:
        if move not in cells:
            continue
        own, other, _, skipped = to_move(board, own, other)
        black ^= bool(skipped[0])
        own, other = board.play(own, other, one_bit(np.array([cells[move]])))
        black, last = not black, move
    own, other, legal, skipped = to_move(board, own, other)
    black ^= bool(skipped[0])
    mine, theirs = (BLACK, WHITE) if black else (WHITE, BLACK)
    discs = {int(own[0]): mine, int(other[0]): theirs}
    return {
        "rows": [
            "".join(_disc(discs, 8 * row + column) for column in range(size)) for row in range(size)
        ],
        "last": last,
        "turn": mine,
        "legal": [name for name, cell in cells.items() if int(legal[0]) >> cell & 1],
    }


def _disc(discs: dict[int, str], cell: int) -> str:
    return next((disc for bits, disc in discs.items() if bits >> cell & 1), EMPTY)
