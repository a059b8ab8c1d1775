"""Whether a corruption changes what is right, as far as a task's own prompts can tell.

Nothing says what is right after a corrupted prompt, but corrupted prompts are often clean prompts
of other pairs, and there it is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.datasets.pairs import PromptPairs, TaskData

DRAWN = 256
"""Pairs of each split that are looked at."""

LEAST = 5
"""Corrupted prompts with an answer, for these answers to tell anything."""

_SPLITS = ("train", "test")


def unchanged_answers(data: TaskData) -> str | None:
    """Why the corruption seems to change nothing that the task asks for; None if it does."""
    drawn = [data.pairs(split, DRAWN, 0, at_most=True) for split in _SPLITS]
    return reason([row for pairs in drawn for row in _rows(pairs)])


Row = tuple[bytes, bytes, bytes]
"""Clean prompt, corrupted prompt, positions and good answers, comparable within a task."""


def reason(rows: list[Row]) -> str | None:
    """The same of pairs as rows."""
    if rows and all(clean == corrupted for clean, corrupted, _ in rows):
        return "every corrupted prompt is its clean one, so that there is nothing to explain"
    answers = {clean: good for clean, _, good in rows}
    twins = [(good, answers[corrupted]) for _, corrupted, good in rows if corrupted in answers]
    if len(twins) < LEAST or any(one != other for one, other in twins):
        return None
    return (
        f"{len(twins)} of {len(rows)} corrupted prompts are clean prompts of other pairs, and each "
        "has the answers of its own clean one there: the corruption seems to change nothing that "
        "decides the answer, so that circuits would be ranked by noise"
    )


def _rows(pairs: PromptPairs) -> Iterator[Row]:
    for _, some in pairs.buckets(max(len(pairs), 1)):
        for index in range(len(some)):
            places = some.positions[index].astype("<i8")
            good = [sorted(set(row[row >= 0].tolist())) for row in some.good[index]]
            yield (
                some.clean[index].astype("<i8").tobytes(),
                some.corrupted[index].astype("<i8").tobytes(),
                repr((places.tolist(), good)).encode(),
            )
