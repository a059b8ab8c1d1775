"""Othello's concepts against a game on a dict of discs, and tasks that bring none."""

from __future__ import annotations

import numpy as np
import pytest

from harness.datasets.concepts import (
    ConceptSource,
    columns_of,
    concept_names,
    concept_source,
)
from harness.datasets.generators.othello.boards import DIRECTIONS, OthelloBoard
from harness.datasets.generators.othello.source import Othello, OthelloParams
from harness.datasets.open import open_data
from harness.datasets.pairs import TrainingBatch
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData
from harness.errors import HarnessError
from harness.spec.load import Library

STEPS = ((0, 1), (0, -1), (1, -1), (-1, 1), (1, 1), (-1, -1), (1, 0), (-1, 0))


def othello(size: int, bos: bool) -> tuple[StreamData, ConceptSource, TrainingBatch]:
    data = StreamData(Othello(OthelloParams(size=size, passes="keep"), bos), Shares({}, 0))
    return data, concept_source(data), data.training_batch("next_token", 60, 0, 0)


def slow_concepts(size: int, cells: list[int]) -> list[set[str]]:
    """What is true after each move, by the concepts' names, written from the rules."""
    board = OthelloBoard(size)
    low, discs, colour, truths = size // 2 - 1, {}, 1, []
    discs |= {(low, low): -1, (low + 1, low + 1): -1, (low, low + 1): 1, (low + 1, low): 1}

    def name(place: tuple[int, int]) -> str:
        return board.name(8 * place[0] + place[1])

    def line(place: tuple[int, int], step: tuple[int, int], own: int) -> list[tuple[int, int]]:
        run, at = [], (place[0] + step[0], place[1] + step[1])
        while discs.get(at) == -own:
            run.append(at)
            at = (at[0] + step[0], at[1] + step[1])
        return run if discs.get(at) == own else []

    every = [(row, column) for row in range(size) for column in range(size)]

    def legal(own: int) -> list[tuple[int, int]]:
        return [
            place
            for place in every
            if place not in discs and any(line(place, step, own) for step in STEPS)
        ]

    for cell in cells:
        place = divmod(cell, 8)
        if not legal(colour):
            colour = -colour
        true = {f"{name(place)} played"}
        turned = []
        for way, step in zip(DIRECTIONS, STEPS, strict=True):
            if run := line(place, step, colour):
                true.add(f"{name(place)} flips {way}")
                turned += run
        for other in (*turned, place):
            discs[other] = colour
        true |= {f"{name(one)} flipped" for one in turned}
        for one in every:
            owner = discs.get(one)
            kind = "empty" if owner is None else "mine" if owner == colour else "theirs"
            true.add(f"{name(one)} {kind}")
        passes = not legal(-colour) and bool(legal(colour))
        true |= {f"{name(one)} legal" for one in legal(colour if passes else -colour)}
        if colour == 1:
            true.add("black moved")
        if passes:
            true.add("pass follows")
        truths.append(true)
        colour = -colour
    return truths


@pytest.mark.parametrize(("size", "bos"), [(6, False), (6, True), (8, False)])
def test_every_concept_of_every_move(size: int, bos: bool) -> None:
    data, source, batch = othello(size, bos)
    names = concept_names(source.concept_families)
    assert len(set(names)) == len(names)
    truth = source.concepts(batch.tokens, batch.lengths)
    assert truth.shape == (*batch.tokens.shape, len(names))
    playable = data.source.board.playable  # type: ignore[attr-defined]
    for tokens, length, rows in zip(batch.tokens, batch.lengths, truth, strict=True):
        cells = playable[tokens[bos:length] - bos].tolist()
        assert not rows[: int(bos)].any()
        assert not rows[length:].any()
        for row, true in zip(rows[bos:length], slow_concepts(size, cells), strict=True):
            assert {names[at] for at in np.flatnonzero(row)} == true


def test_families_are_columns_with_cells() -> None:
    _, source, _ = othello(8, False)
    columns = columns_of(source.concept_families)
    assert {name: part.stop - part.start for name, part in columns.items()} == {
        "move": 60,
        "move and flip": 480,
        "flipped": 64,
        "mine": 64,
        "theirs": 64,
        "empty": 64,
        "legal": 60,
        "turn": 2,
    }
    for family in source.concept_families:
        assert family.cells is None or len(family.cells) == len(family.concepts)
        for name, cell in zip(family.concepts, family.cells or (), strict=False):
            row, column = divmod(cell, 8)
            assert name.startswith(f"{'abcdefgh'[row]}{column + 1} ")


def test_a_task_without_concepts_says_so() -> None:
    data = open_data(Library().task("bracket_matching"))
    with pytest.raises(HarnessError, match="no concepts to label features by"):
        concept_source(data)
