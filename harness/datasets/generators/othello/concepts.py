"""What is true on an Othello board after a move, as concepts that features are labelled by.

`mine` are the discs of the player who has just moved (He et al. 2024). Cells are called as Li et
al. do, `e2` for row e, column 2; He et al. count columns from 0.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.datasets.concepts import Bools, ConceptFamily
from harness.datasets.generators.othello.boards import DIRECTIONS, OthelloBoard
from harness.datasets.generators.othello.games import BoardStates, states_of
from harness.datasets.pairs import Ints

_NO_CELL = -1


class OthelloConcepts:
    """The concept library of one board size.

    Families: `move` (the cell just played), `move and flip` (played there, turning discs in a
    direction), `flipped` (the cell was turned now), `mine`, `theirs`, `empty`, `legal` (can be
    played next), `turn` (black has just moved; the other player has to pass).
    """

    def __init__(self, board: OthelloBoard) -> None:
        self.board = board

    @cached_property
    def families(self) -> tuple[ConceptFamily, ...]:
        """All families, in the order of the columns."""
        board = self.board
        place = {int(cell): index for index, cell in enumerate(board.cells)}
        every = [board.name(int(cell)) for cell in board.cells]
        moves = [board.name(int(cell)) for cell in board.playable]
        at_all = tuple(range(len(every)))
        at_moves = tuple(place[int(cell)] for cell in board.playable)
        flips = tuple(f"{name} flips {way}" for name in moves for way in DIRECTIONS)
        at_flips = tuple(cell for cell in at_moves for _ in DIRECTIONS)

        def of_cells(name: str, opposite: str | None = None) -> ConceptFamily:
            changed_by = None if opposite is None else "flipped"
            is_board = opposite is not None
            concepts = tuple(f"{x} {name}" for x in every)
            return ConceptFamily(name, concepts, at_all, is_board, opposite, changed_by)

        return (
            ConceptFamily("move", tuple(f"{name} played" for name in moves), at_moves),
            ConceptFamily("move and flip", flips, at_flips),
            of_cells("flipped"),
            of_cells("mine", opposite="theirs"),
            of_cells("theirs", opposite="mine"),
            of_cells("empty"),
            ConceptFamily(
                "legal",
                tuple(f"{name} legal" for name in moves),
                at_moves,
                board=True,
                outputs=tuple(range(len(moves))),
                depends_on=tuple(
                    tuple(place[one] for one in board.lines_through(int(cell)))
                    for cell in board.playable
                ),
            ),
            ConceptFamily("turn", ("black moved", "pass follows")),
        )

    def of_moves(self, moves: Ints, lengths: Ints) -> Bools:
        """Concepts [n, T, C] after each of the moves [n, T], ids of playable cells."""
        inside = np.arange(moves.shape[1]) < lengths[:, None]
        cells = np.where(inside, self.board.playable[np.where(inside, moves, 0)], _NO_CELL)
        return self.of_states(states_of(self.board, cells))

    def of_states(self, states: BoardStates) -> Bools:
        """Concepts [n, T, C] of boards [n, T]."""
        board, played = self.board, states.played
        move = (states.cells[..., None] == board.playable) & played[..., None]
        ways = _bits_of(states.directions)
        occupied = states.mine | states.theirs
        parts = [
            move,
            (move[..., None] & ways[..., None, :]).reshape(*move.shape[:2], -1),
            board.cell_masks(states.flipped),
            board.cell_masks(states.mine),
            board.cell_masks(states.theirs),
            board.cell_masks(~occupied) & played[..., None],
            board.masks(states.legal),
            np.stack([states.black, states.passed], -1),
        ]
        return np.concatenate(parts, axis=-1)


def _bits_of(directions: NDArray[np.uint8]) -> Bools:
    """Bits as bool [..., 8]."""
    return (directions[..., None] >> np.arange(8, dtype=np.uint8) & 1).astype(np.bool_)
