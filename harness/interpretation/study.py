"""A study of features: where they are strongest, what they stand for, and what they know together.

Three streams of tokens: many for the strongest tokens, fewer of the same to choose labels, and
held-out games to confirm them. Every stream is one run of the model for all sites at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.datasets.concepts import Bools, columns_of, concept_names, concept_source
from harness.datasets.pairs import TaskData
from harness.interpretation.counts import ConceptCounter, ConceptCounts
from harness.interpretation.labels import (
    Label,
    Leaning,
    RebuiltBoards,
    auroc,
    choose,
    coverage,
    detected,
    labels_of,
    leanings_of,
    precise,
)
from harness.interpretation.strongest import Strongest, StrongestTokens
from harness.interpretation.subjects import StudySubject
from harness.interpretation.tokens import TokenChunk, held_out_chunks, training_chunks
from harness.models.transformer import Transformer
from harness.progress import stage


@dataclass(frozen=True)
class StudyBudget:
    """Tokens for the strongest ones and for labels, held-out sequences, and strongest per feature.

    `label_tokens` are the first of `tokens`.
    """

    tokens: int = 1_200_000
    label_tokens: int = 300_000
    held_out: int = 1000
    strongest: int = 2048


@dataclass(frozen=True)
class SeenTokens:
    """What was true at the tokens that streamed by: `packed` bits [N, C / 8], `positions` [N]."""

    packed: NDArray[np.uint8]
    positions: NDArray[np.int16]
    concepts: int

    def at(self, tokens: NDArray[np.int64]) -> Bools:
        """What is true at some tokens [n]: [n, C]."""
        bits = np.unpackbits(self.packed[tokens], axis=1, count=self.concepts)
        return bits.astype(np.bool_)

    def sequences(self, tokens: NDArray[np.int64]) -> NDArray[np.intp]:
        """Numbers of the sequences that hold some tokens [n], counted in the order they came."""
        return np.searchsorted(self._starts, tokens, side="right") - 1

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        """The first token of each sequence."""
        return np.flatnonzero(self.positions == 0)

    @property
    def base(self) -> NDArray[np.float64]:
        """Share of all tokens at which each concept is true [C]."""
        total = np.zeros(self.concepts)
        for start in range(0, len(self.packed), 1 << 15):
            part = self.packed[start : start + (1 << 15)]
            total += np.unpackbits(part, axis=1, count=self.concepts).sum(0)
        return total / max(1, len(self.packed))


@dataclass(frozen=True)
class SubjectStudy:
    """What is known of the features of one site.

    `precise`: features with any concept of enough precision, whatever its base rate. `labels`:
    those that also know more than the position. `coverage`: by family. `rebuilt`: F1 of each board
    family on held-out games, by all features that are precise for a concept (`detected`).
    `leanings`: what features come closest to, labelled or not.
    """

    subject: StudySubject
    strongest: Strongest
    precise: int
    labels: tuple[Label, ...]
    coverage: dict[str, float]
    rebuilt: dict[str, float]
    leanings: tuple[Leaning, ...]

    @property
    def confirmed(self) -> list[Label]:
        """Labels that hold on held-out games."""
        return [label for label in self.labels if label.confirmed]


class Study(NamedTuple):
    """What is known of each subject, of the tokens that were seen, and of all subjects together.

    `together`: F1 of the boards that the features of all sites rebuild, by family.
    """

    subjects: list[SubjectStudy]
    seen: SeenTokens
    together: dict[str, float]


@torch.no_grad()
def study(
    model: Transformer, data: TaskData, subjects: Sequence[StudySubject], budget: StudyBudget
) -> Study:
    """Study all subjects on the same tokens.

    Raises `HarnessError` for a task without concepts or without whole held-out sequences.
    """
    strongest, seen = _strongest(model, data, subjects, budget)
    families = concept_source(data).concept_families
    width, places = len(concept_names(families)), data.longest
    counters = [ConceptCounter(one.reference, width, places) for one in strongest]
    chunks = training_chunks(data, min(budget.label_tokens, budget.tokens))
    for chunk in _shown("counting where concepts are true", chunks, budget.label_tokens):
        _count(model, chunk, subjects, counters)
    training = [counter.result() for counter in counters]
    confirming = [
        _HeldOut(one, counted, width, places)
        for one, counted in zip(strongest, training, strict=True)
    ]
    chunks = held_out_chunks(data, "test", budget.held_out)
    wanted, together = budget.held_out * places, RebuiltBoards(width)
    for chunk in _shown("confirming on held-out sequences", chunks, wanted):
        concepts, positions = chunk.concepts(), chunk.positions
        held = chunk.held(model, {one.site for one in subjects})
        said = np.zeros_like(concepts)
        for subject, one in zip(subjects, confirming, strict=True):
            said |= one.add(subject.code(held[subject.site]).float().cpu(), concepts, positions)
        together.add(said, concepts)
    columns = columns_of(families)
    boards = {family.name: columns[family.name] for family in families if family.board}
    studies = [
        one.study(subject, top, counted, columns, boards)
        for subject, top, counted, one in zip(
            subjects, strongest, training, confirming, strict=True
        )
    ]
    return Study(studies, seen, {name: together.f1(part) for name, part in boards.items()})


def _strongest(
    model: Transformer, data: TaskData, subjects: Sequence[StudySubject], budget: StudyBudget
) -> tuple[list[Strongest], SeenTokens]:
    keepers = [StrongestTokens(one.size, budget.strongest) for one in subjects]
    packed, positions, width = [], [], 0
    chunks = training_chunks(data, budget.tokens)
    for chunk in _shown("finding the strongest tokens", chunks, budget.tokens):
        concepts = chunk.concepts()
        width = concepts.shape[1]
        packed.append(np.packbits(concepts, axis=1))
        positions.append(chunk.positions.astype(np.int16))
        held = chunk.held(model, {one.site for one in subjects})
        for subject, keeper in zip(subjects, keepers, strict=True):
            keeper.add(subject.code(held[subject.site]), chunk.first)
    seen = SeenTokens(np.concatenate(packed), np.concatenate(positions), width)
    return [keeper.result() for keeper in keepers], seen


def _count(
    model: Transformer,
    chunk: TokenChunk,
    subjects: Sequence[StudySubject],
    counters: Sequence[ConceptCounter],
) -> None:
    concepts, positions = chunk.concepts(), chunk.positions
    held = chunk.held(model, {one.site for one in subjects})
    for subject, counter in zip(subjects, counters, strict=True):
        counter.add(subject.code(held[subject.site]), concepts, positions)


def _shown(name: str, chunks: Iterator[TokenChunk], wanted: int) -> Iterator[TokenChunk]:
    """The chunks, with progress in tokens."""
    with stage(name, wanted, "token") as shown:
        for chunk in chunks:
            yield chunk
            shown.advance(len(chunk))


class _HeldOut:
    """What held-out tokens say of one subject whose labels were chosen on training tokens."""

    def __init__(
        self, strongest: Strongest, training: ConceptCounts, width: int, places: int
    ) -> None:
        self.counter = ConceptCounter(strongest.reference, width, places)
        _, concept = choose(training)
        self.labelled = np.flatnonzero(concept >= 0)
        self.concept = concept[self.labelled]
        self.detectors, self.rebuilt = precise(training), RebuiltBoards(width)
        self._strengths: list[NDArray[np.float32]] = []
        self._truths: list[Bools] = []

    def add(self, code: torch.Tensor, concepts: Bools, positions: NDArray[np.intp]) -> Bools:
        """Take N tokens; returns what their features say is true [N, C]."""
        self.counter.add(code, concepts, positions)
        strengths = code.numpy()
        said = detected(strengths, self.detectors, self.counter.thresholds)
        self.rebuilt.add(said, concepts)
        self._strengths.append(strengths[:, self.labelled])
        self._truths.append(concepts[:, self.concept])
        return said

    def study(
        self,
        subject: StudySubject,
        strongest: Strongest,
        training: ConceptCounts,
        columns: dict[str, slice],
        boards: Mapping[str, slice],
    ) -> SubjectStudy:
        strengths, truths = np.concatenate(self._strengths), np.concatenate(self._truths)
        aurocs = {
            int(feature): auroc(strengths[:, at], truths[:, at])
            for at, feature in enumerate(self.labelled)
        }
        counts = self.counter.result()
        rebuilt = {name: self.rebuilt.f1(part) for name, part in boards.items()}
        return SubjectStudy(
            subject,
            strongest,
            int(precise(training).any((0, 2)).sum()),
            tuple(labels_of(training, counts, aurocs)),
            {name: coverage(counts, part) for name, part in columns.items()},
            rebuilt,
            tuple(leanings_of(training, counts)),
        )
