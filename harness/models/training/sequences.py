"""How well a model predicts whole sequences whose right next tokens are all known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.pairs import NO_TARGET, TaskData, TrainingBatch
from harness.datasets.stream import StreamData
from harness.errors import HarnessError
from harness.metrics import sequences
from harness.models.transformer import Transformer

Floats = NDArray[np.float64]

MEASURES = {one.name: one.compute for one in sequences.MEASURES}
LAST = 10
"""Positions at the end of sequences that are shown apart: a game's last moves are few."""

_BATCH = 256


def held_out_sequences(data: TaskData, split: str, n: int, seed: int) -> TrainingBatch | None:
    """n whole sequences of a split with every right next token; None where a task has none."""
    return data.sequences(split, n, seed) if isinstance(data, StreamData) else None


def wanted_sequences(data: TaskData, split: str, n: int, seed: int, task: str) -> TrainingBatch:
    """As `held_out_sequences`; raises `HarnessError` that names the task where it has none."""
    batch = held_out_sequences(data, split, n, seed)
    if batch is None:
        raise HarnessError(
            f"task {task!r} has no sequences with every right next token; leave --sequences out"
        )
    return batch


@dataclass(frozen=True)
class SequenceQuality:
    """Each measure of `harness.metrics.sequences` at every position: float64 [n, T].

    Not a number where nothing is predicted. Position t is that of the token which is read; what is
    predicted there is token t + 1.
    """

    values: Mapping[str, Floats]

    def means(self, part: slice = slice(None)) -> dict[str, dict[str, float]]:
        """Of each measure the mean over all predictions, its standard error and their number.

        The error is that of a mean over sequences, which are independent. `part`: of positions.
        """
        return {name: _mean(each[:, part]) for name, each in self.values.items()}

    def parts(self) -> dict[str, slice]:
        """All positions, the last `LAST`, and those before, by name."""
        length = next(iter(self.values.values())).shape[1]
        cut = max(0, length - LAST)
        parts = {"all": slice(None), "before": slice(0, cut), "last": slice(cut, None)}
        return parts if cut else {"all": slice(None)}

    def curve(self) -> list[dict[str, Any]]:
        """The mean of each measure at each position that has any."""
        first = next(iter(self.values.values()))
        counts = (~np.isnan(first)).sum(0)
        return [
            {"position": int(at), "n": int(counts[at])}
            | {name: float(np.nanmean(each[:, at])) for name, each in self.values.items()}
            for at in np.flatnonzero(counts)
        ]


def _mean(values: Floats) -> dict[str, float]:
    """Ratio of sums over sequences, with the delta method's standard error."""
    live = ~np.isnan(values)
    counts, sums = live.sum(1).astype(np.float64), np.where(live, values, 0).sum(1)
    mean = sums.sum() / counts.sum()
    n = len(values)
    spread = np.square(sums - mean * counts).sum() / max(1, n - 1)
    return {"value": float(mean), "se": float(np.sqrt(spread * n) / counts.sum()), "n": n}


@torch.no_grad()
def sequence_quality(
    model: Transformer, batch: TrainingBatch, device: str = "cpu"
) -> SequenceQuality:
    """Measure a model on sequences with `allowed`; see `StreamData.sequences`."""
    runs = parted(batch, device)
    return joined([one.measured(model(one.tokens, one.lengths)) for one in runs])


@dataclass(frozen=True)
class Sequences:
    """Some sequences: `tokens`, `targets` [B, T], `lengths` [B], `allowed` [B, T, W]."""

    tokens: Tensor
    lengths: Tensor
    targets: Tensor
    allowed: Tensor

    @property
    def live(self) -> Tensor:
        """Where a token is predicted: bool [B, T]."""
        return self.targets != NO_TARGET

    def measured(self, logits: Tensor) -> dict[str, Tensor]:
        """Each measure of logits [B, T, V]: float64 [B, T], not a number where not live."""
        values = {name: one(logits, self.allowed, self.targets) for name, one in MEASURES.items()}
        return {name: each.where(self.live, float("nan")) for name, each in values.items()}


def parted(batch: TrainingBatch, device: str) -> Iterator[Sequences]:
    """Sequences with `allowed`, so many at a time."""
    assert batch.allowed is not None
    arrays = (batch.tokens, batch.lengths, batch.targets, batch.allowed)
    for start in range(0, len(batch.tokens), _BATCH):
        yield Sequences(
            *(
                torch.from_numpy(np.ascontiguousarray(one[start : start + _BATCH])).to(device)
                for one in arrays
            )
        )


def joined(parts: Sequence[Mapping[str, Tensor]]) -> SequenceQuality:
    """What was measured of the parts in turn, as one."""
    return SequenceQuality(
        {name: torch.cat([one[name] for one in parts]).cpu().numpy() for name in parts[0]}
    )
