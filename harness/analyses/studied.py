"""What an analysis studies: a model, its dictionaries, names of features, prompts and games."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.datasets.concepts import Bools, ConceptFamily, ConceptSource, concept_source
from harness.datasets.pairs import PromptPairs, TaskData
from harness.dictionaries.dictionary import DictionarySet
from harness.dictionaries.sites import site_written
from harness.errors import HarnessError
from harness.interpretation.names import FeatureNames
from harness.interpretation.tokens import TokenChunk, held_out_chunks, training_chunks
from harness.models.transformer import Transformer
from harness.progress import stage
from harness.spec.issues import unknown
from harness.tracing.parse import PromptOutputs
from harness.tracing.parts import PartKind
from harness.tracing.run import FrozenRun, frozen_run


@dataclass(frozen=True)
class AnalysisChoices:
    """What a user may choose. `prompt` (None: the first that has what is asked for), `token` and
    `target` of analyses of one prompt; `family` of the features that are asked for; `sequences`:
    held-out games; `rows`: of tables; `label_tokens`: that probes are fitted on.
    """

    prompt: int | None = None
    target: str | None = None
    token: int | None = None
    family: str | None = None
    sequences: int = 50
    rows: int = 12
    label_tokens: int = 100_000

    def refuse_unknown_family(self, families: Sequence[ConceptFamily]) -> None:
        """Raise `HarnessError` for a family that is none of the task's."""
        names = [one.name for one in families]
        if self.family is not None and self.family not in names:
            raise HarnessError(unknown("family of concepts", self.family, names))


class Game(NamedTuple):
    """A held-out sequence, frozen; `truth` [T, C]: what is true at each of its tokens."""

    run: FrozenRun
    truth: Bools


@dataclass(frozen=True)
class Studied:
    """The model and all that is asked about it, on the CPU.

    Analyses follow small parts one by one, which no other device does faster; model and
    dictionaries are moved here, so that tables and runs never mix devices.

    `others`: more dictionaries of the model by name, with their features' names. `outputs`: names
    of the model's outputs.
    """

    model: Transformer
    name: str
    dictionaries: DictionarySet
    features: FeatureNames
    data: TaskData
    prompts: PromptPairs
    outputs: Sequence[str]
    choices: AnalysisChoices
    others: Mapping[str, tuple[DictionarySet, FeatureNames]]

    def __post_init__(self) -> None:
        self.model.cpu()
        for one in (self.dictionaries, *(one for one, _ in self.others.values())):
            one.to("cpu")

    @cached_property
    def concepts(self) -> ConceptSource:
        """The task's concepts."""
        return concept_source(self.data)

    # ------------------------------------------------------------ games
    def frozen(self, tokens: Tensor) -> FrozenRun:
        """A frozen run of tokens [T]."""
        return frozen_run(self.model, tokens, self.dictionaries, "modules")

    def games(self, about: str) -> Iterator[Game]:
        """Held-out games, frozen; progress is shown under `about`."""
        wanted = self.choices.sequences
        with stage(about, wanted, "game") as shown:
            for chunk in held_out_chunks(self.data, "test", wanted):
                for run, truth in self._runs(chunk):
                    yield Game(run, truth)
                    shown.advance(1)

    def _runs(self, chunk: TokenChunk) -> Iterator[tuple[FrozenRun, Bools]]:
        every = chunk.source.concepts(chunk.tokens, chunk.lengths)
        for row, length in enumerate(chunk.lengths.tolist()):
            tokens = torch.from_numpy(chunk.tokens[row, :length].astype(np.int64))
            yield self.frozen(tokens), every[row, :length]

    def training_games(self, wanted: int, about: str) -> Iterator[FrozenRun]:
        """As many games that nothing was held out of."""
        with stage(about, wanted, "game") as shown:
            for chunk in training_chunks(self.data, wanted * self.data.longest):
                for run, _ in self._runs(chunk):
                    if not wanted:
                        return
                    yield run
                    shown.advance(1)
                    wanted -= 1

    # ------------------------------------------------------------ one prompt
    def prompt(self, row: int) -> FrozenRun:
        """A prompt of the test split, frozen. Raises `HarnessError` if there is none."""
        if row >= len(self.prompts):
            raise HarnessError(f"split test has prompts 0 to {len(self.prompts) - 1}")
        length = int(self.prompts.lengths[row])
        return self.frozen(torch.from_numpy(self.prompts.clean[row, :length].astype(np.int64)))

    def asked_of(self, row: int) -> PromptOutputs:
        """What a prompt asks, for targets written by a user."""
        pairs = self.prompts
        slot = int(np.flatnonzero(pairs.positions[row] >= 0)[0])
        good, bad = (
            [int(one) for one in side[row, slot] if one >= 0] for side in (pairs.good, pairs.bad)
        )
        return PromptOutputs(self.outputs, int(pairs.positions[row, slot]), good, bad)

    def first_prompt(
        self, wanted: Callable[[FrozenRun], tuple[int, int, int] | None], what: str
    ) -> tuple[int, FrozenRun, tuple[int, int, int]]:
        """The prompt that was asked for, or the first that has what is wanted, and where it is.

        Raises `HarnessError` where no prompt has it.
        """
        row = self.choices.prompt
        for each in range(len(self.prompts)) if row is None else (row,):
            run = self.prompt(each)
            if (place := wanted(run)) is not None:
                return each, run, place
        where = f"in {len(self.prompts)} prompts" if row is None else f"in prompt {row}"
        raise HarnessError(f"no {what} is active {where}; choose another --family or --prompt")

    # ------------------------------------------------------------ features
    def site_of(self, run: FrozenRun, writer: int) -> str:
        """The site whose dictionary a writer's features are of."""
        return site_written(run.writers[writer].name, self.dictionaries)

    def text_of(self, run: FrozenRun, column: int, token: int) -> str:
        """What a part stands for: its feature's name, or "" for what is no feature."""
        place = run.place(column, token)
        if run.kind(place) != "feature":
            return ""
        unit = int(run.writers[place.writer].units[token, place.column])
        return self.features.text(self.site_of(run, place.writer), unit)


SOURCES: dict[PartKind, str] = {
    "embed": "embeddings",
    "position": "positions",
    "error": "errors",
    "bias": "biases",
    "head": "heads",
    "module": "MLPs",
    "neuron": "neurons",
}
"""What parts that are no features are called together."""
