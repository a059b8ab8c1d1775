"""What features read: directions of the stream for many features of a run at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from harness.tracing.run import FrozenRun
from harness.tracing.target import single_logit

CHUNK = 2**22
"""Numbers in the contributions that are held at once."""


class FeaturesRead(NamedTuple):
    """Contributions to N active features (or logits) of a module.

    `rows`, `units`, `values`, `constants` [N]: token, number, activity and what no part gives.
    `parts` [N, T, C] for what attention reads, [N, C] for what is read at one token.
    """

    rows: Tensor
    units: Tensor
    values: Tensor
    constants: Tensor
    parts: Tensor


def features_read(
    run: FrozenRun, writer: int, rows: Tensor, columns: Tensor
) -> Iterator[FeaturesRead]:
    """What contributes to features of a writer at tokens [N] and columns [N], some at a time."""
    one = run.writers[writer]
    assert one.reading is not None
    width = run.offsets[one.below] * (run.length if one.name.startswith("a") else 1)
    size = max(1, CHUNK // max(1, width))
    nothing = run.frozen.final.gain.new_zeros(1, run.model.config.d_model)
    for start in range(0, len(rows), size):
        at, column = rows[start : start + size], columns[start : start + size]
        expansion = one.reading.expand(at, column, nothing.expand(len(at), -1))
        if expansion.stream.ndim == 4:
            parts = run.influence(expansion.stream.sum(1), one.below)
        else:
            parts = run.influence_at(expansion.stream, at, one.below)
        units = one.units[at, column]
        yield FeaturesRead(at, units, expansion.value, expansion.constant, parts)


def all_features(run: FrozenRun, writer: int) -> tuple[Tensor, Tensor]:
    """Tokens and columns of all active features of a writer, [N] each."""
    rows, columns = (run.writers[writer].main.units >= 0).nonzero(as_tuple=True)
    return rows, columns


def logits_read(run: FrozenRun, tokens: Tensor, outputs: Tensor) -> FeaturesRead:
    """What contributes to outputs [N] at tokens [N], each less the mean of all."""
    targets = [
        single_logit(run, "logit", output, token)
        for token, output in zip(tokens.tolist(), outputs.tolist(), strict=True)
    ]
    streams = torch.stack([one.stream[one.token] for one in targets])
    return FeaturesRead(
        tokens,
        outputs,
        streams.new_tensor([one.value for one in targets]),
        streams.new_tensor([one.constant for one in targets]),
        run.influence_at(streams, tokens, len(run.writers)),
    )


def feature_writers(run: FrozenRun) -> list[int]:
    """The writers that are taken apart into features."""
    return [at for at, writer in enumerate(run.writers) if writer.kind == "feature"]
